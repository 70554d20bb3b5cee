//! The extension's instructions, each a thin wrapper.

// UNSAFETY: these instructions exist only as assembly.
#![expect(unsafe_code)]

use core::arch::asm;

use memory::Hpa;
use vmx::spec::field::Field;

/// The instruction failed: there is no current VMCS, or its error field tells.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) struct Failed;

/// Enters VMX operation.
///
/// # Safety
/// `region` is a page set aside for the processor, begins with the revision, and CR0 and CR4 hold what
/// VMX operation demands.
pub(super) unsafe fn turn_on(region: Hpa) -> Result<(), Failed> {
    let failed: u8;
    // SAFETY: as the caller says.
    unsafe {
        asm!("vmxon [{}]", "setbe {}", in(reg) &region.raw(), out(reg_byte) failed, options(nostack));
    }
    outcome(failed)
}

/// Makes `region` a fresh VMCS and the current one.
///
/// # Safety
/// `region` is a page set aside for the processor and begins with the revision; VMX operation is on.
pub(super) unsafe fn take_control_structure(region: Hpa) -> Result<(), Failed> {
    let (cleared, loaded): (u8, u8);
    // SAFETY: as the caller says.
    unsafe {
        asm!(
            "vmclear [{region}]",
            "setbe {cleared}",
            "vmptrld [{region}]",
            "setbe {loaded}",
            region = in(reg) &region.raw(),
            cleared = out(reg_byte) cleared,
            loaded = out(reg_byte) loaded,
            options(nostack),
        );
    }
    outcome(cleared | loaded)
}

/// Reads a field of the current VMCS; one that the processor does not have reads as zero.
pub(super) fn read(field: Field) -> u64 {
    let value: u64;
    // SAFETY: reading a field changes nothing; without a current VMCS the instruction fails.
    unsafe {
        asm!(
            "xor {value:e}, {value:e}",
            "vmread {value}, {field}",
            value = out(reg) value,
            field = in(reg) u64::from(field.0),
            options(nostack, nomem),
        );
    }
    value
}

/// Writes a field of the current VMCS.
///
/// # Safety
/// The value must keep the guest away from Bouncer: controls, Bouncer's own state, the nested tables'
/// pointer and the bitmaps are as `Processor::confine` says.
pub(super) unsafe fn write(field: Field, value: u64) -> Result<(), Failed> {
    let failed: u8;
    // SAFETY: the instruction writes the VMCS only; what that means is the caller's.
    unsafe {
        asm!(
            "vmwrite {field}, {value}",
            "setbe {failed}",
            field = in(reg) u64::from(field.0),
            value = in(reg) value,
            failed = out(reg_byte) failed,
            options(nostack),
        );
    }
    outcome(failed)
}

/// Forgets what the processor knows of nested tables: those that `pointer` names, or all.
pub(super) fn forget_nested(scope: vmx::Scope, pointer: u64) {
    let operand = [pointer, 0];
    // SAFETY: forgetting is always allowed.
    unsafe {
        asm!("invept {}, [{}]", in(reg) scope as u64, in(reg) &operand, options(nostack, readonly));
    }
}

/// Forgets what the processor knows of a guest's own tables: those under `vpid`, or all.
pub(super) fn forget_linear(scope: vmx::Scope, vpid: u16) {
    let operand = [u64::from(vpid), 0];
    // SAFETY: as above.
    unsafe {
        asm!("invvpid {}, [{}]", in(reg) scope as u64, in(reg) &operand, options(nostack, readonly));
    }
}

/// Takes the NMI that ended the guest's turn: the processor holds further ones back until an IRET, and
/// the interrupt's entry for vector 2 counts it and ends with one.
pub(super) fn take_nmi() {
    // SAFETY: the entry saves every register it uses.
    unsafe { asm!("int 2") };
}

/// The guest's CR2, which no VM exit saves and Bouncer does not use.
pub(super) fn page_fault_address() -> u64 {
    // SAFETY: reading it has no effect.
    unsafe { x86::controlregs::cr2() as u64 }
}

/// Sets the guest's CR2.
pub(super) fn write_page_fault_address(address: u64) {
    // SAFETY: Bouncer does not use the register.
    unsafe { asm!("mov cr2, {}", in(reg) address, options(nostack, nomem, preserves_flags)) };
}

/// The guest's DR6, as CR2.
pub(super) fn debug_status() -> u64 {
    let value: u64;
    // SAFETY: reading it has no effect.
    unsafe { asm!("mov {}, dr6", out(reg) value, options(nostack, nomem, preserves_flags)) };
    value
}

/// Sets the guest's DR6.
pub(super) fn write_debug_status(value: u64) {
    // SAFETY: Bouncer does not use the register, and the upper half is clear as it must be.
    unsafe {
        asm!("mov dr6, {}", in(reg) value & u64::from(u32::MAX), options(nostack, nomem, preserves_flags));
    }
}

fn outcome(failed: u8) -> Result<(), Failed> {
    match failed {
        0 => Ok(()),
        _ => Err(Failed),
    }
}
