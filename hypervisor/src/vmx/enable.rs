//! Turning the extension on: the capability registers, VMX operation, and Bouncer's own state.

// UNSAFETY: reads and writes registers of the processor and fields of the VMCS.
#![expect(unsafe_code)]

use core::arch::asm;

use memory::Hpa;
use raw_cpuid::CpuId;
use vmx::spec::field::Field;
use vmx::{Capabilities, Controls, FeatureControl, Fixed, Flushes, Lacking};
use x86::msr;

use super::enter::bouncer_vmx_exit;
use super::instructions::{self, write};
use super::page;
use crate::backend::Missing;
use crate::cpu::area::Area;
use crate::cpu::instructions::{cpuid, read_msr, write_msr};
use crate::cpu::tables::{CODE, DATA, TASK};

const IA32_FEATURE_CONTROL: u32 = msr::IA32_FEATURE_CONTROL;
const IA32_ARCH_CAPABILITIES: u32 = 0x10a;
const CR4_VMXE: u64 = 1 << 13;
const CR4_OSXSAVE: u64 = 1 << 18;

/// Says why this processor cannot be used, if it cannot.
pub(super) fn check() -> Result<(), Missing> {
    let id = CpuId::new();
    if !id.get_feature_info().is_some_and(|found| found.has_vmx()) {
        return Err(Missing::Virtualization);
    }
    let extended = id.get_extended_processor_and_feature_identifiers();
    if !extended.is_some_and(|found| found.has_execute_disable()) {
        return Err(Missing::NoExecute);
    }
    if read_msr(IA32_FEATURE_CONTROL).map(FeatureControl::of) == Ok(FeatureControl::LockedOff) {
        return Err(Missing::LockedByFirmware);
    }
    Controls::choose(&capabilities())?;
    Ok(())
}

/// Reads the capability registers that exist; one that is not there offers nothing.
pub(super) fn capabilities() -> Capabilities {
    let read = |index| read_msr(index).unwrap_or(0);
    let basic = read(msr::IA32_VMX_BASIC);
    let has_true = Capabilities::has_true_controls(basic);
    let either = |truth, plain| read(if has_true { truth } else { plain });
    let primary = either(
        msr::IA32_VMX_TRUE_PROCBASED_CTLS,
        msr::IA32_VMX_PROCBASED_CTLS,
    );
    let secondary = match Capabilities::has_secondary(primary) {
        true => read(msr::IA32_VMX_PROCBASED_CTLS2),
        false => 0,
    };
    let ept_vpid = match Capabilities::has_ept_vpid(secondary) {
        true => read(msr::IA32_VMX_EPT_VPID_CAP),
        false => 0,
    };
    Capabilities {
        basic,
        pin: either(
            msr::IA32_VMX_TRUE_PINBASED_CTLS,
            msr::IA32_VMX_PINBASED_CTLS,
        ),
        primary,
        secondary,
        exit: either(msr::IA32_VMX_TRUE_EXIT_CTLS, msr::IA32_VMX_EXIT_CTLS),
        entry: either(msr::IA32_VMX_TRUE_ENTRY_CTLS, msr::IA32_VMX_ENTRY_CTLS),
        ept_vpid,
    }
}

/// What is fixed of CR0 and CR4.
pub(super) fn fixed() -> Fixed {
    let read = |index| read_msr(index).unwrap_or(0);
    Fixed {
        cr0_set: read(msr::IA32_VMX_CR0_FIXED0),
        cr0_may: read(msr::IA32_VMX_CR0_FIXED1),
        cr4_set: read(msr::IA32_VMX_CR4_FIXED0),
        cr4_may: read(msr::IA32_VMX_CR4_FIXED1),
    }
}

/// What must be flushed before the guest is entered.
pub(super) fn flushes() -> Flushes {
    let features = cpuid(7, 0);
    let capabilities = read_msr(IA32_ARCH_CAPABILITIES).unwrap_or(0);
    Flushes::needed(features.ebx, features.edx, capabilities)
}

