//! Bouncer's own command line.
//!
//! What stands behind the program's name in the boot loader's menu. Everything about devices is
//! in the policy instead.

use core::fmt;

use crate::handoff::Rehearsal;
use crate::word::{Word, words};

/// The first port of COM1, where machines without a `serial=` word speak.
pub const COM1: u16 = 0x3f8;

const WAY_BACK: &[u8] = b"way-back=";
/// The word that takes the way back away.
pub const NO_WAY_BACK: &[u8] = b"way-back=off";

/// What the command line says.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Options {
    /// First port of the serial line Bouncer speaks on, 0 for none.
    pub serial_port: u16,
    /// What the hypervisor is to die of once it runs, to see its last words.
    pub rehearsal: Rehearsal,
    /// Whether the machine may be started without Bouncer by a key, a variable or failed starts
    /// ([`crate::way_back`]). Only firmware that starts Bouncer itself has those.
    pub has_way_back: bool,
}

/// Why a command line was refused.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum OptionsError {
    /// A word nobody knows.
    Unknown(Word),
    /// A word that may stand there once stands there again.
    Again(Word),
    /// A death that nobody knows.
    Rehearsal(Word),
    /// A way back that is not `off`.
    WayBack(Word),
    /// A port that is no number of 16 bits, or not the first of eight ports.
    Port(Word),
}

impl fmt::Display for OptionsError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Unknown(word) => write!(
                f,
                "Bouncer's command line has the unknown word {word}; it knows serial=PORT, \
                 way-back=off and rehearse=panic|fault|entry"
            ),
            Self::Again(word) => write!(
                f,
                "Bouncer's command line says {word}, but has said something of the kind before"
            ),
            Self::Rehearsal(word) => write!(
                f,
                "Bouncer's command line says {word}; what can be rehearsed is panic, fault and entry"
            ),
            Self::WayBack(word) => write!(
                f,
                "Bouncer's command line says {word}; the way back is there unless it says way-back=off"
            ),
            Self::Port(word) => write!(
                f,
                "Bouncer's command line says {word}, which is no serial port; give serial=0x3f8, \
                 0x2f8, 0x3e8, 0x2e8, or 0 for none"
            ),
        }
    }
}

impl core::error::Error for OptionsError {}

impl Options {
    /// Reads a command line.
    ///
    /// # Errors
    /// [`OptionsError`] naming the first word that makes no sense.
    pub fn parse(line: &[u8]) -> Result<Self, OptionsError> {
        let (mut serial_port, mut rehearsal, mut way_back) = (None, None, None);
        for word in words(line) {
            if let Some(value) = word.strip_prefix(b"serial=") {
                let port = port(value).ok_or(OptionsError::Port(Word::new(word)))?;
                once(&mut serial_port, port, word)?;
            } else if let Some(value) = word.strip_prefix(b"rehearse=") {
                let death = death(value).ok_or(OptionsError::Rehearsal(Word::new(word)))?;
                once(&mut rehearsal, death, word)?;
            } else if word.starts_with(WAY_BACK) {
                if word != NO_WAY_BACK {
                    return Err(OptionsError::WayBack(Word::new(word)));
                }
                once(&mut way_back, false, word)?;
            } else {
                return Err(OptionsError::Unknown(Word::new(word)));
            }
        }
        Ok(Self {
            serial_port: serial_port.unwrap_or(COM1),
            rehearsal: rehearsal.unwrap_or(Rehearsal::NONE),
            has_way_back: way_back.unwrap_or(true),
        })
    }
}

fn once<T>(slot: &mut Option<T>, value: T, word: &[u8]) -> Result<(), OptionsError> {
    match slot.replace(value) {
        None => Ok(()),
        Some(_) => Err(OptionsError::Again(Word::new(word))),
    }
}

fn death(text: &[u8]) -> Option<Rehearsal> {
    match text {
        b"panic" => Some(Rehearsal::PANIC),
        b"fault" => Some(Rehearsal::FAULT),
        b"entry" => Some(Rehearsal::ENTRY),
        _ => None,
    }
}

/// The port to speak on about a command line that may be refused: that of the first `serial=` word
/// that names one.
pub fn speaking_port(line: &[u8]) -> u16 {
    let mut values = words(line).filter_map(|word| word.strip_prefix(b"serial="));
    values.find_map(port).unwrap_or(COM1)
}

/// Whether there is a way back from a command line that may be refused: a word that takes it away counts
/// wherever it stands.
pub fn offers_way_back(line: &[u8]) -> bool {
    !words(line).any(|word| word == NO_WAY_BACK)
}

