//! RDMSR and WRMSR of registers that are not the guest's alone.

// UNSAFETY: writes a register of the real processor for the guest.
#![expect(unsafe_code)]

use processor::icr::{self, Command, Format};
use processor::lvt;
use processor::msr::apic_base::Change;
use processor::msr::{self, Fault, Rule, apic_base, efer, feature_control, xss};
use x86::msr::IA32_APIC_BASE;

use crate::backend::{Backend, Event};
use crate::cpu::apic;
use crate::cpu::instructions::{self, read_msr};
use crate::exits::end;
use crate::limit::Once;
use crate::run::Runner;
use crate::{command, console::say, nmis};

/// Registers whose dropped writes have been reported.
static REPORTED: Once<u32, 32> = Once::new();

/// CPUID 8000_0001h, bits EDX.25 and ECX.17, and 8000_0021h, EAX.8: FFXSR, TCE and AutoIBRS, and the EFER
/// bits they stand for.
const FFXSR: (u32, u64) = (1 << 25, 1 << 14);
const TCE: (u32, u64) = (1 << 17, 1 << 15);
const AUTO_IBRS: (u32, u64) = (1 << 8, 1 << 21);

/// Whatever firmware left in IA32_XSS, XRSTORS loads nothing by it that the guest may not.
pub(crate) fn forget_supervisor_states() {
    // SAFETY: Bouncer moves no state by XSAVES and XRSTORS. Where there is no such register it faults.
    let _ = unsafe { instructions::write_msr(xss::REGISTER, 0) };
}

/// Answers RDMSR.
pub(crate) fn read<B: Backend>(runner: &mut Runner<B>) {
    let (memory_types, is_apic_off) = (&runner.memory_types, runner.is_apic_off);
    let state = runner.cpu.state();
    let index = state.general[1] as u32;
    let value = match msr::rule(index) {
        Some(Rule::Absent) => Err(Fault),
        Some(Rule::Efer) => Ok(efer::read(state.efer)),
        Some(Rule::FeatureControl) => read_msr(index)
            .map(feature_control::read)
            .map_err(|_| Fault),
        Some(Rule::ApicBase) => read_msr(index)
            .map(|real| apic_base::read(real, is_apic_off))
            .map_err(|_| Fault),
        Some(Rule::MemoryType) => memory_types.read(index),
        Some(Rule::Shown { clear, set }) => read_msr(index)
            .map(|real| real & !clear | set)
            .map_err(|_| Fault),
        _ => read_msr(index).map_err(|_| Fault),
    };
    match value {
        Ok(value) => {
            state.general[0] = value & u64::from(u32::MAX);
            state.general[2] = value >> 32;
            runner.advance();
        }
        Err(Fault) => runner.cpu.inject(Event::GeneralProtection),
    }
}

