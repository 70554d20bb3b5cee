//! The string instructions, one element at a time.
//!
//! Owns the counter and the direction (SDM vol. 2B, REP). Knows nothing of flags: none of these
//! instructions sets any.

use super::{Emulation, advance, place::Place};
use crate::{
    fault::Fault, instruction::Register, linear::Access, operation::StringOperation, vcpu::Vcpu,
};

impl<V: Vcpu> Emulation<'_, V> {
    /// Moves one element, if there is one. RIP moves on when none is left.
    ///
    /// An element is read before its destination is known to be writable: if that faults, the
    /// read is repeated, as on a processor.
    pub(super) fn string(&mut self, string: StringOperation) -> Result<(), Fault> {
        if !self.instruction.is_repeated() {
            self.element(string)?;
            advance(self.instruction, self.vcpu);
            return Ok(());
        }
        let counter = Place::Register(Register::RCX);
        let width = self.instruction.address_width();
        let left = self.load(counter, width, Access::Read)?;
        if let Some(fewer) = left.checked_sub(1) {
            self.element(string)?;
            self.store(counter, width, fewer)?;
        }
        if left <= 1 {
            advance(self.instruction, self.vcpu);
        }
        Ok(())
    }

    fn element(&mut self, string: StringOperation) -> Result<(), Fault> {
        let width = self.instruction.width();
        let from = self.place(self.instruction.source(), width, Access::Read)?;
        let to = self.place(self.instruction.destination(), width, Access::Write)?;
        let value = self.load(from, width, Access::Read)?;
        self.store(to, width, value)?;
        if let StringOperation::Move | StringOperation::Load = string {
            self.step(Register::RSI)?;
        }
        if let StringOperation::Move | StringOperation::Store = string {
            self.step(Register::RDI)?;
        }
        Ok(())
    }

    /// Moves a pointer on by one element, downwards if DF says so.
    fn step(&mut self, register: Register) -> Result<(), Fault> {
        let pointer = self.vcpu.register(register);
        let element = self.instruction.width().bytes() as u64;
        let next = if self.flags().df() {
            pointer.wrapping_sub(element)
        } else {
            pointer.wrapping_add(element)
        };
        self.store(
            Place::Register(register),
            self.instruction.address_width(),
            next,
        )
    }
}
