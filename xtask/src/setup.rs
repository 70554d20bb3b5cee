//! Gets what a command needs and the machine lacks.
//!
//! Owns the list of needs and the decision what to do about each; [`packages`] talks to the system's package
//! manager, [`archive`] to Debian's archive without touching the system.

mod archive;
mod distribution;
mod emulators;
mod firmware;
mod installed;
mod kernels;
mod lock;
mod packages;
mod secure_boot;
mod targets;
mod tools;

use clap::Args;

use crate::progress::say;
use crate::stop::Stop;

pub(crate) use emulators::{all as all_emulators, bochs, choose as choose_emulator};
pub(crate) use firmware::fetch as fetch_firmware;
pub(crate) use installed::system as installed_system;
pub(crate) use kernels::{Choice as KernelChoice, fetch as fetch_kernel, stock as stock_kernel};
pub(crate) use secure_boot::fetch as fetch_secure_boot;
pub(crate) use targets::Target;
pub(crate) use tools::fetch as fetch_tools;

/// What `cargo xtask setup` is told.
#[derive(Debug, Args)]
pub(crate) struct Options {
    /// Gets the second kernel (6.12), too
    #[arg(long)]
    all: bool,
}

/// Something a command cannot do without.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Need {
    /// An emulator.
    Qemu,
    /// The other emulator, whose processors have VMX.
    Bochs,
    /// What masters a disc.
    Disc,
    /// What signs programs for firmware.
    Signing,
    /// What plays a TPM.
    Tpm,
    /// What unpacks Debian packages and their compressed modules.
    Unpacking,
    /// What installs a system into a directory and makes a file system of it.
    Installing,
    /// A target of the Rust toolchain.
    Rust(Target),
}

/// Everything any command needs.
pub(crate) const ALL: [Need; 10] = [
    Need::Qemu,
    Need::Bochs,
    Need::Disc,
    Need::Signing,
    Need::Tpm,
    Need::Unpacking,
    Need::Installing,
    Need::Rust(Target::BareMetal),
    Need::Rust(Target::Guest),
    Need::Rust(Target::Uefi),
];

/// Gets everything in `needs` that is not there.
///
/// # Errors
/// [`Stop::Unready`] with the commands to type, where this machine must be set up by hand.
pub(crate) fn meet(needs: &[Need]) -> Result<(), Stop> {
    let _alone = lock::take()?;
    packages::install(needs)?;
    for need in needs {
        if let Need::Rust(target) = need {
            targets::add(*target)?;
        }
    }
    Ok(())
}

/// `cargo xtask setup`.
pub(crate) fn run(options: &Options) -> Result<(), Stop> {
    meet(&ALL)?;
    for emulator in all_emulators()? {
        say(&format!(
            "QEMU {} at {}",
            emulator.version,
            emulator.program.display()
        ));
    }
    let bochs = bochs()?;
    say(&format!(
        "Bochs {} at {}",
        bochs.version,
        bochs.program.display()
    ));
    let releases: &[&str] = if options.all {
        &["6.1", "6.12"]
    } else {
        &["6.1"]
    };
    for release in releases {
        let kernel = stock_kernel(release)?;
        say(&format!(
            "kernel {} at {}",
            kernel.release,
            kernel.image.display()
        ));
    }
    let firmware = fetch_firmware()?;
    say(&format!("UEFI firmware at {}", firmware.code.display()));
    if let Some(drive) = installed_system(&firmware) {
        say(&format!("an installed system at {}", drive.display()));
    }
    fetch_secure_boot()?;
    say(&format!(
        "the guest's tools at {}",
        fetch_tools()?.display()
    ));
    say("everything is there");
    Ok(())
}
