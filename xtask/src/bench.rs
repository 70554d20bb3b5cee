//! `cargo xtask bench`: the same guest and drive under every arrangement, side by side.
//!
//! A round lets each arrangement live once, so that what disturbs the host disturbs all of them. Owns the order of the
//! lives and the files that are left; [`setting`] knows the arrangements, [`measured`] reads one life, [`results`] puts
//! them together, [`table`] and [`chart`] show them.

mod chart;
pub(crate) mod measured;
mod results;
mod setting;
mod table;

use std::fs;
use std::path::{Path, PathBuf};
use std::time::Duration;

use clap::Args;
use qemu::{
    Boot, Bouncer, Clock, DrivePace, Emulator, Ended, Initramfs, Iso, Kernel, Machine, Outcome,
    Payload, Port, Session,
};

use crate::build;
use crate::progress::{say, step};
use crate::setup;
use crate::stop::Stop;
use crate::workspace;
use measured::{Load, Told};
use results::{Results, Run, Time};
use setting::{Policy, SLOT, Setting};

/// What `cargo xtask bench` is told.
#[derive(Debug, Args)]
pub(crate) struct Options {
    /// An arrangement to measure (repeatable; none: all): native, strict, swiotlb, trusted, copy, map, copy-mmio, map-mmio
    #[arg(long, value_name = "NAME", value_parser = setting::by_name)]
    setting: Vec<Setting>,

    /// Bytes of a request (repeatable; none: 512, 4096, 65536, 131072)
    #[arg(long, value_name = "BYTES", value_parser = clap::value_parser!(u64).range(512..=1 << 20))]
    block: Vec<u64>,

    /// Requests under way at once (repeatable; none: 1 and 32)
    #[arg(long, value_name = "COUNT", value_parser = clap::value_parser!(u64).range(1..=256))]
    depth: Vec<u64>,

    /// Requests of a load of small blocks; above 64 KiB they are fewer, to move as much as 64 KiB each would
    #[arg(long, value_name = "COUNT", default_value_t = 2000, value_parser = clap::value_parser!(u64).range(100..=1_000_000))]
    requests: u64,

    /// Rounds under the wall clock; none is none
    #[arg(long, value_name = "COUNT", default_value_t = 3)]
    rounds: u32,

    /// A round with one nanosecond of the guest's time per instruction, too
    #[arg(long)]
    icount: bool,

    /// Requests that the drive does in a second at most, so that it is slower than the guest; none is as many as it can
    #[arg(long, value_name = "COUNT", value_parser = clap::value_parser!(u32).range(1..))]
    drive_rate: Option<u32>,

    /// Microseconds that each request takes of the drive, which then does any number at once
    #[arg(long, value_name = "MICROSECONDS", conflicts_with = "drive_rate", value_parser = clap::value_parser!(u64).range(1..=1_000_000))]
    drive_latency: Option<u64>,

    /// Requests that are handed to the kernel at once, at most
    #[arg(long, value_name = "COUNT", default_value_t = 1, value_parser = clap::value_parser!(u64).range(1..=256))]
    batch: u64,

    /// The byte of a page at which each buffer begins: Linux bounces only what is not whole pages
    #[arg(long, value_name = "BYTES", default_value_t = 0, value_parser = offset)]
    offset: u64,

    /// Processors of the guest
    #[arg(long, value_name = "COUNT", default_value_t = 1, value_parser = clap::value_parser!(u32).range(1..=64))]
    smp: u32,

    /// Another QEMU than the newest there is
    #[arg(long, value_name = "PATH")]
    qemu: Option<PathBuf>,

    /// Where the results go: NAME.json, NAME.txt, NAME-wall.svg, NAME-icount.svg
    #[arg(long, value_name = "NAME", default_value = "target/bench/result")]
    output: PathBuf,
}

/// Requests by which the guest warms each load up before it counts.
pub(crate) const WARMING: u64 = 100;
/// Linux keeps its bounce pool only if there is memory above 4 GiB that a device might not reach.
const MEMORY_MIB: u64 = 4096;
const DRIVE_MIB: u64 = 64;
/// Requests of larger blocks are fewer, but not fewer than this.
const FEWEST: u64 = 100;
/// How long one life may take.
const PATIENCE: Duration = Duration::from_secs(1200);
/// How long Bouncer may take to say what it makes of its devices.
const LAUNCH: Duration = Duration::from_secs(240);
const COMMAND_LINE: &str = "console=ttyS0 panic=-1 quiet no_timer_check";
/// Where a clock counts instructions, QEMU 10 ends itself if the guest sets the timer of its local APIC by a register of
/// x2APIC mode: the guest keeps time by another.
const OTHER_TIMER: &str = "nolapic_timer";

