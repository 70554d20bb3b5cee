//! The two seams of a mediator: what it needs, and what it is.

use bounce::Pages;
use memory::{ByteRange, Gpa, Iova};

use crate::counts::Counts;
use crate::notice::{Lie, Notice};

/// What a mediator needs of the machine, for one device.
///
/// Whoever provides it holds the device alone: no two calls of one mediator overlap.
pub trait World: Pages {
    /// Reads the device's 32-bit register at `offset` of the register window.
    fn load_register(&self, offset: u32) -> u32;

    /// Writes it. What was stored to the device's pages before is there before it.
    fn store_register(&mut self, offset: u32, value: u32);

    /// Bytes of the register window from its start that may be asked for. By default what each
    /// controller has at least, by the NVM Express PCIe transport specification.
    fn window(&self) -> u32 {
        0x4000
    }

    /// How many interrupts the guest may program, counted as [`Self::raise`] counts them.
    fn vectors(&self) -> u32 {
        2048
    }

    /// Whether interrupts of the device make somebody call [`Mediator::look`]. Where the guest programmed
    /// none, nobody hears of completions before it touches a register, but for those that come while the
    /// mediator lingers.
    fn is_announced(&self) -> bool {
        true
    }

    /// Lets a moment pass in which the device may complete what the guest has just rung for. `false` once
    /// one access has lasted as long as it may.
    fn linger(&mut self) -> bool {
        false
    }

    /// Lets the device reach `page` at `at`, a page of its window, until it is unmapped. `false`
    /// if that is not the guest's memory, or there is no window.
    fn map(&mut self, at: Iova, page: Reach) -> bool {
        let _ = (at, page);
        false
    }

    /// Whether [`Self::map`] is worth a try: where the guest may take a page back at any time, nothing
    /// is mapped and all is copied.
    fn maps(&self) -> bool {
        true
    }

    /// The device reaches nothing at `range` any more, whole pages of its window, mapped or not:
    /// neither by its tables nor by what it or the unit remembers of them. Where that cannot be
    /// had in time, the device is cut off instead.
    fn unmap(&mut self, range: ByteRange<Iova>) {
        let _ = range;
    }

    /// Raises the interrupt that the guest programmed under `vector`, after everything that was
    /// written to its memory before. `false` if the guest has it masked or not programmed: the
    /// mediator hears of it by [`Mediator::unmasked`] and tries again.
    fn raise(&mut self, vector: u16) -> bool;

    /// Tells the operator; the console is told what is new and no more.
    fn tell(&mut self, notice: Notice);

    /// The device lies: it is cut off from all its pages as soon as the mediator returns, for
    /// good, and gets no interrupt through any more.
    fn cut_off(&mut self, lie: Lie);
}

/// A page that the device reaches for the time of a request.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Reach {
    /// Reads a page of the guest's, all of whose bytes are the request's.
    ReadGuest(Gpa),
    /// Writes a page of the guest's, all of whose bytes are the request's.
    WriteGuest(Gpa),
    /// Reads a page that it may read anyway.
    ReadOwn(Iova),
    /// Writes a page that it may write anyway.
    WriteOwn(Iova),
}

/// What a look at the device found.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
#[must_use = "there may be more to do"]
pub enum Looked {
    /// Nothing had changed.
    Nothing,
    /// Something had, and it is done with.
    Done,
    /// Something had, and there is more than is done at once: call [`Mediator::look`] again soon.
    More,
}

/// One device interface.
pub trait Mediator {
    /// The guest reads `to.len()` bytes (1 to 8) at `offset` of the register window.
    fn read(&mut self, world: &mut impl World, offset: u32, to: &mut [u8]);

    /// The guest writes `from` (1 to 8 bytes) at `offset` of the register window.
    fn write(&mut self, world: &mut impl World, offset: u32, from: &[u8]) -> Looked;

    /// The device raised an interrupt, or somebody thinks that it may have something to say.
    fn look(&mut self, world: &mut impl World) -> Looked;

    /// The guest unmasked or programmed its interrupt `vector`.
    fn unmasked(&mut self, world: &mut impl World, vector: u16);

    /// The device was reset, is about to leave, or was cut off: what it was given is over, and
    /// every page is taken back.
    fn forget(&mut self, world: &mut impl World);

    /// What was counted.
    fn counts(&self) -> Counts;
}
