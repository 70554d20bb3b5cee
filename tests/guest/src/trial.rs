//! One check in a child of its own, with a deadline.
//!
//! Owns the fork, the pipe, the clock and the reaping: whatever a check does to itself, the
//! report gets exactly one outcome for it and the next check starts from a clean process.
//! Knows no check by name; [`crate::verdict`] spells the lines on the pipe.
#![expect(unsafe_code)]
// UNSAFETY: fork(2) is unsafe to call; a check that crashes must not take process 1 along.

use std::fs::File;
use std::io::Read;
use std::os::fd::AsFd;
use std::time::{Duration, Instant};

use crate::checks::Check;
use crate::report::Report;
use crate::verdict::{Figures, Said, Shortfall, Verdict, failed};
use nix::errno::Errno;
use nix::fcntl::{FcntlArg, OFlag, fcntl};
use nix::poll::{PollFd, PollFlags, PollTimeout, poll};
use nix::sys::signal::{Signal, kill, killpg};
use nix::sys::wait::{WaitPidFlag, WaitStatus, waitpid};
use nix::unistd::{ForkResult, Pid, fork, pipe2, setpgid};

/// How long a killed child may take to go.
const GRACE: Duration = Duration::from_secs(10);

/// How long one look at the pipe waits.
const SLICE: Duration = Duration::from_millis(100);

/// Runs `check` and reports its figures and its one outcome.
pub(crate) fn hold(check: &Check, report: &mut Report) {
    let began = Instant::now();
    let verdict = run_in_child(check, report);
    report.tell(&format!("ms.{}", check.name), began.elapsed().as_millis());
    match verdict {
        Ok(()) => report.pass(check.name),
        Err(Shortfall::Failed(why)) => report.fail(check.name, &why),
        Err(Shortfall::Skipped(why)) => report.skip(check.name, &why),
    }
}

/// What became of something tried in a child.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Attempted {
    /// It ran and said yes.
    Held,
    /// It ran and said no.
    Broke,
    /// A signal ended it.
    Died,
    /// It had to be killed.
    Hung,
}

/// Tries something that may well kill the process doing it.
///
/// # Errors
/// A failed fork.
///
/// # Panics
/// If the caller has more than one thread.
pub(crate) fn attempt(work: impl FnOnce() -> bool) -> Result<Attempted, Shortfall> {
    let threads = std::fs::read_dir("/proc/self/task").map_or(0, Iterator::count);
    assert_eq!(threads, 1, "only a process of one thread may fork");
    // SAFETY: (1) the assertion above: no other thread can hold a lock.
    match unsafe { fork() } {
        Ok(ForkResult::Child) => std::process::exit(if work() { 0 } else { 1 }),
        Ok(ForkResult::Parent { child }) => {
            let deadline = Instant::now() + GRACE;
            loop {
                match waitpid(child, Some(WaitPidFlag::WNOHANG)) {
                    Ok(WaitStatus::Exited(_, 0)) => return Ok(Attempted::Held),
                    Ok(WaitStatus::Exited(..)) => return Ok(Attempted::Broke),
                    Ok(WaitStatus::Signaled(..)) => return Ok(Attempted::Died),
                    _ if Instant::now() < deadline => std::thread::sleep(Duration::from_millis(1)),
                    _ => {
                        let _ = kill(child, Signal::SIGKILL);
                        return Ok(Attempted::Hung);
                    }
                }
            }
        }
        Err(error) => Err(failed(format!("fork: {error}"))),
    }
}

fn run_in_child(check: &Check, report: &mut Report) -> Verdict {
    let (reading, writing) =
        pipe2(OFlag::O_CLOEXEC).map_err(|error| failed(format!("pipe: {error}")))?;
    // SAFETY: (1) process 1 has one thread, so the child inherits no lock held by another:
    // nothing in this crate starts a thread outside a check, and checks run in children only.
    match unsafe { fork() } {
        Ok(ForkResult::Child) => {
            drop(reading);
            carry_out(check, Figures::into_pipe(File::from(writing)))
        }
        Ok(ForkResult::Parent { child }) => {
            drop(writing);
            let verdict = listen(child, File::from(reading), check.deadline, report);
            bury(child);
            verdict
        }
        Err(error) => Err(failed(format!("fork: {error}"))),
    }
}

/// The child's whole life.
fn carry_out(check: &Check, mut figures: Figures) -> ! {
    // A group of its own, so that what the check leaves behind can be killed with it.
    let _ = setpgid(Pid::from_raw(0), Pid::from_raw(0));
    conclude_when_panicking(&figures);
    let verdict = (check.run)(&mut figures);
    figures.conclude(&verdict);
    std::process::exit(0)
}

/// Makes a panic of the check, on whatever thread, its outcome and its end.
fn conclude_when_panicking(figures: &Figures) {
    let pipe = figures.try_clone();
    std::panic::set_hook(Box::new(move |panic| {
        if let Some(mut pipe) = pipe.as_ref().and_then(Figures::try_clone) {
            pipe.conclude(&Err(failed(panic.to_string())));
        }
        std::process::abort();
    }));
}

