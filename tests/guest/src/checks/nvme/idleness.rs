//! How long the processors have had nothing to do, to the nanosecond, by the kernel's own count.

use crate::verdict::{Attempt, Shortfall, ensure};
use std::time::Duration;

/// What the kernel adds up while a processor sleeps, with and without requests under way. An interrupt that it wakes for
/// is work.
const FIELDS: [&str; 2] = [".idle_sleeptime", ".iowait_sleeptime"];

/// The idle time of all processors together since the start.
pub(super) fn so_far() -> Result<Duration, Shortfall> {
    let text = std::fs::read_to_string("/proc/timer_list").attempt("reading the timers")?;
    let times: Vec<u64> = text.lines().filter_map(time).collect();
    ensure!(!times.is_empty(), "the kernel does not tell its idle time");
    Ok(Duration::from_nanos(times.iter().sum()))
}

/// The nanoseconds in a line of one of [`FIELDS`].
fn time(line: &str) -> Option<u64> {
    let (name, value) = line.split_once(':')?;
    let is_idleness = FIELDS.contains(&name.trim());
    let number = value.split_whitespace().next()?;
    is_idleness.then(|| number.parse().ok()).flatten()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn sleep_with_and_without_requests_under_way_is_read() {
        assert_eq!(
            time("  .idle_sleeptime : 3034509218 nsecs"),
            Some(3_034_509_218)
        );
        assert_eq!(time("  .iowait_sleeptime: 12 nsecs"), Some(12));
        assert_eq!(time("  .idle_entrytime : 4000000000 nsecs"), None);
        assert_eq!(time("cpu: 0"), None);
    }
}
