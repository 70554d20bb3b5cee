//! `cargo xtask run`: one machine, from the command line's words to the verdict.

use std::path::PathBuf;
use std::time::Duration;

use clap::{Args, ValueEnum};
use qemu::{
    Accelerator, Bochs, Bouncer, Clock, Emulator, Host, Machine, Outcome, Qtest, RawTerminal,
    Session, Symbols, Version,
};

use crate::display::{self, Show, Style};
use crate::image::Content;
use crate::progress::say;
use crate::setup::{self, Need};
use crate::stop::Stop;
use crate::workspace;

/// What `cargo xtask run` is told.
#[derive(Debug, Args)]
#[allow(
    clippy::struct_excessive_bools,
    reason = "these are switches on a command line"
)]
pub(crate) struct Options {
    #[command(flatten)]
    content: Content,

    /// A disk image, as an NVMe drive behind a port of its own (repeatable; raw, or .qcow2)
    #[arg(long, value_name = "FILE")]
    drive: Vec<PathBuf>,

    /// Processors
    #[arg(long, value_name = "COUNT", default_value_t = 1, value_parser = clap::value_parser!(u32).range(1..=255))]
    smp: u32,

    /// Memory, such as 512M or 4G
    #[arg(long, value_name = "SIZE", default_value = "1G", value_parser = mebibytes)]
    mem: u64,

    /// Which emulator plays the machine
    #[arg(long, value_enum, default_value_t = Player::Qemu)]
    machine: Player,

    /// The processor's model, in the emulator's words
    #[arg(long, value_name = "MODEL")]
    cpu: Option<String>,

    /// What executes the guest's instructions
    #[arg(long, value_enum, default_value_t = Accel::Auto)]
    accel: Accel,

    /// Another QEMU than the newest there is
    #[arg(long, value_name = "PATH")]
    qemu: Option<PathBuf>,

    /// One more argument for QEMU (repeatable)
    #[arg(long, value_name = "ARG", allow_hyphen_values = true)]
    qemu_arg: Vec<String>,

    /// A socket on which QEMU serves its monitor protocol to you
    #[arg(long, value_name = "SOCKET")]
    qmp: Option<PathBuf>,

    /// A socket on which QEMU serves the machine's bus to you
    #[arg(long, value_name = "SOCKET")]
    qtest: Option<PathBuf>,

    /// This terminal is the guest's console; Ctrl-A x ends the machine
    #[arg(long)]
    interactive: bool,

    /// One nanosecond of the guest's time per instruction: repeatable timings
    #[arg(long)]
    icount: bool,

    /// Seconds after which the machine is stopped and has failed (none when interactive, else 300)
    #[arg(long, value_name = "SECONDS")]
    timeout: Option<u64>,

