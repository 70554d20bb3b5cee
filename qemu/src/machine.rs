//! A machine as a value, and the QEMU command line it becomes.
//!
//! Knows chip sets, ports and drives; refuses to know what runs inside. The session gives it the sockets
//! ([`Wiring`]) its ports end in.

use std::path::{Path, PathBuf};
use std::time::Duration;

use crate::accelerator::Accelerator;
use crate::bench::Firmware;
use crate::bochs::Bochs;
use crate::emulator::Emulator;

/// What the machine starts from.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Boot {
    /// A disc in the SATA CD drive, started by the BIOS.
    Iso(PathBuf),
    /// A Linux kernel placed by QEMU itself, without any boot loader.
    Linux {
        /// A bzImage.
        kernel: PathBuf,
        /// Its initial file system.
        initrd: PathBuf,
        /// Its command line.
        append: String,
    },
    /// UEFI firmware, which starts what the first disc offers, or else the next. What is written to a disc is
    /// forgotten with the machine.
    Efi {
        /// The firmware.
        firmware: Firmware,
        /// The flash memory with its variables, kept there; none is as they are at first, and forgotten.
        variables: Option<PathBuf>,
        /// Discs in SATA drives, in the order they are started from; the NVMe drives come after them.
        discs: Vec<PathBuf>,
    },
    /// A ROM in place of the BIOS: for machines driven over qtest alone.
    Rom(PathBuf),
}

/// The emulated VT-d unit.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Iommu {
    /// Address width: 39 (three levels) or 48 (four).
    pub aw_bits: u8,
    /// Further options of the `intel-iommu` device, such as `caching-mode=on`.
    pub options: Vec<String>,
}

impl Default for Iommu {
    fn default() -> Self {
        Self {
            aw_bits: 48,
            options: Vec::new(),
        }
    }
}

/// Who holds the other end of the machine's qtest channel. There can be only one.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub enum Qtest {
    /// Nobody.
    #[default]
    Off,
    /// The session: [`Session::qtest`](crate::Session::qtest).
    Harness,
    /// Another program, which connects to this socket.
    Socket(PathBuf),
}

/// How virtual time passes.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Clock {
    /// With the host's clock.
    #[default]
    Host,
    /// One nanosecond per instruction, and the host's clock while no processor has any to execute: repeatable timings on
    /// a noisy host (TCG only).
    Instructions,
}

/// How quick a drive is.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum DrivePace {
    /// As quick as the host makes it.
    #[default]
    Host,
    /// So many requests in a second at most, one after the other.
    Rate(u32),
    /// So long for each request, with any number under way at once, as flash does. Its image is left alone: it has
    /// 64 MiB, reads as zeros, and keeps nothing.
    Latency(Duration),
}

/// Bytes of a drive that keeps nothing.
const HOLLOW_DRIVE: u64 = 64 << 20;

/// A whole machine: q35, VT-d with interrupt remapping, three serial ports, a boot medium and NVMe drives.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Machine {
    /// The QEMU that plays it.
    pub emulator: Emulator,
    /// The Bochs that plays it instead, on a chip set of its own: without accelerator, remapping unit, drives,
    /// monitor and qtest.
    pub bochs: Option<Bochs>,
    /// What executes the guest's instructions.
    pub accelerator: Accelerator,
    /// QEMU's `-cpu`, or Bochs' model.
    pub cpu: String,
    /// Processors.
    pub vcpus: u32,
    /// Memory in MiB.
    pub memory_mib: u64,
    /// The VT-d unit, if the machine has one.
    pub iommu: Option<Iommu>,
    /// What it starts from.
    pub boot: Boot,
    /// Raw images (qcow2 if the name ends so), each an NVMe drive behind a root port of its own: drive `n` behind
    /// port 00:`10+n`.0 (hexadecimal), serial number `bouncer<n>`.
    pub drives: Vec<PathBuf>,
    /// How quick the drives are.
    pub drive_pace: DrivePace,
    /// How virtual time passes.
    pub clock: Clock,
    /// A socket on which another program may speak QMP. The session has its own in any case.
    pub qmp: Option<PathBuf>,
    /// Who drives qtest.
    pub qtest: Qtest,
    /// Further arguments for QEMU, last on its command line.
    pub extra: Vec<String>,
}

impl Machine {
    /// One processor, 1 GiB, TCG, VT-d on, no drive.
    #[must_use]
    pub fn new(emulator: Emulator, boot: Boot) -> Self {
        Self {
            emulator,
            bochs: None,
            accelerator: Accelerator::Tcg,
            cpu: "max".into(),
            vcpus: 1,
            memory_mib: 1024,
            iommu: Some(Iommu::default()),
            boot,
            drives: Vec::new(),
            drive_pace: DrivePace::default(),
            clock: Clock::Host,
            qmp: None,
            qtest: Qtest::Off,
            extra: Vec::new(),
        }
    }

