//! XSETBV, on processors where it cannot but leave the guest.

use crate::backend::{Backend, Event};
use crate::cpu::instructions;
use crate::run::Runner;

/// Answers XSETBV: what the processor takes is the guest's to set.
pub(crate) fn answer<B: Backend>(runner: &mut Runner<B>) {
    let state = runner.cpu.state();
    let index = state.general[1] as u32;
    let value = state.general[2] << 32 | state.general[0] & u64::from(u32::MAX);
    match instructions::write_extended_control(index, value) {
        Ok(()) => runner.advance(),
        Err(instructions::NoSuchRegister) => runner.cpu.inject(Event::GeneralProtection),
    }
}
