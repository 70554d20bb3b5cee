//! The emulation of one instruction.
//!
//! Owns the order of things: operands are fetched once, memory is written before registers and
//! flags, and RIP moves last, so that a fault finds everything as it was. Knows neither flags
//! (`arithmetic`) nor how memory is reached (`vcpu`).

mod place;
mod string;

use crate::{
    arithmetic::{self, Outcome},
    fault::Fault,
    instruction::{Instruction, Operand, Register, Width},
    linear::Access,
    operation::{Binary, Bit, Condition, Fill, Operation, Unary},
    spec::Rflags,
    vcpu::Vcpu,
};
use place::Place;

/// Emulates `instruction`, which is the one at RIP.
///
/// A repeated string moves one element; RIP stays until the counter is zero, so that the guest
/// can be interrupted in between, as on a processor.
///
/// # Errors
///
/// What [`Vcpu::read`] and [`Vcpu::write`] say, the faults of segmentation, and
/// [`Fault::NotEmulated`] for [`Operation::Intercepted`]. Registers, flags and RIP are then
/// unchanged, and no memory was written.
pub fn execute(instruction: &Instruction, vcpu: &mut impl Vcpu) -> Result<(), Fault> {
    let mut emulation = Emulation { instruction, vcpu };
    match instruction.operation() {
        Operation::String(string) => return emulation.string(string),
        Operation::Intercepted(_) => return Err(Fault::NotEmulated),
        Operation::Move => emulation.mov(|value, _| value)?,
        Operation::MoveSwapped => {
            emulation.mov(|value, width| arithmetic::swap_bytes(width, value))?
        }
        Operation::Extend { from, with } => emulation.extend(from, with)?,
        Operation::Binary(operation) => emulation.binary(operation)?,
        Operation::Unary(operation) => emulation.unary(operation)?,
        Operation::Exchange => emulation.exchange()?,
        Operation::CompareExchange => emulation.compare_exchange()?,
        Operation::ExchangeAdd => emulation.exchange_add()?,
        Operation::Bit(operation) => emulation.bit(operation)?,
        Operation::Set(condition) => emulation.set(condition)?,
    }
    advance(instruction, vcpu);
    Ok(())
}

/// Moves RIP behind `instruction` and clears RFLAGS.RF, as the end of an instruction does
/// (SDM vol. 3B, 18.3.1.1). For whoever has emulated an intercepted instruction.
pub fn advance(instruction: &Instruction, vcpu: &mut impl Vcpu) {
    let next = vcpu.rip().wrapping_add(u64::from(instruction.length()));
    vcpu.load_rip(instruction.bits().wrap(next));
    let mut flags = Rflags(vcpu.rflags());
    if flags.rf() {
        flags.set_rf(false);
        vcpu.load_rflags(flags.0);
    }
}

/// An instruction on its processor.
struct Emulation<'a, V> {
    instruction: &'a Instruction,
    vcpu: &'a mut V,
}

