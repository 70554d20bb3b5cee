//! Message-signalled interrupts: what the guest programmed, and what the device was given for it.
//!
//! A device sends only handles of entries issued to it; the guest reads back what it wrote. The pages
//! of an MSI-X table are out of the guest's reach for as long as the device decodes them.

// UNSAFETY: keeps the guest's entries in memory of Bouncer's own, and writes MSI-X tables.
#![expect(unsafe_code)]

use heapless::Vec;
use memory::{ByteRange, Gpa, Hpa, PAGE_SIZE};
use pci::capabilities::InBar;
use pci::mediation::Msi;
use pci::msix::{self, ENTRY_BYTES, Entry, Region, Table, Written};
use pci::topology::Speaker;
use pci::{Address, ConfigSpace, FunctionId};
use viommu::{Entries, Request, handle_of};
use vtd::remap::{Block, Objection, Refusal, Route};

use super::{Fabric, MAX_FUNCTIONS, RESERVE};
use crate::console::say;
use crate::limit::Once;
use crate::own::OwnFrames;
use crate::physical;
use crate::virtual_unit::Shared;

/// Devices whose interrupts were refused, by function and reason.
static REFUSED: Once<(Address, u8), 32> = Once::new();

/// What one function has of interrupts.
#[derive(Debug)]
pub(super) struct Messages {
    /// Where the function was when they were issued to it.
    at: Option<Address>,
    /// The requester id that its messages carry: its own, or that of the bridge which speaks for it.
    source: Option<Address>,
    msi: Option<Block>,
    msix: Option<Vectors>,
    /// Memory for a table, kept for whoever has this place next.
    storage: Option<Storage>,
}

impl Messages {
    /// Of nobody.
    pub(super) const NONE: Self = Self {
        at: None,
        source: None,
        msi: None,
        msix: None,
        storage: None,
    };
}

/// The MSI-X table of one function.
#[derive(Debug)]
struct Vectors {
    table: Table<&'static mut [Entry]>,
    blocks: &'static mut [Option<Block>],
    /// What the register that holds the table decodes now.
    decoded: Option<ByteRange<Hpa>>,
    is_enabled: bool,
}

/// Memory for a table of so many entries.
#[derive(Clone, Copy, Debug)]
struct Storage {
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
    /// Starts afresh with the interrupts of a function that was just adopted at `at`.
    pub(super) fn adopt_messages(&mut self, id: FunctionId, at: Address) {
        self.drop_messages(id);
        // Where two could speak with one name, neither has an interrupt until it is clear whose it is.
        let source = self.source_of(id, at);
        if self.mediation.topology().speaker(source) != Speaker::Ambiguous {
            self.messages_are_of(id, at);
        }
        if let Some(layout) = self.mediation.msix(id) {
            self.make_table(id, at, usize::from(layout.entries));
            let decoded = self.mediation.decoded(id, layout.table.bar);
            self.place_table(id, decoded);
        }
        if let Some(msi) = self.mediation.msi(id).filter(|msi| msi.control.enable()) {
            self.program_msi(id, msi);
        }
    }

    /// Takes every interrupt of `id` back; its table, if it has one, is nowhere.
    pub(super) fn drop_messages(&mut self, id: FunctionId) {
        self.drop_signals(id);
        self.place_table(id, None);
        self.silence_messages(id);
        let messages = &mut self.messages[id.index()];
        messages.msix = None;
        messages.at = None;
    }

    /// Takes every interrupt of `id` back, as after a reset. Its table stays where it is.
    pub(super) fn reset_messages(&mut self, id: FunctionId) {
        self.drop_signals(id);
        self.silence_messages(id);
        if let Some(vectors) = &mut self.messages[id.index()].msix {
            vectors.table.reset();
            vectors.is_enabled = false;
        }
    }

    pub(super) fn silence_messages(&mut self, id: FunctionId) {
        let messages = &mut self.messages[id.index()];
        let Some(at) = messages.at else {
            return;
        };
        if let Some(block) = messages.msi.take() {
            self.remapping.retire(at.segment, block);
        }
        let blocks = messages.msix.iter_mut().flat_map(|v| v.blocks.iter_mut());
        for block in blocks.filter_map(Option::take) {
            self.remapping.retire(at.segment, block);
        }
    }

    /// Takes every interrupt of `id` back, and issues none until it is adopted anew.
    pub(super) fn end_messages(&mut self, id: FunctionId) {
        self.drop_signals(id);
        self.silence_messages(id);
        self.messages[id.index()].at = None;
    }

    fn source_of(&self, id: FunctionId, at: Address) -> Address {
        let alias = self.mediation.topology().alias(id);
        Address::new(at.segment, alias.unwrap_or(at.bdf))
    }

    fn messages_are_of(&mut self, id: FunctionId, at: Address) {
        let source = self.source_of(id, at);
        let messages = &mut self.messages[id.index()];
        (messages.at, messages.source) = (Some(at), Some(source));
    }