/// Turns VMX operation on with a fresh VMCS.
///
/// # Panics
/// If the processor refuses although `check` found nothing: the machine stops there.
pub(super) fn turn_on(area: &Area, capabilities: &Capabilities, fixed: &Fixed) {
    let at = |which| Hpa::new(area.backend_page(which) as u64);
    let (region, structure) = (at(page::OPERATION), at(page::GUEST));
    let has_xsave = CpuId::new()
        .get_feature_info()
        .is_some_and(|found| found.has_xsave());
    let cr4 = CR4_VMXE | fixed.cr4_set | if has_xsave { CR4_OSXSAVE } else { 0 };
    // SAFETY: the added bits change nothing that Bouncer relies on; the two pages are this processor's,
    // and begin with the revision as the processor demands.
    let outcome = unsafe {
        if let Ok(FeatureControl::Open(value)) =
            read_msr(IA32_FEATURE_CONTROL).map(FeatureControl::of)
        {
            // Locked, so that nobody turns it off again; a processor that is reset begins anew.
            let _ = write_msr(IA32_FEATURE_CONTROL, value);
        }
        asm!(
            "mov {scratch}, cr0",
            "or {scratch}, {cr0}",
            "mov cr0, {scratch}",
            "mov {scratch}, cr4",
            "or {scratch}, {cr4}",
            "mov cr4, {scratch}",
            scratch = out(reg) _,
            cr0 = in(reg) fixed.cr0_set,
            cr4 = in(reg) cr4,
            options(nostack),
        );
        (region.raw() as *mut u32).write_volatile(capabilities.revision());
        (structure.raw() as *mut u32).write_volatile(capabilities.revision());
        instructions::turn_on(region).and_then(|()| instructions::take_control_structure(structure))
    };
    assert!(
        outcome.is_ok(),
        "VMX operation cannot be entered: VM-instruction error {}",
        vmx::instruction_error(instructions::read(Field::INSTRUCTION_ERROR))
    );
}

/// Writes Bouncer's own state of this processor: what a VM exit loads.
pub(super) fn write_host_state(area: &Area) {
    use x86::dtables::{DescriptorTablePointer, sgdt, sidt};
    let (mut gdt, mut idt) = (
        DescriptorTablePointer::<u64>::default(),
        DescriptorTablePointer::<u64>::default(),
    );
    let (cr0, cr3, cr4): (u64, u64, u64);
    // SAFETY: stores and reads of this processor's registers.
    unsafe {
        sgdt(&mut gdt);
        sidt(&mut idt);
        asm!("mov {}, cr0", "mov {}, cr3", "mov {}, cr4", out(reg) cr0, out(reg) cr3, out(reg) cr4,
            options(nostack, nomem, preserves_flags));
    }
    let register = |index| read_msr(index).unwrap_or(0);
    let (gdt, idt) = (gdt.base as u64, idt.base as u64);
    for (field, value) in [
        (Field::HOST_CR0, cr0),
        (Field::HOST_CR3, cr3),
        (Field::HOST_CR4, cr4),
        (Field::HOST_CS_SELECTOR, CODE.into()),
        (Field::HOST_SS_SELECTOR, DATA.into()),
        (Field::HOST_DS_SELECTOR, DATA.into()),
        (Field::HOST_ES_SELECTOR, DATA.into()),
        (Field::HOST_FS_SELECTOR, 0),
        (Field::HOST_GS_SELECTOR, 0),
        (Field::HOST_TR_SELECTOR, TASK.into()),
        (Field::HOST_FS_BASE, 0),
        (Field::HOST_GS_BASE, register(msr::IA32_GS_BASE)),
        (Field::HOST_TR_BASE, area.task_state()),
        (Field::HOST_GDTR_BASE, gdt),
        (Field::HOST_IDTR_BASE, idt),
        (Field::HOST_SYSENTER_CS, 0),
        (Field::HOST_SYSENTER_ESP, 0),
        (Field::HOST_SYSENTER_EIP, 0),
        (Field::HOST_PAT, register(msr::IA32_PAT)),
        (Field::HOST_EFER, register(msr::IA32_EFER)),
        (Field::HOST_RIP, bouncer_vmx_exit as *const () as u64),
    ] {
        // SAFETY: it is the state this processor is in, and the one place that expects an exit.
        unsafe { set(field, value) };
    }
}

/// Writes a field that every processor with these controls has.
///
/// # Safety
/// As for [`instructions::write`].
///
/// # Panics
/// If the processor refuses.
pub(super) unsafe fn set(field: Field, value: u64) {
    // SAFETY: as the caller says.
    let outcome = unsafe { write(field, value) };
    assert!(outcome.is_ok(), "the VMCS takes no {}", field.name());
}

impl From<Lacking> for Missing {
    fn from(lacking: Lacking) -> Self {
        match lacking {
            Lacking::Ept => Self::NestedPaging,
            Lacking::UnrestrictedGuest => Self::UnrestrictedGuest,
            Lacking::Control(name) => Self::Control(name),
            Lacking::Forced(name) => Self::Forced(name),
        }
    }
}
