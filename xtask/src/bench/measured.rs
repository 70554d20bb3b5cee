//! What one machine's life told: figures of its loads, Bouncer's totals, or why there are none.

use std::collections::BTreeMap;

use qemu::protocol::BouncerLine;
use qemu::{Ended, Outcome};
use serde_json::{Value, json};

use super::setting::RULE;

/// A load by what it does: the order is that of the table.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) struct Load {
    /// Bytes of a request.
    pub(crate) block: u64,
    /// Whether it writes.
    pub(crate) is_write: bool,
    /// Requests under way at once.
    pub(crate) depth: u64,
}

impl Load {
    /// `read`, `write`.
    pub(crate) fn direction(self) -> &'static str {
        if self.is_write { "write" } else { "read" }
    }

    /// Its name in the guest's figures.
    fn key(self) -> String {
        format!("load.{}.{}.{}.", self.direction(), self.block, self.depth)
    }

    /// Its name for a person.
    pub(crate) fn name(self) -> String {
        let size = if self.block < 1024 {
            format!("{} B", self.block)
        } else {
            format!("{} KiB", self.block / 1024)
        };
        format!("{size} {}, depth {}", self.direction(), self.depth)
    }
}

/// What one load took.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct Sample {
    /// Requests made.
    pub(crate) requests: u64,
    /// Milliseconds of the guest's time.
    pub(crate) milliseconds: u64,
    /// Nanoseconds of the processors' work in making `busy_requests` requests: what they waited for is not in it.
    pub(crate) busy_nanoseconds: u64,
    pub(crate) busy_requests: u64,
    /// Interrupts of the drive's queues.
    pub(crate) interrupts: u64,
    /// Bouncer's counters meanwhile, exits by reason and whatever else it counts.
    pub(crate) counts: BTreeMap<String, u64>,
}

impl Sample {
    /// Nanoseconds of the guest's time for each request.
    pub(crate) fn nanoseconds(&self) -> f64 {
        self.milliseconds as f64 * 1e6 / self.requests.max(1) as f64
    }

    /// Nanoseconds of work for each request: instructions, where the clock counts them.
    pub(crate) fn work(&self) -> f64 {
        self.busy_nanoseconds as f64 / self.busy_requests.max(1) as f64
    }

    fn read(load: Load, data: &BTreeMap<String, String>) -> Option<Self> {
        let start = load.key();
        let mut sample = Self::default();
        let figures = data
            .iter()
            .filter_map(|(key, value)| Some((key.strip_prefix(&start)?, value.parse().ok()?)));
        for (key, value) in figures {
            match key {
                "requests" => sample.requests = value,
                "ms" => sample.milliseconds = value,
                "busy-ns" => sample.busy_nanoseconds = value,
                "busy-requests" => sample.busy_requests = value,
                "interrupts" => sample.interrupts = value,
                other => {
                    let name = other.strip_prefix("counts.").unwrap_or(other);
                    sample.counts.insert(name.to_owned(), value);
                }
            }
        }
        (sample.requests > 0 && sample.milliseconds > 0).then_some(sample)
    }

    pub(crate) fn json(&self, load: Load) -> Value {
        json!({
            "direction": load.direction(), "block": load.block, "depth": load.depth,
            "requests": self.requests, "milliseconds": self.milliseconds,
            "busy_nanoseconds": self.busy_nanoseconds, "busy_requests": self.busy_requests,
            "interrupts": self.interrupts, "counts": self.counts,
        })
    }
}

/// What a machine told in its life.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct Told {
    /// Its loads.
    pub(crate) samples: BTreeMap<Load, Sample>,
    /// Bouncer's totals of the whole life: `invalidations`, and `bounce.` with each number of its `@bounce` lines.
    pub(crate) totals: BTreeMap<String, u64>,
    /// What the guest says of the drive's place: `removable` behind an external port.
    pub(crate) place: String,
}

impl Told {
    /// Reads an outcome that was a success.
    pub(crate) fn read(outcome: &Outcome, loads: &[Load]) -> Self {
        let report = &outcome.report;
        let data = &report.guest.data;
        let samples = loads
            .iter()
            .filter_map(|load| Some((*load, Sample::read(*load, data)?)));
        Self {
            samples: samples.collect(),
            totals: totals(&report.other),
            place: data.get("load.drive").cloned().unwrap_or_default(),
        }
    }
}

