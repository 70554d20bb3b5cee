//! What keeps a machine from being built, started or reached.

use core::fmt;
use std::io;
use std::path::PathBuf;
use std::time::Duration;

/// Why a machine could not be built, started or reached. Each variant says what to do next.
#[derive(Debug)]
pub enum Error {
    /// A file could not be read or written.
    File {
        /// The file or directory.
        path: PathBuf,
        /// What was being done to it: `read`, `write`, `create`.
        doing: &'static str,
        /// The system's answer.
        source: io::Error,
    },
    /// A program could not be started or ended badly.
    Program {
        /// Its name.
        name: String,
        /// What it said, or why it did not start.
        said: String,
    },
    /// Something that must exist before the machine can be built does not.
    Missing {
        /// What it is.
        what: String,
        /// How to get it.
        remedy: String,
    },
    /// A file's content is not what it must be.
    Malformed {
        /// The file or the message.
        what: String,
        /// What is wrong with it.
        why: String,
    },
    /// QEMU ended before its ports were open.
    DiedAtStart {
        /// Its last words on standard error.
        said: String,
    },
    /// Nothing answered in time.
    TimedOut {
        /// What was waited for.
        waiting_for: String,
        /// How long.
        after: Duration,
    },
    /// QMP or qtest refused a command.
    Refused {
        /// The command.
        command: String,
        /// The answer.
        answer: String,
    },
}

impl Error {
    pub(crate) fn file(path: impl Into<PathBuf>, doing: &'static str, source: io::Error) -> Self {
        Self::File {
            path: path.into(),
            doing,
            source,
        }
    }

    pub(crate) fn malformed(what: impl Into<String>, why: impl fmt::Display) -> Self {
        Self::Malformed {
            what: what.into(),
            why: why.to_string(),
        }
    }
}

impl fmt::Display for Error {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::File {
                path,
                doing,
                source,
            } => write!(f, "cannot {doing} {}: {source}", path.display()),
            Self::Program { name, said } => write!(f, "{name} failed: {said}"),
            Self::Missing { what, remedy } => write!(f, "{what} is missing: {remedy}"),
            Self::Malformed { what, why } => write!(f, "{what} is malformed: {why}"),
            Self::DiedAtStart { said } => write!(
                f,
                "QEMU ended before the machine started: {}",
                or_silence(said)
            ),
            Self::TimedOut { waiting_for, after } => {
                write!(
                    f,
                    "waited {:.1} s for {waiting_for} in vain",
                    after.as_secs_f64()
                )
            }
            Self::Refused { command, answer } => {
                write!(f, "the machine refused `{command}`: {answer}")
            }
        }
    }
}

impl std::error::Error for Error {
    fn source(&self) -> Option<&(dyn std::error::Error + 'static)> {
        match self {
            Self::File { source, .. } => Some(source),
            _ => None,
        }
    }
}

fn or_silence(said: &str) -> &str {
    if said.trim().is_empty() {
        "it said nothing"
    } else {
        said.trim()
    }
}