/// `cargo xtask bench`.
pub(crate) fn run(options: &Options) -> Result<(), Stop> {
    setup::meet(&setup::ALL)?;
    let bench = Preparation::make(options)?;
    let mut settings = options.setting.clone();
    if settings.is_empty() {
        settings = setting::ALL.to_vec();
    }
    let mut results = Results::default();
    bench.describe(options, &mut results);
    let loads = options.loads();

    settings.retain(|setting| match bench.absence(*setting) {
        Ok(None) => true,
        Ok(Some(why)) => {
            say(&format!("ABSENT {}: {why}", setting.name));
            results.absent.push((*setting, why));
            false
        }
        Err(stop) => {
            stop.tell();
            results
                .failures
                .push(format!("{}: it does not start", setting.name));
            false
        }
    });
    for setting in settings.iter().filter(|setting| setting.policy.is_some()) {
        match bench.live(*setting, Time::Wall, &[]) {
            Ok(told) => drop(results.boots.insert(setting.name, told.totals)),
            Err(why) => results.failures.push(why),
        }
    }
    let mut rounds = vec![Time::Wall; options.rounds as usize];
    rounds.extend(options.icount.then_some(Time::Instructions));
    for (index, time) in rounds.iter().enumerate() {
        for setting in &settings {
            say(&format!(
                "round {} of {}, {} clock: {}",
                index + 1,
                rounds.len(),
                time.name(),
                setting.name
            ));
            match bench.live(*setting, *time, &loads) {
                Ok(told) => results.runs.push(Run {
                    setting: *setting,
                    time: *time,
                    told,
                }),
                Err(why) => {
                    say(&format!("FAILED {why}"));
                    results.failures.push(why);
                }
            }
            // What has been measured is kept, whatever happens next.
            options.keep(&results)?;
        }
    }
    options.keep(&results)?;
    print!("{}", table::table(&results));
    say(&format!("kept in {}.*", options.output.display()));
    if results.failures.is_empty() {
        Ok(())
    } else {
        Err(Stop::failed(format!(
            "bench: {} of its machines failed",
            results.failures.len()
        )))
    }
}

impl Options {
    fn drive_pace(&self) -> DrivePace {
        match (self.drive_rate, self.drive_latency) {
            (Some(rate), _) => DrivePace::Rate(rate),
            (None, Some(latency)) => DrivePace::Latency(Duration::from_micros(latency)),
            (None, None) => DrivePace::Host,
        }
    }

    /// How requests are made, in the guest's words.
    fn way(&self) -> String {
        let (offset, batch) = (self.offset, self.batch);
        format!("bouncer.load-offset={offset} bouncer.load-batch={batch}")
    }

    /// Every load, with its number of requests.
    fn loads(&self) -> Vec<(Load, u64)> {
        let or = |given: &Vec<u64>, usual: &[u64]| {
            if given.is_empty() {
                usual.to_vec()
            } else {
                given.clone()
            }
        };
        let mut loads = Vec::new();
        for block in or(&self.block, &[512, 4096, 65_536, 131_072]) {
            let share = (block / 65_536).max(1);
            let requests = (self.requests / share).max(FEWEST.min(self.requests));
            for is_write in [false, true] {
                for depth in or(&self.depth, &[1, 32]) {
                    let load = Load {
                        block,
                        is_write,
                        depth,
                    };
                    loads.push((load, requests));
                }
            }
        }
        loads
    }

    /// Writes all that is known to the files of this name.
    fn keep(&self, results: &Results) -> Result<(), Stop> {
        if let Some(directory) = self.output.parent() {
            workspace::make(directory)?;
        }
        let named = |end: &str| {
            let mut name = self.output.clone().into_os_string();
            name.push(end);
            PathBuf::from(name)
        };
        let json = serde_json::to_string_pretty(&results.json())
            .expect("numbers and texts can be written as JSON");
        workspace::write(&named(".json"), json + "\n")?;
        workspace::write(&named(".txt"), table::table(results))?;
        for time in results.times() {
            if let Some(svg) = chart::svg(results, time) {
                workspace::write(&named(&format!("-{}.svg", time.name())), svg)?;
            }
        }
        Ok(())
    }
}

/// What every machine is made of.
struct Preparation {
    directory: PathBuf,
    emulator: Emulator,
    kernel: Kernel,
    initrd: PathBuf,
    bouncer: Bouncer,
    drive: PathBuf,
    external_port: PathBuf,
    processors: u32,
    drive_pace: DrivePace,
    /// How requests are made, for the guest.
    way: String,
}

