//! Steps: silent when fast, a line every few seconds when slow, their output when they fail.

use std::fmt::Write as _;
use std::process::{Command, Stdio};
use std::sync::mpsc::{self, RecvTimeoutError};
use std::thread;
use std::time::{Duration, Instant};

use crate::stop::Stop;

/// A step that takes less than this is not worth a line.
const FAST: Duration = Duration::from_millis(1500);

/// How often a slow step is heard of.
const TICK: Duration = Duration::from_secs(10);

/// Says one line to the person.
pub(crate) fn say(text: &str) {
    eprintln!("xtask: {text}");
}

/// Runs `work`, saying `what` it does once it turns out slow, then how long it has taken so far.
pub(crate) fn step<T>(what: &str, work: impl FnOnce() -> T) -> T {
    let (done, ticks) = mpsc::channel::<()>();
    let start = Instant::now();
    thread::scope(|scope| {
        scope.spawn(move || {
            let mut pause = FAST;
            while ticks.recv_timeout(pause) == Err(RecvTimeoutError::Timeout) {
                let elapsed = if pause == FAST {
                    String::new()
                } else {
                    format!(" {:.0} s", start.elapsed().as_secs_f64())
                };
                say(&format!("{what} …{elapsed}"));
                pause = TICK;
            }
        });
        let result = work();
        drop(done);
        result
    })
}

/// Runs `command` as a step and returns its standard output.
///
/// Fails with the tail of what it said, or, if it cannot be started, says so.
pub(crate) fn command(what: &str, command: &mut Command) -> Result<String, Stop> {
    let output = step(what, || command.stdin(Stdio::null()).output());
    let name = command.get_program().display().to_string();
    let output =
        output.map_err(|error| Stop::unready(format!("{what}: cannot start {name}: {error}")))?;
    if output.status.success() {
        return Ok(String::from_utf8_lossy(&output.stdout).into_owned());
    }
    let said = [output.stdout, output.stderr].concat();
    let mut message = format!("{what}: `{name}` failed ({})", output.status);
    for line in tail(&String::from_utf8_lossy(&said), 60) {
        let _ = write!(message, "\n    {line}");
    }
    Err(Stop::failed(message))
}

fn tail(text: &str, count: usize) -> Vec<&str> {
    let lines: Vec<_> = text
        .lines()
        .filter(|line| !line.trim().is_empty())
        .collect();
    lines[lines.len().saturating_sub(count)..].to_vec()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_command_that_fails_is_quoted() {
        let failed = command(
            "trying",
            Command::new("sh").args(["-c", "echo no such kernel >&2; exit 4"]),
        )
        .unwrap_err();
        let Stop::Failed(why) = failed else {
            panic!("{failed:?}")
        };
        assert!(
            why.starts_with("trying: `sh` failed") && why.ends_with("no such kernel"),
            "{why}"
        );
    }

    #[test]
    fn a_command_that_does_not_exist_is_missing() {
        let missing = command("trying", &mut Command::new("/no/such/program")).unwrap_err();
        assert_eq!(missing.status(), 2);
    }

    #[test]
    fn only_the_last_lines_are_kept() {
        assert_eq!(tail("a\n\nb\nc\n", 2), ["b", "c"]);
    }
}
