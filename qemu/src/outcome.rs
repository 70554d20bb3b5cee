//! What a finished run left behind.

use core::fmt;

use crate::channel::Line;
use crate::report::Report;
use crate::verdict::Verdict;

/// How many lines of each channel a failed test shows.
const LAST_LINES: usize = 40;

/// The facts, the verdict, and every line that was heard.
#[derive(Clone, Debug)]
pub struct Outcome {
    /// The facts, judged by [`Outcome::verdict`].
    pub report: Report,
    /// COM1, line by line.
    pub console: Vec<Line>,
    /// COM2, line by line.
    pub guest: Vec<Line>,
    /// COM3, line by line, `@` lines included.
    pub bouncer: Vec<Line>,
    /// What QEMU said on standard error.
    pub emulator: String,
}

impl Outcome {
    /// Judges the run.
    #[must_use]
    pub fn verdict(&self) -> Verdict {
        Verdict::on(&self.report)
    }
}

/// The verdict, then the last lines of every channel: what a failed test needs to show.
impl fmt::Display for Outcome {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        writeln!(
            f,
            "{} after {:.1} s",
            self.verdict(),
            self.report.seconds.total
        )?;
        for (name, result) in &self.report.guest.checks {
            writeln!(f, "  {name}: {}", String::from(result.clone()))?;
        }
        for (name, lines) in [
            ("guest", &self.guest),
            ("bouncer", &self.bouncer),
            ("console", &self.console),
        ] {
            let last = &lines[lines.len().saturating_sub(LAST_LINES)..];
            writeln!(
                f,
                "--- {name}: last {} of {} lines",
                last.len(),
                lines.len()
            )?;
            for line in last {
                writeln!(f, "{:9.3} {}", line.at.as_secs_f64(), line.text)?;
            }
        }
        if !self.emulator.trim().is_empty() {
            writeln!(f, "--- qemu\n{}", self.emulator.trim())?;
        }
        for frame in &self.report.frames {
            writeln!(f, "  at {frame}")?;
        }
        Ok(())
    }
}
