//! What a mediator finds of the machine: one device's registers and pages, and the guest's memory.

// UNSAFETY: reads and writes a device's registers and pages at physical addresses.
#![expect(unsafe_code)]

use core::cell::RefCell;
use core::sync::atomic::{AtomicU64, Ordering};

use bounce::{Arena, Pages};
use mediator::{Lie, Notice, Reach, World};
use memory::{ByteRange, Gpa, GuestMemory, Hole, Hpa, Iova, PAGE_SIZE};
use pci::Address;
use viommu::Translations;
use vtd::domain::Access;

use super::signal::Signals;
use crate::console::say;
use crate::copy;
use crate::fabric::Remapping;
use crate::limit::Once;
use crate::machine::Machine;
use crate::physical::{self, Physical};
use crate::virtual_unit::Shared;

/// What was told of devices: each sentence once.
static TOLD: Once<(Address, Notice), 64> = Once::new();

/// What Bouncer holds of one mediated device.
#[derive(Debug)]
pub(crate) struct Parts {
    /// The requester id it had when it was bound.
    pub(crate) at: Address,
    pub(crate) arena: Arena,
    /// Where it finds whole pages of the guest's, for the time of a request.
    pub(crate) window: Option<ByteRange<Iova>>,
    /// How it names memory, where the guest sees a unit in front of it.
    pub(crate) translated: Option<Translated>,
    /// The domain it is in.
    pub(crate) domain: u8,
    /// Where its pages are.
    pub(crate) memory: Hpa,
    /// Where its registers are decoded now.
    pub(crate) registers: Option<ByteRange<Hpa>>,
    pub(crate) signals: Signals,
    /// Interrupts that the guest may program.
    pub(crate) vectors: u16,
    /// Whether the guest is offered doorbells in memory.
    pub(crate) has_shadow_doorbells: bool,
    /// Parts of the register window that are the fabric's: from, and up to.
    pub(crate) tables: [Option<(u32, u32)>; 2],
    /// Requests that it had completed when its interrupts were taken back for a while.
    pub(crate) completed_before_mute: u64,
    /// What it claimed that cannot be.
    pub(crate) lie: Option<Lie>,
    /// That has had its consequence.
    pub(crate) is_cut_off: bool,
}

/// What is known of a device's addresses.
#[derive(Debug)]
pub(crate) struct Translated {
    /// The unit that the guest sees in front of it.
    pub(crate) unit: &'static Shared,
    pub(crate) known: RefCell<Translations>,
}

/// One device, in the hands of its mediator.
pub(super) struct Hand<'a> {
    pub(super) parts: &'a mut Parts,
    pub(super) machine: &'static Machine,
    /// The units, where the device's window needs them.
    pub(super) remapping: Option<&'a mut Remapping>,
    /// When its mediator began to linger.
    pub(super) lingers_since: Option<u32>,
}

impl Hand<'_> {
    /// Where the device's `len` bytes at `at` are in memory.
    #[inline(always)]
    fn place(&self, at: Iova, len: u64) -> u64 {
        let offset = self.parts.arena.offset(at, len);
        let offset = offset.expect("a mediator names the device's own pages");
        self.parts.memory.raw() + offset
    }

    /// What is known of the device's addresses, where they are translated.
    #[inline(always)]
    fn translations(&self) -> Option<&Translated> {
        let translated = self.parts.translated.as_ref()?;
        translated.known.borrow().are_asked().then_some(translated)
    }

    /// Finds in the guest's memory what the device calls `range`, and does something with each piece,
    /// which begins so many bytes into the range. What the guest's tables refuse is told to the guest,
    /// and nothing was done then.
    fn each_piece(
        &self,
        range: ByteRange<Gpa>,
        access: viommu::Access,
        mut act: impl FnMut(ByteRange<Gpa>, u64),
    ) -> Result<(), Hole> {
        let Some(translated) = self.translations() else {
            return match self.machine.is_memory(range.identity()) {
                true => {
                    act(range, 0);
                    Ok(())
                }
                false => Err(Hole(range)),
            };
        };
        let mut known = translated.known.borrow_mut();
        let mut find = |piece: ByteRange<Gpa>| {
            let at = Iova::new(piece.start().raw());
            let found = known.translate(&Physical(self.machine), at, access);
            let found = found.map_err(|refused| {
                translated.unit.refuse(known.source(), at, access, refused);
            });
            let found = found.ok().and_then(|at| ByteRange::new(at, piece.len()));
            found.filter(|found| self.machine.is_memory(found.identity()))
        };
        let is_several = range.start().raw() / PAGE_SIZE != range.last().raw() / PAGE_SIZE;
        if is_several && pieces(range).any(|piece| find(piece).is_none()) {
            return Err(Hole(range));
        }
        for piece in pieces(range) {
            let found = find(piece).ok_or(Hole(range))?;
            act(found, piece.start().raw() - range.start().raw());
        }
        Ok(())
    }

    /// A whole page of the guest's memory.
    fn guests(&self, page: Gpa) -> Option<Hpa> {
        let range = ByteRange::new(page, PAGE_SIZE)?;
        (range.is_page_aligned() && self.is_memory(range)).then_some(page.identity())
    }

    /// A page that is the device's anyway.
    fn own(&self, page: Iova) -> Option<Hpa> {
        let offset = self.parts.arena.offset(page, PAGE_SIZE)?;
        self.parts.memory.checked_add(offset)
    }

    fn register(&self, offset: u32) -> Option<Hpa> {
        let registers = self.parts.registers?;
        let at = registers.start().checked_add(u64::from(offset))?;
        let range = ByteRange::new(at, 4)?;
        (registers.covers(&range) && offset.is_multiple_of(4)).then_some(at)
    }
}

