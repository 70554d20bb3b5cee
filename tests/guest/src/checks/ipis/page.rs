//! A page that changes under the eyes of another processor.
//!
//! Owns the mapping and what each step does to it; knows neither who changes nor who looks.
// UNSAFETY: a page that is remapped under a running thread can only be reached by pointer.

use std::fs::File;
use std::num::NonZeroUsize;
use std::os::fd::AsFd;
use std::os::unix::fs::FileExt;
use std::ptr::NonNull;
use std::sync::atomic::{AtomicU64, Ordering};

use crate::verdict::{Attempt, Shortfall, Verdict};
use nix::errno::Errno;
use nix::sys::memfd::{MFdFlags, memfd_create};
use nix::sys::mman::{MapFlags, ProtFlags, mmap, mprotect, munmap};

const PAGE: usize = 4096;
/// Pages shown in turn.
const NUMBERS: u32 = 50;
/// Changes in all: each number, then writing forbidden and allowed as often.
pub(super) const STEPS: u32 = 3 * NUMBERS;

/// An address where another page can be shown, or writing forbidden, at any moment.
pub(super) struct Shared {
    // Page `n` holds the number `n`.
    numbers: File,
    address: NonNull<AtomicU64>,
}

// SAFETY: (1) the memory is only reached through an atomic at a page's start and by the kernel.
unsafe impl Sync for Shared {}

impl Shared {
    /// Maps the page that holds the number 0.
    pub(super) fn new() -> Result<Self, Shortfall> {
        let numbers: File = memfd_create(c"numbers", MFdFlags::MFD_CLOEXEC)
            .attempt("memfd_create")?
            .into();
        for number in 0..=u64::from(NUMBERS) {
            let mut page = [0; PAGE];
            page[..8].copy_from_slice(&number.to_ne_bytes());
            numbers
                .write_all_at(&page, number * PAGE as u64)
                .attempt("numbering pages")?;
        }
        let address = map_page(&numbers, 0, None).attempt("mapping a page")?;
        Ok(Self { numbers, address })
    }

    /// Changes the mapping: the first steps each show the next page, the later ones forbid and
    /// allow writing in turn.
    pub(super) fn show(&self, step: u32) -> Verdict {
        match Self::demand(step) {
            Demand::Number(number) => {
                map_page(&self.numbers, number, Some(self.address))
                    .attempt("showing another page")?;
            }
            Demand::ReadOnly => self.protect(ProtFlags::PROT_READ)?,
            Demand::Writable => self.protect(ProtFlags::PROT_READ | ProtFlags::PROT_WRITE)?,
        }
        Ok(())
    }

    /// Looks whether this processor sees the change of `step`.
    pub(super) fn verify(&self, step: u32) -> Result<(), String> {
        match Self::demand(step) {
            Demand::Number(number) => match self.number() {
                seen if seen == number => Ok(()),
                seen => Err(format!(
                    "sees page {seen}, not {number}: a stale translation"
                )),
            },
            Demand::ReadOnly => match self.kernel_writes() {
                Err(Errno::EFAULT) => Ok(()),
                other => Err(format!("writing to a read-only page gave {other:?}")),
            },
            Demand::Writable => match self.kernel_writes() {
                Ok(()) => Ok(()),
                other => Err(format!("writing to a writable page gave {other:?}")),
            },
        }
    }

    /// What step `step` of a shoot-down does.
    fn demand(step: u32) -> Demand {
        if step <= NUMBERS {
            Demand::Number(u64::from(step))
        } else if step % 2 == 1 {
            Demand::ReadOnly
        } else {
            Demand::Writable
        }
    }

    /// Looks at the page, so that this processor has its translation at hand.
    pub(super) fn keep_translation_warm(&self) {
        self.number();
    }

    fn number(&self) -> u64 {
        // SAFETY: (1) the address is mapped readable from `new` to `drop`; a remapping replaces
        // the page at once; (2) an atomic may change under us.
        unsafe { self.address.as_ref() }.load(Ordering::Relaxed)
    }

    /// Makes the kernel write eight bytes behind the number, on this processor: a page that may
    /// not be written is an error instead of a signal.
    fn kernel_writes(&self) -> Result<(), Errno> {
        // SAFETY: (1) the kernel checks the destination; (2) bytes 8 to 16 of the page are
        // nobody's.
        let written = unsafe {
            let destination = self.address.as_ptr().add(1);
            libc::getrandom(
                destination.cast(),
                8,
                libc::GRND_NONBLOCK | libc::GRND_INSECURE,
            )
        };
        Errno::result(written).map(drop)
    }

    fn protect(&self, protection: ProtFlags) -> Verdict {
        // SAFETY: (1) one page, mapped by `new`; readable in every case.
        unsafe { mprotect(self.address.cast(), PAGE, protection) }.attempt("mprotect")
    }
}

impl Drop for Shared {
    fn drop(&mut self) {
        // SAFETY: (1) the threads that used the page have ended.
        let _ = unsafe { munmap(self.address.cast(), PAGE) };
    }
}

/// What a step demands of the watching processor.
enum Demand {
    Number(u64),
    ReadOnly,
    Writable,
}

/// Maps page `number` of the file, in place of the page at `place` if there is one.
fn map_page(
    numbers: &File,
    number: u64,
    place: Option<NonNull<AtomicU64>>,
) -> nix::Result<NonNull<AtomicU64>> {
    let fixed = place.map_or(MapFlags::empty(), |_| MapFlags::MAP_FIXED);
    let offset = i64::try_from(number * PAGE as u64).map_err(|_| Errno::EOVERFLOW)?;
    // SAFETY: (1) without a place the kernel chooses a free one; (2) with one, it is a page that
    // `Shared` mapped itself.
    unsafe {
        mmap(
            place.and_then(|place| NonZeroUsize::new(place.addr().get())),
            NonZeroUsize::MIN.saturating_add(PAGE - 1),
            ProtFlags::PROT_READ | ProtFlags::PROT_WRITE,
            MapFlags::MAP_SHARED | MapFlags::MAP_POPULATE | fixed,
            numbers.as_fd(),
            offset,
        )
    }
    .map(NonNull::cast)
}
