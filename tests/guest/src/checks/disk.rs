//! An NVMe drive gives back what was written, and what each request costs.
//!
//! Owns the load: extents of many sizes at odd places, past the page cache and through it; then
//! single reads of a page, counted. Knows no file system.

use crate::block::{self, Use, Way};
use crate::noise::Noise;
use crate::soak::Soak;
use crate::toll::Toll;
use crate::verdict::{Figures, Verdict, ensure, failed};
use nix::time::{ClockId, clock_gettime};
use sha2::{Digest, Sha256};
use std::fs::File;
use std::os::unix::fs::FileExt;
use std::path::Path;
use std::time::{Duration, Instant};

const DRIVE: &str = "/dev/nvme0n1";
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
/// Batches of [`work`], and reads of each.
const BATCHES: u64 = 20;
const BATCH: u64 = 50;
/// One window of [`rate`], and how many there are.
const WINDOW: Duration = Duration::from_millis(500);
const WINDOWS: u32 = 24;

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
        let way = [Way::Direct, Way::Buffered][index as usize % 2];
        let drive = open(way)?;
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
    for way in [Way::Direct, Way::Buffered] {
        let drive = open(way)?;
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
    let drive = open(Way::Direct)?;
    let mut buffer = Aligned::new(PAGE);
    read_pages(&drive, &mut buffer, 0, WARMING)?;
    let (toll, worked, began) = (Toll::begin(), worked()?, Instant::now());
    read_pages(&drive, &mut buffer, WARMING, COUNTED)?;
    let (took, work) = (began.elapsed(), self::worked()?.saturating_sub(worked));
    toll.tell(figures, "reads", COUNTED);
    figures.tell("reads.requests", COUNTED);
    figures.tell("reads.ns", took.as_nanos() / u128::from(COUNTED));
    figures.tell("reads.cpu-ns", work.as_nanos() / u128::from(COUNTED));
    Ok(())
}

/// Reads single pages and tells what they cost the processor, in nanoseconds: the least and the
/// median of many batches, all that a read takes from others ([`Soak`]); and the median of what
/// the process alone spends.
pub(super) fn work(figures: &mut Figures) -> Verdict {
    let drive = open(Way::Direct)?;
    let mut buffer = Aligned::new(PAGE);
    read_pages(&drive, &mut buffer, 0, WARMING)?;
    let soak = Soak::begin()?;
    figures.tell("work.round", soak.round());
    let (mut all, mut own) = (Vec::new(), Vec::new());
    for batch in 0..BATCHES {
        let (mark, before) = (soak.mark(), worked()?);
        read_pages(&drive, &mut buffer, batch * BATCH, BATCH)?;
        all.push(soak.taken_since(mark) / BATCH as f64);
        own.push(worked()?.saturating_sub(before).as_nanos() as f64 / BATCH as f64);
    }
    soak.end()?;
    all.sort_by(f64::total_cmp);
    own.sort_by(f64::total_cmp);
    figures.tell("work.least", format!("{:.0}", all[0]));
    figures.tell("work.median", format!("{:.0}", all[all.len() / 2]));
    figures.tell("work.most", format!("{:.0}", all[all.len() - 1]));
    figures.tell("work.own-median", format!("{:.0}", own[own.len() / 2]));
    Ok(())
}

/// Reads single pages for a while and tells how many each window saw.
pub(super) fn rate(figures: &mut Figures) -> Verdict {
    let drive = open(Way::Direct)?;
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

fn open(way: Way) -> Result<File, crate::verdict::Shortfall> {
    block::open(Path::new(DRIVE), Use::ReadAndWrite, way)
}

/// Processor time of this thread: what it waits for is not in it.
fn worked() -> Result<Duration, crate::verdict::Shortfall> {
    let now = clock_gettime(ClockId::CLOCK_THREAD_CPUTIME_ID);
    now.map(Duration::from)
        .map_err(|error| failed(format!("the thread's clock: {error}")))
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