    /// Where the report goes, as JSON
    #[arg(long, value_name = "FILE")]
    report: Option<PathBuf>,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
enum Player {
    /// QEMU: AMD-V beside Intel VT-d, any devices
    Qemu,
    /// Bochs: Intel VT-x with EPT (or AMD-V, with `--cpu ryzen`), no VT-d; slow
    Bochs,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
enum Accel {
    /// QEMU's translator, anywhere; the processors take turns
    Tcg,
    /// The same, each processor in a thread: faster, with a race of QEMU's that can lose nested paging
    TcgInThreads,
    /// The host's hypervisor, nested
    Kvm,
    /// KVM if it can nest here, else TCG
    Auto,
}

/// A machine that nobody looks at is stopped after this.
const PATIENCE: Duration = Duration::from_secs(300);

/// The same where every instruction takes a hundred of the host's.
const SLOW: Duration = Duration::from_secs(1800);

/// A machine that somebody looks at is stopped after this: never, in practice.
const FOREVER: Duration = Duration::from_secs(365 * 24 * 3600);

/// `cargo xtask run`.
pub(crate) fn run(options: &Options) -> Result<(), Stop> {
    if options.machine == Player::Bochs {
        return options.on_bochs();
    }
    let accelerator = choose(options.accel, Host::probe())?;
    if options.icount && accelerator == Accelerator::Kvm {
        return Err(Stop::unready(
            "--icount counts TCG's instructions: add --accel tcg",
        ));
    }
    if let Some(drive) = options.drive.iter().find(|drive| !drive.exists()) {
        return Err(Stop::unready(format!(
            "--drive {}: no such file; `truncate -s 64M {0}` makes an empty one",
            drive.display()
        )));
    }
    setup::meet(&[options.content.needs(), vec![Need::Qemu]].concat())?;
    let emulator = setup::choose_emulator(options.qemu.as_deref())?;

    let directory = workspace::cache("run");
    workspace::make(&directory)?;
    let medium = options.content.write(&directory)?;
    say(&format!("booting on QEMU {}", emulator.version));
    let machine = options.machine(Machine::new(emulator, medium.boot), accelerator);
    options.live(&machine, medium.bouncer)
}

impl Options {
    /// Boots the same disc on Bochs.
    fn on_bochs(&self) -> Result<(), Stop> {
        let qemu_only = [
            (!self.drive.is_empty(), "--drive"),
            (!self.qemu_arg.is_empty(), "--qemu-arg"),
            (self.qemu.is_some(), "--qemu"),
            (self.qmp.is_some(), "--qmp"),
            (self.qtest.is_some(), "--qtest"),
            (self.interactive, "--interactive"),
            (self.icount, "--icount"),
            (self.accel == Accel::Kvm, "--accel kvm"),
        ];
        if let Some((_, option)) = qemu_only.iter().find(|(is_given, _)| *is_given) {
            return Err(Stop::unready(format!(
                "{option} is QEMU's: Bochs cannot do it; leave it out or leave --machine bochs out"
            )));
        }
        setup::meet(&[self.content.needs(), vec![Need::Bochs]].concat())?;
        let bochs = setup::bochs()?;
        let directory = workspace::cache("run");
        workspace::make(&directory)?;
        let medium = self.content.write(&directory)?;
        let model = self.cpu.as_deref().unwrap_or(Bochs::INTEL);
        say(&format!(
            "booting on Bochs {}, processor {model}: about sixty million instructions a second",
            bochs.version
        ));
        let nobody = Emulator {
            program: PathBuf::new(),
            version: Version::new(0, 0, 0),
        };
        let machine = self
            .machine(Machine::new(nobody, medium.boot), Accelerator::Tcg)
            .on_bochs(bochs, model);
        self.live(&machine, medium.bouncer)
    }

    /// The machine's whole life, and the verdict.
    fn live(&self, machine: &Machine, bouncer: Option<Bouncer>) -> Result<(), Stop> {
        let mut outcome = self.play(machine)?;
        if let Some(bouncer) = bouncer.filter(|_| !outcome.report.frames.is_empty()) {
            outcome.report.symbolise(&Symbols::load(&bouncer.symbols)?);
        }
        self.conclude(&outcome)
    }

    fn machine(&self, machine: Machine, accelerator: Accelerator) -> Machine {
        // Where instructions are counted, QEMU 10 ends itself if a guest sets its timer by an x2APIC register.
        let without = if self.icount { ",-x2apic" } else { "" };
        let cpu = self.cpu.clone();
        let cpu = cpu.unwrap_or_else(|| format!("{}{without}", machine.cpu));
        Machine {
            accelerator,
            vcpus: self.smp,
            memory_mib: self.mem,
            drives: self.drive.clone(),
            clock: if self.icount {
                Clock::Instructions
            } else {
                Clock::Host
            },
            qmp: self.qmp.clone(),
            qtest: self.qtest.clone().map_or(Qtest::Off, Qtest::Socket),
            extra: self.qemu_arg.clone(),
            cpu,
            ..machine
        }
    }

    fn play(&self, machine: &Machine) -> Result<Outcome, Stop> {
        let session = Session::start(machine)?;
        let terminal = if self.interactive {
            qemu::type_into(session.keyboard()?, session.switch());
            RawTerminal::enter()
        } else {
            None
        };
        let style = if self.interactive {
            Style::Terminal
        } else {
            Style::Lines
        };
        let outcome = session.run_watched(self.patience(), &mut Show::new(style));
        drop(terminal);
        Ok(outcome)
    }

    fn patience(&self) -> Duration {
        let default = match self.machine {
            _ if self.interactive => FOREVER,
            Player::Qemu => PATIENCE,
            Player::Bochs => SLOW,
        };
        self.timeout.map_or(default, Duration::from_secs)
    }

