//! The decoder: from bytes to an instruction.
//!
//! Owns the order of prefixes, opcode, ModRM, SIB, displacement and immediate (SDM vol. 2A,
//! chapter 2). Knows which forms exist only through `opcode`, and never looks at a processor.

mod cursor;
mod modrm;
mod opcode;
mod prefix;

use core::fmt;

use crate::{
    bytes::Bytes,
    instruction::{Bits, Instruction, Operand, Register, Segment, Width},
    operation::{Binary, Bit, Operation},
};
use cursor::Cursor;
use modrm::ModRm;
use opcode::{Form, Port, Shape, Size};
use prefix::Prefixes;

/// Why bytes did not become an instruction.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Undecodable {
    /// The bytes end before the instruction does.
    Truncated,
    /// More than 15 bytes: the processor raises #GP(0).
    TooLong,
    /// A LOCK prefix before something that cannot be locked: the processor raises #UD.
    NotLockable(Bytes),
    /// Known, and refused: it touches a second memory operand, the stack.
    Refused(Refused),
    /// None of the forms that this decoder knows.
    Unknown(Bytes),
}

/// An instruction that is known and refused.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Refused {
    /// CALL through a register or memory.
    Call,
    /// JMP through a register or memory.
    Jump,
    /// POP to a register or memory.
    Pop,
    /// PUSH of a register or memory.
    Push,
}

/// Decodes the instruction that `bytes` start with, for code of size `bits`. Bytes that follow
/// are not looked at.
///
/// Prefixes that the processor ignores are accepted. Forms that depend on a prefix to be another
/// instruction are told apart, or refused.
pub fn decode(bytes: &[u8], bits: Bits) -> Result<Instruction, Undecodable> {
    let mut cursor = Cursor::new(bytes);
    let prefixes = Prefixes::read(&mut cursor, bits)?;
    let form = opcode::read(&mut cursor, &prefixes, bits)?;
    let mut reading = Reading {
        width: form.size.width(&prefixes, bits),
        address_width: prefixes.address_width(bits),
        cursor,
        prefixes,
        bits,
    };
    let (destination, source) = reading.operands(&form)?;
    if reading.prefixes.lock && !is_lockable(form.operation, destination) {
        return Err(Undecodable::NotLockable(reading.cursor.all()));
    }
    Ok(Instruction {
        operation: form.operation,
        width: reading.width,
        destination,
        source,
        address_width: reading.address_width,
        repeated: form.shape.is_string() && reading.prefixes.repeat.is_some(),
        bits,
        length: reading.cursor.position(),
    })
}

/// SDM vol. 2A, LOCK: only forms whose destination is memory, and only these.
fn is_lockable(operation: Operation, destination: Operand) -> bool {
    let is_listed = match operation {
        Operation::Binary(Binary::Cmp | Binary::Test) | Operation::Bit(Bit::Test) => false,
        Operation::Binary(_)
        | Operation::Unary(_)
        | Operation::Exchange
        | Operation::CompareExchange
        | Operation::ExchangeAdd
        | Operation::Bit(_) => true,
        Operation::Move
        | Operation::MoveSwapped
        | Operation::Extend { .. }
        | Operation::Set(_)
        | Operation::String(_)
        | Operation::Intercepted(_) => false,
    };
    is_listed && matches!(destination, Operand::Memory(_))
}

impl Size {
    fn width(self, prefixes: &Prefixes, bits: Bits) -> Width {
        match (self, prefixes.operand_width(bits)) {
            (Self::Byte, _) => Width::Byte,
            (Self::Word, _) => Width::Word,
            (Self::Operand, width) => width,
            (Self::OperandUpToDword, width) => width.min(Width::Dword),
            (Self::DwordOrMore, width) => width.max(Width::Dword),
            (Self::Native, _) if bits == Bits::Bits64 => Width::Qword,
            (Self::Native, _) => Width::Dword,
        }
    }
}

/// An instruction whose opcode is known and whose operands are being read.
struct Reading<'a> {
    cursor: Cursor<'a>,
    prefixes: Prefixes,
    bits: Bits,
    width: Width,
    address_width: Width,
}

