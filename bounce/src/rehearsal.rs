//! Both sides of every loan, played: the guest's memory, and the pages of a device.
//!
//! Owns the stand-in for [`Pages`]. What the crate that is tested touches is written down; where
//! it touches what it must not, that is a panic. Meanwhile the guest and the device may change
//! what is theirs between any two accesses, and what was fetched is different afterwards. Only
//! for tests; needs the feature `rehearsal`.

use core::cell::{Cell, RefCell};
use core::fmt;
use core::ops::Range;
use std::boxed::Box;
use std::collections::BTreeMap;
use std::vec;
use std::vec::Vec;

use kit::SparseMemory;
use memory::{ByteRange, Gpa, GuestMemory, Hole, Iova};

use crate::arena::Arena;
use crate::pages::Pages;

/// One access of the crate that is tested.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Touch {
    /// Guest's bytes went to the device's pages.
    CopiedIn(ByteRange<Gpa>, Iova),
    /// The device's bytes went to the guest's.
    CopiedOut(Iova, ByteRange<Gpa>),
    /// Guest's bytes were fetched.
    Read(ByteRange<Gpa>),
    /// Guest's bytes were written.
    Wrote(ByteRange<Gpa>),
    /// Bytes of the device's pages were fetched.
    Loaded(ByteRange<Iova>),
    /// Bytes of the device's pages were written.
    Stored(ByteRange<Iova>),
    /// Bytes of the device's pages were filled with zeros.
    Scrubbed(ByteRange<Iova>),
}

impl Touch {
    /// The guest's bytes that were fetched.
    pub fn fetched(&self) -> Option<ByteRange<Gpa>> {
        match *self {
            Self::CopiedIn(range, _) | Self::Read(range) => Some(range),
            _ => None,
        }
    }

    /// The guest's bytes that were written.
    pub fn written(&self) -> Option<ByteRange<Gpa>> {
        match *self {
            Self::CopiedOut(_, range) | Self::Wrote(range) => Some(range),
            _ => None,
        }
    }

    /// The bytes of the device's pages that were fetched.
    pub fn loaded(&self) -> Option<ByteRange<Iova>> {
        match *self {
            Self::CopiedOut(at, range) => ByteRange::new(at, range.len()),
            Self::Loaded(range) => Some(range),
            _ => None,
        }
    }
}

/// How often the byte of `ranges` that is in most of them is in them.
pub fn most<A: memory::Address>(ranges: impl Iterator<Item = ByteRange<A>>) -> usize {
    // Each first byte counts up, each byte after a last one down; the highest count is it.
    let mut steps = BTreeMap::<u128, isize>::new();
    for range in ranges {
        *steps.entry(range.start().raw().into()).or_default() += 1;
        *steps.entry(u128::from(range.last().raw()) + 1).or_default() -= 1;
    }
    let counts = steps.values().scan(0_isize, |count, step| {
        *count += step;
        Some(count.unsigned_abs())
    });
    counts.max().unwrap_or(0)
}

/// What the device is refused: its remapping unit would record a fault.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Fault(pub ByteRange<Iova>);

/// What is behind a page of a device's window.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Behind {
    /// A page of the guest's that it reads.
    GuestRead(Gpa),
    /// A page of the guest's that it writes.
    GuestWritten(Gpa),
    /// A page of its own that it reads.
    OwnRead(Iova),
    /// A page of its own that it writes.
    OwnWritten(Iova),
}

/// Somebody who acts between two accesses.
type Meddler = Box<dyn FnMut(&Sides)>;

/// The guest's memory and the pages of one device.
pub struct Sides {
    arena: Arena,
    guest: SparseMemory,
    own: RefCell<Vec<u8>>,
    window: RefCell<BTreeMap<Iova, Behind>>,
    touches: RefCell<Vec<Touch>>,
    is_guest_restless: Cell<bool>,
    is_device_restless: Cell<bool>,
    meddler: RefCell<Option<Meddler>>,
}

impl fmt::Debug for Sides {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Sides")
            .field("arena", &self.arena)
            .field("touches", &self.touches.borrow().len())
            .finish_non_exhaustive()
    }
}

impl Sides {
    /// The pages of `arena`, all zeros, beside `guest`.
    pub fn new(arena: Arena, guest: SparseMemory) -> Self {
        Self {
            arena,
            guest,
            own: RefCell::new(vec![0; arena.bytes() as usize]),
            window: RefCell::default(),
            touches: RefCell::default(),
            is_guest_restless: Cell::new(false),
            is_device_restless: Cell::new(false),
            meddler: RefCell::default(),
        }
    }

    /// Where the device's pages are.
    pub fn arena(&self) -> Arena {
        self.arena
    }

