//! Processor-bound work for comparison: SHA-256 of 64 MiB, timed by two clocks.
//!
//! Under an emulator that counts instructions the figures are instruction counts, and their
//! ratio to the same boot without Bouncer is what Bouncer costs.
#![expect(unsafe_code)]
// UNSAFETY: RDTSC is an unsafe intrinsic; the time-stamp counter is the second clock.

use crate::cpus;
use crate::noise::Noise;
use crate::verdict::{Figures, Verdict, ensure};
use core::arch::x86_64::_rdtsc;
use sha2::{Digest, Sha256};
use std::time::Instant;

use super::hash::hex;

const ROUNDS: usize = 64;
/// SHA-256 of 64 repetitions of a mebibyte of noise of seed 64, computed with Python's hashlib.
const EXPECTED: &str = "a9095ba083444157898d6d8c2f2a7910ae9ff4ddf321352efe65054dd3110e5a";

/// How often the work is done. The least counts: now and then the kernel's own housekeeping falls
/// into one of them.
const TIMES: usize = 5;

pub(super) fn run(figures: &mut Figures) -> Verdict {
    let mebibyte = Noise::new(64).bytes(1 << 20);
    let cpu = cpus::online()?.first().copied().unwrap_or_default();
    let (mut nanoseconds, mut ticks) = (u128::MAX, u64::MAX);
    for _ in 0..TIMES {
        let once = cpus::on(cpu, || Ok(work(&mebibyte)))?;
        ensure!(
            once.hash == EXPECTED,
            "SHA-256 of 64 MiB is {}, not {EXPECTED}",
            once.hash
        );
        nanoseconds = nanoseconds.min(once.nanoseconds);
        ticks = ticks.min(once.ticks);
    }
    figures.tell("sha256-64m.ns", nanoseconds);
    figures.tell("sha256-64m.tsc", ticks);
    Ok(())
}

/// The work done once, and what it took by both clocks.
struct Once {
    hash: String,
    nanoseconds: u128,
    ticks: u64,
}

fn work(mebibyte: &[u8]) -> Once {
    let (began, ticks) = (Instant::now(), ticks());
    let mut hash = Sha256::new();
    for _ in 0..ROUNDS {
        hash.update(mebibyte);
    }
    Once {
        hash: hex(&hash.finalize()),
        nanoseconds: began.elapsed().as_nanos(),
        ticks: self::ticks().wrapping_sub(ticks),
    }
}

/// The time-stamp counter now.
fn ticks() -> u64 {
    // SAFETY: (1) every x86-64 processor has RDTSC, and Linux leaves it to user programs.
    unsafe { _rdtsc() }
}
