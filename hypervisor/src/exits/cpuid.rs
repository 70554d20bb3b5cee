//! CPUID.

use processor::cpuid::{self, Context, Remapping, Tally};

use crate::backend::Backend;
use crate::cpu::instructions;
use crate::machine::Machine;
use crate::mediated;
use crate::run::Runner;

/// Answers CPUID.
pub(crate) fn answer<B: Backend>(runner: &mut Runner<B>) {
    let machine = runner.machine;
    let state = runner.cpu.state();
    let context = Context {
        cr4: state.cr4,
        is_apic_off: runner.is_apic_off,
        physical_width: machine.physical_width,
        own: machine.own,
        remapping: match machine.fabric {
            Some(_) => Remapping::Bouncer,
            None => Remapping::Guest,
        },
    };
    let (leaf, subleaf) = (state.general[0] as u32, state.general[1] as u32);
    let count = |reason| machine.count(reason);
    let work = |index| work(machine, index);
    let answer = cpuid::answer(leaf, subleaf, &context, instructions::cpuid, count, work);
    let registers = [answer.eax, answer.ecx, answer.edx, answer.ebx];
    for (register, value) in state.general.iter_mut().zip(registers) {
        *register = u64::from(value);
    }
    runner.advance();
}

/// What was done for mediated devices, all of them together, and what it cost.
fn work(machine: &'static Machine, index: usize) -> Option<Tally> {
    let (counts, ticks) = mediated::counts();
    let invalidations = machine
        .fabric
        .map_or(0, |fabric| fabric.lock().invalidations());
    let all = [
        ("requests", counts.requests),
        ("answered", counts.answered),
        ("complete", counts.completed),
        ("bytes-in", counts.bytes_in),
        ("bytesout", counts.bytes_out),
        ("entries", counts.entry_bytes),
        ("heldback", counts.held_back),
        ("irqs", counts.interrupts),
        ("ticks", ticks),
        ("qiwrites", invalidations),
    ];
    all.get(index).copied()
}
