//! The system's own packages: what is missing, and what is done about it.

use std::path::Path;
use std::process::Command;

use super::Need;
use super::distribution::{Distribution, Privilege};
use crate::progress::{self, say};
use crate::stop::Stop;

/// A package, how to tell that it is there, and what for.
#[derive(Debug, PartialEq, Eq)]
struct Package {
    name: &'static str,
    evidence: Evidence,
    why: &'static str,
}

#[derive(Debug, PartialEq, Eq)]
enum Evidence {
    /// A program found in `PATH`.
    Program(&'static str),
    /// A file at a fixed place.
    File(&'static str),
}

const QEMU: &[Package] = &[
    Package {
        name: "qemu-system-x86",
        evidence: Evidence::Program("qemu-system-x86_64"),
        why: "plays the machine",
    },
    Package {
        name: "util-linux",
        evidence: Evidence::Program("setpriv"),
        why: "ends QEMU together with xtask",
    },
];

const DISC: &[Package] = &[
    Package {
        name: "grub-common",
        evidence: Evidence::Program("grub-mkrescue"),
        why: "makes the boot disc",
    },
    Package {
        name: "grub-pc-bin",
        evidence: Evidence::File("/usr/lib/grub/i386-pc/moddep.lst"),
        why: "is the boot loader on the disc",
    },
    Package {
        name: "xorriso",
        evidence: Evidence::Program("xorriso"),
        why: "writes the boot disc",
    },
    Package {
        name: "mtools",
        evidence: Evidence::Program("mformat"),
        why: "makes the disc boot on UEFI firmware, too",
    },
];

const SIGNING: &[Package] = &[
    Package {
        name: "sbsigntool",
        evidence: Evidence::Program("sbsign"),
        why: "signs programs for UEFI firmware",
    },
    Package {
        name: "openssl",
        evidence: Evidence::Program("openssl"),
        why: "opens the key that they are signed with in tests",
    },
];

const TPM: &[Package] = &[Package {
    name: "swtpm",
    evidence: Evidence::Program("swtpm"),
    why: "plays a TPM",
}];

const BOCHS: &[Package] = &[
    Package {
        name: "bochs",
        evidence: Evidence::Program("bochs"),
        why: "plays processors with VT-x",
    },
    Package {
        name: "bochsbios",
        evidence: Evidence::File("/usr/share/bochs/BIOS-bochs-latest"),
        why: "is the firmware of those machines",
    },
    Package {
        name: "vgabios",
        evidence: Evidence::File("/usr/share/vgabios/vgabios.bin"),
        why: "is the firmware of their screens",
    },
];

const UNPACKING: &[Package] = &[
    Package {
        name: "dpkg",
        evidence: Evidence::Program("dpkg-deb"),
        why: "unpacks the guest's kernel",
    },
    Package {
        name: "xz-utils",
        evidence: Evidence::Program("xz"),
        why: "unpacks the guest kernel's modules",
    },
];

const INSTALLING: &[Package] = &[
    Package {
        name: "mmdebstrap",
        evidence: Evidence::Program("mmdebstrap"),
        why: "installs the system that machines with UEFI firmware boot",
    },
    Package {
        name: "e2fsprogs",
        evidence: Evidence::File("/sbin/mke2fs"),
        why: "makes that system's file system",
    },
];

const BUILDING: &[Package] = &[
    Package {
        name: "gcc",
        evidence: Evidence::Program("cc"),
        why: "links what Rust compiles",
    },
    Package {
        name: "binutils",
        evidence: Evidence::Program("objcopy"),
        why: "takes the symbols out of what is booted",
    },
];

/// What is to be done about missing packages.
#[derive(Debug, PartialEq, Eq)]
enum Plan {
    Nothing,
    Install(Vec<&'static str>),
    Tell(String),
}

/// Installs the packages behind `needs` that are missing, or says what to type.
pub(super) fn install(needs: &[Need]) -> Result<(), Stop> {
    let mut missing: Vec<&Package> = Vec::new();
    for package in needs.iter().flat_map(packages_of) {
        if !missing.contains(&package) && !package.evidence.is_here() {
            missing.push(package);
        }
    }
    match plan(&missing, Privilege::here(), &Distribution::here()) {
        Plan::Nothing => Ok(()),
        Plan::Tell(message) => Err(Stop::Unready(message)),
        Plan::Install(names) => {
            for package in &missing {
                say(&format!(
                    "installing {}, which {}",
                    package.name, package.why
                ));
            }
            let mut update = apt_get();
            progress::command("updating the package lists", update.arg("update"))?;
            let mut install = apt_get();
            install
                .args(["install", "--yes", "--no-install-recommends"])
                .args(names);
            progress::command("installing packages", &mut install).map(drop)
        }
    }
}

fn packages_of(need: &Need) -> &'static [Package] {
    match need {
        Need::Qemu => QEMU,
        Need::Bochs => BOCHS,
        Need::Disc => DISC,
        Need::Signing => SIGNING,
        Need::Tpm => TPM,
        Need::Unpacking => UNPACKING,
        Need::Installing => INSTALLING,
        Need::Rust(_) => BUILDING,
    }
}

/// Decides; touches nothing.
fn plan(missing: &[&Package], privilege: Privilege, distribution: &Distribution) -> Plan {
    if missing.is_empty() {
        return Plan::Nothing;
    }
    let names: Vec<_> = missing.iter().map(|package| package.name).collect();
    match (distribution.is_known, privilege) {
        (true, Privilege::Root) => Plan::Install(names),
        (true, Privilege::None) => Plan::Tell(format!(
            "this machine lacks packages, and only root may install them:\n{}\ntype:\n    sudo apt-get update\n    sudo apt-get install --no-install-recommends {}",
            listing(missing),
            names.join(" ")
        )),
        (false, _) => Plan::Tell(format!(
            "{} is not a system whose packages I know. Debian 12 calls what is missing:\n{}\ninstall their like (on a Debian-like system: apt-get install --no-install-recommends {}), then try again",
            distribution.name,
            listing(missing),
            names.join(" ")
        )),
    }
}

fn listing(missing: &[&Package]) -> String {
    let lines = missing.iter().map(|package| match package.evidence {
        Evidence::Program(program) => {
            format!("    {} ({program}), which {}", package.name, package.why)
        }
        Evidence::File(file) => format!("    {} ({file}), which {}", package.name, package.why),
    });
    lines.collect::<Vec<_>>().join("\n")
}

impl Evidence {
    fn is_here(&self) -> bool {
        match self {
            Self::Program(name) => is_in_path(name),
            Self::File(path) => Path::new(path).exists(),
        }
    }
}

/// Whether `PATH` has a program of this name.
pub(super) fn is_in_path(name: &str) -> bool {
    let path = std::env::var_os("PATH").unwrap_or_default();
    std::env::split_paths(&path).any(|directory| directory.join(name).is_file())
}

fn apt_get() -> Command {
    let mut command = Command::new("apt-get");
    command.env("DEBIAN_FRONTEND", "noninteractive");
    command
}

#[cfg(test)]
mod tests {
    use super::*;

    fn debian() -> Distribution {
        Distribution {
            name: "Debian GNU/Linux 12 (bookworm)".into(),
            is_known: true,
        }
    }

    #[test]
    fn nothing_missing_is_nothing_to_do_for_anybody_anywhere() {
        let other = Distribution {
            name: "Plan 9".into(),
            is_known: false,
        };
        assert_eq!(plan(&[], Privilege::None, &other), Plan::Nothing);
    }

    #[test]
    fn root_on_debian_installs_exactly_what_is_missing() {
        let missing = [&QEMU[0], &DISC[2]];
        assert_eq!(
            plan(&missing, Privilege::Root, &debian()),
            Plan::Install(vec!["qemu-system-x86", "xorriso"])
        );
    }

    #[test]
    fn anybody_on_debian_is_told_what_to_type() {
        let Plan::Tell(message) = plan(&[&QEMU[0]], Privilege::None, &debian()) else {
            panic!("not told")
        };
        assert!(
            message.contains("sudo apt-get install --no-install-recommends qemu-system-x86"),
            "{message}"
        );
        assert!(message.contains("plays the machine"), "{message}");
    }

    #[test]
    fn even_root_elsewhere_is_only_told() {
        let fedora = Distribution {
            name: "Fedora Linux 42".into(),
            is_known: false,
        };
        let Plan::Tell(message) = plan(&[&DISC[0]], Privilege::Root, &fedora) else {
            panic!("not told")
        };
        assert!(
            message.starts_with("Fedora Linux 42") && message.contains("grub-mkrescue"),
            "{message}"
        );
    }
}