impl GuestMemory for Hand<'_> {
    #[inline(always)]
    fn read(&self, at: Gpa, to: &mut [u8]) -> Result<(), Hole> {
        match self.translations() {
            None => Physical(self.machine).read(at, to),
            Some(_) => self.read_translated(at, to),
        }
    }

    #[inline(always)]
    fn write(&self, at: Gpa, from: &[u8]) -> Result<(), Hole> {
        match self.translations() {
            None => Physical(self.machine).write(at, from),
            Some(_) => self.write_translated(at, from),
        }
    }
}

impl Hand<'_> {
    fn read_translated(&self, at: Gpa, to: &mut [u8]) -> Result<(), Hole> {
        let memory = Physical(self.machine);
        let Some(range) = ByteRange::new(at, to.len() as u64) else {
            return memory.read(at, to);
        };
        let mut whole = Ok(());
        self.each_piece(range, viommu::Access::Read, |piece, into| {
            let end = (into + piece.len()) as usize;
            if let Some(to) = to.get_mut(into as usize..end) {
                whole = whole.and(memory.read(piece.start(), to));
            }
        })?;
        whole
    }

    fn write_translated(&self, at: Gpa, from: &[u8]) -> Result<(), Hole> {
        let memory = Physical(self.machine);
        let Some(range) = ByteRange::new(at, from.len() as u64) else {
            return memory.write(at, from);
        };
        let mut whole = Ok(());
        self.each_piece(range, viommu::Access::Write, |piece, into| {
            let end = (into + piece.len()) as usize;
            if let Some(from) = from.get(into as usize..end) {
                whole = whole.and(memory.write(piece.start(), from));
            }
        })?;
        whole
    }
}

impl Pages for Hand<'_> {
    fn is_memory(&self, range: ByteRange<Gpa>) -> bool {
        let Some(translated) = self.translations() else {
            return self.machine.is_memory(range.identity());
        };
        let mut known = translated.known.borrow_mut();
        // Who asks is about to let the device write: what is not there for any access is told as that.
        pieces(range).all(|piece| {
            let (memory, at) = (Physical(self.machine), Iova::new(piece.start().raw()));
            let found = known
                .translate(&memory, at, viommu::Access::Read)
                .or_else(|_| known.translate(&memory, at, viommu::Access::Write));
            let found = found.map_err(|refused| {
                let access = viommu::Access::Write;
                translated.unit.refuse(known.source(), at, access, refused);
            });
            let found = found.ok().and_then(|at| ByteRange::new(at, piece.len()));
            found.is_some_and(|found| self.machine.is_memory(found.identity()))
        })
    }

    fn copy_in(&mut self, from: ByteRange<Gpa>, to: Iova) -> Result<(), Hole> {
        let to = self.place(to, from.len());
        self.each_piece(from, viommu::Access::Read, |piece, into| {
            // SAFETY: the guest's RAM and the device's pages, which are no Rust objects and, as
            // Bouncer's own memory is not the guest's, do not overlap.
            unsafe { copy::copy(piece.start().raw(), to + into, piece.len()) };
        })
    }

    fn copy_out(&mut self, from: Iova, to: ByteRange<Gpa>) -> Result<(), Hole> {
        let from = self.place(from, to.len());
        self.each_piece(to, viommu::Access::Write, |piece, into| {
            // SAFETY: as for `copy_in`.
            unsafe { copy::copy(from + into, piece.start().raw(), piece.len()) };
        })
    }

    fn load(&self, at: Iova, to: &mut [u8]) {
        let (from, len) = (self.place(at, to.len() as u64), to.len() as u64);
        // SAFETY: the device's pages are mapped memory and no Rust object; `to` is ours.
        unsafe { copy::copy(from, to.as_mut_ptr() as u64, len) };
    }

    #[inline(always)]
    fn load_u64(&self, at: Iova) -> u64 {
        let from = self.place(at, 8);
        assert!(from.is_multiple_of(8), "an aligned word");
        // SAFETY: mapped memory, aligned, that only the device writes, and Bouncer atomically.
        unsafe { AtomicU64::from_ptr(from as *mut u64) }.load(Ordering::Acquire)
    }

    #[inline(always)]
    fn store(&mut self, at: Iova, from: &[u8]) {
        let (to, len) = (self.place(at, from.len() as u64), from.len() as u64);
        // SAFETY: as for `load`.
        unsafe { copy::copy(from.as_ptr() as u64, to, len) };
    }

    fn scrub(&mut self, at: ByteRange<Iova>) {
        // SAFETY: as for `load`.
        unsafe { copy::clear(self.place(at.start(), at.len()), at.len()) };
    }
}

