//! A number that only grows, and the ways to wait for it.
//!
//! Owns the futex; knows no processor.
// UNSAFETY: futex(2) has no safe wrapper.

use std::sync::atomic::{AtomicU32, Ordering};
use std::time::{Duration, Instant};

use crate::verdict::{Attempt, Verdict, ensure};
use nix::errno::Errno;

/// No single step may take longer.
pub(super) const PATIENCE: Duration = Duration::from_secs(10);

/// A number that only grows, and the waiting for it.
#[derive(Default)]
pub(super) struct Step(AtomicU32);

impl Step {
    /// Adds one whenever the number has the given parity, until it is `end`.
    pub(super) fn pass_on(&self, parity: u32, end: u32) -> Verdict {
        loop {
            let now = self.now();
            if now >= end {
                return Ok(());
            }
            if now % 2 == parity {
                self.0.store(now + 1, Ordering::Release);
                futex_wake(&self.0).attempt("waking the other thread")?;
            } else {
                futex_wait(&self.0, now)
                    .attempt(&format!("waiting for pass {} of {end}", now + 1))?;
            }
        }
    }

    /// The number now.
    pub(super) fn now(&self) -> u32 {
        self.0.load(Ordering::Acquire)
    }

    /// Makes the number `step`.
    pub(super) fn advance_to(&self, step: u32) {
        self.0.store(step, Ordering::Release);
    }

    /// Waits, without sleeping, until the number is `step`; does `meanwhile` over and over.
    pub(super) fn spin_until(&self, step: u32, meanwhile: impl Fn()) -> Verdict {
        let deadline = Instant::now() + PATIENCE;
        while self.now() < step {
            meanwhile();
            std::hint::spin_loop();
            ensure!(Instant::now() < deadline, "no answer at step {step}");
        }
        Ok(())
    }
}

/// Sleeps while `word` is `expected`. A sleep to the end of its patience was not ended by the
/// one who changed the word: a wake-up was lost.
fn futex_wait(word: &AtomicU32, expected: u32) -> nix::Result<()> {
    let patience = libc::timespec {
        tv_sec: PATIENCE.as_secs() as _,
        tv_nsec: 0,
    };
    // SAFETY: (1) futex(2): WAIT reads the word and the timespec, both live here.
    let result = unsafe {
        libc::syscall(
            libc::SYS_futex,
            word.as_ptr(),
            libc::FUTEX_WAIT | libc::FUTEX_PRIVATE_FLAG,
            expected,
            &raw const patience,
        )
    };
    match Errno::result(result) {
        // Changed already, or woken by nobody: the caller looks again.
        Ok(_) | Err(Errno::EAGAIN | Errno::EINTR) => Ok(()),
        Err(error) => Err(error),
    }
}

/// Wakes one thread that sleeps on `word`.
fn futex_wake(word: &AtomicU32) -> nix::Result<()> {
    // SAFETY: (1) futex(2): WAKE only uses the word's address.
    let result = unsafe {
        libc::syscall(
            libc::SYS_futex,
            word.as_ptr(),
            libc::FUTEX_WAKE | libc::FUTEX_PRIVATE_FLAG,
            1,
        )
    };
    Errno::result(result).map(drop)
}