    /// The guest's memory as the guest has it: nothing is written down.
    pub fn guest(&self) -> &SparseMemory {
        &self.guest
    }

    /// From now on each of the guest's bytes is inverted once it was fetched.
    pub fn guest_is_restless(&self, is_restless: bool) {
        self.is_guest_restless.set(is_restless);
    }

    /// From now on each byte that the device can write is inverted once it was fetched.
    pub fn device_is_restless(&self, is_restless: bool) {
        self.is_device_restless.set(is_restless);
    }

    /// Somebody acts before each access from now on.
    pub fn meddle(&self, meddler: impl FnMut(&Sides) + 'static) {
        *self.meddler.borrow_mut() = Some(Box::new(meddler));
    }

    /// Nobody does any more.
    pub fn leave_alone(&self) {
        *self.meddler.borrow_mut() = None;
    }

    /// What was touched since this was asked last.
    pub fn touches(&self) -> Vec<Touch> {
        self.touches.take()
    }

    /// The device finds `behind` at the page `at`, which is not one of its own.
    ///
    /// # Panics
    /// If it finds something there already.
    pub fn map(&self, at: Iova, behind: Behind) {
        let before = self.window.borrow_mut().insert(at, behind);
        assert_eq!(before, None, "the page at {at} is mapped already");
    }

    /// It finds nothing at the pages of `range` any more.
    pub fn unmap(&self, range: ByteRange<Iova>) {
        self.window
            .borrow_mut()
            .retain(|at, _| !range.contains(*at));
    }

    /// What it finds where.
    pub fn mapped(&self) -> Vec<(Iova, Behind)> {
        let window = self.window.borrow();
        window.iter().map(|(at, behind)| (*at, *behind)).collect()
    }

    /// The device reads the bytes at `at`, if the tables let it; through a window, within a page.
    pub fn device_reads(&self, at: Iova, to: &mut [u8]) -> Result<(), Fault> {
        let Some(range) = ByteRange::new(at, to.len() as u64) else {
            return Ok(());
        };
        if self.arena.readable().covers(&range) {
            to.copy_from_slice(&self.own.borrow()[self.place(range)]);
            return Ok(());
        }
        match self.behind(range)? {
            Behind::OwnRead(page) => self.device_reads(within(page, at), to),
            Behind::GuestRead(page) => {
                let read = self.guest.read(within(page, at), to);
                read.map_err(|_| Fault(range))
            }
            Behind::OwnWritten(_) | Behind::GuestWritten(_) => Err(Fault(range)),
        }
    }

    /// The device writes `from` to `at`, if the tables let it; through a window, within a page.
    pub fn device_writes(&self, at: Iova, from: &[u8]) -> Result<(), Fault> {
        let Some(range) = ByteRange::new(at, from.len() as u64) else {
            return Ok(());
        };
        if self.arena.writable().covers(&range) {
            let place = self.place(range);
            self.own.borrow_mut()[place].copy_from_slice(from);
            return Ok(());
        }
        match self.behind(range)? {
            Behind::OwnWritten(page) => self.device_writes(within(page, at), from),
            Behind::GuestWritten(page) => {
                let written = self.guest.write(within(page, at), from);
                written.map_err(|_| Fault(range))
            }
            Behind::OwnRead(_) | Behind::GuestRead(_) => Err(Fault(range)),
        }
    }

    /// What is behind `range`, which is within a page of the window.
    fn behind(&self, range: ByteRange<Iova>) -> Result<Behind, Fault> {
        let page = ByteRange::new(range.start(), 1).map(|first| first.whole_pages());
        let page = page
            .filter(|page| page.covers(&range))
            .ok_or(Fault(range))?;
        let behind = self.window.borrow().get(&page.start()).copied();
        behind.ok_or(Fault(range))
    }

    /// A copy of the device's pages in `range`, by whomever they can be read.
    ///
    /// # Panics
    /// If they are not the device's.
    pub fn peek(&self, range: ByteRange<Iova>) -> Vec<u8> {
        self.own.borrow()[self.place(range)].to_vec()
    }

    /// Fills everything the device can write, queues as well, with `byte`.
    pub fn device_scribbles(&self, byte: u8) {
        let place = self.place(self.arena.writable());
        self.own.borrow_mut()[place].fill(byte);
    }

    /// Where in `own` the bytes are.
    fn place(&self, range: ByteRange<Iova>) -> Range<usize> {
        let Some(start) = self.arena.offset(range.start(), range.len()) else {
            panic!("{range:?} is not among the device's pages");
        };
        start as usize..(start + range.len()) as usize
    }

