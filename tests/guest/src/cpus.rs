//! The machine's processors as Linux shows them.
//!
//! Owns lists of processors and the pinning of threads; knows no check.

use crate::verdict::{Attempt, Shortfall, ensure};
use nix::sched::{CpuSet, sched_getcpu, sched_setaffinity};
use nix::unistd::Pid;

/// The processors that are online, in ascending order.
pub(crate) fn online() -> Result<Vec<usize>, Shortfall> {
    listed("/sys/devices/system/cpu/online")
}

/// Pins the calling thread to `cpu` and checks that it runs there.
pub(crate) fn pin(cpu: usize) -> Result<(), Shortfall> {
    let mut set = CpuSet::new();
    set.set(cpu).attempt(&format!("naming processor {cpu}"))?;
    sched_setaffinity(Pid::from_raw(0), &set).attempt(&format!("moving to processor {cpu}"))?;
    let here = sched_getcpu().attempt("asking for the current processor")?;
    ensure!(
        here == cpu,
        "pinned to processor {cpu} but running on {here}"
    );
    Ok(())
}

/// Runs `work` on `cpu` in a thread of its own and gives its result.
pub(crate) fn on<T, F>(cpu: usize, work: F) -> Result<T, Shortfall>
where
    T: Send,
    F: FnOnce() -> Result<T, Shortfall> + Send,
{
    std::thread::scope(|scope| {
        let thread = scope.spawn(|| pin(cpu).and_then(|()| work()));
        // A panic never comes here: it ends the whole check.
        thread
            .join()
            .map_err(|_| crate::verdict::failed(format!("processor {cpu}: panicked")))?
    })
}

/// How often the interrupt that `/proc/interrupts` labels `label` came, by processor online.
pub(crate) fn interrupts(label: &str) -> Result<Vec<u64>, Shortfall> {
    let text = std::fs::read_to_string("/proc/interrupts").attempt("reading /proc/interrupts")?;
    interrupts_in(&text, label)
        .ok_or_else(|| crate::verdict::failed(format!("/proc/interrupts has no line {label}")))
}

fn interrupts_in(text: &str, label: &str) -> Option<Vec<u64>> {
    let line = text.lines().find_map(|line| {
        let (name, counts) = line.split_once(':')?;
        (name.trim() == label).then_some(counts)
    })?;
    Some(
        line.split_whitespace()
            .map_while(|word| word.parse().ok())
            .collect(),
    )
}

fn listed(path: &str) -> Result<Vec<usize>, Shortfall> {
    let text = std::fs::read_to_string(path).attempt(&format!("reading {path}"))?;
    parse_list(text.trim())
        .ok_or_else(|| crate::verdict::failed(format!("{path} holds no processor list: {text}")))
}

/// Reads the kernel's list format, for example `0-3,5`.
fn parse_list(text: &str) -> Option<Vec<usize>> {
    let mut cpus = Vec::new();
    for part in text.split(',') {
        let (first, last) = part.split_once('-').unwrap_or((part, part));
        cpus.extend(first.parse::<usize>().ok()?..=last.parse::<usize>().ok()?);
    }
    Some(cpus)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_list_of_ranges_is_read() {
        assert_eq!(parse_list("0"), Some(vec![0]));
        assert_eq!(parse_list("0-2,5"), Some(vec![0, 1, 2, 5]));
        assert_eq!(parse_list(""), None);
        assert_eq!(parse_list("0-x"), None);
    }

    #[test]
    fn an_interrupt_line_gives_one_count_for_each_processor() {
        let text =
            "      CPU0  CPU1\n  0:  7  0  IO-APIC\nNMI:   3   4   Non-maskable interrupts\n";
        assert_eq!(interrupts_in(text, "NMI"), Some(vec![3, 4]));
        assert_eq!(interrupts_in(text, "MCE"), None);
    }

    #[test]
    fn a_pinned_thread_runs_where_it_was_pinned() {
        for cpu in online().expect("sysfs lists processors") {
            assert_eq!(on(cpu, || sched_getcpu().attempt("getcpu")), Ok(cpu));
        }
    }
}
