//! From the setting to the outcome: files, a disc, a machine, its life.

use std::fs;
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use qemu::{
    Boot, Esp, Firmware, Initramfs, Iso, Line, Machine, Outcome, Payload, Port, Qtest, Session,
    Symbols,
};

use super::{Front, Loader, Scene, Signed, System, demand};
use crate::judge;

impl Scene {
    /// The initial file system of the test guest, as this scene has it.
    ///
    /// # Panics
    /// If it cannot be written.
    #[must_use]
    pub fn initial_file_system(&self) -> PathBuf {
        let modules = self.modules.iter().cloned();
        let mut initramfs = Initramfs::new(&self.bench.guest_init)
            .modules(&self.kernel, modules)
            .checks(self.checks.iter().cloned());
        if self.has_tools {
            initramfs = initramfs.tree(demand(self.bench.tools()));
        }
        let written = demand(initramfs.write(&self.file("initrd.new")));
        keep_if_equal(&written, &self.file("initrd"))
    }

    /// Masters the disc of this scene and gives its path.
    fn master(&self) -> PathBuf {
        let usual = || Payload::linux(&self.kernel.image, &self.initial_file_system());
        let payload = self.payload.clone().unwrap_or_else(usual);
        let iso = match self.front {
            Front::Bouncer => Iso::bouncer(self.bouncer_image(), payload),
            Front::Loader | Front::Nothing | Front::Efi | Front::Firmware => Iso::native(payload),
        };
        let iso = iso.append(self.line_for_payload()).words(&self.words);
        let iso = self
            .policy
            .iter()
            .fold(iso, |iso, policy| iso.policy(policy.as_slice()));
        demand(iso.write(&self.file("disc.iso")))
    }

    /// Lets the machine live to its end or its deadline; what it said is kept beside its disc.
    ///
    /// # Panics
    /// If the machine cannot be built or started.
    #[must_use]
    pub fn play(&self) -> Outcome {
        let mut outcome = demand(Session::start(&self.machine())).run_to_end(self.patience);
        self.name_frames(&mut outcome);
        self.keep(&outcome);
        outcome
    }

    /// Starts the machine and waits for a line with `text` on Bouncer's console; then lets it go on
    /// for as long as `after` and gives that line and what became of the machine.
    ///
    /// # Panics
    /// If the machine cannot be started, or ends or runs late without the line.
    #[must_use]
    pub fn play_until_bouncer_says(&self, text: &str, after: Duration) -> (Line, Outcome) {
        let began = Instant::now();
        let mut session = demand(Session::start(&self.machine()));
        match session.wait_for(Port::Bouncer, text, self.patience) {
            Ok(line) => {
                let outcome = session.run_to_end(began.elapsed() + after);
                self.keep(&outcome);
                (line, outcome)
            }
            Err(error) => {
                let outcome = session.run_to_end(Duration::ZERO);
                self.keep(&outcome);
                panic!("{}: {error}\n{outcome}", self.name)
            }
        }
    }

    /// Starts the machine, with its bus and its monitor in the test's hands.
    ///
    /// # Panics
    /// If the machine cannot be built or started.
    #[must_use]
    pub fn begin(&self) -> Session {
        let mut machine = self.machine();
        machine.qtest = Qtest::Harness;
        demand(Session::start(&machine))
    }

    /// Starts the machine, as [`Scene::begin`], and demands that Bouncer mediates the device under the rule called
    /// `rule`.
    ///
    /// # Panics
    /// If it does not, if the machine cannot be built or started, or Bouncer does not start its guest.
    #[must_use]
    pub fn begin_mediated(&self, rule: &str) -> Session {
        let mut session = self.begin();
        demand(session.wait_for(Port::Bouncer, "@launch", self.patience));
        match judge::mediator(&session, rule).as_deref() {
            Some("none") => panic!("{}: no mediator for `{rule}`: it is denied", self.name),
            Some(_) => session,
            None => panic!("{}: Bouncer names no device under `{rule}`", self.name),
        }
    }

    /// Lets a machine that was begun live to its end or its deadline; what it said is kept.
    #[must_use]
    pub fn end(&self, session: Session) -> Outcome {
        let mut outcome = session.run_to_end(self.patience);
        self.name_frames(&mut outcome);
        self.keep(&outcome);
        outcome
    }

    fn machine(&self) -> Machine {
        let mut machine = Machine::new(self.emulator.clone(), self.boot())
            .vcpus(self.vcpus)
            .memory_mib(self.memory_mib)
            .arguments(self.arguments.iter().cloned());
        machine.cpu.clone_from(&self.cpu);
        machine.clock = self.clock;
        machine.drive_pace = self.drive_pace;
        match self.system {
            System::Sata => {}
            System::Nvme => machine.drives.push(self.system_disc()),
            System::Installed => machine.drives.push(demand(self.bench.installed()).into()),
        }
        machine.drives.extend(self.drives.iter().cloned());
        machine.iommu = machine.iommu.filter(|_| self.has_iommu);
        machine.bochs.clone_from(&self.bochs);
        machine
    }

