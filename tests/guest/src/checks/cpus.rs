//! As many processors are online as the harness gave the machine (`bouncer.cpus=N`).

use crate::verdict::{Attempt, Figures, Verdict, ensure};
use crate::{cmdline, cpus};

pub(super) fn run(figures: &mut Figures) -> Verdict {
    let online = cpus::online()?;
    figures.tell("cpus", online.len());
    if let Some(expected) = cmdline::read().value("bouncer.cpus") {
        let expected: usize = expected.parse().attempt("reading bouncer.cpus")?;
        ensure!(
            online.len() == expected,
            "{} of {expected} processors online",
            online.len()
        );
    }
    for cpu in online {
        cpus::on(cpu, || Ok(()))?;
    }
    Ok(())
}
