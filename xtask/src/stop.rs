//! Why a command ends before its work is done, and with which exit status.

use std::process::ExitCode;

/// The two ways to stop. Success is 0.
#[derive(Debug, PartialEq, Eq)]
pub(crate) enum Stop {
    /// The work was done and its result is bad: status 1. The text may be empty if all has been said.
    Failed(String),
    /// The work could not begin, by wrong use or because something is missing: status 2.
    Unready(String),
}

impl Stop {
    /// Work that could not begin.
    pub(crate) fn unready(why: impl Into<String>) -> Self {
        Self::Unready(why.into())
    }

    /// Work that went wrong.
    pub(crate) fn failed(why: impl Into<String>) -> Self {
        Self::Failed(why.into())
    }

    /// Says why, on standard error.
    pub(crate) fn tell(&self) {
        match self {
            Self::Failed(why) | Self::Unready(why) if why.is_empty() => {}
            Self::Failed(why) | Self::Unready(why) => eprintln!("xtask: {why}"),
        }
    }

    /// 1 or 2.
    pub(crate) fn status(&self) -> u8 {
        match self {
            Self::Failed(_) => 1,
            Self::Unready(_) => 2,
        }
    }

    pub(crate) fn exit_code(&self) -> ExitCode {
        ExitCode::from(self.status())
    }
}

/// What keeps a machine from being built is something missing; a machine that was built and broke has failed.
impl From<qemu::Error> for Stop {
    fn from(error: qemu::Error) -> Self {
        match error {
            qemu::Error::TimedOut { .. } | qemu::Error::Refused { .. } => {
                Self::Failed(error.to_string())
            }
            _ => Self::Unready(error.to_string()),
        }
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;

    #[test]
    fn failure_is_one_and_a_false_start_is_two() {
        assert_eq!(Stop::failed("").status(), 1);
        assert_eq!(Stop::unready("").status(), 2);
    }

    #[test]
    fn a_missing_program_is_a_false_start_and_a_silent_machine_a_failure() {
        let missing = qemu::Error::Missing {
            what: "QEMU".into(),
            remedy: "install it".into(),
        };
        let silent = qemu::Error::TimedOut {
            waiting_for: "QEMU".into(),
            after: Duration::from_secs(1),
        };
        assert_eq!(
            (Stop::from(missing).status(), Stop::from(silent).status()),
            (2, 1)
        );
    }
}
