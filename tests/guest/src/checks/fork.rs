//! Two hundred processes come and go: each runs this program anew and ends with its own status.

use crate::verdict::{Attempt, Figures, Verdict, ensure};
use std::process::Command;

const PROCESSES: i32 = 200;

/// The argument by which this program is asked to end at once with the status that follows.
const ARGUMENT: &str = "end-with-status";

pub(super) fn run(figures: &mut Figures) -> Verdict {
    for number in 0..PROCESSES {
        let status = Command::new("/proc/self/exe")
            .args([ARGUMENT, &number.to_string()])
            .status()
            .attempt(&format!("starting process {number}"))?;
        ensure!(
            status.code() == Some(number),
            "process {number} ended with {status}"
        );
    }
    figures.tell("fork.processes", PROCESSES);
    Ok(())
}

/// The status to end with at once, when the program was started by this check.
pub(crate) fn status_asked_for(mut arguments: impl Iterator<Item = String>) -> Option<i32> {
    let asked = arguments.nth(1)? == ARGUMENT;
    arguments.next().filter(|_| asked)?.parse().ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_the_check_s_own_argument_asks_for_a_status() {
        let words = |text: &str| {
            text.split(' ')
                .map(str::to_owned)
                .collect::<Vec<_>>()
                .into_iter()
        };
        assert_eq!(status_asked_for(words("/init end-with-status 7")), Some(7));
        assert_eq!(status_asked_for(words("/init")), None);
        assert_eq!(status_asked_for(words("/init end-with-status")), None);
        assert_eq!(status_asked_for(words("/init other 7")), None);
    }
}
