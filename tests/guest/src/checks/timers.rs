//! Time passes as it should on every processor: sleeps end, timers fire, clocks never run back.
//!
//! An emulator on a busy machine is late at will, so lateness is bounded generously; a timer
//! that is early, lost or stuck is what this finds.

use crate::cpus;
use crate::verdict::{Attempt, Figures, Shortfall, Verdict, ensure, failed};
use nix::sys::time::TimeSpec;
use nix::sys::timerfd::{
    ClockId as TimerClock, Expiration, TimerFd, TimerFlags, TimerSetTimeFlags,
};
use nix::time::{ClockId, clock_gettime};
use std::time::{Duration, Instant};

const SLEEP: Duration = Duration::from_millis(20);
const SLEEPS: u32 = 5;
const PERIOD: Duration = Duration::from_millis(10);
const PERIODS: u64 = 10;
/// How late a sleep or a timer may be on a loaded emulator.
const LATENESS: Duration = Duration::from_secs(5);
const CLOCKS: [(&str, ClockId); 4] = [
    ("CLOCK_MONOTONIC", ClockId::CLOCK_MONOTONIC),
    ("CLOCK_MONOTONIC_RAW", ClockId::CLOCK_MONOTONIC_RAW),
    ("CLOCK_BOOTTIME", ClockId::CLOCK_BOOTTIME),
    ("CLOCK_REALTIME", ClockId::CLOCK_REALTIME),
];

pub(super) fn run(figures: &mut Figures) -> Verdict {
    let online = cpus::online()?;
    let mut worst = Duration::ZERO;
    for &cpu in &online {
        worst = worst.max(cpus::on(cpu, || sleeps(cpu))?);
        worst = worst.max(cpus::on(cpu, || timer_fires(cpu))?);
    }
    figures.tell("timers.worst-lateness-us", worst.as_micros());
    clocks_never_run_back(&online)?;
    clocks_agree()
}

/// Sleeps; gives the worst lateness.
fn sleeps(cpu: usize) -> Result<Duration, Shortfall> {
    let mut worst = Duration::ZERO;
    for _ in 0..SLEEPS {
        let began = Instant::now();
        std::thread::sleep(SLEEP);
        worst = worst.max(lateness(cpu, "a sleep", began.elapsed(), SLEEP)?);
    }
    Ok(worst)
}

/// Waits for periods of a timer; gives their lateness.
fn timer_fires(cpu: usize) -> Result<Duration, Shortfall> {
    let timer = TimerFd::new(TimerClock::CLOCK_MONOTONIC, TimerFlags::TFD_CLOEXEC)
        .attempt("making a timer")?;
    let began = Instant::now();
    timer
        .set(
            Expiration::Interval(TimeSpec::from_duration(PERIOD)),
            TimerSetTimeFlags::empty(),
        )
        .attempt("setting a timer")?;
    let mut fired = 0u64;
    while fired < PERIODS {
        let mut count = [0; 8];
        let length = nix::unistd::read(&timer, &mut count).attempt("waiting for a timer")?;
        ensure!(length == 8, "processor {cpu}: a timer gave {length} bytes");
        fired += u64::from_ne_bytes(count);
    }
    let periods = u32::try_from(fired).attempt("counting periods")?;
    lateness(cpu, "a periodic timer", began.elapsed(), PERIOD * periods)
}

fn lateness(
    cpu: usize,
    what: &str,
    took: Duration,
    asked: Duration,
) -> Result<Duration, Shortfall> {
    let late = took.checked_sub(asked);
    match late {
        Some(late) if late <= LATENESS => Ok(late),
        _ => Err(failed(format!(
            "processor {cpu}: {what} of {asked:?} took {took:?}"
        ))),
    }
}

/// One thread wanders over the processors and reads every clock on each.
fn clocks_never_run_back(online: &[usize]) -> Verdict {
    const LAPS: usize = 20;
    let mut last = [Duration::ZERO; CLOCKS.len()];
    for &cpu in online.iter().cycle().take(LAPS * online.len()) {
        cpus::pin(cpu)?;
        for (last, (name, clock)) in last.iter_mut().zip(CLOCKS) {
            let now = read(clock)?;
            ensure!(
                now >= *last,
                "processor {cpu}: {name} ran back from {last:?} to {now:?}"
            );
            *last = now;
        }
    }
    Ok(())
}

/// Over a fifth of a second no clock departs from the others by more than a tenth.
///
/// The readings themselves are apart when the emulator stops in between, so that one agreement
/// in a few attempts is agreement.
fn clocks_agree() -> Verdict {
    const ATTEMPTS: usize = 5;
    let mut spreads = Vec::new();
    for _ in 0..ATTEMPTS {
        let before = read_all()?;
        std::thread::sleep(Duration::from_millis(200));
        let after = read_all()?;
        let passed = before
            .iter()
            .zip(&after)
            .map(|(before, after)| after.saturating_sub(*before));
        let most = passed.clone().max().unwrap_or_default();
        let spread = most - passed.min().unwrap_or_default();
        if spread <= most / 10 {
            return Ok(());
        }
        spreads.push(spread);
    }
    Err(failed(format!(
        "clocks disagree by {spreads:?} over 200 ms"
    )))
}

fn read_all() -> Result<Vec<Duration>, Shortfall> {
    CLOCKS.into_iter().map(|(_, clock)| read(clock)).collect()
}

fn read(clock: ClockId) -> Result<Duration, Shortfall> {
    clock_gettime(clock)
        .map(Duration::from)
        .attempt("reading a clock")
}
