//! Direct requests of a sector or two in the middle of pages full of canaries, of which none may change.
//!
//! The canary is told before the load begins, so that whoever looks at the machine's memory from outside can search
//! what the drive reaches for it.

use super::buffers::{PAGE, Pages};
use super::drive::Drive;
use crate::block::Way;
use crate::checks::hash;
use crate::cmdline;
use crate::noise::Noise;
use crate::verdict::{Attempt, Figures, Shortfall, Verdict, ensure};
use std::fs::File;
use std::io::Read;
use std::os::unix::fs::FileExt;
use std::time::{Duration, Instant};

/// Seconds of load unless `bouncer.seconds=` says otherwise; every place is visited in any case.
const SECONDS: u64 = 5;
const SECTOR: usize = 512;
/// Pages that a buffer lies among.
const PAGES: usize = 4;
/// Where in the pages a buffer begins: inside a page, at its very end, across a border, at odd multiples of four.
const PLACES: [usize; 10] = [
    0x200, 0x7c0, 0xe00, 0xf00, 0xffc, 0x1004, 0x14c8, 0x1c00, 0x1e04, 0x2ff8,
];
/// The part of the drive that is used.
const SPAN: u64 = 1 << 20;

pub(in super::super) fn run(figures: &mut Figures) -> Verdict {
    let seconds = cmdline::read().number("bouncer.seconds", SECONDS);
    let drive = Drive::asked_for()?;
    let alignment = drive.alignment()?;
    let file = drive.open(Way::Direct)?;
    let mut field = Field::new()?;
    figures.tell("subpage.alignment", alignment);
    figures.tell("subpage.canary", hash::hex(&field.canary));
    figures.tell("subpage.page", format!("{:#x}", field.physical()?));

    let mut noise = Noise::new(u64::from_le_bytes(field.half()));
    let (began, mut requests) = (Instant::now(), 0_u64);
    loop {
        for place in PLACES {
            let place = place.next_multiple_of(alignment);
            for sectors in [1, 2] {
                field.exchange(&file, place, sectors * SECTOR, &mut noise)?;
                requests += 2;
            }
        }
        if began.elapsed() >= Duration::from_secs(seconds) {
            break;
        }
    }
    figures.tell("subpage.requests", requests);
    Ok(())
}

/// Pages full of canaries.
struct Field {
    canary: [u8; 16],
    pages: Pages,
}

impl Field {
    /// Sixteen bytes that no memory holds by chance, all over.
    fn new() -> Result<Self, Shortfall> {
        let mut canary = [0; 16];
        File::open("/dev/urandom")
            .and_then(|mut source| source.read_exact(&mut canary))
            .attempt("choosing a canary")?;
        let mut field = Self {
            canary,
            pages: Pages::new(PAGES * PAGE),
        };
        field.plant();
        Ok(field)
    }

    fn plant(&mut self) {
        let canary = self.canary;
        for place in self.pages.all().chunks_exact_mut(canary.len()) {
            place.copy_from_slice(&canary);
        }
    }

    fn half(&self) -> [u8; 8] {
        std::array::from_fn(|index| self.canary[index])
    }

    /// Writes noise to the drive from `place` on and reads it back to the same place; around it nothing changes.
    fn exchange(&mut self, file: &File, place: usize, length: usize, noise: &mut Noise) -> Verdict {
        let at = noise.next() % (SPAN / SECTOR as u64) * SECTOR as u64;
        let content = noise.bytes(length);
        self.pages.part(place, length).copy_from_slice(&content);
        file.write_all_at(self.pages.part(place, length), at)
            .attempt(&format!("writing {length} bytes from {place:#x}"))?;
        self.is_whole(place, length, "a write")?;
        ensure!(
            self.pages.part(place, length) == content,
            "a write changed what it wrote, {length} bytes at {place:#x}"
        );
        self.pages.part(place, length).fill(0);
        file.read_exact_at(self.pages.part(place, length), at)
            .attempt(&format!("reading {length} bytes to {place:#x}"))?;
        ensure!(
            self.pages.part(place, length) == content,
            "{length} bytes at {place:#x} came back changed"
        );
        self.is_whole(place, length, "a read")?;
        // The next buffer lies elsewhere: this one becomes canaries again.
        self.plant();
        Ok(())
    }

    /// Every byte outside the buffer is a canary's.
    fn is_whole(&mut self, place: usize, length: usize, after: &str) -> Verdict {
        let canary = self.canary;
        let all = self.pages.all();
        let outside = (0..place).chain(place + length..all.len());
        for offset in outside {
            ensure!(
                all[offset] == canary[offset % canary.len()],
                "{after} of {length} bytes at {place:#x} changed the byte at {offset:#x}"
            );
        }
        Ok(())
    }

    /// Where the first page is in physical memory (the kernel's documentation, "pagemap": bits 0 to 54 of the entry).
    fn physical(&mut self) -> Result<u64, Shortfall> {
        let page = self.pages.all().as_ptr().addr() / PAGE;
        let mut entry = [0; 8];
        File::open("/proc/self/pagemap")
            .and_then(|map| map.read_exact_at(&mut entry, page as u64 * 8))
            .attempt("reading the page map")?;
        let frame = u64::from_le_bytes(entry) & ((1 << 55) - 1);
        ensure!(frame != 0, "the kernel does not tell where the page is");
        Ok(frame * PAGE as u64)
    }
}
