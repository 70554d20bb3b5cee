//! Processors interrupt each other: every pair, three ways, each counted and verified.
//!
//! A ball goes to and fro through futexes (wake-ups), one processor's page changes under the
//! other's eyes (TLB shoot-downs by remapping and by protecting), and `membarrier` interrupts
//! whoever runs (function calls). A lost interrupt shows as a stale value or a missed deadline.
#![expect(unsafe_code)]
// UNSAFETY: membarrier(2) has no safe wrapper; the modules below each say why they need it.

mod page;
mod step;

use std::time::Instant;

use crate::cpus;
use crate::verdict::{Attempt, Figures, Shortfall, Verdict, ensure, failed, skipped};
use nix::errno::Errno;
use page::{STEPS, Shared};
use step::{PATIENCE, Step};

/// To and fro, for each pair.
const BALLS: u32 = 200;
/// Function calls that the other processor must take, for each pair.
const BARRIERS: u32 = 50;

pub(super) fn run(figures: &mut Figures) -> Verdict {
    let online = cpus::online()?;
    if online.len() < 2 {
        return Err(skipped("one processor: nobody to interrupt"));
    }
    let mut pairs = 0;
    for (index, &one) in online.iter().enumerate() {
        for &other in &online[index + 1..] {
            play_ball(one, other)?;
            // In both directions: the sender's and the receiver's part differ.
            shoot_down(one, other)?;
            shoot_down(other, one)?;
            interrupt_by_barrier(&online, one, other)?;
            pairs += 1;
        }
    }
    figures.tell("ipis.pairs", pairs);
    figures.tell("ipis.balls", pairs * BALLS);
    figures.tell("ipis.shoot-downs", pairs * 2 * STEPS);
    figures.tell("ipis.barriers", pairs * BARRIERS);
    Ok(())
}

/// Two sleeping threads wake each other in turn.
fn play_ball(one: usize, other: usize) -> Verdict {
    let ball = Step::default();
    both(
        one,
        other,
        || ball.pass_on(0, 2 * BALLS),
        || ball.pass_on(1, 2 * BALLS),
    )?;
    let passes = ball.now();
    ensure!(
        passes == 2 * BALLS,
        "processors {one} and {other}: {passes} of {} passes",
        2 * BALLS
    );
    Ok(())
}

/// One processor changes a page that the other looks at without pause.
fn shoot_down(changer: usize, watcher: usize) -> Verdict {
    let page = Shared::new()?;
    let (asked, answered) = (Step::default(), Step::default());
    let change = || {
        for step in 1..=STEPS {
            page.show(step)?;
            asked.advance_to(step);
            answered.spin_until(step, || {})?;
        }
        Ok(())
    };
    let watch = || {
        for step in 1..=STEPS {
            asked.spin_until(step, || page.keep_translation_warm())?;
            page.verify(step).map_err(|why| {
                failed(format!(
                    "processor {watcher}, changed by {changer}, step {step}: {why}"
                ))
            })?;
            answered.advance_to(step);
        }
        Ok(())
    };
    both(changer, watcher, change, watch)
}

/// `membarrier` must interrupt the processor on which a registered thread runs.
fn interrupt_by_barrier(online: &[usize], one: usize, other: usize) -> Verdict {
    // The private command interrupts whoever runs a thread of this process now; the global one
    // leaves out processors that ran it before it registered and have run nothing else since.
    membarrier(libc::MEMBARRIER_CMD_REGISTER_PRIVATE_EXPEDITED)
        .attempt("registering for membarrier")?;
    let (ready, over) = (Step::default(), Step::default());
    let place = online
        .iter()
        .position(|&cpu| cpu == other)
        .unwrap_or_default();
    let received =
        || Ok::<u64, Shortfall>(cpus::interrupts("CAL")?.get(place).copied().unwrap_or(0));
    let send = || {
        ready.spin_until(1, || {})?;
        let verdict = send_until_received(received);
        over.advance_to(1);
        verdict
    };
    let spin = || {
        ready.advance_to(1);
        over.spin_until(1, || {})
    };
    both(one, other, send, spin)
}

/// Sends barriers until the other processor has taken [`BARRIERS`] function calls: a barrier
/// that finds it in a kernel thread rightly leaves it alone.
fn send_until_received(received: impl Fn() -> Result<u64, Shortfall>) -> Verdict {
    let (before, deadline) = (received()?, Instant::now() + PATIENCE);
    let mut sent = 0;
    loop {
        for _ in 0..BARRIERS {
            membarrier(libc::MEMBARRIER_CMD_PRIVATE_EXPEDITED).attempt("membarrier")?;
        }
        sent += BARRIERS;
        let count = received()?.saturating_sub(before);
        if count >= u64::from(BARRIERS) {
            return Ok(());
        }
        ensure!(
            Instant::now() < deadline,
            "{sent} barriers caused {count} function calls"
        );
    }
}

/// Runs one closure on each of two processors.
fn both(
    one: usize,
    other: usize,
    first: impl FnOnce() -> Verdict + Send,
    second: impl FnOnce() -> Verdict + Send,
) -> Verdict {
    std::thread::scope(|scope| {
        let first = scope.spawn(|| cpus::pin(one).and_then(|()| first()));
        let second = cpus::on(other, second);
        let first = first.join().map_err(|_| failed("a thread panicked"))?;
        first.and(second).map_err(|shortfall| match shortfall {
            Shortfall::Failed(why) => failed(format!("processors {one} and {other}: {why}")),
            skipped => skipped,
        })
    })
}

fn membarrier(command: libc::c_int) -> nix::Result<()> {
    // SAFETY: (1) membarrier(2) takes no memory of ours.
    let result = unsafe { libc::syscall(libc::SYS_membarrier, command, 0, 0) };
    Errno::result(result).map(drop)
}
