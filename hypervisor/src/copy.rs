//! Copies of memory that somebody else may change meanwhile.
//!
//! Owns the one loop in which bytes of requests move. Eight bytes a step, as string instructions:
//! no vector registers, which are the guest's, and no assumption that memory keeps still.

// UNSAFETY: copies between physical addresses.
#![expect(unsafe_code)]

use core::arch::asm;

const WORD: u64 = 8;

/// Copies `len` bytes, each fetched once.
///
/// # Safety
/// Both ranges are mapped memory outside every Rust object, and do not overlap.
pub(crate) unsafe fn copy(from: u64, to: u64, len: u64) {
    let (head, words, tail) = pieces(to, len);
    // SAFETY: as the caller says; the direction flag is clear by the calling convention.
    unsafe {
        asm!(
            "rep movsb",
            "mov rcx, {words}",
            "rep movsq",
            "mov rcx, {tail}",
            "rep movsb",
            words = in(reg) words,
            tail = in(reg) tail,
            inout("rcx") head => _,
            inout("rsi") from => _,
            inout("rdi") to => _,
            options(nostack, preserves_flags),
        );
    }
}

/// Fills `len` bytes with zeros.
///
/// # Safety
/// The range is mapped memory outside every Rust object.
pub(crate) unsafe fn clear(at: u64, len: u64) {
    let (head, words, tail) = pieces(at, len);
    // SAFETY: as for `copy`.
    unsafe {
        asm!(
            "rep stosb",
            "mov rcx, {words}",
            "rep stosq",
            "mov rcx, {tail}",
            "rep stosb",
            words = in(reg) words,
            tail = in(reg) tail,
            in("rax") 0_u64,
            inout("rcx") head => _,
            inout("rdi") at => _,
            options(nostack, preserves_flags),
        );
    }
}

/// Bytes up to the first word at `to`, whole words, and bytes behind them.
fn pieces(to: u64, len: u64) -> (u64, u64, u64) {
    let head = (to.wrapping_neg() % WORD).min(len);
    let rest = len - head;
    (head, rest / WORD, rest % WORD)
}
