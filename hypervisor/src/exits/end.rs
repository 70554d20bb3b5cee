//! How a guest ends.

// UNSAFETY: resets the machine.
#![expect(unsafe_code)]

use core::fmt::{self, Write};
use core::sync::atomic::{AtomicBool, Ordering};

use processor::Reason;

use crate::backend::Backend;
use crate::console::say;
use crate::cpu::instructions;
use crate::machine::Machine;
use crate::run::Runner;

static IS_REPORTED: AtomicBool = AtomicBool::new(false);

/// How a guest ends.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) enum Ending {
    PowerOff,
    Reset,
    TripleFault,
    UnknownExit,
}

impl fmt::Display for Ending {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::PowerOff => "poweroff",
            Self::Reset => "reset",
            Self::TripleFault => "triple-fault",
            Self::UnknownExit => "panic",
        })
    }
}

/// The last words of an orderly end: how often the guest was left, and why.
pub(crate) fn report(machine: &Machine, ending: Ending) {
    // A guest that resets in several ways at once is reported once.
    if IS_REPORTED.swap(true, Ordering::AcqRel) {
        return;
    }
    tell_exits(machine);
    if let Some(fabric) = machine.fabric {
        fabric.lock().report();
    }
    say!("@ended {ending}");
}

fn tell_exits(machine: &Machine) {
    let mut counts = heapless::String::<512>::new();
    for reason in Reason::ALL {
        let count = machine.count(*reason);
        if count != 0 {
            let _ = write!(counts, " {}={count}", reason.name());
        }
    }
    say!("exits since the start:{counts}");
    say!("@exits{counts}");
}

/// A triple fault of the guest: report, then reset as the processor would have.
pub(crate) fn triple_fault<B: Backend>(runner: &mut Runner<B>) -> ! {
    let state = runner.cpu.state();
    say!(
        "guest triple fault on processor {}: rip {:#x}, rsp {:#x}, cr0 {:#x}, cr2 {:#x}, cr3 {:#x}, \
         cr4 {:#x}; the machine is reset",
        runner.area.index(),
        state.rip,
        state.general[4],
        state.cr0,
        state.cr2,
        state.cr3,
        state.cr4,
    );
    report(runner.machine, Ending::TripleFault);
    reset(runner.machine)
}

/// The guest resets the machine.
pub(crate) fn guest_reset(machine: &Machine) -> ! {
    report(machine, Ending::Reset);
    reset(machine)
}

/// The local APIC, which the guest took out of x2APIC mode, does not come back, as on some emulators: no
/// processor could be called any more.
pub(crate) fn apic_lost<B: Backend>(runner: &Runner<B>) -> ! {
    say!(
        "processor {}: its local APIC stays off after the guest turned x2APIC mode off; the machine is \
         reset",
        runner.area.index()
    );
    guest_reset(runner.machine)
}

/// The processor did not enter the guest: nobody knows how to go on. What the guest's registers held, and
/// the epitaph.
pub(crate) fn entry_refused<B: Backend>(runner: &mut Runner<B>, code: u64, detail: [u64; 2]) -> ! {
    const NAMES: [&str; 6] = ["es", "cs", "ss", "ds", "fs", "gs"];
    let index = runner.area.index();
    let state = runner.cpu.state();
    say!(
        "processor {index}: the guest's rip {:#x}, rflags {:#x}, cr0 {:#x}, cr2 {:#x}, cr3 {:#x}, cr4 \
         {:#x}, efer {:#x}, level {}",
        state.rip,
        state.rflags,
        state.cr0,
        state.cr2,
        state.cr3,
        state.cr4,
        state.efer,
        state.privilege,
    );
    for (name, segment) in NAMES.iter().zip(state.segments) {
        let (base, limit, rights) = (segment.base, segment.limit, segment.rights.0);
        say!("processor {index}: {name} base {base:#x}, limit {limit:#x}, rights {rights:#x}");
    }
    say!(
        "processor {index}: registers by number {:x?}",
        state.general
    );
    tell_exits(runner.machine);
    panic!(
        "processor {index} did not enter the guest: {} code {code:#x}, detail {:#x} {:#x}",
        B::NAME,
        detail[0],
        detail[1],
    );
}

/// The processor left the guest for a reason that nobody asked for.
pub(crate) fn unknown_exit<B: Backend>(runner: &mut Runner<B>, code: u64, detail: [u64; 2]) -> ! {
    let state = runner.cpu.state();
    say!(
        "processor {} left the guest for a reason unknown to Bouncer: {} code {code:#x}, detail \
         {:#x} {:#x}, rip {:#x}, cr0 {:#x}, cr3 {:#x}, cr4 {:#x}, efer {:#x}; the machine is reset",
        runner.area.index(),
        B::NAME,
        detail[0],
        detail[1],
        state.rip,
        state.cr0,
        state.cr3,
        state.cr4,
        state.efer,
    );
    report(runner.machine, Ending::UnknownExit);
    reset(runner.machine)
}

/// Resets the machine by every means there is.
pub(crate) fn reset(machine: &Machine) -> ! {
    if let Some((port, value)) = machine.power.reset {
        crate::power::write_for_guest(port, 1, u32::from(value));
    }
    machine.timer.wait_until(100_000, || false);
    // SAFETY: the chipset's reset register, then the keyboard controller's reset line: neither
    // touches memory, and nothing is to run after it.
    unsafe {
        x86::io::outb(0xcf9, 0x06);
        x86::io::outb(0x64, 0xfe);
    }
    machine.timer.wait_until(100_000, || false);
    instructions::stop()
}
