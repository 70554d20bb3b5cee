//! Goes on with something that can be judged, while somebody outside attacks the machine.

use crate::verdict::{Figures, Verdict, ensure};
use std::time::{Duration, Instant};

/// How long the attacker has.
const WINDOW: Duration = Duration::from_secs(15);

pub(super) fn run(figures: &mut Figures) -> Verdict {
    let began = Instant::now();
    let mut rounds = 0_u32;
    while began.elapsed() < WINDOW {
        super::hash::known_answers()?;
        rounds += 1;
        std::thread::sleep(Duration::from_millis(20));
    }
    ensure!(rounds > 1, "only {rounds} rounds in {WINDOW:?}");
    figures.tell("endure.rounds", rounds);
    Ok(())
}
