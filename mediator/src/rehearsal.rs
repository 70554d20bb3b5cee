//! The machine around a mediator, played: [`Sides`], a device's registers, and what is heard.
//!
//! Owns the stand-in for [`World`]. Only for tests; needs the feature `rehearsal`.

use core::cell::RefCell;
use core::fmt;
use std::vec::Vec;

use bounce::Pages;
use bounce::rehearsal::{Behind, Sides};
use memory::{ByteRange, Gpa, GuestMemory, Hole, Iova, PAGE_SIZE};

use crate::{Lie, Notice, Reach, World};

/// The registers of a device, and what it does when they are touched.
pub trait Device {
    /// The register at `offset` is read.
    fn load(&mut self, sides: &Sides, offset: u32) -> u32;

    /// It is written.
    fn store(&mut self, sides: &Sides, offset: u32, value: u32);
}

/// The machine around one device.
pub struct Stage<D> {
    /// The guest's memory, and the device's pages.
    pub sides: Sides,
    /// The device.
    pub device: RefCell<D>,
    /// Every interrupt that the guest got.
    pub raised: Vec<u16>,
    /// Whether the guest masked all of them.
    pub is_masked: bool,
    /// What the operator was told.
    pub notices: Vec<Notice>,
    /// For what the device was cut off.
    pub lie: Option<Lie>,
    /// Bytes of the register window.
    pub window: u32,
    /// Addresses at which the device may find pages that are not its own.
    pub mappable: Option<ByteRange<Iova>>,
    /// Interrupts that the guest may program.
    pub vectors: u32,
}

impl<D: fmt::Debug> fmt::Debug for Stage<D> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Stage")
            .field("device", &self.device)
            .field("lie", &self.lie)
            .finish_non_exhaustive()
    }
}

impl<D> Stage<D> {
    /// Puts `device` and its pages beside a guest.
    pub fn new(sides: Sides, device: D) -> Self {
        Self {
            sides,
            device: RefCell::new(device),
            raised: Vec::new(),
            is_masked: false,
            notices: Vec::new(),
            lie: None,
            window: 0x4000,
            mappable: None,
            vectors: 64,
        }
    }

    /// Lets the device act by itself.
    pub fn act<T>(&mut self, act: impl FnOnce(&mut D, &Sides) -> T) -> T {
        act(self.device.get_mut(), &self.sides)
    }
}

impl<D> GuestMemory for Stage<D> {
    fn read(&self, at: Gpa, to: &mut [u8]) -> Result<(), Hole> {
        self.sides.read(at, to)
    }

    fn write(&self, at: Gpa, from: &[u8]) -> Result<(), Hole> {
        self.sides.write(at, from)
    }
}

impl<D> Pages for Stage<D> {
    fn is_memory(&self, range: ByteRange<Gpa>) -> bool {
        self.sides.is_memory(range)
    }

    fn copy_in(&mut self, from: ByteRange<Gpa>, to: Iova) -> Result<(), Hole> {
        self.sides.copy_in(from, to)
    }

    fn copy_out(&mut self, from: Iova, to: ByteRange<Gpa>) -> Result<(), Hole> {
        self.sides.copy_out(from, to)
    }

    fn load(&self, at: Iova, to: &mut [u8]) {
        self.sides.load(at, to);
    }

    fn load_u64(&self, at: Iova) -> u64 {
        self.sides.load_u64(at)
    }

    fn store(&mut self, at: Iova, from: &[u8]) {
        self.sides.store(at, from);
    }

    fn scrub(&mut self, at: ByteRange<Iova>) {
        self.sides.scrub(at);
    }
}

impl<D: Device> World for Stage<D> {
    fn load_register(&self, offset: u32) -> u32 {
        assert!(
            offset.is_multiple_of(4) && offset < self.window,
            "{offset:#x} is no register of the device's"
        );
        self.device.borrow_mut().load(&self.sides, offset)
    }

    fn store_register(&mut self, offset: u32, value: u32) {
        assert!(
            offset.is_multiple_of(4) && offset < self.window,
            "{offset:#x} is no register of the device's"
        );
        self.device.get_mut().store(&self.sides, offset, value);
    }

    fn window(&self) -> u32 {
        self.window
    }

    fn vectors(&self) -> u32 {
        self.vectors
    }

    fn map(&mut self, at: Iova, page: Reach) -> bool {
        assert!(
            self.mappable.is_some_and(|window| window.contains(at)),
            "{at} is no page of the window"
        );
        let (whole, behind) = match page {
            Reach::ReadGuest(page) => (Some(page), Behind::GuestRead(page)),
            Reach::WriteGuest(page) => (Some(page), Behind::GuestWritten(page)),
            Reach::ReadOwn(page) => (None, Behind::OwnRead(page)),
            Reach::WriteOwn(page) => (None, Behind::OwnWritten(page)),
        };
        let whole = whole.map(|page| ByteRange::new(page, PAGE_SIZE));
        let is_there = whole.is_none_or(|page| page.is_some_and(|page| self.is_memory(page)));
        if is_there {
            self.sides.map(at, behind);
        }
        is_there
    }

    fn unmap(&mut self, range: ByteRange<Iova>) {
        self.sides.unmap(range);
    }

    fn raise(&mut self, vector: u16) -> bool {
        assert!(
            u32::from(vector) < self.vectors,
            "vector {vector} is not one that the guest may program"
        );
        if !self.is_masked {
            self.raised.push(vector);
        }
        !self.is_masked
    }

    fn tell(&mut self, notice: Notice) {
        self.notices.push(notice);
    }

    fn cut_off(&mut self, lie: Lie) {
        self.lie.get_or_insert(lie);
    }
}
