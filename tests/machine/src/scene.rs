//! The setting of one whole-machine test: which kernel, under what, on which machine.

mod stage;

use std::path::{Path, PathBuf};
use std::time::Duration;

use qemu::{Bench, Bochs, Clock, DrivePace, Emulator, Error, Kernel, Payload};

use crate::loud::skip;
use crate::policies;
use crate::rom::{Flaw, Rom};

/// What every guest kernel is told: a console, no waiting after a panic, that programs may map
/// what is not the kernel's own memory (the attack on Bouncer's memory needs it), and to trust the
/// timer (it is given 40 ms of real time to show itself, which a busy host may not grant).
const COMMAND_LINE: &str =
    "console=ttyS0 earlyprintk=serial,ttyS0,115200 panic=-1 iomem=relaxed no_timer_check";

/// How long a machine may take from QEMU's start to its end; a multiple of what an emulator needs
/// on two busy cores.
const PATIENCE: Duration = Duration::from_secs(240);

/// What stands between the firmware and the kernel.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Front {
    /// GRUB, then Bouncer.
    Bouncer,
    /// Nothing at all.
    Nothing,
    /// GRUB, as with Bouncer, but without it.
    Loader,
    /// UEFI firmware, then `bouncer.efi`, then GRUB from another disc, which firmware finds by itself.
    Efi,
    /// UEFI firmware, then GRUB, as with Bouncer, but without it.
    Firmware,
}

/// What UEFI firmware boots, after Bouncer if there is one.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum System {
    /// A boot loader and a kernel with the test guest, on a SATA drive.
    Sata,
    /// The same on the first NVMe drive.
    Nvme,
    /// Debian, installed on the first NVMe drive.
    Installed,
}

/// What starts the kernel with the test guest under UEFI firmware.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Loader {
    /// GRUB; where the system must be signed by the test key, the kernel starts itself, as a program for firmware.
    Grub,
    /// shim, then GRUB.
    Shim,
    /// systemd-boot.
    SystemdBoot,
}

/// What is signed on the discs of a machine with UEFI firmware.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Signed {
    /// Nothing, and firmware does not ask.
    Nothing,
    /// The system, by the test key unless Debian signs it, and firmware starts nothing else.
    System,
    /// Bouncer, too.
    All,
}

/// A machine to be, built up by a test; [`Scene::play`] lets it live.
#[derive(Clone, Debug)]
pub struct Scene {
    bench: Bench,
    name: String,
    front: Front,
    emulator: Emulator,
    kernel: Kernel,
    payload: Option<Payload>,
    modules: Vec<String>,
    checks: Vec<String>,
    append: String,
    whole_line: Option<String>,
    words: String,
    policy: Option<Vec<u8>>,
    patience: Duration,
    vcpus: u32,
    memory_mib: u64,
    cpu: String,
    clock: Clock,
    drives: Vec<PathBuf>,
    drive_pace: DrivePace,
    system: System,
    loader: Loader,
    signed: Signed,
    variables: Option<PathBuf>,
    has_iommu: bool,
    has_tools: bool,
    arguments: Vec<String>,
    bochs: Option<Bochs>,
}

impl Scene {
    /// A stock kernel under Bouncer on one processor; `name` is the test's own.
    ///
    /// # Panics
    /// If nothing has been prepared: says which command does it.
    #[must_use]
    pub fn bouncer(name: &str) -> Self {
        Self::behind(Front::Bouncer, name)
    }

    /// The same without Bouncer, started by QEMU itself: for tests of the tests.
    ///
    /// # Panics
    /// As [`Scene::bouncer`].
    #[must_use]
    pub fn native(name: &str) -> Self {
        Self::behind(Front::Nothing, name)
    }

    /// The same without Bouncer, started by the same boot loader: for comparisons.
    ///
    /// # Panics
    /// As [`Scene::bouncer`].
    #[must_use]
    pub fn native_from_loader(name: &str) -> Self {
        Self::behind(Front::Loader, name)
    }