/// The numbers of `@invalidations` and of each device's last `@bounce` line, summed over devices. Keys that nobody knows
/// are kept; values that are no numbers are not.
pub(crate) fn totals(lines: &[String]) -> BTreeMap<String, u64> {
    let mut last: BTreeMap<&str, Vec<(&str, u64)>> = BTreeMap::new();
    for line in lines {
        let mut words = line.split_whitespace();
        let word = words.next().unwrap_or_default();
        let facts: Vec<_> = words.filter_map(|word| word.split_once('=')).collect();
        let numbers = facts
            .iter()
            .filter_map(|(key, value)| Some((*key, value.parse().ok()?)));
        match word {
            "@invalidations" => drop(last.insert("", numbers.collect())),
            "@bounce" => {
                let device = facts.iter().find(|(key, _)| *key == "bdf");
                let device = device.map_or("?", |(_, device)| device);
                last.insert(device, numbers.collect());
            }
            _ => {}
        }
    }
    let mut totals = BTreeMap::new();
    for (device, numbers) in last {
        for (key, number) in numbers {
            let key = match (device, key) {
                ("", "count") => "invalidations".to_owned(),
                ("", other) => format!("invalidations.{other}"),
                (_, key) => format!("bounce.{key}"),
            };
            *totals.entry(key).or_insert(0) += number;
        }
    }
    totals
}

/// Why an arrangement with an untrusted drive cannot be measured, told from Bouncer's first lines: its policy is
/// refused, or nobody mediates the drive.
pub(crate) fn absence<'a>(
    lines: impl Iterator<Item = &'a str> + Clone,
    ended: Option<Ended>,
) -> Option<String> {
    let devices = lines
        .clone()
        .filter_map(|line| match BouncerLine::parse(line) {
            BouncerLine::Device(device) => Some(device),
            _ => None,
        });
    let drive = devices
        .filter(|device| {
            let rule = device.facts.get("rule");
            rule.is_some_and(|rule| rule.contains(RULE))
        })
        .last();
    let fact = |key: &str| drive.as_ref()?.facts.get(key).cloned();
    if ended == Some(Ended::Refused) {
        let mut words = lines.filter(|line| !line.starts_with('@'));
        let why = words.find(|line| line.contains("does not start"));
        return Some(why.unwrap_or("Bouncer refuses to start").to_owned());
    }
    match fact("mediator").as_deref() {
        None => Some("Bouncer names no device under the drive's rule".into()),
        Some("none") => Some(format!(
            "no mediator for the drive, which is {}",
            fact("protection").unwrap_or_default()
        )),
        Some(_) => None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const READ: Load = Load {
        block: 4096,
        is_write: false,
        depth: 32,
    };

    #[test]
    fn a_loads_figures_are_read_and_unknown_counters_kept() {
        let data = [
            ("load.read.4096.32.requests", "400"),
            ("load.read.4096.32.ms", "200"),
            ("load.read.4096.32.busy-ns", "6000000"),
            ("load.read.4096.32.busy-requests", "300"),
            ("load.read.4096.32.interrupts", "310"),
            ("load.read.4096.32.counts.nested", "20"),
            ("load.read.4096.32.counts.copied", "1638400"),
            ("load.read.4096.1.requests", "7"),
        ];
        let data = data.map(|(key, value)| (key.to_owned(), value.to_owned()));
        let sample = Sample::read(READ, &data.into()).unwrap();
        assert_eq!(sample.nanoseconds(), 500_000.0);
        assert_eq!(sample.work(), 20_000.0);
        assert_eq!(sample.interrupts, 310);
        assert_eq!(sample.counts["copied"], 1_638_400);
        assert_eq!(sample.counts.len(), 2);
        assert_eq!(Sample::read(READ, &BTreeMap::new()), None);
    }

    #[test]
    fn the_last_line_of_each_device_counts_and_devices_are_summed() {
        let lines = [
            "@invalidations count=41",
            "@bounce bdf=0000:01:00.0 requests=1 bytes=512",
            "@bounce bdf=0000:02:00.0 requests=5 bytes=10 colour=green",
            "@bounce bdf=0000:01:00.0 requests=7 bytes=4096 stalls=0",
            "@weather fine",
        ];
        let totals = totals(&lines.map(str::to_owned));
        let expected = [
            ("bounce.bytes", 4106),
            ("bounce.requests", 12),
            ("bounce.stalls", 0),
            ("invalidations", 41),
        ];
        let expected = expected.map(|(key, number)| (key.to_owned(), number));
        assert_eq!(totals, expected.into());
    }

    #[test]
    fn a_drive_without_mediator_and_a_policy_that_is_refused_are_absent() {
        let denied = [
            "@device bdf=0000:01:00.0 trust=untrusted mediator=none protection=denied rule=\"line 4 `drive`\"",
        ];
        let why = absence(denied.into_iter(), None).unwrap();
        assert!(why.contains("no mediator"), "{why}");
        let refused = [
            "Bouncer does not start: policy.toml is wrong at line 8, column 1",
            "@ended refused",
        ];
        let why = absence(refused.into_iter(), Some(Ended::Refused)).unwrap();
        assert!(why.contains("line 8, column 1"), "{why}");
        let mediated = [
            "@device bdf=0000:01:00.0 trust=untrusted mediator=nvme protection=byte rule=\"line 4 `drive`\"",
        ];
        assert_eq!(absence(mediated.into_iter(), None), None);
    }
}