    /// Issues interrupts to the device anew if its requester id is another than they were issued to.
    pub(super) fn messages_follow(&mut self, id: FunctionId, at: Address) {
        let messages = &self.messages[id.index()];
        let is_same = messages.at == Some(at) && messages.source == Some(self.source_of(id, at));
        if is_same || self.is_quarantined(id) {
            return;
        }
        self.silence_messages(id);
        self.messages_are_of(id, at);
        self.renew_messages(id);
    }

    /// Issues what was taken back from the device, as the guest has programmed it by now.
    pub(super) fn renew_messages(&mut self, id: FunctionId) {
        if let Some(msi) = self.mediation.msi(id).filter(|msi| msi.control.enable()) {
            self.program_msi(id, msi);
        }
        self.sync_table(id);
    }

    /// Takes back what was issued to the function that was at `at`, for anybody but `speaker`, who has
    /// this name now: a device without a bus number keeps no interrupt that another could raise for it.
    pub(super) fn messages_leave(&mut self, at: Address, speaker: Option<FunctionId>) {
        let is_past =
            |id: &FunctionId| Some(*id) != speaker && self.messages[id.index()].at == Some(at);
        let past = self.mediation.topology().functions().map(|(id, _)| id);
        let past: Vec<FunctionId, 8> = past.filter(is_past).take(8).collect();
        for id in past {
            self.silence_messages(id);
            self.messages[id.index()].at = None;
        }
    }