    /// A stock kernel under Bouncer, which UEFI firmware starts before the boot loader of the system; the policy
    /// is [`policies::BOOT_DRIVES`].
    ///
    /// # Panics
    /// As [`Scene::bouncer`].
    #[must_use]
    pub fn efi(name: &str) -> Self {
        Self::behind(Front::Efi, name).policy(policies::BOOT_DRIVES)
    }

    /// The same without Bouncer: UEFI firmware starts the boot loader of the system.
    ///
    /// # Panics
    /// As [`Scene::bouncer`].
    #[must_use]
    pub fn native_from_firmware(name: &str) -> Self {
        Self::behind(Front::Firmware, name)
    }

    fn behind(front: Front, name: &str) -> Self {
        let bench = demand(Bench::load());
        Self {
            emulator: demand(bench.emulator()).clone(),
            kernel: demand(bench.kernel()).clone(),
            bench,
            name: name.into(),
            front,
            payload: None,
            modules: Vec::new(),
            checks: Vec::new(),
            append: COMMAND_LINE.into(),
            whole_line: None,
            words: String::new(),
            policy: None,
            patience: PATIENCE,
            vcpus: 1,
            memory_mib: 1024,
            cpu: "max".into(),
            clock: Clock::Host,
            drives: Vec::new(),
            drive_pace: DrivePace::default(),
            system: System::Sata,
            loader: Loader::Grub,
            signed: Signed::Nothing,
            variables: None,
            has_iommu: true,
            has_tools: false,
            arguments: Vec::new(),
            bochs: None,
        }
    }

    /// Runs these checks of the guest instead of its default set.
    #[must_use]
    pub fn checks(mut self, names: &[&str]) -> Self {
        self.checks
            .extend(names.iter().map(|name| (*name).to_owned()));
        self
    }

    /// Loads these kernel modules first, with what they need.
    #[must_use]
    pub fn modules(mut self, names: &[&str]) -> Self {
        self.modules
            .extend(names.iter().map(|name| (*name).to_owned()));
        self
    }

    /// Puts fio and mkfs.ext4 into the guest, too.
    #[must_use]
    pub fn tools(mut self) -> Self {
        self.has_tools = true;
        self
    }

    /// Adds words to the kernel's command line.
    #[must_use]
    pub fn append(mut self, words: &str) -> Self {
        self.append.push(' ');
        self.append.push_str(words);
        self
    }

    /// Gives the payload these words as its whole command line.
    #[must_use]
    pub fn command_line(mut self, words: &str) -> Self {
        self.whole_line = Some(words.into());
        self
    }

    /// Sets the number of processors, and tells the guest to expect them.
    #[must_use]
    pub fn processors(mut self, count: u32) -> Self {
        self.vcpus = count;
        self
    }

    /// Sets the memory, in MiB.
    #[must_use]
    pub fn memory_mib(mut self, mebibytes: u64) -> Self {
        self.memory_mib = mebibytes;
        self
    }

    /// Sets the processor model, in QEMU's words.
    #[must_use]
    pub fn cpu(mut self, model: &str) -> Self {
        self.cpu = model.into();
        self
    }

    /// Sets how virtual time passes.
    #[must_use]
    pub fn clock(mut self, clock: Clock) -> Self {
        self.clock = clock;
        self
    }

    /// Gives Bouncer these words on its own command line.
    #[must_use]
    pub fn words(mut self, words: &str) -> Self {
        self.words = words.into();
        self
    }

    /// Gives Bouncer this policy.
    #[must_use]
    pub fn policy(mut self, policy: impl Into<Vec<u8>>) -> Self {
        self.policy = Some(policy.into());
        self
    }

    /// Gives Bouncer no policy.
    #[must_use]
    pub fn without_policy(mut self) -> Self {
        self.policy = None;
        self
    }

    /// Boots this instead of a kernel with the test guest.
    #[must_use]
    pub fn payload(mut self, payload: Payload) -> Self {
        self.payload = Some(payload);
        self
    }

