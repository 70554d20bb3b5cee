//! Accesses that begin on one side of a border that Bouncer watches and end on the other.
//!
//! What is written is what was just read: nothing changes but by a mistake of the emulation, and
//! the guest and Bouncer live on.
#![expect(unsafe_code)]
// UNSAFETY: maps physical memory and touches it by pointer, with instructions of its own choice.

use super::hash;
use super::hidden::{map, open_memory};
use crate::bouncer;
use crate::verdict::{Figures, Verdict, ensure, failed, skipped};
use core::arch::asm;
use std::ptr::NonNull;

const PAGE: usize = 4096;
/// The local APIC's page (Intel SDM volume 3, 11.4.1) and the first I/O APIC's.
const LOCAL_APIC: u64 = 0xfee0_0000;
const IO_APIC: u64 = 0xfec0_0000;

pub(super) fn run(figures: &mut Figures) -> Verdict {
    if !bouncer::is_there() {
        return Err(skipped("no Bouncer, so no borders of its own"));
    }
    let own = bouncer::own_memory();
    let mut crossed = 0;
    for border in [LOCAL_APIC, IO_APIC, own.base, own.base + own.length] {
        match cross(border) {
            Ok(()) => crossed += 1,
            // The kernel gives no program its own memory, which may lie on the other side.
            Err(why) => figures.tell(&format!("straddle.{border:#x}"), why),
        }
        ensure!(bouncer::is_there(), "Bouncer is gone after {border:#x}");
    }
    figures.tell("straddle.borders", crossed);
    if crossed == 0 {
        return Err(failed("no border could be mapped"));
    }
    hash::known_answers()
}

/// Loads and stores of every width and position across `border`; an error if it cannot be mapped.
fn cross(border: u64) -> std::io::Result<()> {
    let memory =
        open_memory(libc::O_SYNC).map_err(|why| std::io::Error::other(format!("{why:?}")))?;
    let mapped = map(&memory, border - PAGE as u64, 2 * PAGE)?;
    for before in 1..8 {
        // SAFETY: (1) the mapping is two pages and the border is between them; what is touched
        // lies within eight bytes of it on both sides. (2) Each store writes what the load found.
        unsafe { touch(mapped.add(PAGE - before), before) };
    }
    // SAFETY: (1) nothing else knows the mapping's address.
    unsafe { nix::sys::mman::munmap(mapped.cast(), 2 * PAGE) }?;
    Ok(())
}

/// Reads and writes back each width of which some bytes lie `before` the border and some behind.
///
/// # Safety
/// Eight bytes at `at` must be mapped, and may be written with what they hold.
unsafe fn touch(at: NonNull<u8>, before: usize) {
    let at = at.as_ptr();
    // SAFETY: (1) the caller vouches for the memory; (2) the one register changed is declared.
    unsafe {
        if before < 2 {
            asm!("mov {0:x}, [{1}]", "mov [{1}], {0:x}", out(reg) _, in(reg) at);
        }
        if before < 4 {
            asm!("mov {0:e}, [{1}]", "mov [{1}], {0:e}", out(reg) _, in(reg) at);
        }
        asm!("mov {0:r}, [{1}]", "mov [{1}], {0:r}", out(reg) _, in(reg) at);
    }
}
