//! What a fault costs its device.
//!
//! Owns one device's standing as a state machine over the times of its faults: the first few of
//! a window are logged, a storm switches its bus mastering off, and faults after that quarantine
//! it. Touches no hardware; the caller obeys.

/// How much a device may fault.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Limits {
    /// Length of a window, in ticks of the caller's clock.
    pub window: u64,
    /// Faults of one window that are logged one by one.
    pub logged: u32,
    /// Faults of one window that make a storm.
    pub storm: u32,
}

/// What to do about one fault.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Reaction {
    /// Log it.
    Log {
        /// Faults left out of the log since the last line.
        left_out: u32,
    },
    /// Count it; the log has had enough of this device for now.
    Count,
    /// Switch the device's bus mastering off, and log that.
    MasteringOff,
    /// Quarantine the device, and log that.
    Quarantine,
}

/// One device's standing.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Watch {
    standing: Standing,
    window_start: u64,
    in_window: u32,
    left_out: u32,
}

#[derive(Clone, Copy, PartialEq, Eq, Debug)]
enum Standing {
    Free,
    /// Faults of the window in which mastering went off may still come from before that.
    MasteringOff,
    Quarantined,
}

impl Watch {
    /// A device that never faulted, watched from `now` on.
    pub const fn new(now: u64) -> Self {
        Self {
            standing: Standing::Free,
            window_start: now,
            in_window: 0,
            left_out: 0,
        }
    }

    /// What one more fault at `now` calls for.
    pub fn fault(&mut self, now: u64, limits: Limits) -> Reaction {
        // The clock may be set back by whom it belongs to: that, too, ends the window.
        let is_new_window = now.wrapping_sub(self.window_start) >= limits.window;
        if is_new_window {
            self.window_start = now;
            self.in_window = 0;
        }
        self.in_window = self.in_window.saturating_add(1);
        let is_storm = self.in_window >= limits.storm;
        match self.standing {
            Standing::Free if is_storm => {
                self.standing = Standing::MasteringOff;
                self.in_window = 0;
                Reaction::MasteringOff
            }
            Standing::MasteringOff if is_new_window || is_storm => {
                self.standing = Standing::Quarantined;
                Reaction::Quarantine
            }
            Standing::Free if self.in_window <= limits.logged => Reaction::Log {
                left_out: core::mem::take(&mut self.left_out),
            },
            _ => {
                self.left_out = self.left_out.saturating_add(1);
                Reaction::Count
            }
        }
    }

    /// Whether the device is in quarantine.
    pub fn is_quarantined(&self) -> bool {
        self.standing == Standing::Quarantined
    }
}

#[cfg(test)]
mod tests {
    extern crate std;

    use proptest::prelude::*;

    use super::*;

    const LIMITS: Limits = Limits {
        window: 100,
        logged: 2,
        storm: 5,
    };

    #[test]
    fn the_first_faults_of_a_window_are_logged_and_the_rest_counted() {
        let mut watch = Watch::new(0);
        let log = Reaction::Log { left_out: 0 };
        assert_eq!(watch.fault(1, LIMITS), log);
        assert_eq!(watch.fault(2, LIMITS), log);
        assert_eq!(watch.fault(3, LIMITS), Reaction::Count);
        assert_eq!(watch.fault(4, LIMITS), Reaction::Count);
        assert_eq!(watch.fault(200, LIMITS), Reaction::Log { left_out: 2 });
    }

    #[test]
    fn a_clock_that_was_set_back_does_not_make_one_window_of_all_that_follows() {
        let mut watch = Watch::new(1_000_000);
        for now in (0..100).map(|fault| fault * 150) {
            let reaction = watch.fault(now, LIMITS);
            assert_eq!(reaction, Reaction::Log { left_out: 0 }, "at {now}");
        }
    }

    #[test]
    fn a_storm_switches_mastering_off() {
        let mut watch = Watch::new(0);
        for now in 0..4 {
            assert_ne!(watch.fault(now, LIMITS), Reaction::MasteringOff);
        }
        assert_eq!(watch.fault(4, LIMITS), Reaction::MasteringOff);
    }

    fn without_mastering() -> Watch {
        let mut watch = Watch::new(0);
        for now in 0..5 {
            watch.fault(now, LIMITS);
        }
        watch
    }

    #[test]
    fn faults_on_their_way_when_mastering_went_off_are_only_counted() {
        let mut watch = without_mastering();
        assert_eq!(watch.fault(5, LIMITS), Reaction::Count);
        assert!(!watch.is_quarantined());
    }

    #[test]
    fn a_device_that_faults_without_mastering_is_quarantined_once() {
        let mut watch = without_mastering();
        assert_eq!(watch.fault(150, LIMITS), Reaction::Quarantine);
        assert!(watch.is_quarantined());
        assert_eq!(watch.fault(151, LIMITS), Reaction::Count);
        assert_eq!(watch.fault(999, LIMITS), Reaction::Count);
    }

    #[test]
    fn a_second_storm_quarantines_at_once() {
        let mut watch = without_mastering();
        for now in 5..9 {
            assert_eq!(watch.fault(now, LIMITS), Reaction::Count);
        }
        assert_eq!(watch.fault(9, LIMITS), Reaction::Quarantine);
    }

    proptest! {
        /// No sequence of times costs more than one of each measure, or lifts a quarantine.
        #[test]
        fn each_measure_is_taken_once_and_in_order(times in prop::collection::vec(any::<u64>(), 0..200)) {
            let mut watch = Watch::new(0);
            let mut measures = std::vec::Vec::new();
            for now in times {
                match watch.fault(now, LIMITS) {
                    Reaction::Log { .. } => prop_assert!(measures.is_empty()),
                    Reaction::Count => {}
                    measure => measures.push(measure),
                }
            }
            prop_assert!([Reaction::MasteringOff, Reaction::Quarantine].starts_with(&measures));
        }
    }
}
