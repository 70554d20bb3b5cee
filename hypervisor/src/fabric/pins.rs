//! The I/O APICs: the guest writes its entries, the hardware gets handles of interrupts issued to it.

// UNSAFETY: reads and writes the registers of I/O APICs.
#![expect(unsafe_code)]

use heapless::Vec;
use memory::{ByteRange, Gpa};
use pci::{Address, Bdf};
use processor::ioapic::{MASKED, MAX_PINS, Model, Read, SELECT, VERSION, WINDOW, Written};
use viommu::{Entries, Request, handle_of};
use vtd::remap::{Block, LONGEST_BLOCK, Polarity, Route};
use vtd::spec::interrupt::RemappableRedirection;

use super::remapping::Remapping;
use crate::console::say;
use crate::limit::Once;
use crate::machine::IoApic;
use crate::virtual_unit;

/// Blocks that the pins of one I/O APIC fall into.
const MAX_BLOCKS: usize = MAX_PINS.div_ceil(LONGEST_BLOCK as usize);
/// The first entry's index.
const FIRST_ENTRY: u8 = 0x10;

/// Pins whose entries were refused.
static REFUSED: Once<(u8, u8), 16> = Once::new();

/// One I/O APIC.
#[derive(Debug)]
pub(super) struct Pins {
    id: u8,
    page: ByteRange<Gpa>,
    /// As whom it raises interrupts.
    at: Address,
    model: Model,
    blocks: Vec<Block, MAX_BLOCKS>,
    /// What the hardware's entries hold.
    real: Vec<u64, MAX_PINS>,
}

/// No unit speaks for an I/O APIC, or its interrupts cannot be issued.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) struct NotIssued;

impl Pins {
    /// Takes the I/O APIC over: what firmware left unmasked goes on as an issued interrupt, if it is
    /// one that may. `source` is the requester id of its interrupts.
    ///
    /// # Safety
    /// The firmware names the page as an I/O APIC's; it is mapped one to one, and nobody else uses it.
    pub(super) unsafe fn take_over(
        io_apic: &IoApic,
        segment: u16,
        source: Bdf,
        remapping: &mut Remapping,
    ) -> Result<Self, NotIssued> {
        let mut this = Self {
            id: io_apic.id,
            page: io_apic.page,
            at: Address::new(segment, source),
            model: Model::new([]),
            blocks: Vec::new(),
            real: Vec::new(),
        };
        let last = this.load(VERSION) >> 16 & 0xff;
        let count = (last as usize + 1).min(MAX_PINS);
        for pin in 0..count as u8 {
            let index = Model::index_of(pin);
            let entry = u64::from(this.load(index)) | u64::from(this.load(index + 1)) << 32;
            this.real.push(entry).map_err(|_| NotIssued)?;
        }
        this.model = Model::new(this.real.iter().copied());
        let at = this.at;
        let mut left = count as u16;
        while left != 0 {
            let block = remapping.issue(at, left.min(LONGEST_BLOCK));
            let block = block.map_err(|_| NotIssued)?;
            left -= block.count();
            this.blocks.push(block).map_err(|_| NotIssued)?;
        }
        for pin in 0..count as u8 {
            this.program(pin, remapping);
        }
        Ok(this)
    }

    /// Its page.
    pub(super) fn page(&self) -> ByteRange<Gpa> {
        self.page
    }

    /// Answers the guest's read at `offset` of the page. The datasheet allows aligned double words.
    pub(super) fn read(&self, offset: u32, to: &mut [u8]) {
        let value = match self.model.read(offset & !3) {
            Read::Value(value) => value,
            Read::Register(index) => self.load(index),
            Read::Merged { value, index, mask } => value & !mask | self.load(index) & mask,
        };
        let shift = 8 * (offset & 3);
        let bytes = u64::from(value) >> shift;
        let len = to.len().min(8);
        to[..len].copy_from_slice(&bytes.to_le_bytes()[..len]);
    }

    /// Takes the guest's write at `offset` of the page.
    pub(super) fn write(&mut self, offset: u32, from: &[u8], remapping: &mut Remapping) {
        let Ok(bytes) = <[u8; 4]>::try_from(from) else {
            return;
        };
        match self.model.write(offset, u32::from_le_bytes(bytes)) {
            Written::Kept => {}
            Written::Entry(pin) => self.program(pin, remapping),
            Written::Pass { offset, value } => self.end_interrupt(offset, value),
        }
    }

