//! Which system this is, and what we may do on it.

use std::fs;
use std::process::Command;

/// What `/etc/os-release` says.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Distribution {
    /// The name a person knows it by.
    pub(super) name: String,
    /// Whether its packages carry the names we know: Debian 12 or later.
    pub(super) is_known: bool,
}

impl Distribution {
    /// Asks this machine.
    pub(super) fn here() -> Self {
        Self::parse(&fs::read_to_string("/etc/os-release").unwrap_or_default())
    }

    fn parse(os_release: &str) -> Self {
        let value = |key: &str| {
            let line = os_release
                .lines()
                .find_map(|line| line.strip_prefix(key)?.strip_prefix('='));
            line.map(|value| value.trim_matches('"').to_owned())
        };
        let version: Option<u32> = value("VERSION_ID").and_then(|version| version.parse().ok());
        let is_debian = value("ID").as_deref() == Some("debian");
        Self {
            name: value("PRETTY_NAME").unwrap_or_else(|| "an unknown system".into()),
            // Testing and unstable have no version; they are later than any that has.
            is_known: is_debian && version.is_none_or(|version| version >= 12),
        }
    }
}

/// Whether this process may install packages.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Privilege {
    /// It is root.
    Root,
    /// It is anybody.
    None,
}

impl Privilege {
    /// Asks `id`.
    pub(super) fn here() -> Self {
        let id = Command::new("id").arg("-u").output();
        if id.is_ok_and(|output| output.stdout.trim_ascii() == b"0") {
            Self::Root
        } else {
            Self::None
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn debian_twelve_and_later_is_known() {
        let debian = |version: &str| {
            Distribution::parse(&format!("ID=debian\nVERSION_ID=\"{version}\"\n")).is_known
        };
        assert!(debian("12") && debian("13") && !debian("11"));
        assert!(
            Distribution::parse("PRETTY_NAME=\"Debian GNU/Linux trixie/sid\"\nID=debian\n")
                .is_known
        );
    }

    #[test]
    fn other_systems_are_named_and_left_alone() {
        let fedora = Distribution::parse(
            "NAME=\"Fedora Linux\"\nVERSION_ID=42\nPRETTY_NAME=\"Fedora Linux 42\"\nID=fedora\n",
        );
        assert_eq!(
            fedora,
            Distribution {
                name: "Fedora Linux 42".into(),
                is_known: false
            }
        );
        assert_eq!(Distribution::parse("").name, "an unknown system");
    }
}
