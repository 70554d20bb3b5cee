//! Memory that a driver and a unit both see, the unit's register page, and a device behind it.

use std::cell::{Cell, RefCell};
use std::collections::BTreeMap;
use std::rc::Rc;

use memory::{
    ByteRange, Flushed, Frame, Frames, Gpa, GuestMemory, Hole, Hpa, Iova, OutOfFrames, PAGE_SIZE,
};
use pci::Bdf;
use viommu::{
    Access, Limits, Loans, Message, Mode, Refused, Shadow, Translations, Unit, Width, Work,
};
use vtd::domain::{Access as Granted, Support};
use vtd::registers::{Deadline, Offset, Registers};
use vtd::spec::registers::{Cap, Ecap};

/// Where the driver's pages begin.
const FIRST: u64 = 0x10_0000;

/// Pages of memory. Clones are the same memory.
#[derive(Clone, Debug, Default)]
pub(crate) struct Memory(Rc<RefCell<BTreeMap<u64, Vec<u8>>>>);

impl Memory {
    /// Makes a page.
    pub(crate) fn put(&self, page: u64) {
        assert!(page.is_multiple_of(PAGE_SIZE));
        let mut pages = self.0.borrow_mut();
        pages.insert(page, vec![0; PAGE_SIZE as usize]);
    }

    pub(crate) fn store(&self, at: u64, word: u64) {
        self.write(Gpa::new(at), &word.to_le_bytes()).unwrap();
    }

    fn each(&self, at: Gpa, len: usize, mut act: impl FnMut(&mut u8, usize)) -> Result<(), Hole> {
        let mut pages = self.0.borrow_mut();
        for index in 0..len {
            let hole = Hole(memory::ByteRange::new(at, 1).unwrap());
            let byte = at.checked_add(index as u64).ok_or(hole)?.raw();
            let page = pages.get_mut(&(byte / PAGE_SIZE * PAGE_SIZE)).ok_or(hole)?;
            act(&mut page[(byte % PAGE_SIZE) as usize], index);
        }
        Ok(())
    }
}

impl GuestMemory for Memory {
    fn read(&self, at: Gpa, to: &mut [u8]) -> Result<(), Hole> {
        let len = to.len();
        self.each(at, len, |byte, index| to[index] = *byte)
    }

    fn write(&self, at: Gpa, from: &[u8]) -> Result<(), Hole> {
        self.each(at, from.len(), |_, _| ())?;
        self.each(at, from.len(), |byte, index| *byte = from[index])
    }
}

impl Frames for Memory {
    fn take(&mut self) -> Result<Frame, OutOfFrames> {
        let last = self.0.borrow().last_key_value().map(|(page, _)| *page);
        let page = last.map_or(FIRST, |last| last.max(FIRST) + PAGE_SIZE);
        self.put(page);
        Ok(Frame::new(Hpa::new(page)).unwrap())
    }

    fn read(&self, table: Hpa, index: usize) -> u64 {
        self.read_u64(Gpa::new(table.raw() + index as u64 * 8))
            .unwrap()
    }

    fn publish(&mut self, table: Hpa, index: usize, word: u64) {
        self.store(table.raw() + index as u64 * 8, word);
    }

    fn give_back(&mut self, frame: Frame, _: &Flushed) {
        self.0.borrow_mut().remove(&frame.base().raw());
    }
}

/// The unit, what stands behind it, and what it said. Clones are the same unit.
#[derive(Clone, Debug)]
pub(crate) struct Board {
    pub(crate) unit: Rc<RefCell<Unit>>,
    pub(crate) device: Rc<RefCell<Translations>>,
    pub(crate) shadow: Rc<RefCell<Shadow>>,
    pub(crate) lent: Rc<RefCell<Lent>>,
    pub(crate) memory: Memory,
    pub(crate) messages: Rc<RefCell<Vec<Message>>>,
    pub(crate) work: Rc<RefCell<Vec<Work>>>,
}

