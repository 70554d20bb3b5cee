//! Single instructions, each a thin wrapper.

// UNSAFETY: these instructions exist only as assembly.
#![expect(unsafe_code)]

use core::arch::{asm, global_asm, x86_64::__cpuid_count};

use processor::cpuid::Leaf;

/// Executes CPUID.
pub(crate) fn cpuid(leaf: u32, subleaf: u32) -> Leaf {
    let real = __cpuid_count(leaf, subleaf);
    Leaf {
        eax: real.eax,
        ebx: real.ebx,
        ecx: real.ecx,
        edx: real.edx,
    }
}

// Three functions whose one faulting instruction has a name: when it faults, the exception
// handler resumes at `bouncer_msr_failed` (see `resume_after_fault`).
global_asm!(
    ".global bouncer_rdmsr, bouncer_wrmsr, bouncer_rdmsr_faults, bouncer_wrmsr_faults",
    ".global bouncer_xsetbv, bouncer_xsetbv_faults, bouncer_msr_failed",
    "bouncer_rdmsr:",
    "mov ecx, edi",
    "bouncer_rdmsr_faults:",
    "rdmsr",
    "shl rdx, 32",
    "or rax, rdx",
    "mov [rsi], rax",
    "xor eax, eax",
    "ret",
    "bouncer_wrmsr:",
    "mov ecx, edi",
    "mov eax, esi",
    "mov rdx, rsi",
    "shr rdx, 32",
    "bouncer_wrmsr_faults:",
    "wrmsr",
    "xor eax, eax",
    "ret",
    "bouncer_xsetbv:",
    "mov ecx, edi",
    "mov eax, esi",
    "mov rdx, rsi",
    "shr rdx, 32",
    "bouncer_xsetbv_faults:",
    "xsetbv",
    "xor eax, eax",
    "ret",
    "bouncer_msr_failed:",
    "mov eax, 1",
    "ret",
);

unsafe extern "sysv64" {
    fn bouncer_rdmsr(index: u32, value: &mut u64) -> u32;
    fn bouncer_wrmsr(index: u32, value: u64) -> u32;
    fn bouncer_xsetbv(index: u32, value: u64) -> u32;
    fn bouncer_xsetbv_faults();
    fn bouncer_rdmsr_faults();
    fn bouncer_wrmsr_faults();
    fn bouncer_msr_failed();
}

/// The register does not exist, or not with this value.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) struct NoSuchRegister;

/// Where to go on after a general-protection fault at `rip`, if it was an expected one.
pub(crate) fn resume_after_fault(rip: u64) -> Option<u64> {
    let may_fault = [
        bouncer_rdmsr_faults as *const () as u64,
        bouncer_wrmsr_faults as *const () as u64,
        bouncer_xsetbv_faults as *const () as u64,
    ];
    may_fault
        .contains(&rip)
        .then_some(bouncer_msr_failed as *const () as u64)
}

/// Reads a model-specific register that may not exist.
pub(crate) fn read_msr(index: u32) -> Result<u64, NoSuchRegister> {
    let mut value = 0;
    // SAFETY: reading a register changes no memory but `value`; a fault resumes at the failure
    // label, which returns as the function itself does.
    match unsafe { bouncer_rdmsr(index, &mut value) } {
        0 => Ok(value),
        _ => Err(NoSuchRegister),
    }
}

/// Writes a model-specific register that may not exist or may refuse the value.
///
/// # Safety
/// The register, with this value, must not change what Bouncer's own code or memory relies on.
pub(crate) unsafe fn write_msr(index: u32, value: u64) -> Result<(), NoSuchRegister> {
    // SAFETY: the caller vouches for the effect; a fault resumes as in `read_msr`.
    match unsafe { bouncer_wrmsr(index, value) } {
        0 => Ok(()),
        _ => Err(NoSuchRegister),
    }
}

/// Writes an extended control register that may not exist or may refuse the value.
pub(crate) fn write_extended_control(index: u32, value: u64) -> Result<(), NoSuchRegister> {
    // SAFETY: the register says which state XSAVE saves, which Bouncer never uses; a fault resumes as
    // in `read_msr`.
    match unsafe { bouncer_xsetbv(index, value) } {
        0 => Ok(()),
        _ => Err(NoSuchRegister),
    }
}

/// Clears the addresses of the guest's breakpoints, which no exit saves and Bouncer does not use.
pub(crate) fn forget_breakpoints() {
    // SAFETY: no breakpoint is armed outside the guest.
    unsafe {
        asm!(
            "mov dr0, {zero}", "mov dr1, {zero}", "mov dr2, {zero}", "mov dr3, {zero}",
            zero = in(reg) 0_u64, options(nostack, nomem, preserves_flags)
        );
    }
}

/// Whether a performance counter has overflowed, as far as this processor tells: the guest's own NMI.
/// SDM vol. 3B, 20.2.4: IA32_PERF_GLOBAL_STATUS.
pub(crate) fn has_counter_overflowed() -> bool {
    const GLOBAL_STATUS: u32 = 0x38e;
    read_msr(GLOBAL_STATUS).is_ok_and(|status| status != 0)
}

/// Writes all caches back to memory.
pub(crate) fn write_back_caches() {
    // SAFETY: WBINVD loses no data.
    unsafe { asm!("wbinvd", options(nostack)) };
}

/// Stops this processor for ever.
pub(crate) fn stop() -> ! {
    loop {
        // SAFETY: nothing runs after this; NMIs that arrive are ignored by the loop.
        unsafe { asm!("cli", "hlt", options(nomem, nostack)) };
    }
}