/// Answers WRMSR.
pub(crate) fn write<B: Backend>(runner: &mut Runner<B>) {
    let state = runner.cpu.state();
    let index = state.general[1] as u32;
    let value = state.general[2] << 32 | state.general[0] & u64::from(u32::MAX);
    let (real_efer, cr0) = (state.efer, state.cr0);
    let outcome = match msr::rule(index) {
        Some(Rule::Absent | Rule::FeatureControl) => Err(Fault),
        Some(Rule::Efer) => efer::write(real_efer, value, cr0, optional_features())
            .map(|value| runner.cpu.write_efer(value)),
        Some(Rule::ApicBase) => write_apic_base(runner, value),
        Some(Rule::MemoryType) => runner.memory_types.write(index, value),
        Some(Rule::SupervisorState) => write_supervisor_states(value),
        // SDM vol. 3A, 12.12.2: the registers are there in x2APIC mode only.
        Some(Rule::InterruptCommand | Rule::LocalVector) if !apic::is_x2apic() => Err(Fault),
        Some(Rule::LocalVector) if lvt::may_deliver(value as u32) => {
            // SAFETY: a vector of the guest's own, which raises nothing but interrupts.
            unsafe { instructions::write_msr(index, value) }.map_err(|_| Fault)
        }
        Some(Rule::InterruptCommand) => match icr::read(value, Format::X2apic) {
            Command::Pass => {
                nmis::note_command(runner.machine, runner.area, value, Format::X2apic);
                // SAFETY: the command starts and stops no processor; what it sends is the guest's.
                unsafe { instructions::write_msr(index, value) }.map_err(|_| Fault)
            }
            other => {
                command::obey(runner.machine, runner.area, other);
                Ok(())
            }
        },
        // The guest's own, beyond what the permission maps name.
        Some(Rule::Direct) => {
            // SAFETY: the guest may write it without asking wherever the maps name it.
            unsafe { instructions::write_msr(index, value) }.map_err(|_| Fault)
        }
        // A register that is not there faults; one that is keeps its value.
        Some(Rule::ReadOnly | Rule::Shown { .. } | Rule::LocalVector) | None => read_msr(index).map_err(|_| Fault).map(|_| {
            if REPORTED.is_new(index) {
                say!("guest write of {value:#x} to MSR {index:#x} dropped: it is not the guest's to write");
            }
        }),
    };
    match outcome {
        Ok(()) => runner.advance(),
        Err(Fault) => runner.cpu.inject(Event::GeneralProtection),
    }
}

/// The guest reads what it wrote. The real APIC stays on, and begins anew when the guest turns its own off.
fn write_apic_base<B: Backend>(runner: &mut Runner<B>, value: u64) -> Result<(), Fault> {
    let real = read_msr(IA32_APIC_BASE).map_err(|_| Fault)?;
    let shown = apic_base::read(real, runner.is_apic_off);
    let ready = runner.machine.areas.iter().filter(|area| area.is_ready());
    let largest_id = ready.map(|area| area.apic_id()).max().unwrap_or(0);
    let change = apic_base::write(shown, value, largest_id)?;
    for step in apic_base::steps(real, change) {
        // SAFETY: the APIC stays where it is; its mode is the guest's choice, and Bouncer asks for the
        // mode at every use.
        unsafe { instructions::write_msr(IA32_APIC_BASE, step) }.map_err(|_| Fault)?;
    }
    match change {
        Change::Nothing => return Ok(()),
        Change::On | Change::X2apic => runner.is_apic_off = false,
        Change::Off => {
            if !apic::is_on() {
                end::apic_lost(runner);
            }
            runner.is_apic_off = true;
            apic::reset_as_by_init();
        }
    }
    // While it was off it may have missed an NMI.
    runner.catch_up();
    Ok(())
}

fn write_supervisor_states(value: u64) -> Result<(), Fault> {
    let leaf = instructions::cpuid(0xd, 1);
    let allowed = xss::write(value, u64::from(leaf.edx) << 32 | u64::from(leaf.ecx))?;
    // SAFETY: Bouncer moves no state by XSAVES and XRSTORS, and those states name no physical memory.
    unsafe { instructions::write_msr(xss::REGISTER, allowed) }.map_err(|_| Fault)
}

/// The optional bits of EFER that this processor has.
fn optional_features() -> u64 {
    let leaf = instructions::cpuid(0x8000_0001, 0);
    let ffxsr = if leaf.edx & FFXSR.0 != 0 { FFXSR.1 } else { 0 };
    let tce = if leaf.ecx & TCE.0 != 0 { TCE.1 } else { 0 };
    let more = match instructions::cpuid(0x8000_0000, 0).eax >= 0x8000_0021 {
        true => instructions::cpuid(0x8000_0021, 0).eax,
        false => 0,
    };
    let auto_ibrs = if more & AUTO_IBRS.0 != 0 {
        AUTO_IBRS.1
    } else {
        0
    };
    ffxsr | tce | auto_ibrs
}