impl<V: Vcpu> Emulation<'_, V> {
    fn mov(&mut self, convert: impl Fn(u64, Width) -> u64) -> Result<(), Fault> {
        let width = self.instruction.width();
        let from = self.place(self.instruction.source(), width, Access::Read)?;
        let to = self.place(self.instruction.destination(), width, Access::Write)?;
        let value = self.load(from, width, Access::Read)?;
        self.store(to, width, convert(value, width))
    }

    fn extend(&mut self, from_width: Width, with: Fill) -> Result<(), Fault> {
        let width = self.instruction.width();
        let from = self.place(self.instruction.source(), from_width, Access::Read)?;
        let to = self.place(self.instruction.destination(), width, Access::Write)?;
        let value = self.load(from, from_width, Access::Read)?;
        self.store(to, width, arithmetic::extend(from_width, with, value))
    }

    fn binary(&mut self, operation: Binary) -> Result<(), Fault> {
        let width = self.instruction.width();
        let access = if operation.keeps_result() {
            Access::Write
        } else {
            Access::Read
        };
        let to = self.place(self.instruction.destination(), width, access)?;
        let from = self.place(self.instruction.source(), width, Access::Read)?;
        let right = self.load(from, width, Access::Read)?;
        let left = self.load(to, width, access)?;
        let Outcome { value, flags } =
            arithmetic::binary(operation, width, left, right, self.flags());
        if operation.keeps_result() {
            self.store(to, width, value)?;
        }
        self.vcpu.load_rflags(flags.0);
        Ok(())
    }

    fn unary(&mut self, operation: Unary) -> Result<(), Fault> {
        let width = self.instruction.width();
        let to = self.place(self.instruction.destination(), width, Access::Write)?;
        let value = self.load(to, width, Access::Write)?;
        let Outcome { value, flags } = arithmetic::unary(operation, width, value, self.flags());
        self.store(to, width, value)?;
        self.vcpu.load_rflags(flags.0);
        Ok(())
    }

    fn exchange(&mut self) -> Result<(), Fault> {
        let width = self.instruction.width();
        let to = self.place(self.instruction.destination(), width, Access::Write)?;
        let from = self.place(self.instruction.source(), width, Access::Write)?;
        let right = self.load(from, width, Access::Read)?;
        let left = self.load(to, width, Access::Write)?;
        self.store(to, width, right)?;
        self.store(from, width, left)
    }

    /// The manual writes the source before the destination; memory comes first here, because it
    /// may fault, and the difference shows only where both are the same register.
    fn exchange_add(&mut self) -> Result<(), Fault> {
        let width = self.instruction.width();
        let to = self.place(self.instruction.destination(), width, Access::Write)?;
        let from = self.place(self.instruction.source(), width, Access::Write)?;
        let right = self.load(from, width, Access::Read)?;
        let left = self.load(to, width, Access::Write)?;
        let Outcome { value, flags } = arithmetic::add(width, left, right, 0, self.flags());
        self.store(to, width, value)?;
        if from != to {
            self.store(from, width, left)?;
        }
        self.vcpu.load_rflags(flags.0);
        Ok(())
    }

    /// "The destination operand receives a write cycle without regard to the result of the
    /// comparison" (SDM vol. 2A, CMPXCHG). That is said of memory: processors leave the upper
    /// half of a register as it is.
    fn compare_exchange(&mut self) -> Result<(), Fault> {
        let width = self.instruction.width();
        let to = self.place(self.instruction.destination(), width, Access::Write)?;
        let from = self.place(self.instruction.source(), width, Access::Read)?;
        let accumulator = Place::Register(Register::RAX);
        let new = self.load(from, width, Access::Read)?;
        let expected = self.load(accumulator, width, Access::Read)?;
        let found = self.load(to, width, Access::Write)?;
        let Outcome { flags, .. } = arithmetic::subtract(width, expected, found, 0, self.flags());
        if flags.zf() {
            self.store(to, width, new)?;
        } else {
            if let Place::Memory { .. } = to {
                self.store(to, width, found)?;
            }
            self.store(accumulator, width, found)?;
        }
        self.vcpu.load_rflags(flags.0);
        Ok(())
    }

    /// The bit offset in a register reaches beyond an operand in memory: it moves the address by
    /// whole operands (SDM vol. 2A, BT).
    fn bit(&mut self, operation: Bit) -> Result<(), Fault> {
        let width = self.instruction.width();
        let access = match operation {
            Bit::Test => Access::Read,
            Bit::Set | Bit::Reset | Bit::Complement => Access::Write,
        };
        let offset = {
            let from = self.place(self.instruction.source(), width, Access::Read)?;
            self.load(from, width, Access::Read)?
        };
        let to = match self.instruction.destination() {
            Operand::Memory(operand) if self.instruction.source().is_register() => {
                let bits = i64::from(width.bits());
                let operands = (width.sign_extend(offset) as i64).div_euclid(bits);
                let moved = operands.wrapping_mul(width.bytes() as i64) as u64;
                self.place_in_memory(operand, moved, width, access)?
            }
            other => self.place(other, width, access)?,
        };
        let value = self.load(to, width, access)?;
        let index = offset as u32 & (width.bits() - 1);
        let Outcome { value, flags } = arithmetic::bit(operation, value, index, self.flags());
        if access == Access::Write {
            self.store(to, width, value)?;
        }
        self.vcpu.load_rflags(flags.0);
        Ok(())
    }

    fn set(&mut self, condition: Condition) -> Result<(), Fault> {
        let to = self.place(self.instruction.destination(), Width::Byte, Access::Write)?;
        let value = u64::from(condition.holds(self.flags()));
        self.store(to, Width::Byte, value)
    }

    fn flags(&self) -> Rflags {
        Rflags(self.vcpu.rflags())
    }
}

#[cfg(test)]
mod tests;