/// What can be lent: four levels, and pages of any size.
pub(crate) fn limits() -> Limits {
    let unit = Unit::new(Width::Wide);
    let mut bytes = [0; 16];
    unit.read(8, &mut bytes);
    let word = |at: usize| u64::from_le_bytes(std::array::from_fn(|index| bytes[at + index]));
    let (cap, ecap) = (Cap(word(0)), Ecap(word(8)));
    Limits::of(&Support::of(cap, ecap).format(48, 48).unwrap())
}

/// What hardware lets the device reach: from, up to, where, and how.
#[derive(Debug, Default)]
pub(crate) struct Lent(Vec<(u64, u64, u64, Granted)>);

impl Lent {
    /// The memory that can be lent.
    pub(crate) const MEMORY: core::ops::Range<u64> = 0x4000..0x8000_0000;

    pub(crate) fn is_nothing(&self) -> bool {
        self.0.is_empty()
    }

    /// Where the device gets to at `at`.
    pub(crate) fn find(&self, at: u64, access: Access) -> Option<u64> {
        let mut all = self.0.iter();
        let (start, _, to, granted) = all.find(|(start, end, ..)| (*start..*end).contains(&at))?;
        let may = match access {
            Access::Read => *granted != Granted::Write,
            Access::Write => *granted != Granted::Read,
        };
        may.then_some(to + (at - start))
    }
}

impl Loans for Lent {
    fn lend(&mut self, at: ByteRange<Iova>, page: Gpa, access: Granted) {
        let (start, end) = (at.start().raw(), at.last().raw() + 1);
        let is_so = |(from, to, where_to, granted): &(u64, u64, u64, Granted)| {
            *from <= start
                && end <= *to
                && where_to + (start - from) == page.raw()
                && *granted == access
        };
        if self.0.iter().any(is_so) {
            return;
        }
        self.revoke(at);
        if Self::MEMORY.start <= page.raw() && page.raw() + at.len() <= Self::MEMORY.end {
            self.0.push((start, end, page.raw(), access));
            self.merge(start, 1 << 21);
            self.merge(start, 1 << 30);
        }
    }

    fn revoke(&mut self, at: ByteRange<Iova>) {
        let (first, end) = (at.start().raw(), at.last().raw() + 1);
        let parts = |(start, stop, to, granted): (u64, u64, u64, Granted)| {
            let before = (start, stop.min(first), to, granted);
            let from = start.max(end);
            let behind = (from, stop, to + (from - start), granted);
            [before, behind]
                .into_iter()
                .filter(|(start, stop, ..)| start < stop)
        };
        self.0 = self.0.drain(..).flat_map(parts).collect();
    }

    fn lent(&self, at: Iova) -> Option<ByteRange<Iova>> {
        let mut all = self.0.iter();
        let (start, end, ..) = all.find(|(start, end, ..)| (*start..*end).contains(&at.raw()))?;
        ByteRange::new(Iova::new(*start), end - start)
    }
}

impl Lent {
    /// What lies around `at` becomes one page of so many `bytes`, as hardware would have it, if it is alike.
    fn merge(&mut self, at: u64, bytes: u64) {
        let base = at / bytes * bytes;
        let is_inside =
            |(start, end, ..): &(u64, u64, u64, Granted)| base <= *start && *end <= base + bytes;
        let inside: Vec<_> = self.0.iter().copied().filter(is_inside).collect();
        let covered: u64 = inside.iter().map(|(start, end, ..)| end - start).sum();
        let Some((start, _, to, access)) = inside.first().copied() else {
            return;
        };
        let Some(page) = to.checked_sub(start - base) else {
            return;
        };
        let is_alike = |(start, _, to, granted): &(u64, u64, u64, Granted)| {
            *to == page + (start - base) && *granted == access
        };
        if covered == bytes && page.is_multiple_of(bytes) && inside.iter().all(is_alike) {
            self.0.retain(|one| !is_inside(one));
            self.0.push((base, base + bytes, page, access));
        }
    }
}

/// Who the device is.
pub(crate) const DEVICE: Bdf = Bdf::from_parts(3, 0x20);

impl Board {
    pub(crate) fn new(width: Width) -> Self {
        Self::with(Unit::new(width))
    }

