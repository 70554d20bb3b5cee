//! KVM or TCG: which one this host can give, and why.

use core::fmt;
use std::fs;
use std::path::Path;

use rustix::fs::{Access, access};

/// What executes the guest's instructions.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Accelerator {
    /// QEMU's translator, the processors taking turns in one thread: any host, slow, offers SVM to the
    /// guest.
    Tcg,
    /// The same with a thread for each processor, and a race.
    ///
    /// FXRSTOR, XRSTOR, FNINIT and FNCLEX on any processor rewrite a word of the first processor's
    /// state, unlocked (seen in QEMU 7.2 and 10.0: its IGNNE# flag), and SVM keeps in the same word
    /// whether nested paging is on. Once in some ten thousand exits that meet restored registers, the
    /// first processor runs its guest without nested paging, or its host with it.
    TcgInThreads,
    /// The host's own hypervisor: fast, needs nested virtualisation for Bouncer.
    Kvm,
}

impl Accelerator {
    /// QEMU's word for it.
    #[must_use]
    pub const fn name(self) -> &'static str {
        match self {
            Self::Tcg => "tcg,thread=single",
            Self::TcgInThreads => "tcg,thread=multi",
            Self::Kvm => "kvm",
        }
    }
}

/// The extension of the host's processor, which KVM hands on to a guest that nests.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Extension {
    /// Intel's.
    Vmx,
    /// AMD's.
    Svm,
}

impl Extension {
    /// The flag in `/proc/cpuinfo`.
    const fn flag(self) -> &'static str {
        match self {
            Self::Vmx => "vmx",
            Self::Svm => "svm",
        }
    }

    /// KVM's module for it.
    const fn module(self) -> &'static str {
        match self {
            Self::Vmx => "kvm_intel",
            Self::Svm => "kvm_amd",
        }
    }
}

impl fmt::Display for Extension {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Vmx => "VMX",
            Self::Svm => "SVM",
        })
    }
}

/// What this host offers a nested hypervisor.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Host {
    /// `/dev/kvm` can be opened for reading and writing.
    pub kvm: bool,
    /// The extension that the processor's flags name.
    pub extension: Option<Extension>,
    /// KVM hands it on to its guests.
    pub nests: bool,
}

/// Why KVM cannot be used here.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum NoKvm {
    /// `/dev/kvm` is absent or not ours to open.
    Device,
    /// The processor offers neither extension.
    Processor,
    /// KVM keeps it to itself.
    Nesting(Extension),
}

impl fmt::Display for NoKvm {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Device => f.write_str("/dev/kvm cannot be opened for reading and writing"),
            Self::Processor => f.write_str(
                "this processor's flags show neither vmx nor svm, one of which Bouncer needs",
            ),
            Self::Nesting(extension) => write!(
                f,
                "KVM does not hand {extension} on to its guests; load {} with nested=1",
                extension.module()
            ),
        }
    }
}

impl Host {
    /// Looks at `/dev/kvm`, `/proc/cpuinfo` and KVM's parameters.
    #[must_use]
    pub fn probe() -> Self {
        Self::under(Path::new("/"))
    }

    /// The same below another root.
    fn under(root: &Path) -> Self {
        let flags = fs::read_to_string(root.join("proc/cpuinfo")).unwrap_or_default();
        let extension = [Extension::Vmx, Extension::Svm]
            .into_iter()
            .find(|extension| names(&flags, extension.flag()));
        let nests = extension.is_some_and(|extension| {
            let parameter = format!("sys/module/{}/parameters/nested", extension.module());
            let told = fs::read_to_string(root.join(parameter)).unwrap_or_default();
            matches!(told.trim(), "Y" | "1")
        });
        let device = root.join("dev/kvm");
        Self {
            kvm: access(device, Access::READ_OK | Access::WRITE_OK).is_ok(),
            extension,
            nests,
        }
    }

    /// The extension that Bouncer gets from KVM here.
    ///
    /// # Errors
    /// Says what is lacking.
    pub fn offers_kvm(self) -> Result<Extension, NoKvm> {
        match (self.kvm, self.extension, self.nests) {
            (false, ..) => Err(NoKvm::Device),
            (_, None, _) => Err(NoKvm::Processor),
            (_, Some(extension), false) => Err(NoKvm::Nesting(extension)),
            (true, Some(extension), true) => Ok(extension),
        }
    }
}

fn names(cpuinfo: &str, wanted: &str) -> bool {
    cpuinfo
        .lines()
        .filter(|line| line.starts_with("flags"))
        .flat_map(str::split_whitespace)
        .any(|flag| flag == wanted)
}

#[cfg(test)]
mod tests {
    use super::*;

    /// A host of files: what it says of its processor and of KVM's module, and whether there is a device.
    fn host(name: &str, flags: &str, nested: Option<(&str, &str)>, has_device: bool) -> Host {
        let root = std::env::temp_dir().join(format!("host-{name}-{}", std::process::id()));
        let write = |path: String, text: &str| {
            let path = root.join(path);
            fs::create_dir_all(path.parent().unwrap()).unwrap();
            fs::write(path, text).unwrap();
        };
        write(
            "proc/cpuinfo".into(),
            &format!("processor\t: 0\nflags\t\t: fpu {flags} sse\nvmx flags\t: vnmi\n"),
        );
        if let Some((module, value)) = nested {
            write(format!("sys/module/{module}/parameters/nested"), value);
        }
        if has_device {
            write("dev/kvm".into(), "");
        }
        let host = Host::under(&root);
        fs::remove_dir_all(root).unwrap();
        host
    }

    #[test]
    fn kvm_is_taken_where_it_nests_and_says_which_extension() {
        let intel = host("intel", "vmx", Some(("kvm_intel", "Y\n")), true);
        assert_eq!(intel.offers_kvm(), Ok(Extension::Vmx));
        let amd = host("amd", "svm", Some(("kvm_amd", "1\n")), true);
        assert_eq!(amd.offers_kvm(), Ok(Extension::Svm));
    }

    #[test]
    fn what_lacks_is_said() {
        let without_device = host("device", "vmx", Some(("kvm_intel", "Y\n")), false);
        assert_eq!(without_device.offers_kvm(), Err(NoKvm::Device));
        let without_extension = host("flags", "vmx_true svm_lock", None, true);
        assert_eq!(without_extension.offers_kvm(), Err(NoKvm::Processor));
        for value in ["N\n", "0\n", ""] {
            let alone = host("alone", "vmx", Some(("kvm_intel", value)), true);
            assert_eq!(
                alone.offers_kvm(),
                Err(NoKvm::Nesting(Extension::Vmx)),
                "{value:?}"
            );
        }
        let unloaded = host("unloaded", "svm", Some(("kvm_intel", "Y\n")), true);
        assert_eq!(unloaded.offers_kvm(), Err(NoKvm::Nesting(Extension::Svm)));
        let why = NoKvm::Nesting(Extension::Svm).to_string();
        assert!(why.contains("kvm_amd with nested=1"), "{why}");
    }

    #[test]
    fn only_whole_flags_on_a_flags_line_count() {
        assert!(names("processor: 0\nflags\t\t: fpu svm sse\n", "svm"));
        assert!(!names(
            "flags\t\t: fpu vmx_true svm_lock\nvmx flags\t: vnmi\nmodel name: svm\n",
            "svm"
        ));
    }
}
