//! The world switch.

// UNSAFETY: the switch and the sleep exist only as assembly.
#![expect(unsafe_code)]

use core::arch::global_asm;
use core::sync::atomic::AtomicU64;

use vmx::spec::field::Field;

use crate::cpu::tables::DATA;

/// How an attempt to enter the guest ended.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) enum Entered {
    /// The guest ran, or VM entry found its state wrong: the exit reason tells.
    Left,
    /// The instruction failed: the VM-instruction error tells.
    Failed,
    /// An NMI came before: it is to be looked at first.
    CalledOff,
}

unsafe extern "sysv64" {
    fn bouncer_vmx_enter(general: *mut [u64; 16], how: u32, nmis: *const AtomicU64) -> u32;
    fn bouncer_vmx_sleep(nmis: *const AtomicU64);
    /// Where the processor goes on when the guest stops.
    pub(super) fn bouncer_vmx_exit();
}

/// How the guest is entered.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) struct How {
    /// The VMCS has been launched before.
    pub(super) is_launched: bool,
    /// VERW overwrites what was left in the processor's buffers, as the last instruction before.
    pub(super) clears_buffers: bool,
}

/// Enters the guest and returns when it stops. `general`: the guest's registers by number, RSP excepted,
/// which is in the VMCS.
///
/// # Safety
/// The current VMCS describes a guest confined by nested paging, and Bouncer's own state of this
/// processor with `bouncer_vmx_exit` as where to go on.
pub(super) unsafe fn enter(general: &mut [u64; 16], how: How, nmis: &AtomicU64) -> Entered {
    let how = u32::from(how.is_launched) | u32::from(how.clears_buffers) << 1;
    // SAFETY: the block is ours and outlives the call; the rest is the caller's.
    match unsafe { bouncer_vmx_enter(general, how, nmis) } {
        0 => Entered::Left,
        1 => Entered::Failed,
        _ => Entered::CalledOff,
    }
}

/// Sleeps until `nmis` counts an NMI.
pub(super) fn sleep_until_nmi(nmis: &AtomicU64) {
    // SAFETY: HLT with interrupts off ends with an NMI, whose handler counts it; INIT and start-up
    // messages are held back in VMX operation.
    unsafe { bouncer_vmx_sleep(nmis) };
}

// Between the labels `begin` and `end` an NMI that was just counted must not be slept through or
// carried into the guest: `exceptions::caught` sees that it interrupted that range and resumes at its
// end. Until the guest is entered RSP is Bouncer's, so that the way back from there is the same.
global_asm!(
    ".global bouncer_vmx_enter, bouncer_vmx_enter_begin, bouncer_vmx_enter_end, bouncer_vmx_exit",
    "bouncer_vmx_enter:",
    "push rbp",
    "push rbx",
    "push r12",
    "push r13",
    "push r14",
    "push r15",
    "push rdi",
    "mov eax, {host_rsp}",
    "vmwrite rax, rsp",
    "jbe 4f",
    "bouncer_vmx_enter_begin:",
    "cmp qword ptr [rdx], 0",
    "jne bouncer_vmx_enter_end",
    // CF: launched. ZF: the buffers stay as they are. Moves leave the flags alone, VERW all but ZF.
    "shr esi, 1",
    "mov rax, [rdi]",
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
    "jz 2f",
    "verw word ptr [rip + bouncer_vmx_data]",
    "2:",
    "jc 3f",
    "vmlaunch",
    "jmp 4f",
    "3:",
    "vmresume",
    "jmp 4f",
    "bouncer_vmx_enter_end:",
    "mov eax, 2",
    "pop rdi",
    "jmp 5f",
    "4:",
    "mov eax, 1",
    "pop rdi",
    "jmp 5f",
    "bouncer_vmx_exit:",
    "xchg rdi, [rsp]",
    "mov [rdi], rax",
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
    // No value of the guest's stays in a register that Bouncer's code could speculate with.
    "xor eax, eax",
    "xor ecx, ecx",
    "xor edx, edx",
    "xor esi, esi",
    "xor edi, edi",
    "xor r8d, r8d",
    "xor r9d, r9d",
    "xor r10d, r10d",
    "xor r11d, r11d",
    "5:",
    "pop r15",
    "pop r14",
    "pop r13",
    "pop r12",
    "pop rbx",
    "pop rbp",
    "ret",
    // The selector of a writable segment, with which VERW overwrites buffers.
    "bouncer_vmx_data: .word {data}",
    ".global bouncer_vmx_sleep, bouncer_vmx_sleep_begin, bouncer_vmx_sleep_end",
    "bouncer_vmx_sleep:",
    "bouncer_vmx_sleep_begin:",
    "cmp qword ptr [rdi], 0",
    "jne bouncer_vmx_sleep_end",
    "hlt",
    "bouncer_vmx_sleep_end:",
    "ret",
    host_rsp = const Field::HOST_RSP.0,
    data = const DATA,
);
