//! Bouncer's own memory is not there: every byte reads as ones, and no write changes one.
//!
//! Bouncer says where its memory is, so that the guest attacks exactly that: through /dev/mem,
//! page by page, from every processor at once, with every kind of instruction. Pages of it in which the
//! guest's DMAR table has the registers of a remapping unit answer as those, and are left out.
#![expect(unsafe_code)]
// UNSAFETY: maps physical memory and touches it by pointer, with instructions of its own choice.

mod forms;
mod units;

use std::fs::{File, OpenOptions};
use std::num::NonZeroUsize;
use std::os::fd::AsFd;
use std::os::unix::fs::{FileExt, OpenOptionsExt};
use std::ptr::NonNull;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Instant;

use crate::bouncer::{self, Physical};
use crate::cmdline::{self, Cmdline};
use crate::noise::Noise;
use crate::verdict::{Attempt, Figures, Shortfall, Verdict, ensure, failed};
use crate::{cpus, trial};
use forms::{ALL, Form, LOADS, ODD, REACH, STORES};
use nix::sys::mman::{MapFlags, ProtFlags, mmap, munmap};

const PAGE: usize = 4096;
/// Where every page is read and written: the first byte, the last word, two places in between.
const OFFSETS: [usize; 4] = [0, 0x358, 0xb41, PAGE - 8];
/// One page in so many is attacked with every form; so are the first and the last.
const THOROUGH_EVERY: usize = 64;
/// Pages that the kernel itself is made to copy, 512 or more accesses each.
const COPIES: u64 = 4;
const PATTERN: u64 = 0x0123_4567_89ab_cdef;
/// Accesses of the flood unless `bouncer.flood=` says otherwise.
const FLOOD: u64 = 100_000;

/// Reads and writes every page of Bouncer's memory.
pub(super) fn run(figures: &mut Figures) -> Verdict {
    let physical = whereabouts()?;
    // First: the kernel refuses to look at a page that a program has mapped in another way.
    figures.tell("hidden.kernel-copies", the_kernel_copies_ones(physical)?);
    let hidden = Hidden::map(physical)?;
    figures.tell("hidden_pages", hidden.pages());
    figures.tell("hidden_base", format_args!("{:#x}", hidden.physical.base));
    hidden.odd_forms_reveal_nothing(figures)?;

    let online = cpus::online()?;
    std::thread::scope(|scope| {
        let threads: Vec<_> = (0..online.len())
            .map(|turn| {
                let (hidden, online) = (&hidden, &online);
                scope.spawn(move || {
                    cpus::pin(online[turn])?;
                    (turn..hidden.pages())
                        .step_by(online.len())
                        .try_for_each(|page| hidden.page_is_hidden(page))
                })
            })
            .collect();
        threads
            .into_iter()
            .try_for_each(|thread| thread.join().map_err(|_| failed("a thread panicked"))?)
    })?;
    hidden.borders_are_hidden()
}

/// Very many accesses, as fast as every processor can make them.
pub(super) fn flood(figures: &mut Figures) -> Verdict {
    let hidden = Hidden::map(whereabouts()?)?;
    let online = cpus::online()?;
    let accesses = cmdline::read().number("bouncer.flood", FLOOD);
    let left = AtomicU64::new(accesses);
    let began = Instant::now();
    std::thread::scope(|scope| {
        let threads: Vec<_> = online
            .iter()
            .map(|&cpu| {
                let (hidden, left) = (&hidden, &left);
                scope.spawn(move || {
                    cpus::pin(cpu)?;
                    let mut noise = Noise::new(cpu as u64);
                    while left
                        .try_update(Ordering::Relaxed, Ordering::Relaxed, |left| {
                            left.checked_sub(1)
                        })
                        .is_ok()
                    {
                        hidden.touch_somewhere(&mut noise)?;
                    }
                    Ok(())
                })
            })
            .collect();
        threads
            .into_iter()
            .try_for_each(|thread| thread.join().map_err(|_| failed("a thread panicked"))?)
    })?;
    figures.tell("hidden.flood.accesses", accesses);
    figures.tell(
        "hidden.flood.ns",
        began.elapsed().as_nanos() / u128::from(accesses.max(1)),
    );
    Ok(())
}

/// Bouncer's memory, mapped into this process.
struct Hidden {
    physical: Physical,
    // One address for each page: the kernel may have refused to map them in one piece. None where a
    // unit's registers are, which the kernel keeps to itself.
    pages: Vec<Option<NonNull<u8>>>,
}

// SAFETY: (1) the pages are memory that all threads may race on: nothing is ever referenced, every
// access is one instruction of its own, and what it finds is compared with a constant.
unsafe impl Sync for Hidden {}

