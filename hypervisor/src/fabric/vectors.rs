//! MSI-X: the tables that devices have in their memory.
//!
//! The guest reads back what it wrote, and the device is given handles for it. The pages of a table are out of the
//! guest's reach for as long as the device decodes them.

// UNSAFETY: keeps the guest's entries in memory of Bouncer's own, and writes MSI-X tables.
#![expect(unsafe_code)]

use memory::{ByteRange, Gpa, Hpa, PAGE_SIZE};
use pci::capabilities::InBar;
use pci::msix::{self, ENTRY_BYTES, Entry, Region, Table, Written};
use pci::{Address, FunctionId};
use viommu::{Entries, Request, handle_of};
use vtd::remap::{Block, Route};

use super::messages::{Blocked, Messages};
use super::{Fabric, RESERVE};
use crate::console::say;
use crate::limit::Once;
use crate::own::OwnFrames;
use crate::physical;

/// Devices whose interrupts were refused, by function and reason.
static REFUSED: Once<(Address, u8), 32> = Once::new();

/// The MSI-X table of one function.
#[derive(Debug)]
pub(super) struct Vectors {
    pub(super) table: Table<&'static mut [Entry]>,
    pub(super) blocks: &'static mut [Option<Block>],
    /// What the register that holds the table decodes now.
    decoded: Option<ByteRange<Hpa>>,
    pub(super) is_enabled: bool,
}

/// Memory for a table of so many entries.
#[derive(Clone, Copy, Debug)]
pub(super) struct Storage {
    entries: *mut Entry,
    blocks: *mut Option<Block>,
    len: usize,
}

// SAFETY: the memory is this function's alone, and the function the lock holder's.
unsafe impl Send for Storage {}

impl Storage {
    fn take(frames: &mut OwnFrames, len: usize) -> Option<Self> {
        let bytes = |size: usize| ((len * size) as u64).next_multiple_of(PAGE_SIZE);
        let (of_entries, of_blocks) =
            (bytes(size_of::<Entry>()), bytes(size_of::<Option<Block>>()));
        // How many entries a device has is its own word.
        frames
            .left()
            .checked_sub(of_entries + of_blocks + RESERVE)?;
        let entries = frames.take_run(of_entries).ok()?;
        let blocks = frames.take_run(of_blocks).ok()?;
        let (entries, blocks) = (
            entries.raw() as *mut Entry,
            blocks.raw() as *mut Option<Block>,
        );
        for index in 0..len {
            // SAFETY: both runs were just taken, are large and aligned enough, and nobody else's.
            unsafe {
                entries.add(index).write(Entry::RESET);
                blocks.add(index).write(None);
            }
        }
        Some(Self {
            entries,
            blocks,
            len,
        })
    }

    /// A table of `len` entries in this memory, if there is room.
    ///
    /// # Safety
    /// No earlier table in this memory is alive.
    unsafe fn table(self, len: usize) -> Option<Vectors> {
        if len > self.len {
            return None;
        }
        // SAFETY: initialised by `take`, in memory that stays; not borrowed by anybody (caller).
        let (entries, blocks) = unsafe {
            (
                core::slice::from_raw_parts_mut(self.entries, len),
                core::slice::from_raw_parts_mut(self.blocks, len),
            )
        };
        blocks.fill_with(|| None);
        Some(Vectors {
            table: Table::new(entries).ok()?,
            blocks,
            decoded: None,
            is_enabled: false,
        })
    }
}

impl Fabric {
    pub(super) fn make_table(&mut self, id: FunctionId, at: Address, entries: usize) {
        let messages = &mut self.messages[id.index()];
        if messages.storage.is_none_or(|storage| storage.len < entries) {
            let room = entries.next_power_of_two();
            messages.storage = Storage::take(&mut self.remapping.frames, room);
        }
        // SAFETY: `drop_messages` dropped the table that was here before.
        let vectors = messages
            .storage
            .and_then(|storage| unsafe { storage.table(entries) });
        if vectors.is_none() {
            say!("device {at}: no memory is left for {entries} MSI-X entries; it gets no MSI-X");
        }
        messages.msix = vectors;
    }

    /// MSI-X was switched on or off as a whole.
    pub(super) fn switch_msix(&mut self, id: FunctionId, is_enabled: bool) {
        let Some(vectors) = &mut self.messages[id.index()].msix else {
            return;
        };
        if vectors.is_enabled == is_enabled {
            return;
        }
        vectors.is_enabled = is_enabled;
        if is_enabled {
            return;
        }
        let count = vectors.table.len() as u16;
        for index in 0..count {
            let has_one = self.messages[id.index()]
                .msix
                .as_ref()
                .is_some_and(|v| v.blocks[usize::from(index)].is_some());
            if has_one {
                self.silence_vector(id, index);
            }
        }
        self.silence_messages(id);
        // Where none was issued, as while interrupts stay away, one was programmed all the same.
        self.drop_signals(id);
    }