    /// Takes the remapping hardware out of the machine.
    #[must_use]
    pub fn without_iommu(mut self) -> Self {
        self.has_iommu = false;
        self
    }

    /// Adds an empty NVMe drive of so many MiB behind a root port of its own, and its driver.
    ///
    /// # Panics
    /// If its image cannot be made.
    #[must_use]
    pub fn drive(mut self, mebibytes: u64) -> Self {
        let image = self.file(&format!("drive{}.img", self.drives.len()));
        let made = std::fs::File::create(&image).and_then(|file| file.set_len(mebibytes << 20));
        made.unwrap_or_else(|error| panic!("{}: {error}", image.display()));
        self.drives.push(image);
        self.modules(&["nvme"])
    }

    /// Sets how quick the drives are.
    #[must_use]
    pub fn drive_pace(mut self, pace: DrivePace) -> Self {
        self.drive_pace = pace;
        self
    }

    /// Has UEFI firmware find the system on the first NVMe drive instead of a SATA drive.
    #[must_use]
    pub fn system_on_nvme(mut self) -> Self {
        self.system = System::Nvme;
        self
    }

    /// Has UEFI firmware start shim, and shim GRUB, as Debian signs both.
    #[must_use]
    pub fn by_shim(mut self) -> Self {
        self.loader = Loader::Shim;
        self
    }

    /// Has UEFI firmware start systemd-boot in place of GRUB.
    #[must_use]
    pub fn by_systemd_boot(mut self) -> Self {
        self.loader = Loader::SystemdBoot;
        self
    }

    /// Has UEFI firmware find an installed Debian system on the first NVMe drive, which ends the starts of its kernel
    /// by these orders, one after the other: `reboot`, `kexec`, `poweroff`. The machine may restart, and what is
    /// written to its drives is forgotten with it. `None`, with a loud word, if this machine could not make one.
    #[must_use]
    pub fn installed(mut self, orders: &[&str]) -> Option<Self> {
        if self.bench.installed.is_none() {
            skip(&self.name, "no installed system here");
            return None;
        }
        self.system = System::Installed;
        let orders = format!("type=3,asset=bouncer:{}", orders.join(":"));
        Some(self.arguments(&["-snapshot", "-action", "reboot=reset", "-smbios", &orders]))
    }

    /// Has UEFI firmware start only what is signed, by the test key as Bouncer and the system are, or by Microsoft as
    /// shim is.
    #[must_use]
    pub fn secure_boot(mut self) -> Self {
        self.signed = Signed::All;
        self
    }

    /// The same, but Bouncer is not signed.
    #[must_use]
    pub fn secure_boot_without_bouncers_signature(mut self) -> Self {
        self.signed = Signed::System;
        self
    }

    /// Keeps what is written to the firmware's variables from one play to the next, beginning with the firmware's
    /// own.
    ///
    /// # Panics
    /// If there is no UEFI firmware, or the copy cannot be made.
    #[must_use]
    pub fn keep_variables(mut self) -> Self {
        let kept = self.file("variables.fd");
        let made = std::fs::read(&demand(self.bench.firmware()).variables)
            .and_then(|bytes| std::fs::write(&kept, bytes));
        made.unwrap_or_else(|error| panic!("{}: {error}", kept.display()));
        self.variables = Some(kept);
        self
    }

    /// Adds arguments for QEMU.
    #[must_use]
    pub fn arguments(mut self, arguments: &[&str]) -> Self {
        self.arguments
            .extend(arguments.iter().map(|argument| (*argument).to_owned()));
        self
    }

    /// Points the attack on Bouncer's memory at a ROM of ones instead, with a flaw if asked for.
    ///
    /// # Panics
    /// If the ROM cannot be written.
    #[must_use]
    pub fn rehearsal(self, flaw: Option<Flaw>) -> Self {
        let rom = Rom::of_ones(&self.emulator, self.file("ones.rom"), flaw);
        let [option, file] = rom.arguments();
        self.arguments(&[&option, &file]).append(&rom.rehearsal())
    }