    /// One whose tables are carried over.
    pub(crate) fn carried() -> Self {
        Self::with(Unit::carried(Width::Wide, limits()))
    }

    /// One that remaps interrupts alone.
    pub(crate) fn for_interrupts() -> Self {
        Self::with(Unit::for_interrupts(Width::Wide))
    }

    fn with(unit: Unit) -> Self {
        let shadow = Shadow::new(DEVICE, limits(), Mode::Physical);
        Self {
            unit: Rc::new(RefCell::new(unit)),
            device: Rc::new(RefCell::new(Translations::new(DEVICE, Mode::Physical))),
            shadow: Rc::new(RefCell::new(shadow)),
            lent: Rc::default(),
            memory: Memory::default(),
            messages: Rc::default(),
            work: Rc::default(),
        }
    }

    /// Writes a register, and does what is asked for.
    pub(crate) fn write(&self, offset: u32, bytes: &[u8]) {
        self.unit.borrow_mut().write(offset, bytes);
        let mut budget = 1_000;
        while let Some(work) = self.step(&mut budget) {
            let mut device = self.device.borrow_mut();
            let (mut shadow, mut lent) = (self.shadow.borrow_mut(), self.lent.borrow_mut());
            match work {
                Work::Switch(mode) => {
                    device.switch(mode);
                    shadow.switch(mode);
                }
                Work::Forget(scope) => {
                    device.forget(scope);
                    shadow.forget(scope);
                }
                Work::Interrupts(_) => {}
            }
            assert!(shadow.carry_on(&self.memory, &mut *lent, &mut 1_000_000));
            self.work.borrow_mut().push(work);
        }
    }

    pub(crate) fn step(&self, budget: &mut u32) -> Option<Work> {
        let mut unit = self.unit.borrow_mut();
        let work = unit.next(&self.memory, budget);
        while let Some(message) = unit.take_message() {
            self.messages.borrow_mut().push(message);
        }
        work
    }

    pub(crate) fn write32(&self, offset: u32, value: u32) {
        self.write(offset, &value.to_le_bytes());
    }

    pub(crate) fn write64(&self, offset: u32, value: u64) {
        self.write(offset, &value.to_le_bytes());
    }

    pub(crate) fn read32(&self, offset: u32) -> u32 {
        let mut bytes = [0; 4];
        self.unit.borrow().read(offset, &mut bytes);
        u32::from_le_bytes(bytes)
    }

    pub(crate) fn read64(&self, offset: u32) -> u64 {
        let mut bytes = [0; 8];
        self.unit.borrow().read(offset, &mut bytes);
        u64::from_le_bytes(bytes)
    }

    /// The device does something at `at`; what it may not is recorded.
    pub(crate) fn access(&self, at: u64, access: Access) -> Result<u64, Refused> {
        let at = Iova::new(at);
        let found = self.device.borrow_mut().translate(&self.memory, at, access);
        if let Err(refused) = found {
            let mut unit = self.unit.borrow_mut();
            unit.refuse(DEVICE, at, access, refused);
            while let Some(message) = unit.take_message() {
                self.messages.borrow_mut().push(message);
            }
        }
        found.map(Gpa::raw)
    }
}

impl Registers for Board {
    type Deadline = Polls;

    fn window(&self) -> u32 {
        0x1000
    }

    fn load32(&self, at: Offset) -> u32 {
        self.read32(at.bytes())
    }

    fn load64(&self, at: Offset) -> u64 {
        self.read64(at.bytes())
    }

    fn store32(&mut self, at: Offset, value: u32) {
        self.write32(at.bytes(), value);
    }

    fn store64(&mut self, at: Offset, value: u64) {
        self.write64(at.bytes(), value);
    }

    fn deadline(&self) -> Polls {
        Polls(Cell::new(3))
    }
}

/// The end of a wait, after a few looks.
#[derive(Debug)]
pub(crate) struct Polls(Cell<u32>);

impl Deadline for Polls {
    fn has_passed(&mut self) -> bool {
        self.0.set(self.0.get().saturating_sub(1));
        self.0.get() == 0
    }
}