impl World for Hand<'_> {
    fn load_register(&self, offset: u32) -> u32 {
        let Some(at) = self.register(offset) else {
            return u32::MAX;
        };
        let mut value = [0; 4];
        // SAFETY: a register of the device, which decodes there: the mediation of configuration space
        // lets nothing of Bouncer's or memory lie under it.
        unsafe { physical::read_device(at, &mut value) };
        u32::from_le_bytes(value)
    }

    fn store_register(&mut self, offset: u32, value: u32) {
        if let Some(at) = self.register(offset) {
            // x86 keeps the order of stores, also to device memory (SDM vol. 3A, 9.2.2): what was
            // stored to the device's pages is there before.
            // SAFETY: as for `load_register`; what the device does of it meets its own pages alone.
            unsafe { physical::write_device(at, &value.to_le_bytes()) };
        }
    }

    fn window(&self) -> u32 {
        let registers = self.parts.registers.map_or(0, |range| range.len());
        u32::try_from(registers).unwrap_or(u32::MAX)
    }

    fn vectors(&self) -> u32 {
        u32::from(self.parts.vectors).min(Signals::MOST)
    }

    fn maps(&self) -> bool {
        self.translations().is_none()
    }

    fn is_announced(&self) -> bool {
        self.parts.signals.are_any()
    }

    fn linger(&mut self) -> bool {
        /// Microseconds that a guest without interrupts is held for its device: reads and writes take
        /// less, and its own patience is longer.
        const PATIENCE: u32 = 200_000;
        core::hint::spin_loop();
        let timer = self.machine.timer;
        let since = *self.lingers_since.get_or_insert_with(|| timer.now());
        !timer.has_passed(since, PATIENCE)
    }

    fn map(&mut self, at: Iova, page: Reach) -> bool {
        let (access, from) = match page {
            Reach::ReadGuest(page) => (Access::Read, self.guests(page)),
            Reach::WriteGuest(page) => (Access::Write, self.guests(page)),
            Reach::ReadOwn(page) => (Access::Read, self.own(page)),
            Reach::WriteOwn(page) => (Access::Write, self.own(page)),
        };
        let range = ByteRange::new(at, PAGE_SIZE);
        let range = range.filter(|range| self.parts.window.is_some_and(|all| all.covers(range)));
        let (Some(range), Some(from), Some(remapping)) = (range, from, self.remapping.as_mut())
        else {
            return false;
        };
        remapping
            .lend(self.parts.domain, range, from, access)
            .is_ok()
    }

    fn unmap(&mut self, range: ByteRange<Iova>) {
        let range =
            Some(range).filter(|range| self.parts.window.is_some_and(|all| all.covers(range)));
        if let (Some(range), Some(remapping)) = (range, self.remapping.as_mut()) {
            remapping.revoke(self.parts.domain, range);
        }
    }

    fn raise(&mut self, vector: u16) -> bool {
        let Parts {
            signals,
            translated,
            ..
        } = &mut *self.parts;
        if let (Some(blocked), Some(translated)) = (signals.take_refusal(vector), translated) {
            let source = translated.known.get_mut().source();
            translated.unit.refuse_interrupt(source, blocked);
        }
        signals.raise(vector)
    }

    fn tell(&mut self, notice: Notice) {
        let at = self.parts.at;
        if TOLD.is_new((at, notice)) {
            say!("device {at}: {notice}");
            say!("@notice bdf={at} text=\"{notice}\"");
        }
    }

    fn cut_off(&mut self, lie: Lie) {
        self.parts.lie.get_or_insert(lie);
    }
}

/// The parts of `range` in each page.
fn pieces(range: ByteRange<Gpa>) -> impl Iterator<Item = ByteRange<Gpa>> {
    let (first, last) = (range.start().raw(), range.last().raw());
    (first / PAGE_SIZE..=last / PAGE_SIZE).filter_map(move |page| {
        let start = (page * PAGE_SIZE).max(first);
        let last = (page * PAGE_SIZE + (PAGE_SIZE - 1)).min(last);
        ByteRange::inclusive(Gpa::new(start), Gpa::new(last))
    })
}
