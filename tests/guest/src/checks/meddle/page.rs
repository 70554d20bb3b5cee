//! One page of the guest's memory whose physical address is known.
//!
//! Owns the page and its place. What a device writes there is found by comparing bytes; what it
//! reads there was put there first.
#![expect(unsafe_code)]
// UNSAFETY: memory that a device may write is touched by volatile accesses only.

use std::fs::File;
use std::num::NonZeroUsize;
use std::os::unix::fs::FileExt;
use std::ptr::NonNull;

use crate::noise::Noise;
use crate::verdict::{Attempt, Shortfall, ensure};
use nix::sys::mman::{MapFlags, ProtFlags, mlock, mmap_anonymous, munmap};

/// Bytes of a page.
pub(super) const PAGE: usize = 4096;

/// A locked page.
#[derive(Debug)]
pub(super) struct Page {
    first: NonNull<u8>,
    physical: u64,
}

impl Page {
    /// A page that holds the noise of `seed`.
    pub(super) fn of_noise(seed: u64) -> Result<Self, Shortfall> {
        let length = NonZeroUsize::new(PAGE).expect("a page has bytes");
        // SAFETY: (1) a new mapping at an address of the kernel's choice overlaps nothing of ours.
        let address = unsafe {
            mmap_anonymous(
                None,
                length,
                ProtFlags::PROT_READ | ProtFlags::PROT_WRITE,
                MapFlags::MAP_PRIVATE | MapFlags::MAP_POPULATE,
            )
        }
        .attempt("asking for a page")?;
        // SAFETY: (1) the page just mapped.
        unsafe { mlock(address, PAGE) }.attempt("locking a page")?;
        let page = Self {
            first: address.cast(),
            physical: physical(address.addr().get())?,
        };
        page.fill(seed);
        Ok(page)
    }

    /// Where the program has it.
    pub(super) fn address(&self) -> usize {
        self.first.addr().get()
    }

    /// Where devices find it.
    pub(super) fn physical(&self) -> u64 {
        self.physical
    }

    /// Fills it with the noise of `seed`.
    pub(super) fn fill(&self, seed: u64) {
        for (offset, byte) in Noise::new(seed).bytes(PAGE).into_iter().enumerate() {
            // SAFETY: (1) the offset is inside the page.
            unsafe { self.first.add(offset).write_volatile(byte) };
        }
    }

    /// Puts `bytes` at its beginning.
    pub(super) fn write(&self, bytes: &[u8]) {
        for (offset, &byte) in bytes.iter().take(PAGE).enumerate() {
            // SAFETY: (1) the offset is inside the page.
            unsafe { self.first.add(offset).write_volatile(byte) };
        }
    }

    /// What it holds now.
    pub(super) fn bytes(&self) -> Vec<u8> {
        // SAFETY: (1) the offset is inside the page.
        let byte = |offset| unsafe { self.first.add(offset).read_volatile() };
        (0..PAGE).map(byte).collect()
    }

    /// Whether it holds exactly the noise of `seed`.
    pub(super) fn holds(&self, seed: u64) -> bool {
        self.bytes() == Noise::new(seed).bytes(PAGE)
    }
}

impl Drop for Page {
    fn drop(&mut self) {
        // SAFETY: (1) nobody else knows the page's address.
        let _ = unsafe { munmap(self.first.cast(), PAGE) };
    }
}

/// Linux, Documentation/admin-guide/mm/pagemap.rst: bits 0-54 are the frame number if bit 63
/// (present) is set.
fn physical(address: usize) -> Result<u64, Shortfall> {
    let map = File::open("/proc/self/pagemap").attempt("opening /proc/self/pagemap")?;
    let mut entry = [0; 8];
    map.read_exact_at(&mut entry, (address / PAGE * 8) as u64)
        .attempt("reading /proc/self/pagemap")?;
    let entry = u64::from_le_bytes(entry);
    let frame = entry & ((1 << 55) - 1);
    ensure!(
        entry >> 63 == 1 && frame != 0,
        "the kernel does not say where a page is: {entry:#x}"
    );
    Ok(frame * PAGE as u64)
}
