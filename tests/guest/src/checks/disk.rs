//! An NVMe drive gives back what was written, and what each request costs.
//!
//! Owns the load: extents of many sizes at odd places, past the page cache and through it; then
//! single reads of a page, counted. Knows no file system.

use crate::bouncer::{self, Counter};
use crate::noise::Noise;
use crate::verdict::{Figures, Verdict, ensure, failed};
use nix::time::{ClockId, clock_gettime};
use sha2::{Digest, Sha256};
use std::fs::{File, OpenOptions};
use std::os::unix::fs::{FileExt, OpenOptionsExt};
use std::path::Path;
use std::time::{Duration, Instant};

const DRIVE: &str = "/dev/nvme0n1";
/// How long the driver may take to find the drive.
const PATIENCE: Duration = Duration::from_secs(20);
const SECTOR: usize = 512;
const PAGE: usize = 4096;
const LARGEST: usize = 1 << 20;
/// The part of the drive that is used.
const SPAN: u64 = 48 << 20;
const EXTENTS: u64 = 48;
const SEED: u64 = 0x6e76_6d65;

/// Reads before counting begins, and while it lasts.
const WARMING: u64 = 200;
const COUNTED: u64 = 2_000;
/// One window of [`rate`], and how many there are.
const WINDOW: Duration = Duration::from_millis(500);
const WINDOWS: u32 = 12;

/// Writes and reads back, directly and through the page cache.
pub(super) fn run(figures: &mut Figures) -> Verdict {
    let mut noise = Noise::new(SEED);
    let mut number = |below: u64| u64::from_le_bytes(eight(&noise.bytes(8))) % below;
    let slot = SPAN / EXTENTS;
    let mut written = Vec::new();
    for index in 0..EXTENTS {
        let most = (LARGEST.min(slot as usize) / SECTOR) as u64;
        let length = (1 + number(most)) as usize * SECTOR;
        let room = (slot - length as u64) / SECTOR as u64;
        let at = index * slot + number(room + 1) * SECTOR as u64;
        let content = Noise::new(SEED ^ index << 32).bytes(length);
        written.push((at, length, Sha256::digest(&content)));
        let is_direct = index % 2 == 0;
        let drive = open(is_direct)?;
        let mut buffer = Aligned::new(LARGEST);
        let bytes = buffer.bytes(length, SECTOR * (index as usize % 7));
        bytes.copy_from_slice(&content);
        let done = drive
            .write_all_at(bytes, at)
            .and_then(|()| drive.sync_all());
        done.map_err(|error| failed(format!("writing {length} bytes at {at}: {error}")))?;
    }
    std::fs::write("/proc/sys/vm/drop_caches", "3")
        .map_err(|error| failed(format!("dropping caches: {error}")))?;
    let mut total = 0;
    for is_direct in [true, false] {
        let drive = open(is_direct)?;
        for (index, (at, length, expected)) in written.iter().enumerate() {
            let mut buffer = Aligned::new(LARGEST);
            let bytes = buffer.bytes(*length, SECTOR * (index % 5));
            drive
                .read_exact_at(bytes, *at)
                .map_err(|error| failed(format!("reading {length} bytes at {at}: {error}")))?;
            ensure!(
                Sha256::digest(&*bytes) == *expected,
                "{length} bytes at {at} came back changed"
            );
            total += length;
        }
    }
    figures.tell("disk.verified-bytes", total);
    Ok(())
}

/// Reads single pages, one at a time, and tells the cost of each.
pub(super) fn reads(figures: &mut Figures) -> Verdict {
    let drive = open(true)?;
    let mut buffer = Aligned::new(PAGE);
    read_pages(&drive, &mut buffer, 0, WARMING)?;
    let (before, worked, began) = (bouncer::exit_counters(), worked()?, Instant::now());
    read_pages(&drive, &mut buffer, WARMING, COUNTED)?;
    let (took, work) = (began.elapsed(), self::worked()?.saturating_sub(worked));
    let after = bouncer::exit_counters();
    figures.tell("reads.requests", COUNTED);
    figures.tell("reads.ns", took.as_nanos() / u128::from(COUNTED));
    figures.tell("reads.cpu-ns", work.as_nanos() / u128::from(COUNTED));
    for counter in &after {
        let exits = counter.count.saturating_sub(earlier(&before, counter));
        figures.tell(
            &format!("reads.exits.{}", counter.reason),
            format!("{:.4}", exits as f64 / COUNTED as f64),
        );
    }
    Ok(())
}

/// Reads single pages for a while and tells how many each window saw.
pub(super) fn rate(figures: &mut Figures) -> Verdict {
    let drive = open(true)?;
    let mut buffer = Aligned::new(PAGE);
    let mut next = 0;
    for window in 0..WINDOWS {
        let (began, first) = (Instant::now(), next);
        while began.elapsed() < WINDOW {
            read_pages(&drive, &mut buffer, next, 1)?;
            next += 1;
        }
        let seconds = began.elapsed().as_secs_f64();
        figures.tell(
            &format!("rate.{window:02}"),
            format!("{:.0}", (next - first) as f64 / seconds),
        );
    }
    Ok(())
}

fn read_pages(drive: &File, buffer: &mut Aligned, first: u64, count: u64) -> Verdict {
    for index in first..first + count {
        // A stride that is odd in pages visits all of the span.
        let at = index.wrapping_mul(7919 * PAGE as u64) % SPAN;
        drive
            .read_exact_at(buffer.bytes(PAGE, 0), at)
            .map_err(|error| failed(format!("reading a page at {at}: {error}")))?;
    }
    Ok(())
}

fn open(is_direct: bool) -> Result<File, crate::verdict::Shortfall> {
    let began = Instant::now();
    while !Path::new(DRIVE).exists() {
        ensure!(
            began.elapsed() < PATIENCE,
            "no drive {DRIVE} within {PATIENCE:?}"
        );
        std::thread::sleep(Duration::from_millis(50));
    }
    let flags = if is_direct { libc::O_DIRECT } else { 0 };
    OpenOptions::new()
        .read(true)
        .write(true)
        .custom_flags(flags)
        .open(DRIVE)
        .map_err(|error| failed(format!("opening {DRIVE}: {error}")))
}

/// Processor time of this process: what it waits for is not in it.
fn worked() -> Result<Duration, crate::verdict::Shortfall> {
    let now = clock_gettime(ClockId::CLOCK_PROCESS_CPUTIME_ID);
    now.map(Duration::from)
        .map_err(|error| failed(format!("the process's clock: {error}")))
}

fn earlier(before: &[Counter], of: &Counter) -> u64 {
    let earlier = before.iter().find(|counter| counter.reason == of.reason);
    earlier.map_or(0, |counter| counter.count)
}

fn eight(bytes: &[u8]) -> [u8; 8] {
    let mut eight = [0; 8];
    for (to, from) in eight.iter_mut().zip(bytes) {
        *to = *from;
    }
    eight
}

/// Memory in which a buffer can start on any sector of a page.
struct Aligned(Vec<u8>);

impl Aligned {
    fn new(largest: usize) -> Self {
        Self(vec![0; largest + 3 * PAGE])
    }

    /// `length` bytes that start `into` bytes into a page.
    fn bytes(&mut self, length: usize, into: usize) -> &mut [u8] {
        let start = self.0.as_ptr().align_offset(PAGE) + into;
        &mut self.0[start..start + length]
    }
}
