//! One QEMU program: where it is and what its version can do.

use core::fmt;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use serde::{Deserialize, Serialize};

use crate::Error;

/// A QEMU release, as `--version` tells it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
pub struct Version {
    /// 10 in 10.0.2.
    pub major: u16,
    /// 0 in 10.0.2.
    pub minor: u16,
    /// 2 in 10.0.2.
    pub micro: u16,
}

impl Version {
    /// Names a release.
    #[must_use]
    pub const fn new(major: u16, minor: u16, micro: u16) -> Self {
        Self {
            major,
            minor,
            micro,
        }
    }

    /// Reads the first line of `qemu-system-x86_64 --version`.
    #[must_use]
    pub fn parse(banner: &str) -> Option<Self> {
        let (_, rest) = banner.split_once("version ")?;
        let end = rest
            .find(|c: char| c != '.' && !c.is_ascii_digit())
            .unwrap_or(rest.len());
        let mut numbers = rest[..end].split('.').map(str::parse::<u16>);
        let (Some(Ok(major)), Some(Ok(minor))) = (numbers.next(), numbers.next()) else {
            return None;
        };
        let micro = match numbers.next() {
            None => 0,
            Some(micro) => micro.ok()?,
        };
        Some(Self {
            major,
            minor,
            micro,
        })
    }

    /// Whether `intel-iommu` offers x2APIC interrupt remapping (`eim=on`) without KVM's in-kernel interrupt
    /// controller, and TCG's local APIC has x2APIC mode. Both came with QEMU 9.0.
    #[must_use]
    pub fn has_x2apic_under_tcg(self) -> bool {
        self >= Self::new(9, 0, 0)
    }

    /// Whether the `igb` network card exists, which came with QEMU 8.0.
    #[must_use]
    pub fn has_igb(self) -> bool {
        self >= Self::new(8, 0, 0)
    }
}

impl fmt::Display for Version {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}.{}.{}", self.major, self.minor, self.micro)
    }
}

/// A QEMU program that has been asked for its version.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Emulator {
    /// The program: a path, or a name to be found in `PATH`.
    pub program: PathBuf,
    /// What it says it is.
    pub version: Version,
}

impl Emulator {
    /// Runs `program --version`.
    ///
    /// # Errors
    /// [`Error::Missing`] if it cannot be started, [`Error::Malformed`] if it does not say a version.
    pub fn probe(program: &Path) -> Result<Self, Error> {
        let output = Command::new(program)
            .arg("--version")
            .stdin(Stdio::null())
            .output()
            .map_err(|error| Error::Missing {
                what: format!("{} ({error})", program.display()),
                remedy: "install qemu-system-x86, or name another QEMU with --qemu PATH".into(),
            })?;
        let banner = String::from_utf8_lossy(&output.stdout);
        let version = Version::parse(&banner).ok_or_else(|| {
            Error::malformed(
                format!("`{} --version`", program.display()),
                format!(
                    "no version in {:?}",
                    banner.lines().next().unwrap_or_default()
                ),
            )
        })?;
        Ok(Self {
            program: program.to_path_buf(),
            version,
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_debian_banner_is_read() {
        let banner = "QEMU emulator version 7.2.22 (Debian 1:7.2+dfsg-7+deb12u18+b3)\nCopyright (c) 2003-2022";
        assert_eq!(Version::parse(banner), Some(Version::new(7, 2, 22)));
    }

    #[test]
    fn a_plain_banner_without_a_micro_number_is_read() {
        assert_eq!(
            Version::parse("QEMU emulator version 10.0"),
            Some(Version::new(10, 0, 0))
        );
    }

    #[test]
    fn another_programs_banner_is_refused() {
        assert_eq!(Version::parse("busybox v1.35.0"), None);
        assert_eq!(Version::parse("version 99999999.1.1"), None);
    }

    #[test]
    fn x2apic_came_with_nine() {
        assert!(!Version::new(8, 2, 9).has_x2apic_under_tcg());
        assert!(Version::new(10, 0, 2).has_x2apic_under_tcg());
    }
}
