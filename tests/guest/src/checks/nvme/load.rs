//! A verified load that goes on until it is told to stop, while a check does something to the drive.

use super::buffers::{PAGE, Pages};
use super::drive::Drive;
use crate::block::Way;
use crate::noise::Noise;
use crate::verdict::Shortfall;
use std::os::unix::fs::FileExt;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::thread::JoinHandle;

const SECTOR: usize = 512;
/// Sectors of the longest request.
const LONGEST: u64 = 64;
/// Threads, each with one request under way.
const THREADS: u64 = 3;
/// The part of the drive each thread has for itself.
pub(super) const REGION: u64 = 4 << 20;
/// The first byte that no load touches.
pub(super) const END: u64 = THREADS * REGION;

/// Why a thread of the load ended early.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Broken {
    /// A request failed: what a drive that is taken away owes.
    Refused(String),
    /// Bytes came back that were not written: what no drive owes.
    Changed(String),
}

/// A load under way.
#[derive(Debug)]
pub(super) struct Load {
    is_over: Arc<AtomicBool>,
    requests: Arc<AtomicU64>,
    threads: Vec<JoinHandle<Result<(), Broken>>>,
}

impl Load {
    /// Begins: each thread writes at random places of its region and reads back what it wrote.
    pub(super) fn begin(drive: &Drive, seed: u64) -> Result<Self, Shortfall> {
        let is_over = Arc::new(AtomicBool::new(false));
        let requests = Arc::new(AtomicU64::new(0));
        let mut threads = Vec::new();
        for index in 0..THREADS {
            let file = drive.open(Way::Direct)?;
            let (is_over, requests) = (Arc::clone(&is_over), Arc::clone(&requests));
            threads.push(std::thread::spawn(move || {
                let mut noise = Noise::new(seed ^ index << 56);
                let mut pages = Pages::new(LONGEST as usize * SECTOR + PAGE);
                while !is_over.load(Ordering::Relaxed) {
                    round(&file, &mut noise, &mut pages, index * REGION)?;
                    requests.fetch_add(2, Ordering::Relaxed);
                }
                Ok(())
            }));
        }
        Ok(Self {
            is_over,
            requests,
            threads,
        })
    }

    /// Requests that have been answered so far.
    pub(super) fn requests(&self) -> u64 {
        self.requests.load(Ordering::Relaxed)
    }

    /// Ends the load and says how each thread fared.
    pub(super) fn end(self) -> Vec<Result<(), Broken>> {
        self.is_over.store(true, Ordering::Relaxed);
        let ends = self.threads.into_iter().map(|thread| {
            thread
                .join()
                .unwrap_or_else(|_| Err(Broken::Changed("a thread panicked".into())))
        });
        ends.collect()
    }
}

/// Writes once and reads it back, both at places in a page that are not its beginning.
fn round(
    file: &std::fs::File,
    noise: &mut Noise,
    pages: &mut Pages,
    region: u64,
) -> Result<(), Broken> {
    let sectors = 1 + noise.next() % LONGEST;
    let length = sectors as usize * SECTOR;
    let room = REGION / SECTOR as u64 - sectors;
    let at = region + noise.next() % (room + 1) * SECTOR as u64;
    let into = (noise.next() % 8) as usize * SECTOR;
    let content = noise.bytes(length);
    let refused = |what: &str, error: std::io::Error| {
        Broken::Refused(format!("{what} {length} bytes at {at}: {error}"))
    };
    pages.part(into, length).copy_from_slice(&content);
    file.write_all_at(pages.part(into, length), at)
        .map_err(|error| refused("writing", error))?;
    pages.part(into, length).fill(0);
    file.read_exact_at(pages.part(into, length), at)
        .map_err(|error| refused("reading", error))?;
    if pages.part(into, length) == content {
        Ok(())
    } else {
        Err(Broken::Changed(format!(
            "{length} bytes at {at} came back changed"
        )))
    }
}
