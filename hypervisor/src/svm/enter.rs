//! The world switch.

// UNSAFETY: the switch and the two NMI windows exist only as assembly.
#![expect(unsafe_code)]

use core::arch::{asm, naked_asm};

/// Enters the guest and returns when it stops.
///
/// `general`: the guest's registers by number; rax and rsp are in the block. `guest` and `host`:
/// physical addresses of the control block and of a page holding Bouncer's own FS, GS, TR, LDTR and
/// system-call registers.
///
/// # Safety
/// The block describes a guest confined by nested paging; GIF is clear and stays so on return;
/// `host` was saved on this processor.
#[unsafe(naked)]
pub(super) unsafe extern "sysv64" fn enter(general: *mut [u64; 16], guest: u64, host: u64) {
    naked_asm!(
        "push rbp",
        "push rbx",
        "push r12",
        "push r13",
        "push r14",
        "push r15",
        "push rdx",
        "push rdi",
        "mov rax, rsi",
        "mov rcx, [rdi + 8]",
        "mov rdx, [rdi + 16]",
        "mov rbx, [rdi + 24]",
        "mov rbp, [rdi + 40]",
        "mov rsi, [rdi + 48]",
        "mov r8, [rdi + 64]",
        "mov r9, [rdi + 72]",
        "mov r10, [rdi + 80]",
        "mov r11, [rdi + 88]",
        "mov r12, [rdi + 96]",
        "mov r13, [rdi + 104]",
        "mov r14, [rdi + 112]",
        "mov r15, [rdi + 120]",
        "mov rdi, [rdi + 56]",
        "vmload rax",
        "vmrun rax",
        // Processors disarm the guest's breakpoints themselves (APM 15.6); emulators may not, and they
        // could lie on Bouncer's stack: no memory is touched before they are disarmed, so CR2 keeps
        // RAX meanwhile. One on these very instructions ends in `bouncer_debug`, which does the same.
        // The guest's DR7 and CR2 are in the block already.
        "mov cr2, rax",
        "xor eax, eax",
        "mov dr7, rax",
        "mov rax, cr2",
        "vmsave rax",
        "xchg rdi, [rsp]",
        "mov [rdi + 8], rcx",
        "mov [rdi + 16], rdx",
        "mov [rdi + 24], rbx",
        "mov [rdi + 40], rbp",
        "mov [rdi + 48], rsi",
        "mov [rdi + 64], r8",
        "mov [rdi + 72], r9",
        "mov [rdi + 80], r10",
        "mov [rdi + 88], r11",
        "mov [rdi + 96], r12",
        "mov [rdi + 104], r13",
        "mov [rdi + 112], r14",
        "mov [rdi + 120], r15",
        "pop rcx",
        "mov [rdi + 56], rcx",
        "pop rax",
        "vmload rax",
        "pop r15",
        "pop r14",
        "pop r13",
        "pop r12",
        "pop rbx",
        "pop rbp",
        "cld",
        "ret",
    )
}

/// Saves Bouncer's own FS, GS, TR, LDTR and system-call registers for `enter`.
///
/// # Safety
/// `page` is the physical address of a page set aside for it.
pub(super) unsafe fn save_host(page: u64) {
    // SAFETY: VMSAVE writes to that page only (caller); SVM is enabled.
    unsafe { asm!("vmsave rax", in("rax") page, options(nostack, preserves_flags)) };
}

/// Holds all interrupts and NMIs back until the next entry to the guest or NMI window.
pub(super) fn hold_back_interrupts() {
    // SAFETY: clears the global interrupt flag; SVM is enabled.
    unsafe { asm!("clgi", options(nostack, preserves_flags)) };
}

/// Lets pending NMIs be taken by Bouncer's handler, then holds them back again.
///
/// Maskable interrupts stay pending: RFLAGS.IF is clear in Bouncer.
pub(super) fn take_pending_nmis() {
    // SAFETY: the handler saves every register it uses; SVM is enabled.
    unsafe { asm!("stgi", "nop", "clgi") };
}

/// Sleeps until an NMI, unless one is pending already.
#[inline(never)]
pub(super) fn sleep_until_nmi() {
    // SAFETY: as above. HLT ends with an NMI, and one that comes between STGI and HLT is not slept
    // through: `exceptions::caught` sees that it interrupted the range between the labels and
    // resumes behind it.
    unsafe { bouncer_sleep() };
}

unsafe extern "sysv64" {
    fn bouncer_sleep();
}

core::arch::global_asm!(
    ".global bouncer_sleep, bouncer_sleep_begin, bouncer_sleep_end",
    "bouncer_sleep:",
    "stgi",
    "bouncer_sleep_begin:",
    "nop",
    "hlt",
    "bouncer_sleep_end:",
    "clgi",
    "ret",
);
