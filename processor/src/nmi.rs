//! Whose an NMI is: the guest's, or one by which Bouncer is called or told of faults.
//!
//! NMIs bear no name, and those that come at once are one. Owns what is known beforehand: that the
//! guest has just sent one, and that one of Bouncer's own may still be under way although what it
//! announces has been seen. Reads no clock: moments are the caller's, on a counter that only rises.

use core::sync::atomic::{AtomicU32, AtomicU64, Ordering};

/// What one processor is about to receive.
#[derive(Debug, Default)]
pub struct Ledger {
    /// Until when an NMI that the guest sent may arrive; 0 for never.
    expected: AtomicU64,
    /// Until when some that announce nothing new may arrive; 0 for never.
    late: AtomicU64,
    /// How many.
    late_ones: AtomicU32,
}

/// Late ones at most: one of each kind of ours that comes by itself, and one of the guest's that it had already.
const MOST_LATE: u32 = 3;

/// The NMIs of one look.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Came {
    /// How many were counted.
    pub count: u64,
    /// How many of them are accounted for: a call, faults that were found.
    pub ours: u64,
}

impl Ledger {
    /// Nothing is under way.
    pub const fn new() -> Self {
        Self {
            expected: AtomicU64::new(0),
            late: AtomicU64::new(0),
            late_ones: AtomicU32::new(0),
        }
    }

    /// The guest sends one, which will be here before `until`.
    pub fn expect(&self, until: u64) {
        self.expected.fetch_max(until, Ordering::AcqRel);
    }

    /// One that announces faults already found may arrive before `until`.
    pub fn allow_late(&self, until: u64) {
        self.late.fetch_max(until, Ordering::AcqRel);
        let more = |count: u32| (count < MOST_LATE).then_some(count + 1);
        let _most = self
            .late_ones
            .fetch_update(Ordering::AcqRel, Ordering::Acquire, more);
    }

    /// Whether one that came at `now` is one of those.
    fn is_late(&self, now: u64) -> bool {
        if now >= self.late.load(Ordering::Acquire) {
            self.late_ones.store(0, Ordering::Release);
        }
        let fewer = |count: u32| count.checked_sub(1);
        let taken = self
            .late_ones
            .fetch_update(Ordering::AcqRel, Ordering::Acquire, fewer);
        taken.is_ok()
    }

    /// Whether the guest is to have one of those that `came`.
    ///
    /// One that the guest sent is never lost: where it may have come together with one of ours, the
    /// guest has it, and should it come by itself after all it is not given a second time.
    pub fn is_guests(&self, came: Came, now: u64, later: u64) -> bool {
        if came.count == 0 {
            return false;
        }
        let has_more = came.count > came.ours;
        if now < self.expected.swap(0, Ordering::AcqRel) {
            if !has_more {
                self.allow_late(later);
            }
            return true;
        }
        has_more && !self.is_late(now)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const NOW: u64 = 100;
    const LATER: u64 = 200;

    fn came(count: u64, ours: u64) -> Came {
        Came { count, ours }
    }

    #[test]
    fn one_that_nothing_of_ours_explains_is_the_guests() {
        let ledger = Ledger::new();
        assert!(!ledger.is_guests(came(0, 0), NOW, LATER));
        assert!(!ledger.is_guests(came(1, 1), NOW, LATER));
        assert!(ledger.is_guests(came(1, 0), NOW, LATER));
        assert!(ledger.is_guests(came(2, 1), NOW, LATER));
    }

    #[test]
    fn one_the_guest_sent_is_its_own_although_a_fault_came_with_it() {
        let ledger = Ledger::new();
        ledger.expect(LATER);
        assert!(ledger.is_guests(came(1, 1), NOW, LATER));
        // It was on its way after all: once is enough.
        assert!(!ledger.is_guests(came(1, 0), NOW + 1, LATER));
        assert!(ledger.is_guests(came(1, 0), NOW + 2, LATER));
    }

    #[test]
    fn one_that_comes_apart_from_ours_is_given_once() {
        let ledger = Ledger::new();
        ledger.expect(LATER);
        assert!(ledger.is_guests(came(2, 1), NOW, LATER));
        assert!(!ledger.is_guests(came(1, 1), NOW, LATER));
        assert!(ledger.is_guests(came(1, 0), NOW, LATER), "another one");
    }

    #[test]
    fn one_that_announces_what_was_found_already_is_nobodys() {
        let ledger = Ledger::new();
        ledger.allow_late(LATER);
        assert!(!ledger.is_guests(came(1, 0), NOW, LATER));
        assert!(ledger.is_guests(came(1, 0), NOW, LATER), "only one is");
        ledger.allow_late(LATER);
        ledger.allow_late(LATER);
        assert!(!ledger.is_guests(came(1, 0), NOW, LATER));
        assert!(!ledger.is_guests(came(1, 0), NOW, LATER), "two are");
        assert!(ledger.is_guests(came(1, 0), NOW, LATER), "only two are");
        ledger.allow_late(LATER);
        assert!(
            ledger.is_guests(came(1, 0), LATER, LATER),
            "its time is over"
        );
    }

    #[test]
    fn what_is_expected_is_not_expected_for_ever() {
        let ledger = Ledger::new();
        ledger.expect(LATER);
        assert!(!ledger.is_guests(came(1, 1), LATER, LATER));
    }
}
