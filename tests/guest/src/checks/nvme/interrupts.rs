//! How many interrupts the drives' queues have raised, by the kernel's own count.

use crate::verdict::{Attempt, Shortfall};

/// Interrupts of all queues of all NVMe drives, on all processors, since the start.
pub(super) fn of_drives() -> Result<u64, Shortfall> {
    let text = std::fs::read_to_string("/proc/interrupts").attempt("reading the interrupts")?;
    Ok(text.lines().map(of_drive).sum())
}

/// The sum of a line's counters, if it is about a drive's queue.
fn of_drive(line: &str) -> u64 {
    let mut words = line.split_whitespace();
    if !words
        .next_back()
        .is_some_and(|name| name.starts_with("nvme"))
    {
        return 0;
    }
    let counters = words.skip(1).map_while(|word| word.parse::<u64>().ok());
    counters.sum()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_queues_line_is_summed_over_processors_and_others_are_not_counted() {
        let line = " 27:  12  3   IR-PCI-MSIX-0000:01:00.0  1-edge  nvme0q1";
        assert_eq!(of_drive(line), 15);
        assert_eq!(of_drive("  4:  99  1  IO-APIC  4-edge  ttyS0"), 0);
        assert_eq!(of_drive(""), 0);
    }
}