    fn note(&self, touch: Touch) {
        self.touches.borrow_mut().push(touch);
    }

    /// The others have their moment.
    fn moment(&self) {
        let meddler = self.meddler.take();
        if let Some(mut meddler) = meddler {
            meddler(self);
            self.meddler.replace(Some(meddler));
        }
    }

    /// Fetches the guest's bytes.
    fn fetch(&self, range: ByteRange<Gpa>, to: &mut [u8]) -> Result<(), Hole> {
        self.moment();
        self.guest.read(range.start(), to)?;
        if self.is_guest_restless.get() {
            let inverted: Vec<u8> = to.iter().map(|byte| !byte).collect();
            self.guest.write(range.start(), &inverted)?;
        }
        Ok(())
    }

    /// Fetches bytes of the device's pages.
    fn fetch_own(&self, range: ByteRange<Iova>, to: &mut [u8]) {
        self.moment();
        let place = self.place(range);
        let own = &mut self.own.borrow_mut()[place];
        to.copy_from_slice(own);
        if self.is_device_restless.get() && self.arena.writable().covers(&range) {
            own.iter_mut().for_each(|byte| *byte = !*byte);
        }
    }

    fn store_own(&self, range: ByteRange<Iova>, from: &[u8]) {
        self.moment();
        let place = self.place(range);
        self.own.borrow_mut()[place].copy_from_slice(from);
    }
}

/// The byte of `page` that is where `at` is in its own.
fn within<A: memory::Address>(page: A, at: Iova) -> A {
    A::new(page.raw() + at.page_offset())
}

/// The range of a slice, if it has bytes.
fn span<A: memory::Address>(at: A, bytes: &[u8]) -> Option<ByteRange<A>> {
    let len = bytes.len() as u64;
    (len != 0).then(|| ByteRange::new(at, len).expect("an access does not wrap"))
}

impl GuestMemory for Sides {
    fn read(&self, at: Gpa, to: &mut [u8]) -> Result<(), Hole> {
        let Some(range) = ByteRange::new(at, to.len() as u64) else {
            return self.guest.read(at, to);
        };
        self.note(Touch::Read(range));
        self.fetch(range, to)
    }

    fn write(&self, at: Gpa, from: &[u8]) -> Result<(), Hole> {
        self.moment();
        self.guest.write(at, from)?;
        if let Some(range) = ByteRange::new(at, from.len() as u64) {
            self.note(Touch::Wrote(range));
        }
        Ok(())
    }
}

impl Pages for Sides {
    fn is_memory(&self, range: ByteRange<Gpa>) -> bool {
        self.moment();
        self.guest.holds(range)
    }

    fn copy_in(&mut self, from: ByteRange<Gpa>, to: Iova) -> Result<(), Hole> {
        let mut bytes = vec![0; from.len() as usize];
        self.fetch(from, &mut bytes)?;
        self.note(Touch::CopiedIn(from, to));
        let to = span(to, &bytes).expect("a range has bytes");
        assert!(
            self.arena.readable().covers(&to),
            "bytes for the device are copied to {to:?}, where it does not read"
        );
        self.store_own(to, &bytes);
        Ok(())
    }

    fn copy_out(&mut self, from: Iova, to: ByteRange<Gpa>) -> Result<(), Hole> {
        let mut bytes = vec![0; to.len() as usize];
        let range = span(from, &bytes).expect("a range has bytes");
        assert!(
            self.arena.writable().covers(&range),
            "bytes of the device are copied from {range:?}, where it does not write"
        );
        if !self.guest.holds(to) {
            return self.guest.write(to.start(), &bytes);
        }
        self.fetch_own(range, &mut bytes);
        self.note(Touch::CopiedOut(from, to));
        self.guest.write(to.start(), &bytes)
    }

    fn load(&self, at: Iova, to: &mut [u8]) {
        if let Some(range) = span(at, to) {
            self.note(Touch::Loaded(range));
            self.fetch_own(range, to);
        }
    }

    fn load_u64(&self, at: Iova) -> u64 {
        assert!(at.raw().is_multiple_of(8), "a word at {at} is not aligned");
        let mut bytes = [0; 8];
        self.load(at, &mut bytes);
        u64::from_le_bytes(bytes)
    }

    fn store(&mut self, at: Iova, from: &[u8]) {
        if let Some(range) = span(at, from) {
            self.note(Touch::Stored(range));
            self.store_own(range, from);
        }
    }

    fn scrub(&mut self, at: ByteRange<Iova>) {
        self.note(Touch::Scrubbed(at));
        self.store_own(at, &vec![0; at.len() as usize]);
    }
}

#[cfg(test)]
mod tests;
