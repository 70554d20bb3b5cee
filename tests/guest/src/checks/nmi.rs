//! Non-maskable interrupts reach the guest: every processor answers a request for its backtrace.
//!
//! The kernel's SysRq `l` sends an NMI to every other processor and each prints a line of its
//! own, `NMI backtrace for cpu N`, from its handler.

use super::hash;
use crate::cpus;
use crate::verdict::{Attempt, Figures, Verdict, ensure, skipped};
use std::fs::{File, OpenOptions};
use std::io::{ErrorKind, Read, Seek, SeekFrom};
use std::os::unix::fs::OpenOptionsExt;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

/// How long the answers may take; the kernel itself gives up after ten seconds.
const PATIENCE: Duration = Duration::from_secs(15);

pub(super) fn run(figures: &mut Figures) -> Verdict {
    let online = cpus::online()?;
    if online.len() < 2 {
        return Err(skipped("one processor: the kernel sends no NMI to itself"));
    }
    let before = cpus::interrupts("NMI")?;
    // The processor that asks prints its own backtrace without an NMI: two different ones ask.
    cpus::on(online[0], || every_processor_answers(&online, "idle"))?;
    while_busy(&online, || {
        cpus::on(online[online.len() - 1], || {
            every_processor_answers(&online, "busy")
        })
    })?;
    let after = cpus::interrupts("NMI")?;

    let risen: Vec<u64> = before
        .iter()
        .zip(&after)
        .map(|(before, after)| after - before)
        .collect();
    ensure!(
        risen.iter().all(|&count| count >= 1),
        "NMIs by processor in two rounds: {risen:?}"
    );
    figures.tell("nmi.received", risen.iter().sum::<u64>());
    for &cpu in &online {
        cpus::on(cpu, hash::known_answers)?;
    }
    Ok(())
}

/// Asks for all backtraces and reads the kernel's log until every processor is in it.
fn every_processor_answers(online: &[usize], load: &str) -> Verdict {
    let mut log = Log::from_now()?;
    std::fs::write("/proc/sysrq-trigger", "l").attempt("writing l to /proc/sysrq-trigger")?;
    let deadline = Instant::now() + PATIENCE;
    let mut missing = online.to_vec();
    while !missing.is_empty() {
        match log.next_record()? {
            Some(record) => missing.retain(|cpu| answered(&record) != Some(*cpu)),
            None => {
                ensure!(
                    Instant::now() < deadline,
                    "{load}: no NMI backtrace from processors {missing:?}"
                );
                std::thread::sleep(Duration::from_millis(20));
            }
        }
    }
    Ok(())
}

/// The processor that a record of the log is the answer of.
fn answered(record: &str) -> Option<usize> {
    let (_, rest) = record.split_once("NMI backtrace for cpu ")?;
    let digits = rest
        .split(|character: char| !character.is_ascii_digit())
        .next()?;
    digits.parse().ok()
}

/// Does `work` while a thread on each processor computes.
fn while_busy(online: &[usize], work: impl FnOnce() -> Verdict) -> Verdict {
    let over = AtomicBool::new(false);
    std::thread::scope(|scope| {
        let busy: Vec<_> = online
            .iter()
            .map(|&cpu| {
                let over = &over;
                scope.spawn(move || {
                    cpus::pin(cpu)?;
                    while !over.load(Ordering::Relaxed) {
                        std::hint::spin_loop();
                    }
                    Ok(())
                })
            })
            .collect();
        let verdict = work();
        over.store(true, Ordering::Relaxed);
        for thread in busy {
            thread
                .join()
                .map_err(|_| crate::verdict::failed("a busy thread panicked"))??;
        }
        verdict
    })
}

/// The kernel's log from some moment on, record by record.
struct Log {
    kmsg: File,
}

impl Log {
    fn from_now() -> Result<Self, crate::verdict::Shortfall> {
        let mut kmsg = OpenOptions::new()
            .read(true)
            .custom_flags(libc::O_NONBLOCK)
            .open("/dev/kmsg")
            .attempt("opening /dev/kmsg")?;
        kmsg.seek(SeekFrom::End(0))
            .attempt("going to the end of /dev/kmsg")?;
        Ok(Self { kmsg })
    }

    /// The next record, if there is one.
    fn next_record(&mut self) -> Result<Option<String>, crate::verdict::Shortfall> {
        let mut record = [0; 8192];
        loop {
            match self.kmsg.read(&mut record) {
                Ok(length) => {
                    return Ok(Some(
                        String::from_utf8_lossy(&record[..length]).into_owned(),
                    ));
                }
                Err(error) if error.kind() == ErrorKind::WouldBlock => return Ok(None),
                // EPIPE: records were overwritten before we came; the next read goes on.
                Err(error) if error.kind() == ErrorKind::BrokenPipe => {}
                Err(error) => return Err(error).attempt("reading /dev/kmsg"),
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_backtrace_and_a_skipped_idle_processor_both_count_as_answers() {
        assert_eq!(answered("4,1,2,-;NMI backtrace for cpu 12"), Some(12));
        let idle = "4,1,2,-;NMI backtrace for cpu 3 skipped: idling at native_safe_halt+0xb/0x10";
        assert_eq!(answered(idle), Some(3));
        assert_eq!(
            answered("6,1,2,-;Sending NMI from CPU 0 to CPUs 1-3:"),
            None
        );
    }
}
