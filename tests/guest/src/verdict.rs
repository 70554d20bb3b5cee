//! What a check may say: it held, it did not, it could not be made here; and its figures.
//!
//! Owns the pipe from the child that runs a check to process 1 and the spelling of its lines;
//! [`crate::trial`] reads them. Knows no check and no serial port.

use std::fmt::Display;
use std::fs::File;
use std::io::Write;

/// The outcome of a check.
pub(crate) type Verdict = Result<(), Shortfall>;

/// Why a check did not pass.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Shortfall {
    /// The machine does not do what the check demands.
    Failed(String),
    /// The machine lacks what the check needs to be made at all.
    Skipped(String),
}

/// The shortfall of a check that did not hold.
pub(crate) fn failed(why: impl Into<String>) -> Shortfall {
    Shortfall::Failed(why.into())
}

/// The shortfall of a check that cannot be made on this machine.
pub(crate) fn skipped(why: impl Into<String>) -> Shortfall {
    Shortfall::Skipped(why.into())
}

/// Fails the check, with a formatted reason, unless the condition holds.
macro_rules! ensure {
    ($condition:expr, $($why:tt)+) => {
        if !$condition {
            return Err($crate::verdict::failed(format!($($why)+)));
        }
    };
}
pub(crate) use ensure;

/// Turns an error of the system into a failed check that says what was tried.
pub(crate) trait Attempt<T> {
    /// Names what was tried, for example `"opening /dev/mem"`.
    fn attempt(self, what: &str) -> Result<T, Shortfall>;
}

impl<T, E: Display> Attempt<T> for Result<T, E> {
    fn attempt(self, what: &str) -> Result<T, Shortfall> {
        self.map_err(|error| failed(format!("{what}: {error}")))
    }
}

/// Where a check puts its figures while it runs.
#[derive(Debug)]
pub(crate) struct Figures {
    pipe: File,
}

impl Figures {
    /// Writes to `pipe`, whose other end is read by [`crate::trial`].
    pub(crate) fn into_pipe(pipe: File) -> Self {
        Self { pipe }
    }

    /// A second writer to the same pipe, for a panic's last words.
    pub(crate) fn try_clone(&self) -> Option<Self> {
        self.pipe.try_clone().ok().map(|pipe| Self { pipe })
    }

    /// Reports one figure of the check under way.
    pub(crate) fn tell(&mut self, key: &str, value: impl Display) {
        self.line(&format!("data {key} {value}"));
    }

    /// Reports the outcome; the last thing the child says.
    pub(crate) fn conclude(&mut self, verdict: &Verdict) {
        match verdict {
            Ok(()) => self.line("pass"),
            Err(Shortfall::Failed(why)) => self.line(&format!("fail {why}")),
            Err(Shortfall::Skipped(why)) => self.line(&format!("skip {why}")),
        }
    }

    fn line(&mut self, text: &str) {
        let mut line = text.replace('\n', " ");
        line.push('\n');
        // A reader that has gone has already reported this check as late.
        let _ = self.pipe.write_all(line.as_bytes());
    }
}

/// One line of a check, read back.
#[derive(Debug, PartialEq, Eq)]
pub(crate) enum Said {
    /// A figure.
    Data {
        /// What was measured.
        key: String,
        /// How much, as text.
        value: String,
    },
    /// The outcome.
    Verdict(Verdict),
}

impl Said {
    /// Reads a line written by [`Figures`]; `None` for anything else.
    pub(crate) fn parse(line: &str) -> Option<Self> {
        let (word, rest) = line.split_once(' ').unwrap_or((line, ""));
        match word {
            "data" => {
                let (key, value) = rest.split_once(' ')?;
                Some(Self::Data {
                    key: key.into(),
                    value: value.into(),
                })
            }
            "pass" => Some(Self::Verdict(Ok(()))),
            "fail" => Some(Self::Verdict(Err(failed(rest)))),
            "skip" => Some(Self::Verdict(Err(skipped(rest)))),
            _ => None,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_figure_reads_back() {
        let data = Said::Data {
            key: "idle.cpuid".into(),
            value: "3".into(),
        };
        assert_eq!(Said::parse("data idle.cpuid 3"), Some(data));
    }

    #[test]
    fn an_outcome_reads_back_with_its_reason() {
        assert_eq!(Said::parse("pass"), Some(Said::Verdict(Ok(()))));
        assert_eq!(
            Said::parse("fail too late"),
            Some(Said::Verdict(Err(failed("too late"))))
        );
        assert_eq!(
            Said::parse("skip no msr"),
            Some(Said::Verdict(Err(skipped("no msr"))))
        );
    }

    #[test]
    fn noise_on_the_pipe_is_no_outcome() {
        assert_eq!(Said::parse(""), None);
        assert_eq!(Said::parse("passed"), None);
        assert_eq!(Said::parse("data lonely"), None);
    }
}