    /// The register that holds the table of `id` decodes `decoded` from now on, or nothing.
    pub(super) fn place_table(&mut self, id: FunctionId, decoded: Option<ByteRange<Hpa>>) {
        let Some(vectors) = &mut self.messages[id.index()].msix else {
            return;
        };
        let before = core::mem::replace(&mut vectors.decoded, decoded);
        if before == decoded {
            return;
        }
        if let Some(pages) = before.and_then(|range| self.table_pages(id, range)) {
            self.let_through(pages);
        }
        if let Some(pages) = decoded.and_then(|range| self.table_pages(id, range)) {
            self.stop_at(id, pages);
        }
    }

    /// Makes the device's own table agree with the guest's wishes, once it can be written.
    pub(super) fn sync_table(&mut self, id: FunctionId) {
        let Some(vectors) = &self.messages[id.index()].msix else {
            return;
        };
        if vectors.decoded.is_none() || !vectors.is_enabled {
            return;
        }
        for index in 0..vectors.table.len() as u16 {
            let Some(vectors) = &self.messages[id.index()].msix else {
                return;
            };
            match vectors.table.wanted(index) {
                Some(message) => self.program_vector(id, index, message),
                None => self.silence_vector(id, index),
            }
        }
    }

    /// Which function's table the guest reaches at `range`, and where in what its register decodes.
    pub(super) fn table_at(&self, range: ByteRange<Gpa>) -> Option<(FunctionId, InBar)> {
        self.mediation.topology().functions().find_map(|(id, _)| {
            let decoded = self.messages[id.index()].msix.as_ref()?.decoded?;
            let bar = self.mediation.msix(id)?.table.bar;
            let into = range.start().raw().checked_sub(decoded.start().raw())?;
            let offset = u32::try_from(into).ok().filter(|_| into < decoded.len())?;
            Some((id, InBar { bar, offset }))
        })
    }

    pub(super) fn is_table_at(&self, page: Gpa) -> bool {
        self.mediation.topology().functions().any(|(id, _)| {
            let vectors = self.messages[id.index()].msix.as_ref();
            let decoded = vectors.and_then(|vectors| vectors.decoded);
            let pages = decoded.and_then(|decoded| self.table_pages(id, decoded));
            pages.is_some_and(|pages| pages.contains(page))
        })
    }

    /// Reads from the pages of a table for the guest. Returns whether it was the table's to answer.
    pub(super) fn read_table(&self, id: FunctionId, place: InBar, to: &mut [u8]) -> bool {
        let layout = self.mediation.msix(id);
        let (Some(layout), Some(vectors)) = (layout, &self.messages[id.index()].msix) else {
            return false;
        };
        let Region::Table(offset) = msix::region(&layout, place) else {
            return false;
        };
        match vectors.table.read(offset, to.len() as u8) {
            Ok(value) => to.copy_from_slice(&value.to_le_bytes()[..to.len()]),
            Err(_) => to.fill(0xff),
        }
        true
    }

    /// Takes the guest's write to the pages of a table. Returns whether it was the table's.
    pub(super) fn write_table(&mut self, id: FunctionId, place: InBar, from: &[u8]) -> bool {
        let Some(layout) = self.mediation.msix(id) else {
            return false;
        };
        let last = InBar {
            offset: place.offset.saturating_add(from.len() as u32 - 1),
            ..place
        };
        let offset = match (msix::region(&layout, place), msix::region(&layout, last)) {
            (Region::Table(offset), _) => offset,
            // From before the table into it: no device driver does, and the table is not to change.
            (_, Region::Table(_)) => return true,
            _ => return false,
        };
        let mut value = [0; 8];
        value[..from.len()].copy_from_slice(from);
        let Some(vectors) = &mut self.messages[id.index()].msix else {
            return true;
        };
        let written = vectors
            .table
            .write(offset, from.len() as u8, u64::from_le_bytes(value));
        match written {
            Ok(Written::Kept) => {}
            Ok(Written::Mask(store)) => {
                self.poke(id, store);
                self.mask_signal(id, store.index(), true);
            }
            Ok(Written::Unmask(store)) => {
                self.poke(id, store);
                self.mask_signal(id, store.index(), false);
            }
            Ok(Written::Translate { index, message }) => self.program_vector(id, index, message),
            Err(refused) => {
                if let Some(at) = self.messages[id.index()].at
                    && REFUSED.is_new((at, 0))
                {
                    say!("device {at}: {refused}");
                }
            }
        }
        true
    }

