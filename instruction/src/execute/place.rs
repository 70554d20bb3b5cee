//! Where an operand's value is, once its address is known.
//!
//! Owns loads and stores, and what a narrow store leaves of a register. Knows no operation.

use super::Emulation;
use crate::{
    address,
    fault::Fault,
    instruction::{Memory, Operand, Register, Segment, Width},
    linear::Access,
    vcpu::Vcpu,
};

/// An operand, its segment checked and its address computed.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(super) enum Place {
    Register(Register),
    HighByte(Register),
    Memory { linear: u64, segment: Segment },
    Value(u64),
}

impl<V: Vcpu> Emulation<'_, V> {
    pub(super) fn place(
        &self,
        operand: Operand,
        width: Width,
        access: Access,
    ) -> Result<Place, Fault> {
        Ok(match operand {
            Operand::Register(register) => Place::Register(register),
            Operand::HighByte(register) => Place::HighByte(register),
            Operand::Immediate(value) => Place::Value(value),
            Operand::Memory(memory) => self.place_in_memory(memory, 0, width, access)?,
            Operand::None | Operand::Control(_) | Operand::Debug(_) => {
                return Err(Fault::NotEmulated);
            }
        })
    }

    /// As `place`, for memory `displaced` bytes from where the operand says.
    pub(super) fn place_in_memory(
        &self,
        operand: Memory,
        displaced: u64,
        width: Width,
        access: Access,
    ) -> Result<Place, Fault> {
        let linear = address::linear(
            self.instruction,
            &operand,
            displaced,
            width,
            access,
            self.vcpu,
        )?;
        Ok(Place::Memory {
            linear,
            segment: operand.segment,
        })
    }

    /// The value, zero-extended.
    pub(super) fn load(&mut self, from: Place, width: Width, access: Access) -> Result<u64, Fault> {
        let value = match from {
            Place::Register(register) => self.vcpu.register(register),
            Place::HighByte(register) => self.vcpu.register(register) >> 8,
            Place::Value(value) => value,
            Place::Memory { linear, segment } => {
                let mut bytes = [0; 8];
                let (operand, _) = bytes.split_at_mut(width.bytes());
                self.vcpu
                    .read(linear, access, operand)
                    .map_err(|fault| by_way_of(segment, fault))?;
                u64::from_le_bytes(bytes)
            }
        };
        Ok(value & width.mask())
    }

    /// Stores the low bytes of `value`. Only a place in memory can fault.
    pub(super) fn store(&mut self, to: Place, width: Width, value: u64) -> Result<(), Fault> {
        match to {
            Place::Register(register) => {
                let value = merge(width, self.vcpu.register(register), value);
                self.vcpu.load_register(register, value);
                Ok(())
            }
            Place::HighByte(register) => {
                let rest = self.vcpu.register(register) & !0xff00;
                self.vcpu
                    .load_register(register, rest | (value & 0xff) << 8);
                Ok(())
            }
            Place::Memory { linear, segment } => {
                let bytes = value.to_le_bytes();
                let (operand, _) = bytes.split_at(width.bytes());
                self.vcpu
                    .write(linear, operand)
                    .map_err(|fault| by_way_of(segment, fault))
            }
            Place::Value(_) => Err(Fault::NotEmulated),
        }
    }
}

/// SDM vol. 1, 3.4.1.1: results of 32 bits are zero-extended, those of 8 and 16 bits leave the
/// rest of the register as it is.
fn merge(width: Width, old: u64, new: u64) -> u64 {
    match width {
        Width::Byte | Width::Word => old & !width.mask() | new & width.mask(),
        Width::Dword | Width::Qword => new & width.mask(),
    }
}

/// An address that is not canonical is found by the walk, which knows no segments.
fn by_way_of(segment: Segment, fault: Fault) -> Fault {
    match fault {
        Fault::GeneralProtection => address::refusal(segment),
        other => other,
    }
}