impl Hidden {
    /// Maps all of it, writable and executable.
    fn map(physical: Physical) -> Result<Self, Shortfall> {
        let length = usize::try_from(physical.length).attempt("sizing the mapping")?;
        let count = length / PAGE;
        let units = units::registers()?;
        let is_hidden = |page: &usize| !units.contains(&(physical.base + (page * PAGE) as u64));
        let pages = match map(&open_memory(0)?, physical.base, length) {
            Ok(first) => (0..count)
                // SAFETY: (1) the mapping just made is `length` bytes, so every page is in it.
                .map(|page| is_hidden(&page).then(|| unsafe { first.add(page * PAGE) }))
                .collect(),
            // Some kernels map what they do not know as RAM only uncached, or only piecemeal.
            Err(_) => {
                let memory = open_memory(libc::O_SYNC)?;
                let page = |page| {
                    let at = physical.base + (page * PAGE) as u64;
                    let mapped = is_hidden(&page).then(|| map(&memory, at, PAGE)).transpose();
                    mapped.attempt(&format!("mapping {at:#x} of /dev/mem"))
                };
                (0..count).map(page).collect::<Result<Vec<_>, _>>()?
            }
        };
        Ok(Self { physical, pages })
    }

    fn pages(&self) -> usize {
        self.pages.len()
    }

    /// Reads and writes one page; every form on some pages.
    fn page_is_hidden(&self, page: usize) -> Verdict {
        for offset in OFFSETS {
            for form in LOADS.iter().chain(STORES).chain(LOADS) {
                self.touch(form, page, offset)?;
            }
        }
        if page.is_multiple_of(THOROUGH_EVERY) || page + 1 == self.pages() {
            for form in ALL {
                self.touch(form, page, PAGE / 2)?;
                self.touch(&LOADS[3], page, PAGE / 2)?;
            }
        }
        Ok(())
    }

    /// Accesses that begin in one page and end in the next.
    fn borders_are_hidden(&self) -> Verdict {
        let contiguous = |page: &usize| match (self.pages[*page], self.pages[*page + 1]) {
            (Some(this), Some(next)) => this.addr().get() + PAGE == next.addr().get(),
            _ => false,
        };
        for page in (0..self.pages() - 1)
            .filter(contiguous)
            .step_by(THOROUGH_EVERY)
        {
            for form in LOADS.iter().chain(STORES).chain(LOADS) {
                self.touch(form, page, PAGE - 1)?;
            }
        }
        Ok(())
    }

    /// Each odd form in a child: it may die of a fault, see ones, and nothing else.
    fn odd_forms_reveal_nothing(&self, figures: &mut Figures) -> Verdict {
        let (mut ran, mut faulted) = (0, 0);
        for form in ODD {
            match trial::attempt(|| self.touch(form, 0, PAGE / 2).is_ok())? {
                trial::Attempted::Held => ran += 1,
                trial::Attempted::Died => faulted += 1,
                trial::Attempted::Broke => {
                    return Err(failed(format!("`{}` saw other than ones", form.text)));
                }
                trial::Attempted::Hung => return Err(failed(format!("`{}` hangs", form.text))),
            }
            self.touch(&LOADS[3], 0, PAGE / 2)?;
        }
        figures.tell("hidden.odd.ran", ran);
        figures.tell("hidden.odd.faulted", faulted);
        Ok(())
    }

    fn touch_somewhere(&self, noise: &mut Noise) -> Verdict {
        let word = noise.next();
        let page = (word >> 32) as usize % self.pages();
        let offset = (word >> 16) as usize % (PAGE - REACH);
        let form = &ALL[word as u16 as usize % ALL.len()];
        self.touch(form, page, offset)
    }

    /// Points a form at a place and compares what it saw with ones.
    fn touch(&self, form: &Form, page: usize, offset: usize) -> Verdict {
        let Some(start) = self.pages[page] else {
            return Ok(());
        };
        // SAFETY: (1) callers keep the access inside the page, or inside two that follow each
        // other; (2) the memory is Bouncer's, which the guest cannot change: that is the test.
        let given = unsafe { form.touch(start.as_ptr().add(offset), PATTERN) };
        ensure!(
            form.told(given) == form.expected(),
            "`{}` at {:#x} saw {:#x}, not {:#x}",
            form.text,
            self.physical.base + (page * PAGE + offset) as u64,
            form.told(given),
            form.expected()
        );
        Ok(())
    }
}