    /// Adds an NVMe drive.
    #[must_use]
    pub fn drive(mut self, image: impl Into<PathBuf>) -> Self {
        self.drives.push(image.into());
        self
    }

    /// Has Bochs play it, with a processor of `model`.
    #[must_use]
    pub fn on_bochs(mut self, bochs: Bochs, model: &str) -> Self {
        self.bochs = Some(bochs);
        self.cpu = model.into();
        self
    }

    /// Adds arguments for QEMU as they are.
    #[must_use]
    pub fn arguments<I: IntoIterator<Item: Into<String>>>(mut self, arguments: I) -> Self {
        self.extra.extend(arguments.into_iter().map(Into::into));
        self
    }

    /// Sets the number of processors.
    #[must_use]
    pub fn vcpus(mut self, vcpus: u32) -> Self {
        self.vcpus = vcpus;
        self
    }

    /// Sets the memory, in MiB.
    #[must_use]
    pub fn memory_mib(mut self, memory_mib: u64) -> Self {
        self.memory_mib = memory_mib;
        self
    }

    /// The arguments QEMU gets.
    #[must_use]
    pub fn command_line(&self, wiring: &Wiring) -> Vec<String> {
        let mut line = CommandLine(Vec::new());
        self.chip_set(&mut line);
        self.medium(&mut line);
        self.nvme_drives(&mut line);
        self.channels(&mut line, wiring);
        line.0.extend(self.extra.iter().cloned());
        line.0
    }

    fn chip_set(&self, line: &mut CommandLine) {
        line.flag("-nodefaults")
            .flag("-no-user-config")
            .flag("-no-reboot");
        line.option("-display", "none");
        // Interrupt remapping needs the I/O APIC in QEMU's hands; TCG has it there anyway.
        line.option("-machine", "q35,kernel-irqchip=split");
        line.option("-accel", self.accelerator.name());
        line.option("-cpu", &self.cpu);
        line.option("-smp", self.vcpus.to_string());
        line.option("-m", format!("{}M", self.memory_mib));
        if let Some(iommu) = &self.iommu {
            line.option("-device", self.iommu_device(iommu));
        }
        if self.clock == Clock::Instructions {
            line.option("-icount", "shift=0,sleep=on");
        }
    }

    fn iommu_device(&self, iommu: &Iommu) -> String {
        let mut device = format!("intel-iommu,intremap=on,aw-bits={}", iommu.aw_bits);
        if self.emulator.version.has_x2apic_under_tcg() || self.accelerator == Accelerator::Kvm {
            device.push_str(",eim=on");
        }
        for option in &iommu.options {
            device.push(',');
            device.push_str(option);
        }
        device
    }

    fn medium(&self, line: &mut CommandLine) {
        match &self.boot {
            Boot::Iso(iso) => {
                line.option(
                    "-drive",
                    format!(
                        "if=none,id=disc,format=raw,readonly=on,file={}",
                        escaped(iso)
                    ),
                );
                line.option("-device", "ide-cd,bus=ide.0,drive=disc,bootindex=0");
            }
            Boot::Linux {
                kernel,
                initrd,
                append,
            } => {
                line.option("-kernel", kernel.display().to_string());
                line.option("-initrd", initrd.display().to_string());
                line.option("-append", append);
            }
            Boot::Efi {
                firmware,
                variables,
                discs,
            } => {
                let variables = match variables {
                    Some(kept) => (kept, "readonly=off"),
                    None => (&firmware.variables, "snapshot=on"),
                };
                let flash = [(&firmware.code, "readonly=on"), variables];
                for (unit, (file, mode)) in flash.into_iter().enumerate() {
                    let file = escaped(file);
                    line.option(
                        "-drive",
                        format!("if=pflash,unit={unit},format=raw,{mode},file={file}"),
                    );
                }
                for (index, disc) in discs.iter().enumerate() {
                    let file = escaped(disc);
                    line.option(
                        "-drive",
                        format!("if=none,id=disc{index},format=raw,snapshot=on,file={file}"),
                    );
                    line.option(
                        "-device",
                        format!("ide-hd,bus=ide.{index},drive=disc{index},bootindex={index}"),
                    );
                }
            }
            Boot::Rom(rom) => {
                line.option("-bios", rom.display().to_string());
            }
        }
    }

