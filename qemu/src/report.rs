//! What happened: gathered line by line, judged at the end, written as JSON.

use core::fmt;
use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};

use crate::protocol::{BouncerLine, DeviceLine, GuestLine, Unreadable};

/// Frequency of the ACPI power-management timer in Hz (ACPI 6.5, 4.8.2.1).
const PM_TIMER_HZ: f64 = 3_579_545.0;

/// How a machine's life ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Ended {
    /// The guest powered the machine off.
    #[serde(rename = "poweroff")]
    PowerOff,
    /// The guest reset the machine.
    Reset,
    /// The guest's processor gave up; Bouncer saw it.
    TripleFault,
    /// The deadline came first.
    Timeout,
    /// Whoever watched it stopped it.
    Stopped,
    /// Bouncer panicked.
    Panic,
    /// Bouncer did not start the guest, and said why.
    Refused,
    /// The emulator ended by itself: a crash, a refusal to start, a signal.
    Emulator,
}

impl fmt::Display for Ended {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::PowerOff => "powered off",
            Self::Reset => "reset itself",
            Self::TripleFault => "triple-faulted",
            Self::Timeout => "was still running at the deadline",
            Self::Stopped => "was stopped by hand",
            Self::Panic => "was stopped: Bouncer panicked",
            Self::Refused => "was not started: Bouncer said why",
            Self::Emulator => "lost its emulator: it crashed or was killed",
        })
    }
}

/// What became of one check the guest ran.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(into = "String", from = "String")]
pub enum CheckResult {
    /// It held.
    Pass,
    /// It did not; why.
    Fail(String),
    /// It could not be run; why.
    Skip(String),
    /// It began and was never heard of again.
    Unfinished,
}

impl From<CheckResult> for String {
    fn from(result: CheckResult) -> Self {
        match result {
            CheckResult::Pass => "pass".into(),
            CheckResult::Fail(why) => format!("fail: {why}"),
            CheckResult::Skip(why) => format!("skip: {why}"),
            CheckResult::Unfinished => "unfinished".into(),
        }
    }
}

impl From<String> for CheckResult {
    fn from(text: String) -> Self {
        let why = |prefix| text.strip_prefix(prefix).map(str::to_owned);
        match text.as_str() {
            "pass" => Self::Pass,
            "unfinished" => Self::Unfinished,
            _ => why("skip: ").map_or_else(
                || Self::Fail(why("fail: ").unwrap_or(text.clone())),
                Self::Skip,
            ),
        }
    }
}

/// The guest's part of a report.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Guest {
    /// The kernel's release, as its console or its init said it; empty if neither did.
    pub kernel: String,
    /// Processors it was given.
    pub vcpus: u32,
    /// How it ended.
    pub ended: Ended,
    /// Every check that began.
    pub checks: BTreeMap<String, CheckResult>,
    /// Every `data` line.
    pub data: BTreeMap<String, String>,
}

/// Where the time went, in seconds.
#[derive(Clone, Copy, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct Seconds {
    /// From the boot loader's last instruction to the guest's first, on the guest's clock; absent without Bouncer.
    pub loader_to_kernel: Option<f64>,
    /// From QEMU's start to its end, on the host's clock.
    pub total: f64,
}

/// One device, as Bouncer's console told of it. Counters Bouncer did not print are absent, not zero.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[allow(missing_docs, reason = "the names are those of the `@device` line")]
pub struct Device {
    pub bdf: String,
    pub trust: String,
    pub mediator: String,
    pub protection: String,
    pub rule: String,
    pub requests: Option<u64>,
    pub bytes: Option<u64>,
    pub bounced_bytes: Option<u64>,
    pub exits: Option<u64>,
    pub invalidations: Option<u64>,
    pub faults: Option<u64>,
    pub refusals: Option<u64>,
    /// Keys without a field of their own.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub other: BTreeMap<String, String>,
}

/// Everything a run tells, as it is written to `--report FILE`.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Report {
    /// The guest.
    pub guest: Guest,
    /// Where the time went.
    pub seconds: Seconds,
    /// Size of the hypervisor's image in bytes; absent without Bouncer.
    pub image_bytes: Option<u64>,
    /// Memory Bouncer keeps for itself, in bytes; absent without Bouncer.
    pub resident_bytes: Option<u64>,
    /// Physical address where that memory begins; absent without Bouncer.
    pub resident_base: Option<u64>,
    /// Exits by reason.
    pub exits: BTreeMap<String, u64>,
    /// Devices in the order Bouncer named them.
    pub devices: Vec<Device>,
    /// Bouncer's last words, if it had any.
    pub panic: Option<String>,
    /// The panic's backtrace: offsets in the hypervisor's image, symbolised where its symbols were at hand.
    pub frames: Vec<String>,
    /// `@` lines of no known kind, and lines on COM2 that are not of the protocol.
    pub other: Vec<String>,
    #[serde(skip)]
    pub(crate) greeted: bool,
    #[serde(skip)]
    pub(crate) done: bool,
    #[serde(skip)]
    pub(crate) frame_offsets: Vec<u64>,
    #[serde(skip)]
    announced: Option<Ended>,
}

