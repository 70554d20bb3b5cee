//! How long a storm is kept away: longer each time, if it comes back.
//!
//! Owns the times of it. Whoever storms, is silent for as long as that has a consequence, and storms again would
//! otherwise add up to nothing. Touches no hardware; the caller keeps away what storms.

/// The longest pause for the shortest.
const LONGEST: u64 = 256;
/// A storm within so many times the shortest pause after the last one's end has come back.
const BACK: u64 = 64;

/// When storms were kept away last, and for how long. Times are ticks of the caller's clock.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Pause {
    began: u64,
    length: u64,
}

impl Pause {
    /// Nothing was kept away so far.
    pub const NONE: Self = Self {
        began: 0,
        length: 0,
    };

    /// Keeps a storm away from `now` on: for `shortest` ticks, or twice as long as last time if it has come back.
    pub fn begin(&mut self, now: u64, shortest: u64) {
        let since_end = now.wrapping_sub(self.began).saturating_sub(self.length);
        let twice = if since_end <= shortest.saturating_mul(BACK) {
            self.length.saturating_mul(2)
        } else {
            0
        };
        self.began = now;
        self.length = twice.clamp(shortest, shortest.saturating_mul(LONGEST));
    }

    /// When it began.
    pub const fn began(&self) -> u64 {
        self.began
    }

    /// Whether it is over at `now`. A clock that was set back ends it.
    pub const fn is_over(&self, now: u64) -> bool {
        now.wrapping_sub(self.began) > self.length
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Pauses in 1,000 seconds of a storm that comes every `every` milliseconds, when it is not kept away.
    fn pauses(every: u64) -> usize {
        let mut pause = Pause::NONE;
        let storms = (1..=1_000_000 / every).map(|storm| 10_000_000 + storm * every);
        let mut begun = 0;
        for now in storms {
            if pause.is_over(now) {
                pause.begin(now, 1_000);
                begun += 1;
            }
        }
        begun
    }

    #[test]
    fn a_storm_in_pulses_is_kept_away_longer_each_time() {
        let mut pause = Pause::NONE;
        pause.begin(10_000_000, 1_000);
        assert!(!pause.is_over(10_001_000) && pause.is_over(10_001_001));
        pause.begin(10_001_500, 1_000);
        assert!(!pause.is_over(10_003_500) && pause.is_over(10_003_501));
        assert!(pauses(1_500) <= 12, "{}", pauses(1_500));
    }

    #[test]
    fn a_storm_that_does_not_come_back_soon_is_a_new_one() {
        let mut pause = Pause::NONE;
        pause.begin(10_000_000, 1_000);
        let later = 10_000_000 + 66_000;
        pause.begin(later, 1_000);
        assert!(pause.is_over(later + 1_001));
    }

    #[test]
    fn no_pause_is_longer_than_minutes_and_a_clock_set_back_ends_it() {
        let mut pause = Pause::NONE;
        let mut now = 10_000_000;
        for _ in 0..70 {
            pause.begin(now, 1_000);
            assert!(pause.is_over(now - 1));
            now += LONGEST * 1_000 + 1;
            assert!(pause.is_over(now));
        }
    }
}
