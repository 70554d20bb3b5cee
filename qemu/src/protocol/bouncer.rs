//! Bouncer's side, on COM3: lines for people, and lines for the harness that begin with `@`.

use std::collections::BTreeMap;

use crate::report::Ended;

/// One line of Bouncer's console.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum BouncerLine {
    /// Anything that does not begin with `@`: shown to the person as it is.
    Human(String),
    /// `@own base=0x.. bytes=.. image=..`: the memory Bouncer keeps for itself.
    Own {
        /// Physical address of its first byte.
        base: u64,
        /// All of it, in bytes.
        bytes: u64,
        /// Of which the image, in bytes.
        image: u64,
    },
    /// `@launch pm-ticks=<n>`: ACPI timer ticks from Bouncer's entry to the guest's first instruction.
    Launch {
        /// Ticks of the 3,579,545 Hz power-management timer.
        pm_ticks: u64,
    },
    /// `@exits <reason>=<count> …`: totals since launch.
    Exits(BTreeMap<String, u64>),
    /// `@ended poweroff|reset|triple-fault|panic|refused`.
    Ended(Ended),
    /// `@panic <text>`: Bouncer's own last words.
    Panic(String),
    /// `@frame 0x<offset>`: one return address of the panic's backtrace, as an offset in the hypervisor's image.
    Frame(u64),
    /// `@device bdf=.. key=value …`.
    Device(DeviceLine),
    /// Another `@` line, or one of the above with operands missing or unreadable.
    Other(String),
}

/// What one `@device` line says; a later line about the same device adds to it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct DeviceLine {
    /// Where the device sits: `segment:bus:device.function`.
    pub bdf: String,
    /// Every other key with its value, unquoted.
    pub facts: BTreeMap<String, String>,
}

impl BouncerLine {
    /// Reads one line. Total: what cannot be read becomes [`BouncerLine::Other`].
    #[must_use]
    pub fn parse(line: &str) -> Self {
        let line = line.trim_end();
        match line.strip_prefix('@') {
            None => Self::Human(line.to_owned()),
            Some(rest) => addressed(rest).unwrap_or_else(|| Self::Other(line.to_owned())),
        }
    }
}

impl DeviceLine {
    /// What a line `@bounce bdf=.. key=value …` adds to what is known of a device.
    #[must_use]
    pub fn of_counts(line: &str) -> Option<Self> {
        let mut facts = facts(line.strip_prefix("@bounce ")?)?;
        Some(Self {
            bdf: facts.remove("bdf")?,
            facts,
        })
    }
}

fn addressed(line: &str) -> Option<BouncerLine> {
    let (word, rest) = line.split_once(' ').unwrap_or((line, ""));
    Some(match word {
        "own" => {
            let facts = facts(rest)?;
            let number_of = |key: &str| number(facts.get(key)?);
            BouncerLine::Own {
                base: number_of("base")?,
                bytes: number_of("bytes")?,
                image: number_of("image")?,
            }
        }
        "launch" => BouncerLine::Launch {
            pm_ticks: number(facts(rest)?.get("pm-ticks")?)?,
        },
        "exits" => BouncerLine::Exits(
            facts(rest)?
                .into_iter()
                .map(|(reason, count)| Some((reason, number(&count)?)))
                .collect::<Option<_>>()?,
        ),
        "ended" => BouncerLine::Ended(match rest.trim() {
            "poweroff" => Ended::PowerOff,
            "reset" => Ended::Reset,
            "triple-fault" => Ended::TripleFault,
            "panic" => Ended::Panic,
            "refused" => Ended::Refused,
            _ => return None,
        }),
        "panic" => BouncerLine::Panic(rest.trim().to_owned()),
        "frame" => BouncerLine::Frame(number(rest.trim())?),
        "device" => {
            let mut facts = facts(rest)?;
            BouncerLine::Device(DeviceLine {
                bdf: facts.remove("bdf")?,
                facts,
            })
        }
        _ => return None,
    })
}