    fn conclude(&self, outcome: &Outcome) -> Result<(), Stop> {
        if let Some(file) = &self.report {
            let json = serde_json::to_string_pretty(&outcome.report)
                .expect("a report can be written as JSON");
            workspace::write(file, json + "\n")?;
        }
        print!("{}", display::table(outcome));
        let verdict = outcome.verdict();
        if verdict.is_success() {
            Ok(())
        } else {
            Err(Stop::failed(verdict.to_string()))
        }
    }
}

/// Decides between KVM and TCG, and says why if it was asked to decide.
fn choose(accel: Accel, host: Host) -> Result<Accelerator, Stop> {
    match (accel, host.offers_kvm()) {
        (Accel::Tcg, _) => Ok(Accelerator::Tcg),
        (Accel::TcgInThreads, _) => Ok(Accelerator::TcgInThreads),
        (Accel::Kvm, Ok(extension)) => {
            say(&format!("using KVM, which hands {extension} on"));
            Ok(Accelerator::Kvm)
        }
        (Accel::Kvm, Err(why)) => Err(Stop::unready(format!(
            "--accel kvm: {why}; use --accel tcg"
        ))),
        (Accel::Auto, Ok(extension)) => {
            say(&format!(
                "using KVM: /dev/kvm is there and hands {extension} on"
            ));
            Ok(Accelerator::Kvm)
        }
        (Accel::Auto, Err(why)) => {
            say(&format!("using TCG: {why}"));
            Ok(Accelerator::Tcg)
        }
    }
}

/// Reads `512M`, `4G`, or a plain number of MiB.
fn mebibytes(text: &str) -> Result<u64, String> {
    let (digits, factor) = match text.strip_suffix(['G', 'g']) {
        Some(digits) => (digits, 1024),
        None => (text.strip_suffix(['M', 'm']).unwrap_or(text), 1),
    };
    let size = digits
        .parse::<u64>()
        .ok()
        .and_then(|size| size.checked_mul(factor));
    size.filter(|size| *size > 0)
        .ok_or_else(|| "a size such as 512M or 4G".into())
}

#[cfg(test)]
mod tests {
    use clap::Parser;
    use qemu::{Boot, Extension};

    use super::*;

    #[derive(Debug, Parser)]
    struct Cli {
        #[command(flatten)]
        options: Options,
    }

    fn options(arguments: &[&str]) -> Options {
        Cli::try_parse_from([&["run"], arguments].concat())
            .unwrap()
            .options
    }

    const NESTS: Host = Host {
        kvm: true,
        extension: Some(Extension::Vmx),
        nests: true,
    };
    const NO_DEVICE: Host = Host {
        kvm: false,
        ..NESTS
    };
    const ALONE: Host = Host {
        nests: false,
        ..NESTS
    };

    #[test]
    fn auto_takes_kvm_where_it_can_nest_and_tcg_elsewhere() {
        assert_eq!(choose(Accel::Auto, NESTS), Ok(Accelerator::Kvm));
        assert_eq!(choose(Accel::Auto, NO_DEVICE), Ok(Accelerator::Tcg));
        assert_eq!(choose(Accel::Auto, ALONE), Ok(Accelerator::Tcg));
        assert_eq!(choose(Accel::Tcg, NESTS), Ok(Accelerator::Tcg));
        assert_eq!(
            choose(Accel::TcgInThreads, NESTS),
            Ok(Accelerator::TcgInThreads)
        );
    }

    #[test]
    fn kvm_asked_for_and_absent_is_a_false_start() {
        assert_eq!(choose(Accel::Kvm, NO_DEVICE).unwrap_err().status(), 2);
    }

    #[test]
    fn sizes_are_read_and_nonsense_is_refused() {
        assert_eq!(mebibytes("512M"), Ok(512));
        assert_eq!(mebibytes("4G"), Ok(4096));
        assert_eq!(mebibytes("768"), Ok(768));
        for wrong in ["", "0", "G", "4T", "99999999999999999999G"] {
            assert!(mebibytes(wrong).is_err(), "{wrong}");
        }
    }

    #[test]
    fn a_machine_somebody_looks_at_has_no_deadline_unless_given_one() {
        assert_eq!(options(&[]).patience(), PATIENCE);
        assert_eq!(options(&["--interactive"]).patience(), FOREVER);
        assert_eq!(
            options(&["--interactive", "--timeout", "5"]).patience(),
            Duration::from_secs(5)
        );
    }

    #[test]
    fn the_words_become_the_machine() {
        let options = options(&[
            "--smp",
            "2",
            "--mem",
            "2G",
            "--drive",
            "a",
            "--drive",
            "b",
            "--icount",
            "--qemu-arg",
            "-device",
            "--qemu-arg",
            "edu",
        ]);
        let emulator = qemu::Emulator {
            program: "q".into(),
            version: qemu::Version::new(10, 0, 2),
        };
        let machine = options.machine(
            Machine::new(emulator, Boot::Iso("i".into())),
            Accelerator::Tcg,
        );
        assert_eq!(
            (machine.vcpus, machine.memory_mib, machine.drives.len()),
            (2, 2048, 2)
        );
        assert_eq!(machine.clock, Clock::Instructions);
        assert_eq!(machine.extra, ["-device", "edu"]);
    }
}