    fn nvme_drives(&self, line: &mut CommandLine) {
        let turn = |index: usize| match &self.boot {
            Boot::Efi { discs, .. } => format!(",bootindex={}", discs.len() + index),
            _ => String::new(),
        };
        for (index, image) in self.drives.iter().enumerate() {
            let format = if image.extension().is_some_and(|suffix| suffix == "qcow2") {
                "qcow2"
            } else {
                "raw"
            };
            let image = escaped(image);
            let file = |rate| format!("if=none,id=drive{index},format={format}{rate},file={image}");
            match self.drive_pace {
                DrivePace::Host => line.option("-drive", file(String::new())),
                DrivePace::Rate(rate) => {
                    line.option("-drive", file(format!(",throttling.iops-total={rate}")))
                }
                DrivePace::Latency(latency) => {
                    let latency = latency.as_nanos();
                    line.option("-blockdev", format!("driver=null-co,node-name=drive{index},size={HOLLOW_DRIVE},latency-ns={latency},read-zeroes=on"))
                }
            };
            let slot = 0x10 + index;
            line.option(
                "-device",
                format!(
                    "pcie-root-port,id=port{index},chassis={},addr=0x{slot:x}",
                    index + 1
                ),
            );
            line.option(
                "-device",
                format!(
                    "nvme,bus=port{index},drive=drive{index},serial=bouncer{index}{}",
                    turn(index)
                ),
            );
        }
    }

    fn channels(&self, line: &mut CommandLine, wiring: &Wiring) {
        // The order of `-serial` is the order of the ports: COM1, COM2, COM3.
        for (name, socket) in [
            ("console", &wiring.console),
            ("guest", &wiring.guest),
            ("bouncer", &wiring.bouncer),
        ] {
            line.option(
                "-chardev",
                format!("socket,id={name},path={}", escaped(socket)),
            );
            line.option("-serial", format!("chardev:{name}"));
        }
        line.option(
            "-chardev",
            format!("socket,id=harness,path={}", escaped(&wiring.qmp)),
        );
        line.option("-mon", "chardev=harness,mode=control");
        if let Some(socket) = &self.qmp {
            line.option(
                "-qmp",
                format!("unix:{},server=on,wait=off", escaped(socket)),
            );
        }
        match &self.qtest {
            Qtest::Off => {}
            Qtest::Harness => {
                line.option("-qtest", format!("unix:{}", escaped(&wiring.qtest)));
                line.option("-qtest-log", "none");
            }
            Qtest::Socket(socket) => {
                line.option(
                    "-qtest",
                    format!("unix:{},server=on,wait=off", escaped(socket)),
                );
                line.option("-qtest-log", "none");
            }
        }
    }
}

/// The sockets a session listens on and QEMU connects to.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Wiring {
    /// COM1, 0x3f8: the guest's console.
    pub console: PathBuf,
    /// COM2, 0x2f8: the guest's line protocol.
    pub guest: PathBuf,
    /// COM3, 0x3e8: Bouncer's console.
    pub bouncer: PathBuf,
    /// The session's monitor.
    pub qmp: PathBuf,
    /// The session's qtest channel.
    pub qtest: PathBuf,
}

impl Wiring {
    /// One socket each in `directory`.
    #[must_use]
    pub fn within(directory: &Path) -> Self {
        Self {
            console: directory.join("console"),
            guest: directory.join("guest"),
            bouncer: directory.join("bouncer"),
            qmp: directory.join("qmp"),
            qtest: directory.join("qtest"),
        }
    }
}

struct CommandLine(Vec<String>);

impl CommandLine {
    fn flag(&mut self, flag: &str) -> &mut Self {
        self.0.push(flag.into());
        self
    }

    fn option(&mut self, flag: &str, value: impl Into<String>) -> &mut Self {
        self.0.extend([flag.into(), value.into()]);
        self
    }
}

