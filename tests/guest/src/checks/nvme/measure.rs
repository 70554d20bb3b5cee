//! Measured load: what a request of each kind takes, and how often the guest leaves for Bouncer meanwhile.
//!
//! The command line names the loads: `bouncer.load=read:4096:32:4000,…`, each a direction, a block size in bytes, a
//! depth and a number of requests. What is told of each begins with `load.read.4096.32.`. Of all of them
//! `bouncer.load-offset=` says at which byte of a page their buffers begin (0), `bouncer.load-batch=` how many
//! requests are handed to the kernel at once, at most (1), and `bouncer.load-jobs=` how many threads share them, each on a
//! processor of its own (1).

use super::drive::Drive;
use super::idleness;
use super::interrupts;
use super::program::{self, FIO};
use crate::bouncer::{self, Counter};
use crate::cmdline::{self, Cmdline};
use crate::cpus;
use crate::verdict::{Figures, Shortfall, Verdict, ensure, failed};
use std::time::{Duration, Instant};

const PATIENCE: Duration = Duration::from_secs(300);
/// The part of the drive that is used.
const SPAN: &str = "48M";
/// Requests that warm each load up before it is counted.
const WARMING: u64 = 100;

pub(in super::super) fn run(figures: &mut Figures) -> Verdict {
    let cmdline = cmdline::read();
    let drive = Drive::asked_for()?;
    // A function behind a port that firmware calls external is one that the kernel distrusts.
    let removable = std::fs::read_to_string(drive.function()?.join("removable"));
    figures.tell(
        "load.drive",
        removable.as_deref().unwrap_or("internal").trim(),
    );
    let loads = cmdline.value("bouncer.load").unwrap_or_default();
    let way = Way::of(&cmdline);
    for text in loads.split(',').filter(|text| !text.is_empty()) {
        let load = Load::parse(text)
            .ok_or_else(|| failed(format!("{text:?} is no direction:block:depth:requests")))?;
        let warming = load.play(&drive, way, WARMING)?;
        let (before, raised) = (bouncer::exit_counters(), interrupts::of_drives()?);
        let counted = load.play(&drive, way, load.requests)?;
        let (after, raised_by) = (bouncer::exit_counters(), interrupts::of_drives()?);
        // What fio's start and end take is in both.
        let work = counted.busy.saturating_sub(warming.busy);
        let mut tell = |key: &str, value: u64| figures.tell(&load.key(key), value);
        tell("requests", load.requests);
        tell("ms", counted.milliseconds);
        tell("busy-requests", load.requests.saturating_sub(WARMING));
        tell("busy-ns", work.as_nanos() as u64);
        tell("interrupts", raised_by.saturating_sub(raised));
        for counter in &after {
            let exits = counter.count.saturating_sub(earlier(&before, counter));
            tell(&format!("counts.{}", counter.reason), exits);
        }
    }
    Ok(())
}

/// How the requests of every load are made.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
struct Way {
    /// The byte of a page at which buffers begin.
    offset: u64,
    /// Requests handed to the kernel at once, at most.
    batch: u64,
    /// Threads that share the requests, each with the depth for itself.
    jobs: u64,
}

impl Way {
    fn of(cmdline: &Cmdline) -> Self {
        Self {
            offset: cmdline.number("bouncer.load-offset", 0),
            batch: cmdline.number("bouncer.load-batch", 1),
            jobs: cmdline.number("bouncer.load-jobs", 1).max(1),
        }
    }

    fn arguments(self, requests: u64) -> Vec<String> {
        let mut arguments = vec![
            format!("--number_ios={}", requests / self.jobs),
            format!("--numjobs={}", self.jobs),
            "--group_reporting".into(),
            format!("--iodepth_batch_submit={}", self.batch),
            "--iodepth_batch_complete_min=1".into(),
            format!("--iodepth_batch_complete_max={}", self.batch),
        ];
        if self.offset > 0 {
            // fio begins its buffers so many bytes behind a page's beginning.
            arguments.push(format!("--iomem_align={}", self.offset));
        }
        if self.jobs > 1 {
            let last = self.jobs - 1;
            arguments.push(format!("--cpus_allowed=0-{last}"));
            arguments.push("--cpus_allowed_policy=split".into());
        }
        arguments
    }
}

/// One load.
#[derive(Debug, Clone, PartialEq, Eq)]
struct Load {
    direction: String,
    block: u64,
    depth: u64,
    requests: u64,
}

impl Load {
    fn parse(text: &str) -> Option<Self> {
        let mut words = text.split(':');
        let direction = words.next()?.to_owned();
        if direction != "read" && direction != "write" {
            return None;
        }
        let mut number = || words.next()?.parse().ok().filter(|number| *number > 0);
        let load = Self {
            direction,
            block: number()?,
            depth: number()?,
            requests: number()?,
        };
        words.next().is_none().then_some(load)
    }