    fn make_table(&mut self, id: FunctionId, at: Address, entries: usize) {
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

    /// MSI was enabled, disabled or changed.
    pub(super) fn program_msi(&mut self, id: FunctionId, msi: Msi) {
        let Some(at) = self.messages[id.index()].at else {
            return;
        };
        let count = 1_u16 << msi.control.vectors_granted().min(5);
        if msi.control.enable() && self.is_mute(id) {
            // Issued when they come back; what a mediator raises follows the guest at once.
            for number in 0..count {
                let data = numbered(msi.data, count, number);
                let route = self.route_of(id, at, msi.address, data).ok();
                let _: Option<Route> = self.program_signal(id, number, route);
            }
            return;
        }
        let messages = &mut self.messages[id.index()];
        let is_kept = msi.control.enable()
            && messages
                .msi
                .as_ref()
                .is_some_and(|block| block.count() == count);
        if !is_kept && let Some(block) = messages.msi.take() {
            self.remapping.retire(at.segment, block);
        }
        if !msi.control.enable() {
            return self.drop_signals(id);
        }
        if self.messages[id.index()].msi.is_none() {
            match self.issue(id, count) {
                Ok(block) => self.messages[id.index()].msi = Some(block),
                Err(refusal) => {
                    if REFUSED.is_new((at, 0)) {
                        say!("device {at}: MSI stays silent: {refusal}");
                    }
                }
            }
        }
        let Some(block) = self.messages[id.index()].msi.take() else {
            // What is in the registers leads nowhere: nothing was issued.
            return self.store_message(id, 0, 0);
        };
        for number in 0..count {
            // The device replaces the low bits of the data by the number. PCI 3.0, 6.8.1.3.
            let data = numbered(msi.data, count, number);
            let mut refused = None;
            let route = match self.route_of(id, at, msi.address, data) {
                Ok(route) => Some(route),
                Err(Blocked::Objection(objection)) => {
                    if REFUSED.is_new((at, 1)) {
                        say!("device {at}: MSI {number}: {objection}");
                        say!("@refused bdf={at} register=msi reason=\"{objection}\"");
                    }
                    None
                }
                Err(Blocked::ByGuest(blocked)) => {
                    refused = Some(blocked);
                    None
                }
            };
            let route = self.program_signal(id, number, route);
            self.refuse_signal(id, number, refused);
            if let Err(refusal) = self.remapping.route(at.segment, &block, number, route)
                && REFUSED.is_new((at, 2))
            {
                say!("device {at}: MSI {number}: {refusal}");
            }
        }
        let message = if count == 1 {
            block.message(0).unwrap_or(block.messages())
        } else {
            block.messages()
        };
        self.messages[id.index()].msi = Some(block);
        self.store_message(id, message.address, message.data);
    }

    fn store_message(&mut self, id: FunctionId, address: u64, data: u32) {
        for store in self.mediation.program_msi(id, address, data) {
            self.space.write(store.at, store.register, store.value);
        }
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

    fn is_table_at(&self, page: Gpa) -> bool {
        self.mediation.topology().functions().any(|(id, _)| {
            let vectors = self.messages[id.index()].msix.as_ref();
            let decoded = vectors.and_then(|vectors| vectors.decoded);
            let pages = decoded.and_then(|decoded| self.table_pages(id, decoded));
            pages.is_some_and(|pages| pages.contains(page))
        })
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
                    && REFUSED.is_new((at, 3))
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
                if REFUSED.is_new((at, 4)) {
                    say!("device {at}: MSI-X entry {index}: {objection}");
                    say!("@refused bdf={at} register=msix reason=\"{objection}\"");
                }
                return self.silence_vector(id, index);
            }
        };
        if self.is_mute(id) {
            // As for MSI.
            let _: Option<Route> = self.program_signal(id, index, Some(route));
            return;
        }
        let place = usize::from(index);
        let held = self.messages[id.index()]
            .msix
            .as_mut()
            .and_then(|v| v.blocks.get_mut(place)?.take());
        let block = match held.map_or_else(|| self.issue(id, 1), Ok) {
            Ok(block) => block,
            Err(refusal) => {
                if REFUSED.is_new((at, 5)) {
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

    fn issue(&mut self, id: FunctionId, count: u16) -> Result<Block, Refusal> {
        let source = self.messages[id.index()].source;
        source.map_or(Err(Refusal::Full), |at| self.remapping.issue(at, count))
    }

    /// What a message that the guest programmed into `id`, which is at `at`, asks for.
    fn route_of(
        &self,
        id: FunctionId,
        at: Address,
        address: u64,
        data: u32,
    ) -> Result<Route, Blocked> {
        if let Some(unit) = self.virtual_unit_of(at) {
            let request = Request::Message { address, data };
            let source = self.messages[id.index()].source.unwrap_or(at);
            match unit.route(source, request, false) {
                Ok(Some(route)) => return Ok(route),
                Ok(None) => {}
                Err(blocked) => return Err(Blocked::ByGuest(blocked)),
            }
        }
        Route::of_message(address, data).map_err(Blocked::Objection)
    }

    /// What the guest programmed for the message of `id` that the device sends with this handle.
    pub(super) fn asked_with(&self, id: FunctionId, handle: u16) -> Option<Request> {
        let block = self.messages[id.index()].msi.as_ref()?;
        let msi = self.mediation.msi(id)?;
        let number = (0..block.count()).find(|number| {
            let message = block.message(*number).map(|m| (m.address, m.data));
            let request = message.map(|(address, data)| Request::Message { address, data });
            request.and_then(handle_of) == Some(handle)
        })?;
        Some(Request::Message {
            address: msi.address,
            data: numbered(msi.data, block.count(), number),
        })
    }

    /// The guest changed some of the interrupt entries of `unit`: what leads to them is translated again.
    pub(super) fn translate_again(&mut self, unit: &Shared, entries: Entries) {
        let ids = self.mediation.topology().functions().map(|(id, _)| id);
        let ids: Vec<FunctionId, MAX_FUNCTIONS> = ids.collect();
        for id in ids {
            let at = self.messages[id.index()].at;
            let in_front = at.and_then(|at| self.virtual_unit_of(at));
            if in_front.is_none_or(|in_front| !core::ptr::eq(in_front, unit)) {
                continue;
            }
            if let Some(msi) = self.mediation.msi(id).filter(|msi| msi.control.enable()) {
                self.program_msi(id, msi);
            }
            let table = &self.messages[id.index()].msix;
            let count = table.as_ref().map_or(0, |v| v.table.len() as u16);
            for index in 0..count {
                self.translate_vector_again(id, index, entries);
            }
        }
    }

    fn translate_vector_again(&mut self, id: FunctionId, index: u16, entries: Entries) {
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
            && REFUSED.is_new((at, 8))
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

    /// Stops the guest at `pages`, where registers of `id` are that it may not reach itself. A device of
    /// which that is not true reaches nothing.
    pub(super) fn stop_at(&mut self, id: FunctionId, pages: ByteRange<Gpa>) {
        let mut stopped = Ok(());
        for page in pages_of(pages) {
            stopped = stopped.and(self.map.stop_at(&mut self.remapping.frames, page));
        }
        if let Err(error) = stopped {
            let at = self.mediation.topology().address(id);
            if let Some(at) = at.filter(|at| REFUSED.is_new((*at, 6))) {
                say!(
                    "device {at}: the guest is not stopped at its registers, so it reaches nothing: {error}"
                );
            }
            // Told once more when nothing of the decision under way is left to do.
            let _ = self.exposed.push(id);
        }
    }

    /// Lets the guest through at `pages` again, but where other registers are that it may not reach: those
    /// of small devices share a page.
    pub(super) fn let_through(&mut self, pages: ByteRange<Gpa>) {
        for page in pages_of(pages) {
            if self.is_stopped_at(page) || self.is_table_at(page) {
                continue;
            }
            if let Err(error) = self.map.let_through(&mut self.remapping.frames, page)
                && REFUSED.is_new((Address::new(0, pci::Bdf::from_requester_id(0)), 7))
            {
                say!("the guest stays stopped at {page}, where a device's registers were: {error}");
            }
        }
    }
}

fn pages_of(range: ByteRange<Gpa>) -> impl Iterator<Item = Gpa> {
    let pages = range.whole_pages();
    let step = move |page: &Gpa| {
        page.checked_add(PAGE_SIZE)
            .filter(|next| pages.contains(*next))
    };
    core::iter::successors(Some(pages.start()), step)
}

/// Why a message leads nowhere.
enum Blocked {
    /// It is none that a device may send.
    Objection(Objection),
    /// The guest's own table does not let it.
    ByGuest(viommu::Blocked),
}

/// The data of message `number` out of `count`.
fn numbered(data: u32, count: u16, number: u16) -> u32 {
    data & !(u32::from(count) - 1) | u32::from(number)
}
