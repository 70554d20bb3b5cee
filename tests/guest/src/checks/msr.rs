//! Machine registers read as a processor without virtualisation would have them.

use crate::verdict::{Attempt, Figures, Verdict, ensure, skipped};
use core::arch::x86_64::__cpuid;
use std::fs::{File, OpenOptions};
use std::os::unix::fs::FileExt;

/// Intel SDM volume 4, table 2-2: the local APIC's base and its enable bit 11.
const IA32_APIC_BASE: u64 = 0x1b;
/// The time-stamp counter.
const IA32_TSC: u64 = 0x10;
/// AMD APM volume 2, 3.1.7: bit 8 LME, bit 10 LMA, bit 12 SVME.
const EFER: u64 = 0xc000_0080;
const EFER_LONG_MODE: u64 = 1 << 8 | 1 << 10;
const EFER_SVME: u64 = 1 << 12;
/// AMD APM volume 2, 15.30.4: where the processor saves its host state.
const VM_HSAVE_PA: u64 = 0xc001_0117;

pub(super) fn run(figures: &mut Figures) -> Verdict {
    let registers = match OpenOptions::new()
        .read(true)
        .write(true)
        .open("/dev/cpu/0/msr")
    {
        Ok(registers) => registers,
        Err(error) => return Err(skipped(format!("/dev/cpu/0/msr (module msr): {error}"))),
    };
    let before = read(&registers, IA32_TSC).attempt("reading the time-stamp counter")?;
    let after = read(&registers, IA32_TSC).attempt("reading the time-stamp counter")?;
    // Emulators may read it as zero this way, however RDTSC goes on.
    ensure!(
        after >= before,
        "the time-stamp counter went from {before} to {after}"
    );
    let apic = read(&registers, IA32_APIC_BASE).attempt("reading IA32_APIC_BASE")?;
    ensure!(
        apic & 1 << 11 != 0,
        "IA32_APIC_BASE {apic:#x}: the local APIC is off"
    );
    let efer = read(&registers, EFER).attempt("reading EFER")?;
    ensure!(
        efer & EFER_LONG_MODE == EFER_LONG_MODE,
        "EFER {efer:#x}: not in long mode"
    );
    ensure!(
        efer & EFER_SVME == 0,
        "EFER {efer:#x} shows SVM switched on"
    );
    figures.tell("msr.efer", format_args!("{efer:#x}"));

    if __cpuid(0x8000_0001).ecx & 1 << 2 == 0 {
        virtualisation_stays_hidden(&registers, efer)?;
    }
    Ok(())
}

/// Where CPUID offers no SVM, its registers tell nothing and take nothing.
fn virtualisation_stays_hidden(registers: &File, efer: u64) -> Verdict {
    // A refusal is #GP, which the module turns into an error; ignoring the bit is as good.
    let _ = registers.write_all_at(&(efer | EFER_SVME).to_le_bytes(), EFER);
    let now = read(registers, EFER).attempt("reading EFER again")?;
    ensure!(
        now == efer,
        "setting SVME made EFER {now:#x} out of {efer:#x}"
    );
    if let Ok(save_area) = read(registers, VM_HSAVE_PA) {
        ensure!(
            save_area == 0,
            "VM_HSAVE_PA tells where the host's state is: {save_area:#x}"
        );
    }
    Ok(())
}

fn read(registers: &File, register: u64) -> std::io::Result<u64> {
    let mut value = [0; 8];
    registers.read_exact_at(&mut value, register)?;
    Ok(u64::from_le_bytes(value))
}
