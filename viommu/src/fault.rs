//! Fault records: what a device was refused, for the guest to read.
//!
//! Owns the ring of records, overflow, and the status bits that lead to the fault event (chapter
//! 7). A device that is refused without end fills the ring once.

use pci::Bdf;
use vtd::spec::fault::{RECORD_F_IN_TOP_HALF, Reason, RecordHigh};
use vtd::spec::registers::Fsts;

use crate::Access;

/// Records there are.
pub(crate) const RECORDS: usize = 8;

/// The records, and the status register.
#[derive(Clone, Debug)]
pub(crate) struct Faults {
    status: Fsts,
    low: [u64; RECORDS],
    high: [RecordHigh; RECORDS],
    /// Where the next one goes.
    next: usize,
}

/// Whether something is to be announced.
#[must_use]
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) enum News {
    /// The guest was told already, or there is nothing.
    None,
    /// It was not.
    Some,
}

impl Faults {
    pub(crate) const NEW: Self = Self {
        status: Fsts(0),
        low: [0; RECORDS],
        high: [RecordHigh(0); RECORDS],
        next: 0,
    };

    /// Records that `source` was refused the page at `page`, or the interrupt whose index is in
    /// bits 63:48.
    pub(crate) fn record(&mut self, source: Bdf, info: u64, is_read: bool, reason: Reason) -> News {
        // "Hardware does not record new faults while this field is set."
        if self.status.pfo() {
            return News::None;
        }
        let was_quiet = !self.is_pending();
        let index = self.next;
        if self.high[index].f() {
            self.status.set_pfo(true);
            return announce(was_quiet);
        }
        let mut high = RecordHigh(0);
        high.set_sid(source.requester_id());
        high.set_fr(reason.0);
        high.set_t1(is_read);
        high.set_f(true);
        if !self.status.ppf() {
            self.status.set_fri(index as u8);
        }
        self.status.set_ppf(true);
        self.low[index] = info;
        self.high[index] = high;
        self.next = (index + 1) % RECORDS;
        announce(was_quiet)
    }

    /// The queue stopped at a descriptor.
    pub(crate) fn stop_queue(&mut self) -> News {
        let was_quiet = !self.is_pending();
        self.status.set_iqe(true);
        announce(was_quiet)
    }

    /// Whether the queue is stopped.
    pub(crate) fn is_queue_stopped(&self) -> bool {
        self.status.iqe()
    }

    /// Whether any status bit still asks for the guest's attention.
    pub(crate) fn is_pending(&self) -> bool {
        self.status.pfo() || self.status.ppf() || self.status.iqe()
    }

    pub(crate) fn status(&self) -> u32 {
        self.status.0
    }

    /// The guest writes ones to what it saw.
    pub(crate) fn clear(&mut self, value: u32) {
        let seen = Fsts(value);
        self.status.set_pfo(self.status.pfo() && !seen.pfo());
        self.status.set_iqe(self.status.iqe() && !seen.iqe());
    }

    /// Double word `part` (0 to 3) of record `index`.
    pub(crate) fn read(&self, index: usize, part: usize) -> u32 {
        let (Some(low), Some(high)) = (self.low.get(index), self.high.get(index)) else {
            return 0;
        };
        match part {
            0 => *low as u32,
            1 => (low >> 32) as u32,
            2 => high.0 as u32,
            _ => (high.0 >> 32) as u32,
        }
    }

    /// The guest writes that double word: a one in the place of the F bit clears it.
    pub(crate) fn write(&mut self, index: usize, part: usize, value: u32) {
        if part == 3
            && value & RECORD_F_IN_TOP_HALF != 0
            && let Some(high) = self.high.get_mut(index)
        {
            high.set_f(false);
            self.status.set_ppf(self.high.iter().any(|high| high.f()));
        }
    }
}

/// One event for all that happens until everything was attended to.
fn announce(was_quiet: bool) -> News {
    if was_quiet { News::Some } else { News::None }
}

/// Whether an access counts as a read in a record.
pub(crate) fn is_read(access: Access) -> bool {
    access == Access::Read
}
