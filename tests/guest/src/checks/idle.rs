//! How often an idle guest leaves for Bouncer, by reason.

use crate::bouncer::{self, Counter};
use crate::verdict::{Figures, Verdict, ensure};
use std::time::{Duration, Instant};

const WINDOW: Duration = Duration::from_secs(10);
/// Lets the work of earlier checks and of the boot die down first.
const SETTLING: Duration = Duration::from_secs(2);

pub(super) fn run(figures: &mut Figures) -> Verdict {
    ensure!(
        bouncer::is_there(),
        "no Bouncer here, so no exit counters to read"
    );
    std::thread::sleep(SETTLING);
    let (before, began) = (bouncer::exit_counters(), Instant::now());
    std::thread::sleep(WINDOW);
    let (after, took) = (bouncer::exit_counters(), began.elapsed());

    ensure!(!after.is_empty(), "Bouncer lists no exit counters");
    for counter in &after {
        let risen = risen(&before, counter)?;
        figures.tell(&format!("idle.{}", counter.reason), per_second(risen, took));
    }
    Ok(())
}

/// By how much a counter rose; a counter never falls.
fn risen(before: &[Counter], after: &Counter) -> Result<u64, crate::verdict::Shortfall> {
    let earlier = before.iter().find(|counter| counter.reason == after.reason);
    let earlier = earlier.map_or(0, |counter| counter.count);
    after.count.checked_sub(earlier).ok_or_else(|| {
        crate::verdict::failed(format!(
            "the counter of {} fell from {earlier} to {}",
            after.reason, after.count
        ))
    })
}

/// A rate in events a second, with three decimals.
fn per_second(events: u64, took: Duration) -> String {
    let thousandths = u128::from(events) * 1_000_000 / took.as_millis().max(1);
    format!("{}.{:03}", thousandths / 1000, thousandths % 1000)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_rate_has_three_decimals() {
        assert_eq!(per_second(15, Duration::from_secs(10)), "1.500");
        assert_eq!(per_second(0, Duration::from_secs(10)), "0.000");
        assert_eq!(per_second(1, Duration::from_millis(10_001)), "0.099");
    }

    #[test]
    fn a_falling_counter_is_a_failure() {
        let at = |count| Counter {
            reason: "npf".into(),
            count,
        };
        assert_eq!(risen(&[at(3)], &at(5)), Ok(2));
        assert_eq!(risen(&[], &at(5)), Ok(5));
        assert!(risen(&[at(6)], &at(5)).is_err());
    }
}