impl Preparation {
    fn make(options: &Options) -> Result<Self, Stop> {
        let directory = workspace::cache("bench").join("machines");
        workspace::make(&directory)?;
        let kernel = setup::stock_kernel("6.1")?;
        let initrd = Initramfs::new(&build::guest()?)
            .modules(&kernel, ["nvme"])
            .checks(["nvme-load"])
            .tree(&setup::fetch_tools()?)
            .write(&directory.join("initrd"))?;
        let external_port = directory.join("external-port.aml");
        workspace::write(&external_port, qemu::external_port_table(SLOT))?;
        let drive = directory.join("drive.img");
        fill(&drive)?;
        Ok(Self {
            emulator: setup::choose_emulator(options.qemu.as_deref())?,
            bouncer: build::bouncer()?,
            directory,
            kernel,
            initrd,
            drive,
            external_port,
            processors: options.smp,
            drive_pace: options.drive_pace(),
            way: options.way(),
        })
    }

    fn describe(&self, options: &Options, results: &mut Results) {
        let mut tell = |key: &str, value: String| drop(results.machine.insert(key.into(), value));
        tell("emulator", format!("QEMU {}, TCG", self.emulator.version));
        tell("kernel", self.kernel.release.clone());
        let processors = format!("{}, {MEMORY_MIB} MiB", self.processors);
        tell("processors", processors);
        match self.drive_pace {
            DrivePace::Host => {}
            DrivePace::Rate(rate) => tell("drive", format!("{rate} requests a second at most")),
            DrivePace::Latency(latency) => tell("drive", format!("{latency:?} a request")),
        }
        if options.batch > 1 {
            let batch = options.batch;
            tell("batches", format!("up to {batch} requests at once"));
        }
        if options.offset > 0 {
            let offset = options.offset;
            tell("buffers", format!("begin at byte {offset} of a page"));
        }
        tell("rounds", options.rounds.to_string());
        tell("requests", format!("{} of small blocks", options.requests));
    }

    /// Why `setting` cannot be measured, if it cannot: Bouncer is started and asked.
    fn absence(&self, setting: Setting) -> Result<Option<String>, Stop> {
        let Some(Policy::Untrusted { .. }) = setting.policy else {
            return Ok(None);
        };
        let machine = self.machine(setting, Time::Wall, &[])?;
        let mut session = Session::start(&machine)?;
        let launched = session.wait_for(Port::Bouncer, "@launch", LAUNCH);
        let lines = session.lines_of(Port::Bouncer).to_vec();
        let refused = lines.iter().any(|line| line.text == "@ended refused");
        let texts = lines.iter().map(|line| line.text.as_str());
        match launched {
            Err(error) if !refused => Err(error.into()),
            _ => Ok(measured::absence(texts, refused.then_some(Ended::Refused))),
        }
    }

    /// One life under `setting`: what it told, or what failed.
    fn live(&self, setting: Setting, time: Time, loads: &[(Load, u64)]) -> Result<Told, String> {
        let failed = |why: String| format!("{}, {} clock: {why}", setting.name, time.name());
        let played = || -> Result<Outcome, Stop> {
            let machine = self.machine(setting, time, loads)?;
            let session = Session::start(&machine)?;
            let what = format!("measuring {}", setting.name);
            Ok(step(&what, || session.run_to_end(PATIENCE)))
        };
        let outcome = played().map_err(|stop| {
            let (Stop::Failed(why) | Stop::Unready(why)) = stop;
            failed(why)
        })?;
        let log = self
            .directory
            .join(format!("{}-{}.log", setting.name, time.name()));
        // Only for whoever has to find out why: the outcome itself is judged from memory.
        let _ = fs::write(&log, outcome.to_string());
        if !outcome.verdict().is_success() {
            let why = format!("{}; see {}", outcome.verdict(), log.display());
            return Err(failed(why));
        }
        let names: Vec<_> = loads.iter().map(|(load, _)| *load).collect();
        let told = Told::read(&outcome, &names);
        if setting.is_external != (told.place == "removable") {
            return Err(failed(format!(
                "the guest takes the drive's place for {:?}",
                told.place
            )));
        }
        if told.samples.len() < loads.len() {
            return Err(failed("some loads told nothing".into()));
        }
        Ok(told)
    }

