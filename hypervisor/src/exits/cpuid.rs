//! CPUID.

use processor::cpuid::{self, Context, Remapping};

use crate::backend::Backend;
use crate::cpu::instructions;
use crate::run::Runner;

/// Answers CPUID.
pub(crate) fn answer<B: Backend>(runner: &mut Runner<B>) {
    let machine = runner.machine;
    let state = runner.cpu.state();
    let context = Context {
        cr4: state.cr4,
        own: machine.own,
        remapping: match machine.fabric {
            Some(_) => Remapping::Bouncer,
            None => Remapping::Guest,
        },
    };
    let (leaf, subleaf) = (state.general[0] as u32, state.general[1] as u32);
    let count = |reason| machine.count(reason);
    let answer = cpuid::answer(leaf, subleaf, &context, instructions::cpuid, count);
    let registers = [answer.eax, answer.ecx, answer.edx, answer.ebx];
    for (register, value) in state.general.iter_mut().zip(registers) {
        *register = u64::from(value);
    }
    runner.advance();
}
