//! KVM or TCG: which one this host can give, and why.

use core::fmt;
use std::fs;

use rustix::fs::{Access, access};

/// What executes the guest's instructions.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Accelerator {
    /// QEMU's translator: any host, slow, offers SVM to the guest.
    Tcg,
    /// The host's own hypervisor: fast, needs nested virtualisation for Bouncer.
    Kvm,
}

impl Accelerator {
    /// QEMU's word for it.
    #[must_use]
    pub const fn name(self) -> &'static str {
        match self {
            Self::Tcg => "tcg",
            Self::Kvm => "kvm",
        }
    }
}

/// What this host offers a nested hypervisor.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Host {
    /// `/dev/kvm` can be opened for reading and writing.
    pub kvm: bool,
    /// The processor's flags name `svm`, the extension Bouncer has a backend for.
    pub svm: bool,
}

/// Why KVM cannot be used here.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum NoKvm {
    /// `/dev/kvm` is absent or not ours to open.
    Device,
    /// The processor does not offer SVM.
    Processor,
}

impl fmt::Display for NoKvm {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Device => "/dev/kvm cannot be opened for reading and writing",
            Self::Processor => {
                "this processor's flags do not show svm, which Bouncer's backend needs"
            }
        })
    }
}

impl Host {
    /// Looks at `/dev/kvm` and `/proc/cpuinfo`.
    #[must_use]
    pub fn probe() -> Self {
        let flags = fs::read_to_string("/proc/cpuinfo").unwrap_or_default();
        Self {
            kvm: access("/dev/kvm", Access::READ_OK | Access::WRITE_OK).is_ok(),
            svm: names_svm(&flags),
        }
    }

    /// Whether KVM can run Bouncer here.
    ///
    /// # Errors
    /// Says what is lacking.
    pub fn offers_kvm(self) -> Result<(), NoKvm> {
        match self {
            Self { kvm: false, .. } => Err(NoKvm::Device),
            Self { svm: false, .. } => Err(NoKvm::Processor),
            Self { .. } => Ok(()),
        }
    }
}

fn names_svm(cpuinfo: &str) -> bool {
    cpuinfo
        .lines()
        .filter(|line| line.starts_with("flags"))
        .flat_map(str::split_whitespace)
        .any(|flag| flag == "svm")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn kvm_needs_the_device_and_the_processor() {
        assert_eq!(
            Host {
                kvm: true,
                svm: true
            }
            .offers_kvm(),
            Ok(())
        );
        assert_eq!(
            Host {
                kvm: false,
                svm: true
            }
            .offers_kvm(),
            Err(NoKvm::Device)
        );
        assert_eq!(
            Host {
                kvm: true,
                svm: false
            }
            .offers_kvm(),
            Err(NoKvm::Processor)
        );
    }

    #[test]
    fn only_whole_flags_on_a_flags_line_count() {
        assert!(names_svm("processor: 0\nflags\t\t: fpu svm sse\n"));
        assert!(!names_svm(
            "flags\t\t: fpu vmx_true svm_lock\nvmx flags\t: vnmi\nmodel name: svm\n"
        ));
    }
}