    fn boot(&self) -> Boot {
        match self.front {
            Front::Nothing => Boot::Linux {
                kernel: self.kernel.image.clone(),
                initrd: self.initial_file_system(),
                append: self.line_for_payload(),
            },
            Front::Bouncer | Front::Loader => Boot::Iso(self.master()),
            Front::Efi | Front::Firmware => self.discs(),
        }
    }

    fn system_disc(&self) -> PathBuf {
        self.file("system.img")
    }

    /// UEFI firmware with Bouncer's disc, if there is Bouncer, and the system's unless that is an NVMe drive.
    fn discs(&self) -> Boot {
        let mut firmware = demand(self.bench.firmware()).clone();
        if self.signed != Signed::Nothing {
            let secure = demand(self.bench.secure_boot());
            firmware.variables.clone_from(&secure.variables);
        }
        let mut discs = Vec::new();
        if self.front == Front::Efi {
            let mut efi = demand(self.bench.bouncer_efi()).to_path_buf();
            if self.signed == Signed::All {
                let signer = &demand(self.bench.secure_boot()).signer;
                efi = demand(signer.sign(&efi, &self.file("bouncer.efi")));
            }
            let bouncer = Esp::bouncer(&efi, &self.options(), self.policy.as_deref());
            discs.push(demand(bouncer.write(&self.file("bouncer.img"))));
        }
        if self.system != System::Installed {
            let system = demand(self.system(&firmware).write(&self.system_disc()));
            discs.extend((self.system == System::Sata).then_some(system));
        }
        Boot::Efi {
            firmware,
            variables: self.variables.clone(),
            discs,
        }
    }

    /// The system's disc: a boot loader with a kernel; where all must be signed and Debian has not, one program that is
    /// both.
    fn system(&self, firmware: &Firmware) -> Esp {
        let (kernel, initrd) = (&self.kernel.image, self.initial_file_system());
        let append = self.line_for_payload();
        let grub = &firmware.grub;
        match (self.loader, self.signed) {
            (Loader::Shim, _) => {
                return Esp::linux_by_shim(&firmware.shim, grub, kernel, &initrd, &append);
            }
            (Loader::SystemdBoot, _) => {
                let loader = &firmware.systemd_boot;
                return Esp::linux_by_systemd(loader, kernel, &initrd, &append);
            }
            (Loader::Grub, Signed::Nothing) => {
                return Esp::linux(grub, kernel, &initrd, &append);
            }
            (Loader::Grub, Signed::System | Signed::All) => {}
        }
        let secure = demand(self.bench.secure_boot());
        let unsigned = self.file("system.unsigned.efi");
        let system = qemu::unified(&secure.stub, kernel, &initrd, &append, &unsigned);
        let signed = secure
            .signer
            .sign(&demand(system), &self.file("system.efi"));
        Esp::program(&demand(signed))
    }

    fn line_for_payload(&self) -> String {
        let usual = || format!("{} bouncer.cpus={}", self.append, self.vcpus);
        self.whole_line.clone().unwrap_or_else(usual)
    }

    /// Puts names to the addresses in Bouncer's last words.
    fn name_frames(&self, outcome: &mut Outcome) {
        if let (false, Some(bouncer)) = (outcome.report.frames.is_empty(), &self.bench.bouncer) {
            let symbols = demand(Symbols::load(&bouncer.symbols));
            outcome.report.symbolise(&symbols);
        }
    }

    /// Keeps what the ports said, for whoever has to find out why.
    fn keep(&self, outcome: &Outcome) {
        let channels = [
            ("console", &outcome.console),
            ("guest", &outcome.guest),
            ("bouncer", &outcome.bouncer),
        ];
        for (name, lines) in channels {
            let text: String = lines
                .iter()
                .map(|line| format!("{:9.3} {}\n", line.at.as_secs_f64(), line.text))
                .collect();
            // Only for reading afterwards: the outcome itself is judged from memory.
            let _ = fs::write(self.file(&format!("{name}.log")), text);
        }
    }
}

/// Puts `new` in the place of `old` unless they are equal: a disc is mastered anew only for a new
/// file.
fn keep_if_equal(new: &Path, old: &Path) -> PathBuf {
    let is_equal = fs::read(old).is_ok_and(|bytes| fs::read(new).is_ok_and(|new| new == bytes));
    let outcome = if is_equal {
        fs::remove_file(new)
    } else {
        fs::rename(new, old)
    };
    outcome.unwrap_or_else(|error| panic!("{}: {error}", old.display()));
    old.to_path_buf()
}