/// Reads `key=value key="two words" …`.
fn facts(text: &str) -> Option<BTreeMap<String, String>> {
    let mut facts = BTreeMap::new();
    let mut rest = text.trim();
    while !rest.is_empty() {
        let (key, after) = rest.split_once('=')?;
        if key.is_empty() || key.contains(char::is_whitespace) {
            return None;
        }
        let (value, after) = match after.strip_prefix('"') {
            Some(quoted) => quoted.split_once('"')?,
            None => after.split_once(char::is_whitespace).unwrap_or((after, "")),
        };
        facts.insert(key.to_owned(), value.to_owned());
        rest = after.trim_start();
    }
    Some(facts)
}

/// Reads a decimal number, or a hexadecimal one after `0x`.
fn number(text: &str) -> Option<u64> {
    match text.strip_prefix("0x") {
        Some(digits) => u64::from_str_radix(digits, 16).ok(),
        None => text.parse().ok(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn a_line_for_people_stays_as_it_is() {
        assert_eq!(
            BouncerLine::parse("  00:10.0 NVMe\r"),
            BouncerLine::Human("  00:10.0 NVMe".into())
        );
    }

    #[test]
    fn the_memory_bouncer_owns_is_read() {
        let own = BouncerLine::Own {
            base: 0x3f00_0000,
            bytes: 4_194_304,
            image: 300_000,
        };
        assert_eq!(
            BouncerLine::parse("@own base=0x3f000000 bytes=4194304 image=300000"),
            own
        );
    }

    #[test]
    fn launch_exits_and_end_are_read() {
        assert_eq!(
            BouncerLine::parse("@launch pm-ticks=35795"),
            BouncerLine::Launch { pm_ticks: 35_795 }
        );
        let exits = BTreeMap::from([("cpuid".to_owned(), 12), ("npf".to_owned(), 3)]);
        assert_eq!(
            BouncerLine::parse("@exits cpuid=12 npf=3"),
            BouncerLine::Exits(exits)
        );
        assert_eq!(
            BouncerLine::parse("@ended triple-fault"),
            BouncerLine::Ended(Ended::TripleFault)
        );
        assert_eq!(
            BouncerLine::parse("@exits"),
            BouncerLine::Exits(BTreeMap::new())
        );
    }

    #[test]
    fn a_panic_and_its_frames_are_read() {
        assert_eq!(
            BouncerLine::parse("@panic index 4 of 3"),
            BouncerLine::Panic("index 4 of 3".into())
        );
        assert_eq!(
            BouncerLine::parse("@frame 0x1f40"),
            BouncerLine::Frame(0x1f40)
        );
    }

    #[test]
    fn a_devices_rule_may_hold_blanks() {
        let line = r#"@device bdf=0000:01:00.0 trust=untrusted rule="system disk" requests=7"#;
        let BouncerLine::Device(device) = BouncerLine::parse(line) else {
            panic!("not a device line")
        };
        assert_eq!(device.bdf, "0000:01:00.0");
        assert_eq!(device.facts["rule"], "system disk");
        assert_eq!(device.facts["requests"], "7");
    }

    #[test]
    fn what_is_unknown_or_broken_is_kept_whole() {
        for line in [
            "@weather fine",
            "@own base=here bytes=1 image=2",
            "@ended well",
            "@device trust=yes",
            "@frame",
            "@exits a=\"1",
        ] {
            assert_eq!(BouncerLine::parse(line), BouncerLine::Other(line.into()));
        }
    }

    proptest! {
        #[test]
        fn no_line_makes_the_parser_panic(line in "@?(own|exits|device|frame|launch)? ?[a-z\"= 0-9x]*") {
            let _ = BouncerLine::parse(&line);
        }

        #[test]
        fn facts_survive_being_written_and_read(facts in proptest::collection::btree_map("[a-z-]{1,8}", "[a-z0-9:. ]{0,12}", 0..6)) {
            let text: Vec<_> = facts.iter().map(|(key, value)| format!("{key}=\"{value}\"")).collect();
            prop_assert_eq!(super::facts(&text.join(" ")), Some(facts));
        }
    }
}