impl Report {
    /// A report of a machine that has not said anything yet.
    #[must_use]
    pub fn new(vcpus: u32) -> Self {
        Self {
            guest: Guest {
                kernel: String::new(),
                vcpus,
                ended: Ended::Timeout,
                checks: BTreeMap::new(),
                data: BTreeMap::new(),
            },
            seconds: Seconds::default(),
            image_bytes: None,
            resident_bytes: None,
            resident_base: None,
            exits: BTreeMap::new(),
            devices: Vec::new(),
            panic: None,
            frames: Vec::new(),
            other: Vec::new(),
            greeted: false,
            done: false,
            frame_offsets: Vec::new(),
            announced: None,
        }
    }

    /// Adds a line of COM1: only the kernel's first line matters.
    pub fn hear_console(&mut self, line: &str) {
        if self.guest.kernel.is_empty()
            && let Some((_, rest)) = line.split_once("Linux version ")
            && let Some(release) = rest.split_whitespace().next()
        {
            self.guest.kernel = release.to_owned();
        }
    }

    /// Adds a line of COM2.
    pub fn hear_guest(&mut self, line: &str) {
        let checks = &mut self.guest.checks;
        match line.parse::<GuestLine>() {
            Ok(GuestLine::Hello { .. }) => self.greeted = true,
            Ok(GuestLine::Start { name }) => {
                checks.entry(name).or_insert(CheckResult::Unfinished);
            }
            Ok(GuestLine::Pass { name }) => {
                // A check that failed once has failed, whatever it says afterwards.
                if !matches!(checks.get(&name), Some(CheckResult::Fail(_))) {
                    checks.insert(name, CheckResult::Pass);
                }
            }
            Ok(GuestLine::Fail { name, why }) => drop(checks.insert(name, CheckResult::Fail(why))),
            Ok(GuestLine::Skip { name, why }) => drop(checks.insert(name, CheckResult::Skip(why))),
            Ok(GuestLine::Data { key, value }) => {
                if key == "kernel" {
                    value
                        .split_whitespace()
                        .next()
                        .unwrap_or_default()
                        .clone_into(&mut self.guest.kernel);
                }
                self.guest.data.insert(key, value);
            }
            Ok(GuestLine::Done) => self.done = true,
            Err(Unreadable::Word | Unreadable::Operand) => self.other.push(line.to_owned()),
        }
    }

    /// Adds a line of COM3.
    pub fn hear_bouncer(&mut self, line: BouncerLine) {
        match line {
            BouncerLine::Human(_) => {}
            BouncerLine::Own { base, bytes, image } => {
                self.resident_base = Some(base);
                self.resident_bytes = Some(bytes);
                self.image_bytes = Some(image);
            }
            BouncerLine::Launch { pm_ticks } => {
                #[allow(clippy::cast_precision_loss, reason = "a 24-bit or 32-bit timer")]
                let seconds = pm_ticks as f64 / PM_TIMER_HZ;
                self.seconds.loader_to_kernel = Some(seconds);
            }
            BouncerLine::Exits(exits) => self.exits = exits,
            BouncerLine::Ended(ended) => self.announced = Some(ended),
            BouncerLine::Panic(text) => self.panic = Some(text),
            BouncerLine::Frame(offset) => {
                self.frame_offsets.push(offset);
                self.frames.push(format!("{offset:#x}"));
            }
            BouncerLine::Device(line) => self.device(line),
            BouncerLine::Other(line) => {
                if let Some(counts) = DeviceLine::of_counts(&line) {
                    self.device(counts);
                }
                self.other.push(line);
            }
        }
    }

    /// Settles how it ended: what Bouncer announced and its panic outweigh what QEMU saw.
    pub(crate) fn end(&mut self, seen: Ended, total: f64) {
        self.guest.ended = match (seen, self.announced) {
            _ if self.panic.is_some() => Ended::Panic,
            (_, Some(Ended::Panic)) => Ended::Panic,
            (_, Some(Ended::TripleFault)) => Ended::TripleFault,
            (_, Some(Ended::Refused)) => Ended::Refused,
            (seen, _) => seen,
        };
        self.seconds.total = total;
    }

    /// How Bouncer said that the machine would end.
    pub(crate) fn announced(&self) -> Option<Ended> {
        self.announced
    }

    /// Whether Bouncer has said its last words.
    pub(crate) fn is_over(&self) -> bool {
        self.panic.is_some() || matches!(self.announced, Some(Ended::Panic | Ended::Refused))
    }

    fn device(&mut self, line: DeviceLine) {
        let index = self
            .devices
            .iter()
            .position(|device| device.bdf == line.bdf)
            .unwrap_or_else(|| {
                self.devices.push(Device {
                    bdf: line.bdf,
                    ..Device::default()
                });
                self.devices.len() - 1
            });
        for (key, value) in line.facts {
            self.devices[index].learn(key, value);
        }
    }
}

impl Device {
    fn learn(&mut self, key: String, value: String) {
        let counter = match key.as_str() {
            "trust" => return self.trust = value,
            "mediator" => return self.mediator = value,
            "protection" => return self.protection = value,
            "rule" => return self.rule = value,
            "requests" => &mut self.requests,
            "bytes" => &mut self.bytes,
            "bounced_bytes" | "bounced-bytes" => &mut self.bounced_bytes,
            "exits" => &mut self.exits,
            "invalidations" => &mut self.invalidations,
            "faults" => &mut self.faults,
            "refusals" => &mut self.refusals,
            _ => return drop(self.other.insert(key, value)),
        };
        match value.parse() {
            Ok(count) => *counter = Some(count),
            Err(_) => drop(self.other.insert(key, value)),
        }
    }
}
