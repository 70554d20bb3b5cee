//! Exceptions and NMIs inside Bouncer.
//!
//! An exception is Bouncer's own error and ends in the epitaph, but for the two instructions that
//! are allowed to fault. An NMI is noted for the run loop.

// UNSAFETY: entry points called by the processor.
#![expect(unsafe_code)]

use core::arch::global_asm;

use super::{area, instructions};
use crate::epitaph;

/// Exceptions the processor can raise.
pub(crate) const VECTORS: usize = 32;
const DEBUG: u64 = 1;
const NMI: u64 = 2;
const GENERAL_PROTECTION: u64 = 13;
const SECURITY: u64 = 30;

/// What the entry code leaves on the stack, lowest address first.
#[repr(C)]
pub(crate) struct Frame {
    /// General registers in the order rax, rcx, rdx, rbx, rbp, rsi, rdi, r8..r15.
    pub(crate) general: [u64; 15],
    pub(crate) vector: u64,
    pub(crate) error: u64,
    pub(crate) rip: u64,
    pub(crate) cs: u64,
    pub(crate) rflags: u64,
    pub(crate) rsp: u64,
    pub(crate) ss: u64,
}

// One stub of 16 bytes per vector: a zero where the processor pushes no error code, then the
// vector. Vectors with an error code: 8, 10-14, 17, 21, 29, 30 (SDM vol. 3A, table 6-1; APM).
global_asm!(
    ".balign 16",
    ".global bouncer_exceptions",
    "bouncer_exceptions:",
    ".set vector, 0",
    ".rept 32",
    ".balign 16",
    ".if (vector == 8) || (vector >= 10 && vector <= 14) || (vector == 17) || (vector == 21) || (vector == 29) || (vector == 30)",
    ".else",
    "push 0",
    ".endif",
    "push vector",
    "jmp bouncer_exception",
    ".set vector, vector + 1",
    ".endr",
    // A breakpoint of the guest's that an emulator left armed: disarmed before memory is touched.
    ".balign 16",
    ".global bouncer_debug",
    "bouncer_debug:",
    "mov cr2, rax",
    "xor eax, eax",
    "mov dr7, rax",
    "mov rax, cr2",
    "jmp bouncer_exceptions + 16",
    "bouncer_exception:",
    "push r15",
    "push r14",
    "push r13",
    "push r12",
    "push r11",
    "push r10",
    "push r9",
    "push r8",
    "push rdi",
    "push rsi",
    "push rbp",
    "push rbx",
    "push rdx",
    "push rcx",
    "push rax",
    "cld",
    "mov rdi, rsp",
    "mov rbx, rsp",
    "and rsp, -16",
    "call {caught}",
    "mov rsp, rbx",
    "pop rax",
    "pop rcx",
    "pop rdx",
    "pop rbx",
    "pop rbp",
    "pop rsi",
    "pop rdi",
    "pop r8",
    "pop r9",
    "pop r10",
    "pop r11",
    "pop r12",
    "pop r13",
    "pop r14",
    "pop r15",
    "add rsp, 16",
    "iretq",
    caught = sym caught,
);

unsafe extern "sysv64" {
    fn bouncer_exceptions();
    fn bouncer_debug();
    fn bouncer_sleep_begin();
    fn bouncer_sleep_end();
    fn bouncer_vmx_sleep_begin();
    fn bouncer_vmx_sleep_end();
    fn bouncer_vmx_enter_begin();
    fn bouncer_vmx_enter_end();
}

/// Where to go on after an NMI at `rip`, if that is in a range which it must end.
fn resume_after_nmi(rip: u64) -> Option<u64> {
    let ranges = [
        bouncer_sleep_begin as *const () as u64..bouncer_sleep_end as *const () as u64,
        bouncer_vmx_sleep_begin as *const () as u64..bouncer_vmx_sleep_end as *const () as u64,
        bouncer_vmx_enter_begin as *const () as u64..bouncer_vmx_enter_end as *const () as u64,
    ];
    let range = ranges.into_iter().find(|range| range.contains(&rip))?;
    Some(range.end)
}

/// The address of the entry stub of `vector`.
pub(crate) fn entry(vector: usize) -> u64 {
    match vector as u64 {
        DEBUG => bouncer_debug as *const () as u64,
        other => bouncer_exceptions as *const () as u64 + 16 * other,
    }
}

extern "sysv64" fn caught(frame: &mut Frame) {
    match frame.vector {
        NMI => {
            area::current().note_nmi();
            // The processor was about to sleep for just this, or to enter a guest with it unseen: see
            // `svm::enter` and `vmx::enter`.
            if let Some(end) = resume_after_nmi(frame.rip) {
                frame.rip = end;
            }
        }
        // Disarmed on the way here. GS is not Bouncer's yet.
        DEBUG => {}
        // An INIT that was redirected (APM 15.28): the exit that came before it has been counted.
        SECURITY => {}
        GENERAL_PROTECTION => match instructions::resume_after_fault(frame.rip) {
            Some(rip) => frame.rip = rip,
            None => epitaph::exception(frame),
        },
        _ => epitaph::exception(frame),
    }
}