    fn machine(
        &self,
        setting: Setting,
        time: Time,
        loads: &[(Load, u64)],
    ) -> Result<Machine, Stop> {
        let append = format!("{} {}", command_line(setting, time, loads), self.way);
        let boot = match setting.policy {
            None => Boot::Linux {
                kernel: self.kernel.image.clone(),
                initrd: self.initrd.clone(),
                append,
            },
            Some(policy) => {
                let payload = Payload::linux(&self.kernel.image, &self.initrd);
                let disc = Iso::bouncer(&self.bouncer.image, payload)
                    .append(append)
                    .policy(policy.text());
                let path = self.directory.join(format!("{}.iso", setting.name));
                Boot::Iso(disc.write(&path)?)
            }
        };
        let mut machine = Machine::new(self.emulator.clone(), boot)
            .vcpus(self.processors)
            .memory_mib(MEMORY_MIB)
            .drive(&self.drive);
        machine.drive_pace = self.drive_pace;
        if setting.is_external {
            let table = format!("file={}", self.external_port.display());
            machine = machine.arguments(["-acpitable", &table]);
        }
        if time == Time::Instructions {
            machine.clock = Clock::Instructions;
        }
        Ok(machine)
    }
}

/// What the kernel of one life is told.
fn command_line(setting: Setting, time: Time, loads: &[(Load, u64)]) -> String {
    let loads: Vec<_> = loads
        .iter()
        .map(|(load, requests)| {
            format!(
                "{}:{}:{}:{requests}",
                load.direction(),
                load.block,
                load.depth
            )
        })
        .collect();
    let mut words = vec![COMMAND_LINE.to_owned()];
    words.extend((!setting.append.is_empty()).then(|| setting.append.to_owned()));
    words.extend((time == Time::Instructions).then(|| OTHER_TIMER.to_owned()));
    words.push(format!("bouncer.load={}", loads.join(",")));
    words.join(" ")
}

/// A byte of a page at which a buffer may begin for direct requests.
fn offset(text: &str) -> Result<u64, String> {
    let number = text.parse().ok();
    let number = number.filter(|number| (0..4096).contains(number) && number % 512 == 0);
    number.ok_or_else(|| "a multiple of 512 below 4096".into())
}

/// Makes the drive's image, every block of which is there: a hole in a file is read faster than data.
fn fill(path: &Path) -> Result<(), Stop> {
    let bytes = DRIVE_MIB << 20;
    if fs::metadata(path).is_ok_and(|metadata| metadata.len() == bytes) {
        return Ok(());
    }
    let block: Vec<u8> = (0..1 << 20).map(|index: u32| (index % 251) as u8).collect();
    workspace::write(path, block.repeat(DRIVE_MIB as usize))
}

#[cfg(test)]
mod tests {
    use clap::Parser;

    use super::*;

    #[derive(Debug, Parser)]
    struct Cli {
        #[command(flatten)]
        options: Options,
    }

    fn options(arguments: &[&str]) -> Options {
        Cli::try_parse_from([&["bench"], arguments].concat())
            .unwrap()
            .options
    }

    #[test]
    fn without_options_every_size_direction_and_depth_is_measured() {
        let loads = options(&[]).loads();
        assert_eq!(loads.len(), 16);
        let requests = |block| {
            let found = loads.iter().find(|(load, _)| load.block == block);
            found.unwrap().1
        };
        assert_eq!(
            [512, 4096, 65_536, 131_072].map(requests),
            [2000, 2000, 2000, 1000]
        );
    }

    #[test]
    fn a_short_run_is_asked_for_by_options() {
        let options = options(&[
            "--setting",
            "native",
            "--setting",
            "trusted",
            "--block",
            "4096",
            "--depth",
            "32",
            "--requests",
            "100",
            "--rounds",
            "1",
        ]);
        let names: Vec<_> = options.setting.iter().map(|setting| setting.name).collect();
        assert_eq!(names, ["native", "trusted"]);
        let loads = options.loads();
        assert_eq!(loads.len(), 2);
        assert_eq!(loads[0].1, 100);
    }

    #[test]
    fn buffers_begin_where_direct_requests_may() {
        for wrong in ["1", "4096", "-512", "page"] {
            assert!(
                Cli::try_parse_from(["bench", "--offset", wrong]).is_err(),
                "{wrong}"
            );
        }
        let options = options(&["--offset", "512", "--batch", "16"]);
        assert_eq!(
            options.way(),
            "bouncer.load-offset=512 bouncer.load-batch=16"
        );
    }

    #[test]
    fn the_guest_is_told_its_loads_and_the_arrangement() {
        let loads = options(&["--block", "4096", "--depth", "1"]).loads();
        let strict = setting::by_name("strict").unwrap();
        let line = command_line(strict, Time::Instructions, &loads);
        assert!(line.ends_with("intel_iommu=on iommu.strict=1 nolapic_timer bouncer.load=read:4096:1:2000,write:4096:1:2000"), "{line}");
    }
}
