//! Interrupts of mediated devices that announce nothing.
//!
//! An honest device raises at most one for each request that it completes; whatever it raises, and
//! however late it arrives, cannot be told from another's. So those for which there was nothing to do
//! are counted against what all devices completed meanwhile.

use core::sync::atomic::{AtomicU64, Ordering};

use super::counts;
use crate::cpu::timer::Clock;

/// So many more in one window of time than what was completed in it are a storm: what the policy calls a
/// storm of faults of the device of which it bears least.
static MOST: AtomicU64 = AtomicU64::new(u64::MAX);
/// Ticks of that window.
static WINDOW: AtomicU64 = AtomicU64::new(0);

static BEGAN: AtomicU64 = AtomicU64::new(0);
static IDLE: AtomicU64 = AtomicU64::new(0);
/// What had been completed when the window began.
static COMPLETED: AtomicU64 = AtomicU64::new(0);

/// Bears no more than `most` in `window` ticks from now on.
pub(crate) fn bear(most: u32, window: u64) {
    if u64::from(most) < MOST.load(Ordering::Relaxed) {
        WINDOW.store(window, Ordering::Relaxed);
        MOST.store(most.into(), Ordering::Relaxed);
    }
}

/// Counts `more` of them. Returns whether they are a storm, once in a window.
pub(crate) fn is_storm(more: u64) -> bool {
    let now = Clock::now();
    let (most, window) = (MOST.load(Ordering::Relaxed), WINDOW.load(Ordering::Relaxed));
    let began = BEGAN.load(Ordering::Relaxed);
    // Two processors that begin a window at once lose a few of them.
    if now.wrapping_sub(began) > window {
        COMPLETED.store(counts().0.completed, Ordering::Relaxed);
        IDLE.store(0, Ordering::Relaxed);
        BEGAN.store(now, Ordering::Relaxed);
    }
    let before = IDLE.fetch_add(more, Ordering::Relaxed);
    let is_past = |count: u64| count > most;
    if is_past(before) || !is_past(before + more) {
        return false;
    }
    let completed = counts().0.completed;
    let completed = completed.saturating_sub(COMPLETED.load(Ordering::Relaxed));
    if before + more <= most.saturating_add(completed) {
        // As many as there may be; the rest of the window has room for as many again.
        IDLE.store(0, Ordering::Relaxed);
        COMPLETED.fetch_add(completed, Ordering::Relaxed);
        return false;
    }
    true
}
