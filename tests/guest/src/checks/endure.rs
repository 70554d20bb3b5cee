//! Goes on with something that can be judged, while somebody outside attacks the machine.

use crate::cmdline;
use crate::verdict::{Figures, Verdict, ensure};
use std::time::{Duration, Instant};

/// How long the attacker has, unless the kernel's command line says so many seconds
/// (`bouncer.endure=60`).
const WINDOW: u64 = 15;

pub(super) fn run(figures: &mut Figures) -> Verdict {
    let asked = cmdline::read();
    let asked = asked.value("bouncer.endure");
    let window = Duration::from_secs(asked.and_then(|s| s.parse().ok()).unwrap_or(WINDOW));
    let began = Instant::now();
    let mut rounds = 0_u32;
    while began.elapsed() < window {
        super::hash::known_answers()?;
        rounds += 1;
        std::thread::sleep(Duration::from_millis(20));
    }
    ensure!(rounds > 1, "only {rounds} rounds in {window:?}");
    figures.tell("endure.rounds", rounds);
    Ok(())
}
