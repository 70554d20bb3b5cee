//! What is wrong with a policy file, where, and what to write instead.

use core::fmt;

use crate::hint::Hint;
use crate::keys::{Key, Table};
use crate::{Construct, MAX_HOPS, MAX_RULES, MAX_TEXT, Position};

/// The first thing wrong with a policy file.
///
/// Prints as one line, `line 7, column 1: unknown key ...; did you mean ...`. With the text at
/// hand [`Error::rendered`] shows the offending line too.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Error<'t> {
    /// Where it is.
    pub at: Position,
    /// What it is.
    pub problem: Problem<'t>,
}

impl<'t> Error<'t> {
    pub(crate) fn new(at: Position, problem: Problem<'t>) -> Self {
        Self { at, problem }
    }

    /// What to do about it, if there is more to say than what is wrong.
    pub fn hint(&self) -> Option<impl fmt::Display + use<'t>> {
        let hint = Hint(self.problem);
        hint.is_any().then_some(hint)
    }
}

impl fmt::Display for Error<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Position { line, column, .. } = self.at;
        write!(f, "line {line}, column {column}: {}", self.problem)?;
        match self.hint() {
            Some(hint) => write!(f, "; {hint}"),
            None => Ok(()),
        }
    }
}

impl core::error::Error for Error<'_> {}

/// What can be wrong with a policy file.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Problem<'t> {
    /// More than [`MAX_TEXT`] bytes.
    TooLong {
        /// How many there are.
        bytes: usize,
    },
    /// Not UTF-8.
    NotUtf8 {
        /// The first byte that is not, counted from 0.
        offset: usize,
    },
    /// A control character, or one that makes text look like other text.
    Unseen {
        /// Which.
        character: char,
    },
    /// TOML, but of a kind that a policy does without.
    Unsupported(Construct),
    /// Not TOML.
    Expected {
        /// What should stand here.
        what: &'static str,
        /// What stands here; a line break at the end of a line, nothing at the end of the file.
        found: &'t str,
    },
    /// A table other than `[[device]]`.
    UnknownTable {
        /// Its name.
        name: &'t str,
    },
    /// A key the table does not have.
    UnknownKey {
        /// The key.
        name: &'t str,
        /// The table it stands in.
        table: Table,
    },
    /// The same key twice.
    Repeated {
        /// The key.
        key: &'static Key,
        /// The line where it stands first.
        line: u32,
    },
    /// A key without which the rest means nothing.
    Missing {
        /// The key.
        key: &'static Key,
    },
    /// A value of the wrong kind.
    WrongKind {
        /// The key.
        key: &'static Key,
        /// What was given.
        found: Kind,
    },
    /// A text that does not spell what the key takes.
    Misspelt {
        /// The key.
        key: &'static Key,
        /// What was given.
        text: &'t str,
    },
    /// The right form, outside the values allowed.
    OutOfRange {
        /// The key.
        key: &'static Key,
        /// What was given.
        text: &'t str,
    },
    /// A version of the format this program does not read.
    OtherVersion {
        /// What was given.
        text: &'t str,
    },
    /// A vendor or device id in decimal.
    NotHexadecimal {
        /// The key.
        key: &'static Key,
        /// What was given.
        text: &'t str,
    },
    /// `match = {}`.
    EmptyMatch,
    /// Both `path` and `port`.
    PathAndPort,
    /// `device` without `vendor`.
    DeviceWithoutVendor,
    /// A rule that gives reach for what a device says of itself.
    ReachByClaim {
        /// The key that gives it.
        gives: &'static Key,
        /// The key that looks at a claim.
        claim: &'static Key,
    },
    /// A group of trusted devices.
    TrustedGroup,
    /// Two rules of one group that describe its one domain differently.
    GroupDiffers {
        /// The key in which they differ.
        key: &'static Key,
        /// The line where the other rule starts.
        line: u32,
    },
    /// More than [`MAX_RULES`] rules.
    TooManyRules,
    /// More than [`MAX_HOPS`] hops.
    TooDeep {
        /// The key.
        key: &'static Key,
    },
}

impl fmt::Display for Problem<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match *self {
            Self::TooLong { bytes } => {
                write!(f, "the file has {bytes} bytes, more than {MAX_TEXT}")
            }
            Self::NotUtf8 { offset } => write!(f, "not UTF-8 at byte {offset}"),
            Self::Unseen { character } => {
                let code = u32::from(character);
                write!(
                    f,
                    "character U+{code:04X} is not allowed, not even in a comment"
                )
            }
            Self::Unsupported(construct) => {
                write!(f, "{} not supported in a policy", construct.subject())
            }
            Self::Expected { what, found } => write!(f, "expected {what}, found {}", Found(found)),
            Self::UnknownTable { name } => write!(f, "unknown table `{}`", Clipped(name)),
            Self::UnknownKey { name, .. } => write!(f, "unknown key `{}`", Clipped(name)),
            Self::Repeated { key, line } => {
                write!(f, "`{}` is already given on line {line}", key.name)
            }
            Self::Missing { key } => write!(f, "`{}` is missing", key.name),
            Self::WrongKind { key, found } => {
                write!(f, "`{}` cannot be {}", key.name, found.description())
            }
            Self::Misspelt { key, text }
            | Self::OutOfRange { key, text }
            | Self::NotHexadecimal { key, text } => {
                write!(f, "`{}` cannot be `{}`", key.name, Clipped(text))
            }
            Self::OtherVersion { text } => write!(f, "unknown version `{}`", Clipped(text)),
            Self::EmptyMatch => f.write_str("`match` is empty"),
            Self::PathAndPort => f.write_str("`path` and `port` exclude each other"),
            Self::DeviceWithoutVendor => f.write_str("`device` means nothing without `vendor`"),
            Self::ReachByClaim { gives, claim } => write!(
                f,
                "`{}` cannot give more reach in a rule that matches on `{}`",
                gives.name, claim.name
            ),
            Self::TrustedGroup => f.write_str("a trusted device cannot have a `group`"),
            Self::GroupDiffers { key, line } => {
                write!(
                    f,
                    "`{}` differs from the rule of the same group on line {line}",
                    key.name
                )
            }
            Self::TooManyRules => write!(f, "more than {MAX_RULES} [[device]] rules"),
            Self::TooDeep { key } => write!(f, "`{}` has more than {MAX_HOPS} hops", key.name),
        }
    }
}

/// Text from the file, cut where it gets too long for a message.
pub(crate) struct Clipped<'t>(pub(crate) &'t str);

impl fmt::Display for Clipped<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        const LONGEST: usize = 48;
        match self.0.char_indices().nth(LONGEST) {
            Some((end, _)) => write!(f, "{}...", self.0.get(..end).unwrap_or_default()),
            None if self.0.is_empty() => f.write_str("\"\""),
            None => f.write_str(self.0),
        }
    }
}

/// What stands where something else should.
struct Found<'t>(&'t str);

impl fmt::Display for Found<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.0 {
            "" => f.write_str("the end of the file"),
            "\n" | "\r\n" => f.write_str("the end of the line"),
            text => write!(f, "`{}`", Clipped(text)),
        }
    }
}

/// What kind of value was given.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Kind {
    /// A string.
    Text,
    /// A whole number.
    Number,
    /// `true` or `false`.
    Boolean,
    /// An inline table.
    Table,
}

impl Kind {
    pub(crate) const fn description(self) -> &'static str {
        match self {
            Self::Text => "a text",
            Self::Number => "a number",
            Self::Boolean => "true or false",
            Self::Table => "a table",
        }
    }
}
