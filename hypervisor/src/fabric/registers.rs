//! A remapping unit's registers where the firmware says they are mapped.

// UNSAFETY: reads and writes the registers.
#![expect(unsafe_code)]

use memory::{ByteRange, Hpa};
use vtd::registers::{Deadline, Offset, Registers};

use crate::cpu::timer::Timer;

/// Microseconds until a unit must have done what it was told.
const PATIENCE: u32 = 1_000_000;

/// One unit's registers.
#[derive(Debug)]
pub(super) struct Mapped {
    range: ByteRange<Hpa>,
    timer: Timer,
}

impl Mapped {
    /// The registers at `range`.
    ///
    /// # Safety
    /// The firmware names `range` as registers of a remapping unit; it is mapped one to one, and
    /// neither the guest nor anything else of Bouncer's reaches it.
    pub(super) unsafe fn new(range: ByteRange<Hpa>, timer: Timer) -> Self {
        Self { range, timer }
    }

    fn at(&self, offset: Offset, bytes: u64) -> u64 {
        let start = u64::from(offset.bytes());
        assert!(
            start + bytes <= self.range.len(),
            "a register inside the unit's window"
        );
        self.range.start().raw() + start
    }
}

impl Registers for Mapped {
    type Deadline = Patience;

    fn window(&self) -> u32 {
        u32::try_from(self.range.len()).unwrap_or(u32::MAX)
    }

    fn load32(&self, offset: Offset) -> u32 {
        // SAFETY: a register of the unit, aligned (`Registers`) and inside its window (`at`).
        unsafe { (self.at(offset, 4) as *const u32).read_volatile() }
    }

    fn load64(&self, offset: Offset) -> u64 {
        // SAFETY: as above.
        unsafe { (self.at(offset, 8) as *const u64).read_volatile() }
    }

    fn store32(&mut self, offset: Offset, value: u32) {
        // SAFETY: as above; what is stored is `vtd`'s to decide.
        unsafe { (self.at(offset, 4) as *mut u32).write_volatile(value) }
    }

    fn store64(&mut self, offset: Offset, value: u64) {
        // SAFETY: as above.
        unsafe { (self.at(offset, 8) as *mut u64).write_volatile(value) }
    }

    fn deadline(&self) -> Patience {
        Patience {
            timer: self.timer,
            start: self.timer.now(),
            polls: PATIENCE,
        }
    }
}

/// The end of one wait: by the clock, and should that stand still, by the number of polls.
#[derive(Debug)]
pub(super) struct Patience {
    timer: Timer,
    start: u32,
    polls: u32,
}

impl Deadline for Patience {
    fn has_passed(&mut self) -> bool {
        self.polls = self.polls.saturating_sub(1);
        self.polls == 0 || self.timer.has_passed(self.start, PATIENCE)
    }
}
