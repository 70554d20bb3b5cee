//! When a machine is started without Bouncer although Bouncer could guard it.
//!
//! Owns the decision and the words for it; a loader reads variables and keys, and obeys. Three ways lead back
//! to a machine that is not guarded: a key, a variable that asks for it, and starts in a row after which no
//! operating system came.

use core::fmt;

/// The key that leads back, as a character; the letter in capitals does, too.
pub const KEY: char = 'b';

/// How long keys count after the loader has said that they do, in milliseconds, at least.
pub const KEY_MILLISECONDS: u32 = 200;

/// The variable that asks for starts without Bouncer: one byte, [`ONCE`] or [`ALWAYS`].
pub const SKIP: &str = "BouncerSkip";
/// The next start is one without Bouncer; the variable is removed with it.
pub const ONCE: u8 = 1;
/// All starts are, until somebody removes the variable.
pub const ALWAYS: u8 = 2;

/// The variable that counts starts after which no operating system came: one byte.
pub const TRIES: &str = "BouncerTries";
/// After so many in a row a machine is started without Bouncer, once.
pub const MOST_TRIES: u8 = 3;

/// The variable that lets a machine go on without Bouncer where Bouncer refuses: one byte, 1.
pub const UNPROTECTED: &str = "BouncerUnprotected";

/// What the firmware's variables hold; `None` for one that is not there, or not one byte.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub struct Variables {
    /// [`SKIP`].
    pub skip: Option<u8>,
    /// [`TRIES`].
    pub tries: Option<u8>,
}

/// What is to be done.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Course {
    /// Bouncer is started, unless the key is pressed.
    Guard {
        /// What [`TRIES`] is to hold until an operating system comes.
        tries: u8,
    },
    /// The machine is started without Bouncer.
    PassOver(Reason),
}

/// Why a machine is started without Bouncer.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Reason {
    /// [`SKIP`] is [`ONCE`].
    Once,
    /// [`SKIP`] is [`ALWAYS`].
    Always,
    /// [`TRIES`] has reached [`MOST_TRIES`].
    Tries,
    /// Somebody pressed [`KEY`].
    Key,
}

impl Reason {
    /// The variable that has had its effect and is to be removed.
    pub fn spent(self) -> Option<&'static str> {
        match self {
            Self::Once => Some(SKIP),
            Self::Tries => Some(TRIES),
            Self::Always | Self::Key => None,
        }
    }
}

impl fmt::Display for Reason {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Once => write!(f, "the variable {SKIP} asks for one such start"),
            Self::Always => write!(f, "the variable {SKIP} asks for it until it is removed"),
            Self::Tries => write!(
                f,
                "the last {MOST_TRIES} starts with Bouncer led to no operating system; the next start is \
                 one with Bouncer"
            ),
            Self::Key => write!(f, "somebody pressed {KEY}"),
        }
    }
}

/// Decides by the variables.
pub fn course(variables: Variables) -> Course {
    let tries = variables.tries.unwrap_or(0);
    match variables.skip {
        Some(ONCE) => Course::PassOver(Reason::Once),
        Some(ALWAYS) => Course::PassOver(Reason::Always),
        _ if tries >= MOST_TRIES => Course::PassOver(Reason::Tries),
        _ => Course::Guard { tries: tries + 1 },
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn after(tries: Option<u8>) -> Course {
        course(Variables { skip: None, tries })
    }

    #[test]
    fn the_start_after_three_that_failed_is_one_without_bouncer() {
        let mut tries = None;
        for expected in 1..=MOST_TRIES {
            assert_eq!(after(tries), Course::Guard { tries: expected });
            tries = Some(expected);
        }
        assert_eq!(after(tries), Course::PassOver(Reason::Tries));
        assert_eq!(after(Some(u8::MAX)), Course::PassOver(Reason::Tries));
    }

    #[test]
    fn a_variable_that_asks_for_it_counts_before_failed_starts() {
        let skip = |skip| {
            course(Variables {
                skip: Some(skip),
                tries: Some(MOST_TRIES),
            })
        };
        assert_eq!(skip(ONCE), Course::PassOver(Reason::Once));
        assert_eq!(skip(ALWAYS), Course::PassOver(Reason::Always));
        assert_eq!(skip(0), Course::PassOver(Reason::Tries));
    }

    #[test]
    fn a_variable_with_another_value_asks_for_nothing() {
        for value in [0, 3, u8::MAX] {
            let variables = Variables {
                skip: Some(value),
                tries: None,
            };
            assert_eq!(course(variables), Course::Guard { tries: 1 });
        }
    }

    #[test]
    fn only_what_is_meant_for_one_start_is_spent_by_it() {
        assert_eq!(Reason::Once.spent(), Some(SKIP));
        assert_eq!(Reason::Tries.spent(), Some(TRIES));
        assert_eq!(Reason::Always.spent(), None);
        assert_eq!(Reason::Key.spent(), None);
    }
}