impl Reading<'_> {
    /// The two operands; those the manual leaves implicit, too, where they may be in memory.
    fn operands(&mut self, form: &Form) -> Result<(Operand, Operand), Undecodable> {
        let accumulator = Operand::Register(Register::RAX);
        Ok(match form.shape {
            Shape::None => (Operand::None, Operand::None),
            Shape::RmReg => {
                let modrm = self.modrm()?;
                (self.rm(&modrm, self.width)?, self.reg(&modrm))
            }
            Shape::RegRm => {
                let modrm = self.modrm()?;
                let width = match form.operation {
                    Operation::Extend { from, .. } => from,
                    _ => self.width,
                };
                (self.reg(&modrm), self.rm(&modrm, width)?)
            }
            Shape::Rm => {
                let modrm = self.modrm()?;
                (self.rm(&modrm, self.width)?, Operand::None)
            }
            Shape::RmImmediate => {
                let modrm = self.modrm()?;
                let rm = self.rm(&modrm, self.width)?;
                let encoded = self.width.min(Width::Dword);
                (rm, self.immediate(encoded)?)
            }
            Shape::RmImmediateByte => {
                let modrm = self.modrm()?;
                (self.rm(&modrm, self.width)?, self.immediate(Width::Byte)?)
            }
            Shape::AccumulatorOffset => (accumulator, self.offset()?),
            Shape::OffsetAccumulator => (self.offset()?, accumulator),
            Shape::StringMove => (self.string_destination(), self.string_source()),
            Shape::StringStore => (self.string_destination(), accumulator),
            Shape::StringLoad => (accumulator, self.string_source()),
            Shape::StringIn => (self.string_destination(), Operand::Register(Register::RDX)),
            Shape::StringOut => (Operand::Register(Register::RDX), self.string_source()),
            Shape::In(port) => (accumulator, self.port(port)?),
            Shape::Out(port) => (self.port(port)?, accumulator),
            Shape::FromControl => {
                let modrm = self.modrm()?;
                (modrm.rm_register(), self.control(&modrm)?)
            }
            Shape::ToControl => {
                let modrm = self.modrm()?;
                (self.control(&modrm)?, modrm.rm_register())
            }
            Shape::FromDebug => {
                let modrm = self.modrm()?;
                (modrm.rm_register(), self.debug(&modrm)?)
            }
            Shape::ToDebug => {
                let modrm = self.modrm()?;
                (self.debug(&modrm)?, modrm.rm_register())
            }
        })
    }

    fn modrm(&mut self) -> Result<ModRm, Undecodable> {
        Ok(ModRm::new(self.cursor.next()?, self.prefixes.rex))
    }

    fn reg(&self, modrm: &ModRm) -> Operand {
        self.prefixes.register(modrm.reg, self.width)
    }

    fn rm(&mut self, modrm: &ModRm, width: Width) -> Result<Operand, Undecodable> {
        if modrm.is_register() {
            Ok(self.prefixes.register(modrm.rm, width))
        } else {
            let operand = modrm.memory(
                &mut self.cursor,
                &self.prefixes,
                self.address_width,
                self.bits,
            )?;
            Ok(Operand::Memory(operand))
        }
    }

    fn immediate(&mut self, encoded: Width) -> Result<Operand, Undecodable> {
        let value = self.cursor.signed(encoded)?;
        Ok(Operand::Immediate(value & self.width.mask()))
    }

    /// A bare offset, as wide as an address.
    fn offset(&mut self) -> Result<Operand, Undecodable> {
        let displacement = self.cursor.signed(self.address_width)?;
        Ok(modrm::absolute(
            self.prefixes.data_segment(Segment::Ds),
            displacement,
        ))
    }

    fn string_source(&self) -> Operand {
        modrm::based(self.prefixes.data_segment(Segment::Ds), Register::RSI)
    }

    /// SDM vol. 2A, 2.1.1 and MOVS: the ES segment of the destination cannot be overridden.
    fn string_destination(&self) -> Operand {
        modrm::based(Segment::Es, Register::RDI)
    }

    fn port(&mut self, port: Port) -> Result<Operand, Undecodable> {
        Ok(match port {
            Port::Immediate => Operand::Immediate(u64::from(self.cursor.next()?)),
            Port::Dx => Operand::Register(Register::RDX),
        })
    }

    /// SDM vol. 2B, MOV to and from control registers: CR0, CR2, CR3, CR4 and CR8 exist.
    fn control(&self, modrm: &ModRm) -> Result<Operand, Undecodable> {
        match modrm.reg {
            number @ (0 | 2 | 3 | 4 | 8) => Ok(Operand::Control(number)),
            _ => Err(self.cursor.unknown()),
        }
    }

    fn debug(&self, modrm: &ModRm) -> Result<Operand, Undecodable> {
        match modrm.reg {
            number @ 0..8 => Ok(Operand::Debug(number)),
            _ => Err(self.cursor.unknown()),
        }
    }
}

impl fmt::Display for Undecodable {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Truncated => f.write_str("guest instruction goes on beyond the bytes fetched"),
            Self::TooLong => f.write_str("guest instruction is longer than 15 bytes (#GP)"),
            Self::NotLockable(bytes) => write!(
                f,
                "guest instruction {bytes} has a LOCK prefix it must not have (#UD)"
            ),
            Self::Refused(refused) => write!(
                f,
                "guest uses {} on trapped memory, which is not emulated: find the driver that \
                 does and use plain moves there",
                match refused {
                    Refused::Call => "CALL",
                    Refused::Jump => "JMP",
                    Refused::Pop => "POP",
                    Refused::Push => "PUSH",
                }
            ),
            Self::Unknown(bytes) => write!(
                f,
                "guest instruction {bytes} is not one that is emulated: disassemble it, and find \
                 the driver that uses it on trapped memory"
            ),
        }
    }
}

impl core::error::Error for Undecodable {}

#[cfg(test)]
mod tests;
