//! What a unit says it can do, in plain words.

use crate::domain::Support;
use crate::registers::fault_record;
use crate::spec::registers::{Cap, Ecap};

/// A unit's capabilities.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Capabilities {
    cap: Cap,
    ecap: Ecap,
}

impl Capabilities {
    pub(super) const fn new(cap: Cap, ecap: Ecap) -> Self {
        Self { cap, ecap }
    }

    /// The capability register.
    pub const fn cap(self) -> Cap {
        self.cap
    }

    /// The extended capability register.
    pub const fn ecap(self) -> Ecap {
        self.ecap
    }

    /// Which tables it walks.
    pub fn support(self) -> Support {
        Support::of(self.cap, self.ecap)
    }

    /// Whether it snoops processor caches when it walks tables.
    pub fn is_coherent(self) -> bool {
        self.ecap.c()
    }

    /// Whether it remembers that there was no entry.
    pub fn caches_absences(self) -> bool {
        self.cap.cm()
    }

    /// Whether it remaps interrupts.
    pub fn remaps_interrupts(self) -> bool {
        self.ecap.ir()
    }

    /// Whether interrupts can go to 32-bit destinations.
    pub fn has_wide_destinations(self) -> bool {
        self.ecap.eim()
    }

    /// Whether DMA can be held off while translation is off.
    pub fn protects_memory(self) -> bool {
        self.cap.plmr() || self.cap.phmr()
    }

    /// How many faults it records at once, 1 to 256.
    pub fn fault_records(self) -> u16 {
        u16::from(self.cap.nfr()) + 1
    }

    /// Whether the fault records, whose place it announces, are within `window` bytes.
    pub(super) fn fits(self, window: u32) -> bool {
        fault_record(self.cap, u16::from(self.cap.nfr()), window).is_some()
    }
}
