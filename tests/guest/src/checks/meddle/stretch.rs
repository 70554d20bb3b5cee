//! A stretch of physical memory, mapped uncached and touched one instruction at a time.
//!
//! Owns the mapping and the instructions; accesses of any width, aligned or not, go out as they
//! are asked for. Knows not what lies there.
#![expect(unsafe_code)]
// UNSAFETY: maps physical memory and touches it by pointer, misaligned if need be.

use core::arch::asm;
use std::ptr::NonNull;

use super::super::hidden::{map, open_memory};
use crate::verdict::{Attempt, Shortfall};
use nix::sys::mman::munmap;

const PAGE: u64 = 4096;

/// Mapped physical memory.
#[derive(Debug)]
pub(super) struct Stretch {
    base: u64,
    first: NonNull<u8>,
    length: usize,
}

// SAFETY: (1) nothing in the mapping is ever referenced; every access is one instruction, and what
// it finds is a device's answer, which may be anything at any time.
unsafe impl Send for Stretch {}
// SAFETY: (1) as above.
unsafe impl Sync for Stretch {}

impl Stretch {
    /// Maps `length` bytes at `base`, widened to whole pages.
    pub(super) fn map(base: u64, length: u64) -> Result<Self, Shortfall> {
        let start = base & !(PAGE - 1);
        let length = usize::try_from((base + length).next_multiple_of(PAGE) - start)
            .attempt("sizing a mapping")?;
        let first = map(&open_memory(libc::O_SYNC)?, start, length)
            .attempt(&format!("mapping {length:#x} bytes at {start:#x}"))?;
        Ok(Self {
            base: start,
            first,
            length,
        })
    }

    /// Loads `bytes` (1, 2, 4 or 8) bytes at the physical address `at`, with one instruction.
    pub(super) fn load(&self, at: u64, bytes: usize) -> u64 {
        let from = self.place(at, bytes);
        let value: u64;
        // SAFETY: (1) `place` has checked that the bytes are mapped; (2) one load, no other effect.
        unsafe {
            match bytes {
                1 => asm!("movzx {v:e}, byte ptr [{p}]", p = in(reg) from, v = out(reg) value),
                2 => asm!("movzx {v:e}, word ptr [{p}]", p = in(reg) from, v = out(reg) value),
                4 => asm!("mov {v:e}, [{p}]", p = in(reg) from, v = out(reg) value),
                _ => asm!("mov {v}, [{p}]", p = in(reg) from, v = out(reg) value),
            }
        }
        value
    }

    /// Stores the low `bytes` (1, 2, 4 or 8) bytes of `value` at the physical address `at`, with
    /// one instruction.
    pub(super) fn store(&self, at: u64, bytes: usize, value: u64) {
        let to = self.place(at, bytes);
        // SAFETY: (1) `place` has checked that the bytes are mapped; (2) they are a device's, or
        // memory that is not the kernel's: /dev/mem maps no other.
        unsafe {
            match bytes {
                1 => asm!("mov [{p}], {v}", p = in(reg) to, v = in(reg_byte) value as u8),
                2 => asm!("mov [{p}], {v:x}", p = in(reg) to, v = in(reg) value),
                4 => asm!("mov [{p}], {v:e}", p = in(reg) to, v = in(reg) value),
                _ => asm!("mov [{p}], {v}", p = in(reg) to, v = in(reg) value),
            }
        }
    }

    /// Loads a double word.
    pub(super) fn dword(&self, at: u64) -> u32 {
        self.load(at, 4) as u32
    }

    /// Where `bytes` bytes at the physical address `at` are mapped, for instructions of others.
    pub(super) fn place(&self, at: u64, bytes: usize) -> *mut u8 {
        let offset = at
            .checked_sub(self.base)
            .and_then(|offset| usize::try_from(offset).ok());
        let offset = offset.filter(|offset| offset + bytes <= self.length);
        let offset = offset.unwrap_or_else(|| panic!("{at:#x} is not mapped"));
        // SAFETY: (1) the offset is inside the mapping.
        unsafe { self.first.as_ptr().add(offset) }
    }
}

impl Drop for Stretch {
    fn drop(&mut self) {
        // SAFETY: (1) nobody else knows the mapping's address.
        let _ = unsafe { munmap(self.first.cast(), self.length) };
    }
}
