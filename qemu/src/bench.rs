//! What `cargo xtask` has prepared for whole-machine tests: emulators, kernels, the guest's init, Bouncer.

use std::fs;
use std::path::{Path, PathBuf};

use serde::{Deserialize, Serialize};

use crate::Error;
use crate::bochs::Bochs;
use crate::emulator::Emulator;
use crate::image::Signer;

/// The environment variable that names another bench file than the default one.
pub const BENCH: &str = "BOUNCER_BENCH";

/// A guest kernel, unpacked from its package.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Kernel {
    /// Its release, such as `6.1.0-56-amd64`.
    pub release: String,
    /// The bzImage.
    pub image: PathBuf,
    /// `…/lib/modules/<release>`.
    pub modules: PathBuf,
}

/// UEFI firmware, and boot loaders that it starts, as Debian installs them on an EFI system partition.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Firmware {
    /// The flash memory with its code.
    pub code: PathBuf,
    /// The flash memory with its variables, as they are at first.
    pub variables: PathBuf,
    /// GRUB.
    pub grub: PathBuf,
    /// shim, which starts GRUB.
    pub shim: PathBuf,
    /// systemd-boot.
    pub systemd_boot: PathBuf,
}

/// What UEFI firmware is tried with that starts only what is signed.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct SecureBoot {
    /// The flash memory with variables in which Secure Boot is on, Microsoft's keys are known, by which Debian's shim
    /// is signed, and a test key.
    pub variables: PathBuf,
    /// The test key.
    pub signer: Signer,
    /// A stub that makes one program of a kernel.
    pub stub: PathBuf,
}

/// Bouncer, built to be booted.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Bouncer {
    /// What a Multiboot2 loader is given.
    pub image: PathBuf,
    /// What UEFI firmware is given.
    pub efi: PathBuf,
    /// The hypervisor inside both.
    pub hypervisor: PathBuf,
    /// The same, with its symbols, for backtraces.
    pub symbols: PathBuf,
}

/// Everything a whole-machine test starts from.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Bench {
    /// Where tests may write.
    pub directory: PathBuf,
    /// QEMUs, the preferred one first.
    pub emulators: Vec<Emulator>,
    /// Bochs, if it is there.
    #[serde(default)]
    pub bochs: Option<Bochs>,
    /// UEFI firmware, if it has been fetched.
    pub firmware: Option<Firmware>,
    /// What Secure Boot is tried with, if it has been fetched.
    #[serde(default)]
    pub secure_boot: Option<SecureBoot>,
    /// Kernels, the preferred one first.
    pub kernels: Vec<Kernel>,
    /// The test guest's init, a static program.
    pub guest_init: PathBuf,
    /// A tree with Debian's programs for the guest and all that they need, if it has been fetched.
    pub tools: Option<PathBuf>,
    /// A drive with an installed Debian system, if it could be made.
    pub installed: Option<PathBuf>,
    /// Bouncer, if it has been built.
    pub bouncer: Option<Bouncer>,
}

impl Bench {
    /// Where the bench file is: what [`BENCH`] names, else `target/bench/bench.json` in this workspace.
    #[must_use]
    pub fn file() -> PathBuf {
        let default = || Path::new(env!("CARGO_MANIFEST_DIR")).join("../target/bench/bench.json");
        std::env::var_os(BENCH).map_or_else(default, PathBuf::from)
    }

    /// Reads the bench file.
    ///
    /// # Errors
    /// [`Error::Missing`] if nothing has been prepared yet.
    pub fn load() -> Result<Self, Error> {
        let file = Self::file();
        let text = fs::read_to_string(&file).map_err(|_| Error::Missing {
            what: format!("the prepared bench ({})", file.display()),
            remedy: "run `cargo xtask setup` first, or the tests by `cargo xtask test`".into(),
        })?;
        serde_json::from_str(&text)
            .map_err(|error| Error::malformed(file.display().to_string(), error))
    }

