//! How a boot ends: power off, reboot, or a triple fault.
//!
//! Owns the last system call. Knows no check; [`crate::selection`] names an ending.

use crate::cmdline::Cmdline;
use nix::sys::reboot::{RebootMode, reboot};

/// The way the machine ends.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Ending {
    /// ACPI power-off.
    PowerOff,
    /// The kernel's ordinary reboot.
    Reboot,
    /// A triple fault of the guest: the kernel empties its IDT and raises an exception.
    Crash,
}

impl Ending {
    /// The ending of this name, if it is one.
    pub(crate) fn by_name(name: &str) -> Option<Self> {
        [Self::PowerOff, Self::Reboot, Self::Crash]
            .into_iter()
            .find(|ending| ending.name() == name)
    }

    /// The name by which it is asked for and reported.
    pub(crate) fn name(self) -> &'static str {
        match self {
            Self::PowerOff => "poweroff-only",
            Self::Reboot => "reboot",
            Self::Crash => "crash",
        }
    }

    /// Says whether this kernel can end this way.
    ///
    /// # Errors
    /// What the command line lacks, for the report.
    pub(crate) fn check(self, cmdline: &Cmdline) -> Result<Self, String> {
        // Kernel parameters, `reboot=`: "t" or "triple" forces a triple fault. The kernel looks
        // at the letter after the last comma.
        let reboot = cmdline.value("reboot").unwrap_or_default();
        let triple = reboot.split(',').any(|how| how.starts_with('t'));
        match self {
            Self::Crash if !triple => {
                Err("a triple fault needs reboot=t on the command line".into())
            }
            _ => Ok(self),
        }
    }

    /// Ends the machine; when the kernel refuses, waits for the harness's deadline.
    pub(crate) fn carry_out(self) -> ! {
        nix::unistd::sync();
        let mode = match self {
            Self::PowerOff => RebootMode::RB_POWER_OFF,
            Self::Reboot | Self::Crash => RebootMode::RB_AUTOBOOT,
        };
        let Err(error) = reboot(mode);
        eprintln!("guest: the kernel refuses {}: {error}", self.name());
        // Process 1 must not return: the kernel would panic and blame the wrong thing.
        loop {
            std::thread::sleep(std::time::Duration::from_secs(60));
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_ending_is_found_by_its_name() {
        for ending in [Ending::PowerOff, Ending::Reboot, Ending::Crash] {
            assert_eq!(Ending::by_name(ending.name()), Some(ending));
        }
        assert_eq!(Ending::by_name("hash"), None);
    }

    #[test]
    fn a_triple_fault_needs_the_kernel_told_so() {
        assert!(Ending::Crash.check(&Cmdline::new("reboot=t")).is_ok());
        assert!(
            Ending::Crash
                .check(&Cmdline::new("reboot=warm,triple"))
                .is_ok()
        );
        assert!(Ending::Crash.check(&Cmdline::new("panic=-1")).is_err());
        assert!(Ending::Reboot.check(&Cmdline::new("panic=-1")).is_ok());
    }
}