    fn program_vector(&mut self, id: FunctionId, index: u16, message: msix::Message) {
        let Some(at) = self.messages[id.index()].at else {
            return;
        };
        let route = match self.route_of(id, at, message.address, message.data) {
            Ok(route) => route,
            Err(Blocked::ByGuest(blocked)) => {
                self.silence_vector(id, index);
                return self.refuse_signal(id, index, Some(blocked));
            }
            Err(Blocked::Objection(objection)) => {
                if REFUSED.is_new((at, 1)) {
                    say!("device {at}: MSI-X entry {index}: {objection}");
                    say!("@refused bdf={at} register=msix reason=\"{objection}\"");
                }
                return self.silence_vector(id, index);
            }
        };
        let place = usize::from(index);
        let held = self.messages[id.index()]
            .msix
            .as_mut()
            .and_then(|v| v.blocks.get_mut(place)?.take());
        let block = match held.map_or_else(|| self.issue(id, 1), Ok) {
            Ok(block) => block,
            Err(refusal) => {
                if REFUSED.is_new((at, 2)) {
                    say!("device {at}: MSI-X entry {index} stays silent: {refusal}");
                }
                return self.silence_vector(id, index);
            }
        };
        let route = self.program_signal(id, index, Some(route));
        let routed = self.remapping.route(at.segment, &block, 0, route);
        let translated = block.message(0).map(|message| msix::Message {
            address: message.address,
            data: message.data,
        });
        let Some(vectors) = &mut self.messages[id.index()].msix else {
            return self.remapping.retire(at.segment, block);
        };
        if let Some(slot) = vectors.blocks.get_mut(place) {
            *slot = Some(block);
        }
        match (routed, translated) {
            (Ok(()), Some(translated)) => {
                for store in vectors
                    .table
                    .program(index, translated)
                    .into_iter()
                    .flatten()
                {
                    self.poke(id, store);
                }
            }
            _ => self.silence_vector(id, index),
        }
    }

    pub(super) fn translate_vector_again(&mut self, id: FunctionId, index: u16, entries: Entries) {
        let Some(vectors) = &mut self.messages[id.index()].msix else {
            return;
        };
        let Some(message) = vectors.table.message(index) else {
            return;
        };
        let (address, data) = (message.address, message.data);
        let handle = handle_of(Request::Message { address, data });
        if handle.map_or(entries != Entries::ALL, |handle| !entries.contain(handle)) {
            return;
        }
        vectors.table.outdate(index);
        let is_wanted = vectors.table.wanted(index).is_some();
        if is_wanted && vectors.is_enabled && vectors.decoded.is_some() {
            self.program_vector(id, index, message);
        } else {
            // The guest may give away now what it led to, and a device need not heed its mask.
            self.silence_vector(id, index);
        }
    }

    fn silence_vector(&mut self, id: FunctionId, index: u16) {
        let _: Option<Route> = self.program_signal(id, index, None);
        let Messages { at, msix, .. } = &mut self.messages[id.index()];
        let Some(vectors) = msix else {
            return;
        };
        let block = vectors.blocks.get(usize::from(index));
        if let (Some(at), Some(block)) = (*at, block.and_then(Option::as_ref))
            && let Err(refusal) = self.remapping.route(at.segment, block, 0, None)
            && REFUSED.is_new((at, 3))
        {
            say!("device {at}: MSI-X entry {index}: {refusal}");
        }
        if let Ok(store) = vectors.table.silence(index) {
            self.poke(id, store);
        }
    }

    /// Writes into the device's own table, if it can be reached.
    fn poke(&self, id: FunctionId, store: msix::Store) {
        let place = self.mediation.msix(id).and_then(|layout| {
            let decoded = self.messages[id.index()].msix.as_ref()?.decoded?;
            let offset = u64::from(layout.table.offset) + u64::from(store.offset);
            let range = ByteRange::new(decoded.start().checked_add(offset)?, 4)?;
            decoded.covers(&range).then_some(range)
        });
        if let Some(place) = place {
            // SAFETY: what the register decodes lies over no memory and nothing of Bouncer's, which
            // the mediation saw to; it is mapped, as all device memory is, and a table's double word.
            unsafe { physical::write_device(place.start(), &store.value.to_le_bytes()) };
        }
    }

    /// The pages of the table of `id`, whose register decodes `decoded`.
    fn table_pages(&self, id: FunctionId, decoded: ByteRange<Hpa>) -> Option<ByteRange<Gpa>> {
        let layout = self.mediation.msix(id)?;
        let inside = decoded.identity();
        let start = inside.start().checked_add(layout.table.offset.into())?;
        let bytes = u64::from(layout.entries) * u64::from(ENTRY_BYTES);
        let table = ByteRange::new(start, bytes)?;
        Some(table.intersection(&inside)?.whole_pages())
    }
}
