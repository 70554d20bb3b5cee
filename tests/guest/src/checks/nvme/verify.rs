//! Random load of every size and depth, direct and buffered, of which every block is verified by its checksum.

use super::drive::{Drive, drop_caches};
use super::program::{self, FIO};
use crate::cmdline;
use crate::verdict::{Figures, Verdict, ensure};
use std::time::Duration;

/// MiB that each job writes unless `bouncer.fio=` says otherwise.
const MEBIBYTES: u64 = 24;
const PATIENCE: Duration = Duration::from_secs(400);

/// One of the jobs that run at once.
struct Job {
    name: &'static str,
    engine: &'static str,
    depth: u32,
    /// The longest block; the shortest is a sector.
    longest: &'static str,
    /// Where in a page the first buffer begins; `None` for the page cache.
    offset: Option<u32>,
}

const JOBS: [Job; 5] = [
    job("one", "psync", 1, "1M", Some(512)),
    job("few", "libaio", 4, "256k", Some(1536)),
    job("many", "io_uring", 32, "64k", Some(3584)),
    job("most", "libaio", 128, "16k", Some(4)),
    job("cached", "psync", 1, "1M", None),
];

pub(in super::super) fn run(figures: &mut Figures) -> Verdict {
    let mebibytes = cmdline::read().number("bouncer.fio", MEBIBYTES);
    let drive = Drive::asked_for()?;
    let needed = mebibytes * JOBS.len() as u64;
    ensure!(
        needed << 20 <= drive.bytes()?,
        "{needed} MiB needed, {} there: give the drive more or set bouncer.fio",
        drive.bytes()? >> 20
    );
    let alignment = drive.alignment()?;
    figures.tell("fio.alignment", alignment);

    let write = arguments(&drive, mebibytes, alignment, &["--verify_backlog=64"]);
    program::run(FIO, &write, PATIENCE)?;
    // Once more from the drive itself: nothing of it may come from the page cache.
    drop_caches()?;
    let read = arguments(&drive, mebibytes, alignment, &["--verify_only"]);
    program::run(FIO, &read, PATIENCE)?;
    figures.tell("fio.bytes", needed << 20);
    Ok(())
}

fn arguments(drive: &Drive, mebibytes: u64, alignment: usize, more: &[&str]) -> Vec<String> {
    let path = drive.path();
    let mut all = vec![
        format!("--filename={}", path.display()),
        "--thread".into(),
        "--rw=randwrite".into(),
        format!("--size={mebibytes}M"),
        "--verify=crc32c".into(),
        "--verify_fatal=1".into(),
        "--mem=malloc".into(),
        "--output-format=terse".into(),
    ];
    all.extend(more.iter().map(|more| (*more).to_owned()));
    for (index, job) in JOBS.iter().enumerate() {
        all.extend([
            format!("--name={}", job.name),
            format!("--offset={}M", index as u64 * mebibytes),
            format!("--ioengine={}", job.engine),
            format!("--iodepth={}", job.depth),
            format!("--bsrange=512-{}", job.longest),
        ]);
        match job.offset {
            // A drive that wants more alignment gets what it wants.
            Some(offset) => all.extend([
                "--direct=1".into(),
                format!("--iomem_align={}", offset.max(alignment as u32)),
            ]),
            None => all.push("--direct=0".into()),
        }
    }
    all
}

const fn job(
    name: &'static str,
    engine: &'static str,
    depth: u32,
    longest: &'static str,
    offset: Option<u32>,
) -> Job {
    Job {
        name,
        engine,
        depth,
        longest,
        offset,
    }
}