/// QEMU splits option values at commas; a comma that belongs to a path is doubled.
fn escaped(path: &Path) -> String {
    path.display().to_string().replace(',', ",,")
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::emulator::Version;

    fn machine(version: Version) -> Machine {
        let emulator = Emulator {
            program: "qemu-system-x86_64".into(),
            version,
        };
        Machine::new(emulator, Boot::Iso("/t/boot.iso".into()))
    }

    fn command_line(machine: &Machine) -> String {
        machine
            .command_line(&Wiring::within(Path::new("/s")))
            .join(" ")
    }

    const OLD: Version = Version::new(7, 2, 22);
    const NEW: Version = Version::new(10, 0, 2);

    #[test]
    fn the_serial_ports_come_in_the_order_com1_com2_com3() {
        let line = command_line(&machine(NEW));
        let ports: Vec<_> = line
            .split("-serial chardev:")
            .skip(1)
            .map(|rest| rest.split(' ').next())
            .collect();
        assert_eq!(ports, [Some("console"), Some("guest"), Some("bouncer")]);
    }

    #[test]
    fn the_remapping_unit_takes_what_its_version_knows() {
        assert!(
            command_line(&machine(OLD)).contains("-device intel-iommu,intremap=on,aw-bits=48 ")
        );
        assert!(
            command_line(&machine(NEW))
                .contains("-device intel-iommu,intremap=on,aw-bits=48,eim=on ")
        );
    }

    #[test]
    fn the_remapping_unit_takes_further_options_or_is_left_out() {
        let mut with = machine(OLD);
        with.iommu = Some(Iommu {
            aw_bits: 39,
            options: vec!["caching-mode=on".into()],
        });
        assert!(
            command_line(&with).contains("intel-iommu,intremap=on,aw-bits=39,caching-mode=on ")
        );
        with.iommu = None;
        assert!(!command_line(&with).contains("intel-iommu"));
    }

    #[test]
    fn a_drive_may_be_as_slow_as_is_asked() {
        let mut slow = machine(NEW).drive("/d/a.img");
        slow.drive_pace = DrivePace::Rate(500);
        let line = command_line(&slow);
        assert!(line.contains("format=raw,throttling.iops-total=500,file=/d/a.img"));
        slow.drive_pace = DrivePace::Latency(Duration::from_millis(7));
        let line = command_line(&slow);
        assert!(line.contains("-blockdev driver=null-co,node-name=drive0,size=67108864,latency-ns=7000000,read-zeroes=on"));
        assert!(line.contains("drive=drive0") && !line.contains("/d/a.img"));
    }

    #[test]
    fn each_drive_is_nvme_behind_a_port_of_its_own() {
        let line = command_line(&machine(NEW).drive("/d/a.img").drive("/d/b.qcow2"));
        assert!(line.contains("-drive if=none,id=drive0,format=raw,file=/d/a.img -device pcie-root-port,id=port0,chassis=1,addr=0x10 -device nvme,bus=port0,drive=drive0,serial=bouncer0"));
        assert!(line.contains("id=drive1,format=qcow2,file=/d/b.qcow2 -device pcie-root-port,id=port1,chassis=2,addr=0x11"));
    }

    #[test]
    fn uefi_firmware_starts_from_one_disc_after_the_other_and_keeps_variables_if_asked_to() {
        let mut machine = machine(NEW).drive("/d/n.img");
        machine.boot = Boot::Efi {
            firmware: Firmware {
                code: "/f/code".into(),
                variables: "/f/vars".into(),
                grub: "/f/grub".into(),
                shim: "/f/shim".into(),
                systemd_boot: "/f/systemd-boot".into(),
            },
            variables: None,
            discs: vec!["/d/a.img".into(), "/d/b.img".into()],
        };
        let line = command_line(&machine);
        for part in [
            "-drive if=pflash,unit=0,format=raw,readonly=on,file=/f/code ",
            "-drive if=pflash,unit=1,format=raw,snapshot=on,file=/f/vars ",
            "id=disc0,format=raw,snapshot=on,file=/d/a.img -device ide-hd,bus=ide.0,drive=disc0,bootindex=0 ",
            "id=disc1,format=raw,snapshot=on,file=/d/b.img -device ide-hd,bus=ide.1,drive=disc1,bootindex=1 ",
            "serial=bouncer0,bootindex=2 ",
        ] {
            assert!(line.contains(part), "{part} in {line}");
        }
        if let Boot::Efi { variables, .. } = &mut machine.boot {
            *variables = Some("/k/vars".into());
        }
        let line = command_line(&machine);
        let kept = "-drive if=pflash,unit=1,format=raw,readonly=off,file=/k/vars ";
        assert!(line.contains(kept), "{line}");
    }

    #[test]
    fn a_comma_in_a_path_is_doubled() {
        let line = command_line(&machine(NEW).drive("/d/a,b.img"));
        assert!(line.contains("file=/d/a,,b.img"));
    }

    #[test]
    fn the_machine_never_restarts_and_has_nothing_unasked_for() {
        let line = command_line(&machine(NEW));
        for flag in ["-nodefaults", "-no-reboot", "-display none"] {
            assert!(line.contains(flag), "{flag} in {line}");
        }
        assert!(!line.contains("-qtest") && !line.contains("-icount") && !line.contains("-qmp"));
    }

    #[test]
    fn instruction_time_is_asked_for_by_name() {
        let mut machine = machine(NEW);
        machine.clock = Clock::Instructions;
        assert!(command_line(&machine).contains("-icount shift=0,sleep=on"));
    }

    #[test]
    fn other_programs_get_sockets_that_qemu_serves() {
        let mut machine = machine(NEW);
        machine.qmp = Some("/u/qmp".into());
        machine.qtest = Qtest::Socket("/u/qtest".into());
        let line = command_line(&machine);
        assert!(line.contains("-qmp unix:/u/qmp,server=on,wait=off"));
        assert!(line.contains("-qtest unix:/u/qtest,server=on,wait=off"));
    }

    #[test]
    fn what_the_person_adds_comes_last() {
        let line = command_line(&machine(NEW).arguments(["-device", "edu"]));
        assert!(line.ends_with("-device edu"));
    }
}