impl Drop for Hidden {
    fn drop(&mut self) {
        for page in self.pages.iter().flatten() {
            // SAFETY: (1) nothing else knows the mapping's addresses.
            let _ = unsafe { munmap(page.cast(), PAGE) };
        }
    }
}

/// Where the memory to attack is: Bouncer's, or the place of a rehearsal (`bouncer.rehearsal=`
/// base and length with a comma in between), such as a ROM of ones, on a machine without it.
fn whereabouts() -> Result<Physical, Shortfall> {
    let physical = if bouncer::is_there() {
        bouncer::own_memory()
    } else {
        // Without Bouncer the leaf holds anything: never write to memory on its word.
        rehearsal(&cmdline::read())?
    };
    ensure!(
        physical.length > 0
            && physical.base.is_multiple_of(PAGE as u64)
            && physical.length.is_multiple_of(PAGE as u64)
            && physical.length <= 1 << 32,
        "told to look for {:#x} bytes at {:#x}",
        physical.length,
        physical.base
    );
    Ok(physical)
}

fn rehearsal(cmdline: &Cmdline) -> Result<Physical, Shortfall> {
    let place = cmdline
        .value("bouncer.rehearsal")
        .and_then(|place| place.split_once(','));
    let (base, length) =
        place.ok_or_else(|| failed("no Bouncer here, so nobody to say where to look"))?;
    let number = |text: &str| {
        let digits = text.trim_start_matches("0x");
        u64::from_str_radix(digits, 16).attempt("reading bouncer.rehearsal")
    };
    Ok(Physical {
        base: number(base)?,
        length: number(length)?,
    })
}

/// Makes the kernel copy a few pages both ways with its own loops, in ring 0; gives how many.
fn the_kernel_copies_ones(physical: Physical) -> Result<u64, Shortfall> {
    let memory = open_memory(0)?;
    let last = physical.length / PAGE as u64 - 1;
    let units = units::registers()?;
    let mut copied = 0;
    for turn in 0..COPIES {
        let at = physical.base + last * turn / (COPIES - 1) * PAGE as u64;
        if units.contains(&at) {
            continue;
        }
        // EFAULT: the kernel itself cannot map a page that is neither RAM nor known cacheable.
        // Programs can, and do so next.
        match memory.write_all_at(&[0x5a; PAGE], at) {
            Err(error) if error.raw_os_error() == Some(libc::EFAULT) => continue,
            outcome => outcome.attempt(&format!("the kernel writing to {at:#x}"))?,
        }
        let mut found = [0; PAGE];
        memory
            .read_exact_at(&mut found, at)
            .attempt(&format!("the kernel reading from {at:#x}"))?;
        let wrong = found.iter().position(|&byte| byte != 0xff);
        ensure!(
            wrong.is_none(),
            "the kernel read other than ones at {at:#x} + {wrong:?}"
        );
        copied += 1;
    }
    Ok(copied)
}

/// Physical memory as a file.
pub(super) fn open_memory(flags: libc::c_int) -> Result<File, Shortfall> {
    OpenOptions::new()
        .read(true)
        .write(true)
        .custom_flags(flags)
        .open("/dev/mem")
        .attempt("opening /dev/mem")
}

/// Maps `length` bytes of physical memory at `base`.
pub(super) fn map(memory: &File, base: u64, length: usize) -> std::io::Result<NonNull<u8>> {
    let length = NonZeroUsize::new(length).ok_or(std::io::ErrorKind::InvalidInput)?;
    let offset = i64::try_from(base).map_err(std::io::Error::other)?;
    // SAFETY: (1) a new mapping at an address of the kernel's choice overlaps nothing of ours.
    let address = unsafe {
        mmap(
            None,
            length,
            ProtFlags::PROT_READ | ProtFlags::PROT_WRITE | ProtFlags::PROT_EXEC,
            MapFlags::MAP_SHARED,
            memory.as_fd(),
            offset,
        )
    }?;
    Ok(address.cast())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_rehearsal_is_told_base_and_length_in_hexadecimal() {
        let cmdline = Cmdline::new("bouncer.rehearsal=0xffc00000,0x380000");
        let place = Physical {
            base: 0xffc0_0000,
            length: 0x38_0000,
        };
        assert_eq!(rehearsal(&cmdline), Ok(place));
    }

    #[test]
    fn nothing_is_touched_without_a_place_to_look() {
        assert!(rehearsal(&Cmdline::new("quiet")).is_err());
        assert!(rehearsal(&Cmdline::new("bouncer.rehearsal=0xffc00000")).is_err());
        assert!(rehearsal(&Cmdline::new("bouncer.rehearsal=here,there")).is_err());
    }
}
