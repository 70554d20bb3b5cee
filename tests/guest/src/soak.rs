//! A thread that takes whatever the processor has to spare, and tells how much that was.
//!
//! What work really costs is what it takes from this thread: interrupts, switches and exits are in
//! it, waiting for a device is not. Exact where the clock counts instructions; on one processor.
#![expect(unsafe_code)]
// UNSAFETY: a scheduling class, which no safe interface here has.

use std::hint;
use std::io;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

use crate::verdict::{Shortfall, ensure, failed};

/// Turns between two looks at the others.
const TURNS: u32 = 64;
/// How long a turn is measured.
const CALIBRATION: Duration = Duration::from_millis(100);

/// The thread, at work.
#[derive(Debug)]
pub(crate) struct Soak {
    shared: Arc<Shared>,
    thread: Option<JoinHandle<io::Result<()>>>,
    /// Nanoseconds of a round, when nobody else works.
    round: f64,
}

#[derive(Debug, Default)]
struct Shared {
    rounds: AtomicU64,
    is_over: AtomicBool,
}

/// A moment from which on cost is counted.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Mark {
    at: Instant,
    rounds: u64,
}

impl Soak {
    /// Starts it and measures its rounds while nobody else works.
    pub(crate) fn begin() -> Result<Self, Shortfall> {
        let shared = Arc::new(Shared::default());
        let theirs = Arc::clone(&shared);
        let thread = std::thread::spawn(move || theirs.run());
        let mut this = Self {
            shared,
            thread: Some(thread),
            round: 0.0,
        };
        // The first half warms caches and translations.
        std::thread::sleep(CALIBRATION);
        let mark = this.mark();
        std::thread::sleep(CALIBRATION);
        let (took, rounds) = (mark.at.elapsed(), this.rounds() - mark.rounds);
        ensure!(rounds > 100, "only {rounds} rounds in {took:?}");
        this.round = took.as_nanos() as f64 / rounds as f64;
        Ok(this)
    }

    /// Nanoseconds of a round, when nobody else works.
    pub(crate) fn round(&self) -> f64 {
        self.round
    }

    /// Now.
    pub(crate) fn mark(&self) -> Mark {
        Mark {
            at: Instant::now(),
            rounds: self.rounds(),
        }
    }

    /// Nanoseconds since `mark` that this thread did not get.
    pub(crate) fn taken_since(&self, mark: Mark) -> f64 {
        let elapsed = mark.at.elapsed().as_nanos() as f64;
        elapsed - (self.rounds() - mark.rounds) as f64 * self.round
    }

    /// Ends it.
    pub(crate) fn end(mut self) -> Result<(), Shortfall> {
        self.shared.is_over.store(true, Ordering::Relaxed);
        let thread = self.thread.take().map(JoinHandle::join);
        match thread {
            Some(Ok(Err(error))) => Err(failed(format!("the class of idle work: {error}"))),
            _ => Ok(()),
        }
    }

    fn rounds(&self) -> u64 {
        self.shared.rounds.load(Ordering::Relaxed)
    }
}

impl Shared {
    fn run(&self) -> io::Result<()> {
        // SAFETY: a plain structure, for which zeros are a value.
        let nothing: libc::sched_param = unsafe { std::mem::zeroed() };
        // The C library of this program does not know the call.
        // SAFETY: the kernel reads the structure; 0 is the calling thread.
        let done = unsafe {
            let call = libc::SYS_sched_setscheduler;
            libc::syscall(call, 0, libc::SCHED_IDLE, &raw const nothing)
        };
        if done != 0 {
            return Err(io::Error::last_os_error());
        }
        let mut rounds = 0;
        while !self.is_over.load(Ordering::Relaxed) {
            for turn in 0..TURNS {
                hint::black_box(turn);
            }
            rounds += 1;
            self.rounds.store(rounds, Ordering::Relaxed);
        }
        Ok(())
    }
}