/// A number in decimal, or with `0x` in hexadecimal, on which a bank of eight ports begins.
fn port(text: &[u8]) -> Option<u16> {
    let text = str::from_utf8(text).ok()?;
    let (digits, radix) = match text.strip_prefix("0x") {
        Some(digits) => (digits, 16),
        None => (text, 10),
    };
    // `from_str_radix` takes a sign, which a port has not.
    if !digits.bytes().all(|digit| digit.is_ascii_hexdigit()) {
        return None;
    }
    u16::from_str_radix(digits, radix)
        .ok()
        .filter(|port| port.is_multiple_of(8))
}

#[cfg(test)]
mod tests {
    extern crate std;

    use std::string::ToString;

    use proptest::prelude::*;

    use super::*;

    fn serial(line: &str) -> Result<u16, OptionsError> {
        Options::parse(line.as_bytes()).map(|options| options.serial_port)
    }

    #[test]
    fn a_death_is_rehearsed_only_when_asked_for() {
        let rehearsal = |line: &[u8]| Options::parse(line).map(|options| options.rehearsal);
        assert_eq!(rehearsal(b"serial=0x3e8"), Ok(Rehearsal::NONE));
        assert_eq!(rehearsal(b"rehearse=panic"), Ok(Rehearsal::PANIC));
        assert_eq!(rehearsal(b"rehearse=fault"), Ok(Rehearsal::FAULT));
        assert_eq!(rehearsal(b"rehearse=entry"), Ok(Rehearsal::ENTRY));
        assert!(rehearsal(b"rehearse=fire").is_err());
        assert!(rehearsal(b"rehearse=fault rehearse=fault").is_err());
    }

    #[test]
    fn a_refused_line_is_refused_where_it_says_to_speak() {
        assert_eq!(speaking_port(b"serial=0x3e8 enforcement=off"), 0x3e8);
        assert_eq!(speaking_port(b"serial=fire serial=0x2f8"), 0x2f8);
        assert_eq!(speaking_port(b"enforcement=off"), COM1);
    }

    #[test]
    fn an_empty_line_speaks_on_com1() {
        assert_eq!(serial("  "), Ok(0x3f8));
    }

    #[test]
    fn a_port_is_hexadecimal_or_decimal() {
        assert_eq!(serial("serial=0x3e8"), Ok(0x3e8));
        assert_eq!(serial(" serial=1000 "), Ok(1000));
    }

    #[test]
    fn port_0_is_silence() {
        assert_eq!(serial("serial=0"), Ok(0));
    }

    #[test]
    fn an_unknown_word_is_named() {
        assert_eq!(
            serial("serial=0 quiet").unwrap_err().to_string(),
            "Bouncer's command line has the unknown word 'quiet'; it knows serial=PORT, \
                 way-back=off and rehearse=panic|fault|entry"
        );
    }

    #[test]
    fn the_way_back_is_taken_away_by_one_word_alone() {
        let has = |line: &[u8]| Options::parse(line).map(|options| options.has_way_back);
        assert_eq!(has(b"serial=0"), Ok(true));
        assert_eq!(has(b"serial=0 way-back=off"), Ok(false));
        for line in [
            "way-back=",
            "way-back=on",
            "way-back=offer",
            "way-back=off way-back=off",
        ] {
            assert!(has(line.as_bytes()).is_err(), "{line}");
        }
    }

    #[test]
    fn a_refused_line_that_takes_the_way_back_away_takes_it_away() {
        assert!(!offers_way_back(b"fire way-back=off serial=fire"));
        assert!(offers_way_back(b"fire way-back=offer"));
    }

    #[test]
    fn two_ports_are_refused() {
        assert!(matches!(
            serial("serial=0 serial=0"),
            Err(OptionsError::Again(_))
        ));
    }

    #[test]
    fn what_is_no_bank_of_ports_is_refused() {
        for value in ["", "0x", "com1", "0x3f9", "+8", "65536", "0x-8", "3f8"] {
            let line = std::format!("serial={value}");
            assert!(
                matches!(serial(&line), Err(OptionsError::Port(_))),
                "{line}"
            );
        }
    }

    #[test]
    fn a_long_word_is_cut_and_escaped() {
        let word = Word::new(b"\x1b[2Jaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaa");
        assert_eq!(
            word.to_string(),
            "'\\x1b[2Jaaaaaaaaaaaaaaaaaaaaaaaaaaaa...'"
        );
    }

    proptest! {
        #[test]
        fn any_line_is_read_or_refused(line in proptest::collection::vec(any::<u8>(), 0..64)) {
            if let Ok(options) = Options::parse(&line) {
                prop_assert!(options.serial_port.is_multiple_of(8));
            }
        }
    }
}