    fn key(&self, key: &str) -> String {
        format!(
            "load.{}.{}.{}.{key}",
            self.direction, self.block, self.depth
        )
    }

    /// Makes `requests` requests.
    fn play(&self, drive: &Drive, way: Way, requests: u64) -> Result<Played, Shortfall> {
        let mut arguments = vec![
            format!("--filename={}", drive.path().display()),
            "--name=load".into(),
            "--thread".into(),
            "--ioengine=libaio".into(),
            "--direct=1".into(),
            "--norandommap".into(),
            "--randrepeat=1".into(),
            "--output-format=terse".into(),
            "--terse-version=3".into(),
            // More data than the requests can move: their number ends the job.
            "--io_size=1T".into(),
            format!("--size={SPAN}"),
            format!("--rw=rand{}", self.direction),
            format!("--bs={}", self.block),
            format!("--iodepth={}", self.depth),
        ];
        arguments.extend(way.arguments(requests));
        let (began, idle) = (Instant::now(), idleness::so_far()?);
        let output = program::run(FIO, &arguments, PATIENCE)?;
        let (took, idle) = (began.elapsed(), idleness::so_far()?.saturating_sub(idle));
        let milliseconds = runtime(&output, &self.direction).ok_or_else(|| {
            let start: String = output.chars().take(200).collect();
            failed(format!("fio's output has no run time: {start:?}"))
        })?;
        ensure!(milliseconds > 0, "{requests} requests took no time");
        let asked = requests * self.block / 1024;
        let moved = kibibytes(&output, &self.direction).unwrap_or(0);
        ensure!(
            moved >= asked,
            "{moved} KiB were moved, and {asked} asked for"
        );
        Ok(Played {
            milliseconds,
            busy: (took * cpus::online()?.len() as u32).saturating_sub(idle),
        })
    }
}

/// What it took to make requests.
struct Played {
    /// Of the guest's time, by fio, from the first request to the last.
    milliseconds: u64,
    /// The work of all processors together, from the start of fio to its end.
    busy: Duration,
}

/// The run time in milliseconds, the fourth of what fio tells of a direction.
fn runtime(output: &str, direction: &str) -> Option<u64> {
    field(output, direction, 3)
}

/// KiB that were moved, the first of it.
fn kibibytes(output: &str, direction: &str) -> Option<u64> {
    field(output, direction, 0)
}

/// A number of fio's terse output, version 3: what is told of reads begins with field 6, of writes with field 47,
/// counted from one.
fn field(output: &str, direction: &str, index: usize) -> Option<u64> {
    let line = output.lines().find(|line| line.starts_with("3;"))?;
    let first = if direction == "read" { 5 } else { 46 };
    line.split(';').nth(first + index)?.parse().ok()
}

fn earlier(before: &[Counter], of: &Counter) -> u64 {
    let earlier = before.iter().find(|counter| counter.reason == of.reason);
    earlier.map_or(0, |counter| counter.count)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_load_is_four_words_and_nothing_else() {
        let load = Load {
            direction: "read".into(),
            block: 4096,
            depth: 32,
            requests: 4000,
        };
        assert_eq!(Load::parse("read:4096:32:4000"), Some(load));
        for wrong in [
            "",
            "read",
            "trim:4096:1:1",
            "read:0:1:1",
            "read:1:1:1:1",
            "write:a:1:1",
        ] {
            assert_eq!(Load::parse(wrong), None, "{wrong}");
        }
    }

    #[test]
    fn how_requests_are_made_is_said_once_for_all_loads() {
        let arguments = |text| Way::of(&Cmdline::new(text)).arguments(400);
        let plain = arguments("quiet");
        for word in ["--iodepth_batch_submit=1", "--number_ios=400"] {
            assert!(plain.contains(&word.to_owned()), "{plain:?}");
        }
        assert!(!plain.iter().any(|word| word.starts_with("--iomem_align")));
        let words = "bouncer.load-offset=512 bouncer.load-batch=16 bouncer.load-jobs=4";
        let other = arguments(words);
        for word in [
            "--iodepth_batch_submit=16",
            "--iomem_align=512",
            "--number_ios=100",
            "--cpus_allowed=0-3",
        ] {
            assert!(other.contains(&word.to_owned()), "{other:?}");
        }
    }

    #[test]
    fn run_time_and_what_was_moved_are_read_for_each_direction() {
        let fields: Vec<String> = (1..=130).map(|field| field.to_string()).collect();
        let output = format!("3;{}", fields[1..].join(";"));
        assert_eq!(runtime(&output, "read"), Some(9));
        assert_eq!(runtime(&output, "write"), Some(50));
        assert_eq!(kibibytes(&output, "read"), Some(6));
        assert_eq!(kibibytes(&output, "write"), Some(47));
        assert_eq!(runtime("fio: no such file", "read"), None);
    }
}