/// Passes figures on until the child has ended or its time is over.
fn listen(child: Pid, mut pipe: File, allowed: Duration, report: &mut Report) -> Verdict {
    let deadline = Instant::now() + allowed;
    let mut heard = Heard::default();
    if let Err(error) = fcntl(&pipe, FcntlArg::F_SETFL(OFlag::O_NONBLOCK)) {
        return Err(failed(format!("pipe: {error}")));
    }
    loop {
        // The status is taken before the last look at the pipe: nothing said is then missed.
        let status = waitpid(child, Some(WaitPidFlag::WNOHANG));
        heard.drain(&mut pipe, report);
        match status {
            Ok(WaitStatus::StillAlive) => {}
            Ok(status) => return heard.verdict.unwrap_or_else(|| Err(without_a_word(status))),
            Err(error) => return Err(failed(format!("waiting for the check: {error}"))),
        }
        if Instant::now() >= deadline {
            return Err(failed(format!(
                "not finished within {} s",
                allowed.as_secs()
            )));
        }
        let slice = PollTimeout::try_from(SLICE).unwrap_or(PollTimeout::ZERO);
        let _ = poll(&mut [PollFd::new(pipe.as_fd(), PollFlags::POLLIN)], slice);
    }
}

/// What a child has said so far.
#[derive(Default)]
struct Heard {
    // Bytes after the last line feed.
    rest: Vec<u8>,
    verdict: Option<Verdict>,
}

impl Heard {
    /// Reads what is in the pipe now.
    fn drain(&mut self, pipe: &mut File, report: &mut Report) {
        let mut chunk = [0; 4096];
        while let Ok(length @ 1..) = pipe.read(&mut chunk) {
            for &byte in &chunk[..length] {
                if byte == b'\n' {
                    let line = std::mem::take(&mut self.rest);
                    self.line(&String::from_utf8_lossy(&line), report);
                } else {
                    self.rest.push(byte);
                }
            }
        }
    }

    fn line(&mut self, line: &str, report: &mut Report) {
        match Said::parse(line) {
            Some(Said::Data { key, value }) => report.tell(&key, value),
            // The first outcome counts: a check that goes on after its panic has failed.
            Some(Said::Verdict(verdict)) => drop(self.verdict.get_or_insert(verdict)),
            None => {}
        }
    }
}

/// Why a child that ended without an outcome has failed.
fn without_a_word(status: WaitStatus) -> Shortfall {
    failed(match status {
        WaitStatus::Exited(_, code) => format!("ended with status {code} and no outcome"),
        WaitStatus::Signaled(_, signal, _) => format!("killed by {signal}"),
        other => format!("ended as {other:?}"),
    })
}

/// Kills and reaps what is left of the check's process group, for a bounded time.
fn bury(child: Pid) {
    let group = Pid::from_raw(-child.as_raw());
    let deadline = Instant::now() + GRACE;
    while Instant::now() < deadline {
        let _ = killpg(child, Signal::SIGKILL);
        match waitpid(group, Some(WaitPidFlag::WNOHANG)) {
            Err(Errno::ECHILD) => return,
            Ok(WaitStatus::StillAlive) => std::thread::sleep(Duration::from_millis(10)),
            _ => {}
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::io::{Seek, SeekFrom};

    /// Holds a trial of `run` with a second's time and gives the report's lines.
    fn report_of(run: fn(&mut Figures) -> Verdict) -> Vec<String> {
        let mut file = tempfile();
        let mut report = Report::into_file(file.try_clone().expect("a second handle"));
        let check = Check::for_trial("it", Duration::from_secs(1), run);
        hold(&check, &mut report);
        let mut text = String::new();
        file.seek(SeekFrom::Start(0))
            .expect("a file can be rewound");
        file.read_to_string(&mut text).expect("a report is text");
        let is_time = |line: &&str| line.starts_with("data ms.");
        text.lines()
            .filter(|line| !is_time(line))
            .map(str::to_owned)
            .collect()
    }

    fn tempfile() -> File {
        use nix::sys::memfd::{MFdFlags, memfd_create};
        memfd_create(c"report", MFdFlags::empty())
            .expect("memory for a report")
            .into()
    }

    #[test]
    fn a_check_that_holds_passes_with_its_figures() {
        let lines = report_of(|figures| {
            figures.tell("count", 7);
            Ok(())
        });
        assert_eq!(lines, ["data count 7", "pass it"]);
    }

    #[test]
    fn a_check_that_panics_fails_with_its_words() {
        let lines = report_of(|_| panic!("no such luck"));
        let [line] = lines.as_slice() else {
            panic!("{lines:?}")
        };
        assert!(
            line.starts_with("fail it ") && line.ends_with("no such luck"),
            "{line}"
        );
    }

    #[test]
    fn a_thread_s_panic_is_the_check_s() {
        let lines = report_of(|_| {
            let _ = std::thread::spawn(|| panic!("elsewhere")).join();
            Ok(())
        });
        let [line] = lines.as_slice() else {
            panic!("{lines:?}")
        };
        assert!(
            line.starts_with("fail it ") && line.ends_with("elsewhere"),
            "{line}"
        );
    }

    #[test]
    fn a_check_that_is_killed_fails_with_the_signal() {
        let lines = report_of(|_| {
            let _ = nix::sys::signal::raise(Signal::SIGKILL);
            Ok(())
        });
        assert_eq!(lines, ["fail it killed by SIGKILL"]);
    }

    #[test]
    fn a_check_that_leaves_without_a_word_fails() {
        let lines = report_of(|_| std::process::exit(0));
        assert_eq!(lines, ["fail it ended with status 0 and no outcome"]);
    }

    #[test]
    fn a_check_that_hangs_is_killed_at_its_deadline_and_keeps_its_figures() {
        let lines = report_of(|figures| {
            figures.tell("reached", "here");
            loop {
                std::thread::sleep(Duration::from_secs(60));
            }
        });
        assert_eq!(
            lines,
            ["data reached here", "fail it not finished within 1 s"]
        );
    }
}