    /// Writes the bench file.
    ///
    /// # Errors
    /// If it cannot be written.
    pub fn save(&self) -> Result<(), Error> {
        let file = Self::file();
        let text =
            serde_json::to_string_pretty(self).expect("paths and numbers can be written as JSON");
        if let Some(directory) = file.parent() {
            fs::create_dir_all(directory)
                .map_err(|error| Error::file(directory, "create", error))?;
        }
        fs::write(&file, text).map_err(|error| Error::file(&file, "write", error))
    }

    /// The preferred QEMU.
    ///
    /// # Errors
    /// [`Error::Missing`] if there is none.
    pub fn emulator(&self) -> Result<&Emulator, Error> {
        self.emulators.first().ok_or_else(|| missing("QEMU"))
    }

    /// The preferred kernel.
    ///
    /// # Errors
    /// [`Error::Missing`] if there is none.
    pub fn kernel(&self) -> Result<&Kernel, Error> {
        self.kernels
            .first()
            .ok_or_else(|| missing("a guest kernel"))
    }

    /// Bouncer's bootable image.
    ///
    /// # Errors
    /// [`Error::Missing`] if it has not been built.
    pub fn bouncer(&self) -> Result<&Path, Error> {
        self.bouncer
            .as_ref()
            .map(|bouncer| bouncer.image.as_path())
            .ok_or_else(|| missing("Bouncer's bootable image"))
    }

    /// The hypervisor itself.
    ///
    /// # Errors
    /// [`Error::Missing`] if it has not been built.
    pub fn hypervisor(&self) -> Result<&Path, Error> {
        self.bouncer
            .as_ref()
            .map(|bouncer| bouncer.hypervisor.as_path())
            .ok_or_else(|| missing("the hypervisor"))
    }

    /// What UEFI firmware is given to start Bouncer.
    ///
    /// # Errors
    /// [`Error::Missing`] if it has not been built.
    pub fn bouncer_efi(&self) -> Result<&Path, Error> {
        self.bouncer
            .as_ref()
            .map(|bouncer| bouncer.efi.as_path())
            .ok_or_else(|| missing("bouncer.efi"))
    }

    /// UEFI firmware.
    ///
    /// # Errors
    /// [`Error::Missing`] if it has not been fetched.
    pub fn firmware(&self) -> Result<&Firmware, Error> {
        self.firmware
            .as_ref()
            .ok_or_else(|| missing("UEFI firmware"))
    }

    /// The drive with an installed system.
    ///
    /// # Errors
    /// [`Error::Missing`] if it has not been made.
    pub fn installed(&self) -> Result<&Path, Error> {
        self.installed
            .as_deref()
            .ok_or_else(|| missing("a drive with an installed system"))
    }

    /// What Secure Boot is tried with.
    ///
    /// # Errors
    /// [`Error::Missing`] if it has not been fetched.
    pub fn secure_boot(&self) -> Result<&SecureBoot, Error> {
        self.secure_boot
            .as_ref()
            .ok_or_else(|| missing("what Secure Boot is tried with"))
    }

    /// The tree of Debian's programs for the guest.
    ///
    /// # Errors
    /// [`Error::Missing`] if it has not been fetched.
    pub fn tools(&self) -> Result<&Path, Error> {
        self.tools
            .as_deref()
            .ok_or_else(|| missing("the guest's tools"))
    }

    /// A directory of its own for the test called `name`, made if need be. What an earlier run left is still there,
    /// so that discs that did not change are not mastered again.
    ///
    /// # Errors
    /// If it cannot be made.
    pub fn scratch(&self, name: &str) -> Result<PathBuf, Error> {
        let path = self.directory.join("scratch").join(name);
        fs::create_dir_all(&path).map_err(|error| Error::file(&path, "create", error))?;
        Ok(path)
    }
}

fn missing(what: &str) -> Error {
    Error::Missing {
        what: what.into(),
        remedy: "`cargo xtask test` prepares it".into(),
    }
}
