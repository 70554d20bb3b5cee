//! The guest's side, on COM2: one line per event, ended by LF.

use core::fmt;
use std::str::FromStr;

/// One line of the guest's protocol, version 1.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum GuestLine {
    /// `bouncer-guest <version>`: the guest's init has taken over.
    Hello {
        /// The protocol's version.
        version: u32,
    },
    /// `start <name>`: a check begins.
    Start {
        /// The check.
        name: String,
    },
    /// `pass <name>`.
    Pass {
        /// The check.
        name: String,
    },
    /// `fail <name> <why>`.
    Fail {
        /// The check.
        name: String,
        /// The rest of the line.
        why: String,
    },
    /// `skip <name> <why>`.
    Skip {
        /// The check.
        name: String,
        /// The rest of the line.
        why: String,
    },
    /// `data <key> <value>`: something measured or seen.
    Data {
        /// What it is.
        key: String,
        /// The rest of the line.
        value: String,
    },
    /// `done`: every check has been run; the guest powers off next.
    Done,
}

/// A line on COM2 that is not of the protocol.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Unreadable {
    /// The first word is none of the protocol's.
    Word,
    /// A name, key or version is missing, or the version is not a number.
    Operand,
}

impl fmt::Display for Unreadable {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Word => "the guest's line begins with no word of the protocol",
            Self::Operand => "the guest's line lacks its name, key or version number",
        })
    }
}

impl std::error::Error for Unreadable {}

impl FromStr for GuestLine {
    type Err = Unreadable;

    fn from_str(line: &str) -> Result<Self, Unreadable> {
        let (word, rest) = split_word(line);
        let (operand, why) = split_word(rest);
        let named = || {
            if operand.is_empty() {
                Err(Unreadable::Operand)
            } else {
                Ok(operand.to_owned())
            }
        };
        let why = || why.to_owned();
        match word {
            "bouncer-guest" => Ok(Self::Hello {
                version: operand.parse().map_err(|_| Unreadable::Operand)?,
            }),
            "start" => Ok(Self::Start { name: named()? }),
            "pass" => Ok(Self::Pass { name: named()? }),
            "fail" => Ok(Self::Fail {
                name: named()?,
                why: why(),
            }),
            "skip" => Ok(Self::Skip {
                name: named()?,
                why: why(),
            }),
            "data" => Ok(Self::Data {
                key: named()?,
                value: why(),
            }),
            "done" if rest.is_empty() => Ok(Self::Done),
            _ => Err(Unreadable::Word),
        }
    }
}

/// The first word and the rest, both without the blanks around them.
fn split_word(text: &str) -> (&str, &str) {
    let text = text.trim();
    text.split_once(char::is_whitespace)
        .map_or((text, ""), |(word, rest)| (word, rest.trim()))
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn parse(line: &str) -> Result<GuestLine, Unreadable> {
        line.parse()
    }

    #[test]
    fn every_line_of_version_one_is_read() {
        assert_eq!(
            parse("bouncer-guest 1"),
            Ok(GuestLine::Hello { version: 1 })
        );
        assert_eq!(
            parse("start nvme"),
            Ok(GuestLine::Start {
                name: "nvme".into()
            })
        );
        assert_eq!(
            parse("pass nvme"),
            Ok(GuestLine::Pass {
                name: "nvme".into()
            })
        );
        let fail = GuestLine::Fail {
            name: "nvme".into(),
            why: "block 3 differs".into(),
        };
        assert_eq!(parse("fail nvme block 3 differs"), Ok(fail));
        let skip = GuestLine::Skip {
            name: "igb".into(),
            why: "no such device".into(),
        };
        assert_eq!(parse("skip igb no such device"), Ok(skip));
        let data = GuestLine::Data {
            key: "kernel".into(),
            value: "6.1.0 #1 SMP".into(),
        };
        assert_eq!(parse("data kernel 6.1.0 #1 SMP"), Ok(data));
        assert_eq!(parse("done"), Ok(GuestLine::Done));
    }

    #[test]
    fn a_carriage_return_from_a_terminal_is_no_part_of_the_line() {
        assert_eq!(
            parse("pass nvme\r"),
            Ok(GuestLine::Pass {
                name: "nvme".into()
            })
        );
    }

    #[test]
    fn a_failure_without_a_reason_is_still_a_failure() {
        assert_eq!(
            parse("fail nvme"),
            Ok(GuestLine::Fail {
                name: "nvme".into(),
                why: String::new()
            })
        );
    }

    #[test]
    fn words_of_no_protocol_and_missing_operands_are_told_apart() {
        assert_eq!(parse("passed nvme"), Err(Unreadable::Word));
        assert_eq!(parse("done at last"), Err(Unreadable::Word));
        assert_eq!(parse(""), Err(Unreadable::Word));
        assert_eq!(parse("pass"), Err(Unreadable::Operand));
        assert_eq!(parse("bouncer-guest one"), Err(Unreadable::Operand));
    }

    proptest! {
        #[test]
        fn no_line_makes_the_parser_panic(line in ".*") {
            let _ = parse(&line);
        }
    }
}