    /// Ends `vector` for every pin whose entry has it for the guest: the hardware's entries have another
    /// where the guest's table says what is raised.
    fn end_interrupt(&self, offset: u32, vector: u32) {
        let is_its = |pin: &u8| self.model.entry(*pin) & 0xff == u64::from(vector) & 0xff;
        let pins = (0..self.model.pins()).filter(is_its);
        let real = pins.filter_map(|pin| self.real.get(usize::from(pin)));
        for entry in real {
            // SAFETY: the register at the offset is one that the model lets through.
            unsafe { self.store_at(offset, (entry & 0xff) as u32) }
        }
    }

    /// The guest changed some of its interrupt entries: what leads to them is translated again.
    pub(super) fn translate_again(&mut self, entries: Entries, remapping: &mut Remapping) {
        for pin in 0..self.model.pins() {
            let handle = handle_of(Request::Redirection(self.model.entry(pin)));
            if handle.map_or(entries == Entries::ALL, |handle| entries.contain(handle)) {
                self.program(pin, remapping);
            }
        }
    }

    /// What an entry of the guest's asks for. `None` if it is to stay masked.
    fn asked(&self, pin: u8, wanted: u64) -> Option<(Route, Polarity)> {
        let unit = virtual_unit::first().filter(|unit| unit.segment() == self.at.segment);
        if let Some(unit) = unit {
            let fields = RemappableRedirection(wanted);
            let request = Request::Redirection(wanted);
            match unit.route(self.at, request, fields.tm()) {
                Ok(Some(route)) if fields.polarity() => return Some((route, Polarity::ActiveLow)),
                Ok(Some(route)) => return Some((route, Polarity::ActiveHigh)),
                Ok(None) => {}
                Err(_) => return None,
            }
        }
        match Route::of_redirection(wanted) {
            Ok(asked) => Some(asked),
            Err(objection) => {
                if REFUSED.is_new((self.id, pin)) {
                    say!("I/O APIC {}, pin {pin} stays masked: {objection}", self.id);
                }
                None
            }
        }
    }

    /// Makes the hardware's entry of `pin` agree with the guest's.
    fn program(&mut self, pin: u8, remapping: &mut Remapping) {
        let wanted = self.model.entry(pin);
        let number = u16::from(pin) % LONGEST_BLOCK;
        let block = self.blocks.get(usize::from(u16::from(pin) / LONGEST_BLOCK));
        let translated = block.filter(|_| wanted & MASKED == 0).and_then(|block| {
            let (route, polarity) = self.asked(pin, wanted)?;
            remapping
                .route(self.at.segment, block, number, Some(route))
                .ok()?;
            block.redirection(number, route, polarity)
        });
        // Masked, an entry keeps what it was: a level that is being served ends by it.
        let before = self.real.get(usize::from(pin)).copied().unwrap_or(MASKED);
        let entry = translated.map_or(before | MASKED, |entry| entry.0);
        if entry == before {
            return;
        }
        let index = Model::index_of(pin);
        if entry >> 32 != before >> 32 {
            self.store(index, before as u32 | MASKED as u32);
            self.store(index + 1, (entry >> 32) as u32);
        }
        self.store(index, entry as u32);
        if let Some(real) = self.real.get_mut(usize::from(pin)) {
            *real = entry;
        }
    }

    fn load(&self, index: u8) -> u32 {
        let page = self.page.start().raw();
        // SAFETY: the page is an I/O APIC's (`take_over`), and selecting an index has no other effect.
        unsafe {
            self.store_at(SELECT, u32::from(index));
            ((page + u64::from(WINDOW)) as *const u32).read_volatile()
        }
    }

    fn store(&self, index: u8, value: u32) {
        debug_assert!(index >= FIRST_ENTRY, "only entries are written");
        // SAFETY: as above; the entry is masked or names an issued interrupt.
        unsafe {
            self.store_at(SELECT, u32::from(index));
            self.store_at(WINDOW, value);
        }
    }

    /// # Safety
    /// What is written raises no interrupt that was not issued.
    unsafe fn store_at(&self, offset: u32, value: u32) {
        // SAFETY: a register of the I/O APIC, aligned; the rest is the caller's.
        unsafe {
            ((self.page.start().raw() + u64::from(offset)) as *mut u32).write_volatile(value);
        }
    }
}