    /// Sets how long the machine may take.
    #[must_use]
    pub fn patience(mut self, patience: Duration) -> Self {
        self.patience = patience;
        self
    }

    /// Has Bochs play the machine, with a processor of `model` and little memory; there are no remapping
    /// hardware and no drives, and the policy allows that. `None`, with a loud word, if this machine has
    /// no Bochs.
    #[must_use]
    pub fn on_bochs(mut self, model: &str) -> Option<Self> {
        /// Where a processor runs a hundredth of the instructions.
        const SLOW: Duration = Duration::from_secs(600);
        const MEMORY_MIB: u64 = 128;
        self.bochs.clone_from(&self.bench.bochs);
        if self.bochs.is_none() {
            skip(&self.name, "no Bochs here");
            return None;
        }
        let policy = "version = 1\nrequire-iommu = false\n";
        Some(
            self.cpu(model)
                .memory_mib(MEMORY_MIB)
                .patience(SLOW)
                .policy(policy),
        )
    }

    /// Uses the first QEMU whose version begins with `version`, such as `7.2`; `None`, with a
    /// loud word, if this machine has none.
    #[must_use]
    pub fn emulator(mut self, version: &str) -> Option<Self> {
        let emulators = &self.bench.emulators;
        let wanted = format!("{version}.");
        match emulators
            .iter()
            .find(|one| format!("{}.", one.version).starts_with(&wanted))
        {
            Some(emulator) => {
                self.emulator = emulator.clone();
                Some(self)
            }
            None => {
                let there: Vec<_> = emulators
                    .iter()
                    .map(|one| one.version.to_string())
                    .collect();
                skip(
                    &self.name,
                    &format!("no QEMU {version} here, only {}", there.join(", ")),
                );
                None
            }
        }
    }

    /// Uses the first kernel whose release begins with `release`, such as `6.12`; `None`, with a
    /// loud word, if this machine has none.
    #[must_use]
    pub fn kernel(mut self, release: &str) -> Option<Self> {
        let kernels = &self.bench.kernels;
        let wanted = format!("{release}.");
        match kernels.iter().find(|one| one.release.starts_with(&wanted)) {
            Some(kernel) => {
                self.kernel = kernel.clone();
                Some(self)
            }
            None => {
                let there: Vec<_> = kernels.iter().map(|one| one.release.as_str()).collect();
                skip(
                    &self.name,
                    &format!("no kernel {release} here, only {}", there.join(", ")),
                );
                None
            }
        }
    }

    /// Boots this image of the kernel instead of Debian's own.
    #[must_use]
    pub fn with_kernel_image(mut self, image: &Path) -> Self {
        self.kernel.image = image.to_path_buf();
        self
    }

    /// The kernel image that boots unless a [`Scene::payload`] is given.
    #[must_use]
    pub fn kernel_image(&self) -> &Path {
        &self.kernel.image
    }

    /// Bouncer's own bootable image.
    ///
    /// # Panics
    /// If it has not been built.
    #[must_use]
    pub fn bouncer_image(&self) -> &Path {
        demand(self.bench.bouncer())
    }

    /// The hypervisor itself, as loaders carry it.
    ///
    /// # Panics
    /// If it has not been built.
    #[must_use]
    pub fn hypervisor(&self) -> &Path {
        demand(self.bench.hypervisor())
    }

    /// What UEFI firmware finds in Bouncer's `options.txt`.
    #[must_use]
    pub fn options(&self) -> String {
        format!("serial=0x3e8 {}", self.words)
    }

    /// A file of this test, in a directory that outlives it.
    ///
    /// # Panics
    /// If the directory cannot be made.
    #[must_use]
    pub fn file(&self, name: &str) -> PathBuf {
        demand(self.bench.scratch(&self.name)).join(name)
    }
}

/// The value, or the end of the test with the error's own sentence.
fn demand<T>(result: Result<T, Error>) -> T {
    result.unwrap_or_else(|error| panic!("{error}"))
}
