//! The opcodes that are understood.
//!
//! Owns the opcode maps (SDM vol. 2D, appendix A), cut down to what touches trapped memory and
//! to what is intercepted. Knows no operand, only the shape operands have.

use super::{
    Refused, Undecodable,
    cursor::Cursor,
    prefix::{Prefixes, Repeat},
};
use crate::{
    instruction::{Bits, Width},
    operation::{Binary, Bit, Condition, Fill, Intercepted, Operation, StringOperation, Unary},
};

/// One encoding of one operation.
#[derive(Clone, Copy)]
pub(super) struct Form {
    pub(super) operation: Operation,
    pub(super) shape: Shape,
    pub(super) size: Size,
}

/// Which operands follow the opcode; the destination is named first.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(super) enum Shape {
    None,
    RmReg,
    RegRm,
    Rm,
    RmImmediate,
    RmImmediateByte,
    AccumulatorOffset,
    OffsetAccumulator,
    StringMove,
    StringStore,
    StringLoad,
    StringIn,
    StringOut,
    In(Port),
    Out(Port),
    FromControl,
    ToControl,
    FromDebug,
    ToDebug,
}

impl Shape {
    pub(super) fn is_string(self) -> bool {
        matches!(
            self,
            Self::StringMove
                | Self::StringStore
                | Self::StringLoad
                | Self::StringIn
                | Self::StringOut
        )
    }
}

/// Where the number of a port is.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(super) enum Port {
    Immediate,
    Dx,
}

/// How the width of an operation follows from prefixes and code size.
#[derive(Clone, Copy)]
pub(super) enum Size {
    Byte,
    Word,
    /// 16, 32 or 64 bits.
    Operand,
    /// 16 or 32 bits.
    OperandUpToDword,
    /// 32 or 64 bits.
    DwordOrMore,
    /// 64 bits in 64-bit mode, else 32.
    Native,
}

/// Takes the opcode, and of a group the ModRM byte into view.
pub(super) fn read(
    cursor: &mut Cursor<'_>,
    prefixes: &Prefixes,
    bits: Bits,
) -> Result<Form, Undecodable> {
    let found = match cursor.next()? {
        0x0f => match cursor.next()? {
            0x38 => movbe(cursor, prefixes)?,
            opcode => two_bytes(opcode, cursor, prefixes)?,
        },
        opcode => one_byte(opcode, cursor, prefixes, bits)?,
    };
    found.ok_or_else(|| cursor.unknown())
}

fn one_byte(
    opcode: u8,
    cursor: &Cursor<'_>,
    prefixes: &Prefixes,
    bits: Bits,
) -> Result<Option<Form>, Undecodable> {
    let size = size_of(opcode);
    Ok(match opcode {
        0x00..=0x3f if opcode & 7 < 4 => form(binary_of(opcode >> 3), direction_of(opcode), size),
        0x63 if bits == Bits::Bits64 => {
            // MOVSXD: a doubleword, or what the operand size leaves of it.
            let from = prefixes.operand_width(bits).min(Width::Dword);
            extend(from, Fill::Sign)
        }
        0x6c | 0x6d => intercepted_io(Intercepted::Ins, Shape::StringIn, opcode),
        0x6e | 0x6f => intercepted_io(Intercepted::Outs, Shape::StringOut, opcode),
        0x80..=0x83 => {
            let shape = match opcode {
                0x82 if bits == Bits::Bits64 => return Ok(None),
                0x83 => Shape::RmImmediateByte,
                _ => Shape::RmImmediate,
            };
            form(binary_of(reg_of(cursor.peek()?)), shape, size)
        }
        0x84 | 0x85 => form(Operation::Binary(Binary::Test), Shape::RmReg, size),
        0x86 | 0x87 => form(Operation::Exchange, Shape::RmReg, size),
        0x88..=0x8b => form(Operation::Move, direction_of(opcode), size),
        0x8f if reg_of(cursor.peek()?) == 0 => return Err(Undecodable::Refused(Refused::Pop)),
        // With REX.B this is an exchange with R8, whatever the prefix.
        0x90 if prefixes.repeat == Some(Repeat::WhileEqual) && prefixes.rex.base() == 0 => {
            intercepted(Intercepted::Pause)
        }
        0xa0 | 0xa1 => form(Operation::Move, Shape::AccumulatorOffset, size),
        0xa2 | 0xa3 => form(Operation::Move, Shape::OffsetAccumulator, size),
        0xa4 | 0xa5 => form(
            Operation::String(StringOperation::Move),
            Shape::StringMove,
            size,
        ),
        0xaa | 0xab => form(
            Operation::String(StringOperation::Store),
            Shape::StringStore,
            size,
        ),
        0xac | 0xad => form(
            Operation::String(StringOperation::Load),
            Shape::StringLoad,
            size,
        ),
        0xc6 | 0xc7 if reg_of(cursor.peek()?) == 0 => {
            form(Operation::Move, Shape::RmImmediate, size)
        }
        0xcf => form(
            Operation::Intercepted(Intercepted::Iret),
            Shape::None,
            Size::Operand,
        ),
        0xe4 | 0xe5 => intercepted_io(Intercepted::In, Shape::In(Port::Immediate), opcode),
        0xe6 | 0xe7 => intercepted_io(Intercepted::Out, Shape::Out(Port::Immediate), opcode),
        0xec | 0xed => intercepted_io(Intercepted::In, Shape::In(Port::Dx), opcode),
        0xee | 0xef => intercepted_io(Intercepted::Out, Shape::Out(Port::Dx), opcode),
        0xf4 => intercepted(Intercepted::Hlt),
        0xf6 | 0xf7 => match reg_of(cursor.peek()?) {
            0 | 1 => form(Operation::Binary(Binary::Test), Shape::RmImmediate, size),
            2 => form(Operation::Unary(Unary::Not), Shape::Rm, size),
            3 => form(Operation::Unary(Unary::Neg), Shape::Rm, size),
            _ => None,
        },
        0xfe | 0xff => match (reg_of(cursor.peek()?), opcode) {
            (0, _) => form(Operation::Unary(Unary::Inc), Shape::Rm, size),
            (1, _) => form(Operation::Unary(Unary::Dec), Shape::Rm, size),
            (2 | 3, 0xff) => return Err(Undecodable::Refused(Refused::Call)),
            (4 | 5, 0xff) => return Err(Undecodable::Refused(Refused::Jump)),
            (6, 0xff) => return Err(Undecodable::Refused(Refused::Push)),
            _ => None,
        },
        _ => None,
    })
}

/// The map behind 0F.
fn two_bytes(
    opcode: u8,
    cursor: &mut Cursor<'_>,
    prefixes: &Prefixes,
) -> Result<Option<Form>, Undecodable> {
    let size = size_of(opcode);
    Ok(match opcode {
        0x01 => return group_7(cursor, prefixes),
        0x06 => intercepted(Intercepted::Clts),
        0x08 => intercepted(Intercepted::Invd),
        0x09 if prefixes.repeat == Some(Repeat::WhileEqual) => intercepted(Intercepted::Wbnoinvd),
        0x09 => intercepted(Intercepted::Wbinvd),
        0x20 => intercepted_move(Intercepted::MoveControl, Shape::FromControl),
        0x21 => intercepted_move(Intercepted::MoveDebug, Shape::FromDebug),
        0x22 => intercepted_move(Intercepted::MoveControl, Shape::ToControl),
        0x23 => intercepted_move(Intercepted::MoveDebug, Shape::ToDebug),
        0x30 => intercepted(Intercepted::Wrmsr),
        0x31 => intercepted(Intercepted::Rdtsc),
        0x32 => intercepted(Intercepted::Rdmsr),
        0x90..=0x9f => form(
            Operation::Set(Condition::of_opcode(opcode)),
            Shape::Rm,
            Size::Byte,
        ),
        0xa2 => intercepted(Intercepted::Cpuid),
        0xa3 => form(Operation::Bit(Bit::Test), Shape::RmReg, size),
        0xab => form(Operation::Bit(Bit::Set), Shape::RmReg, size),
        0xb3 => form(Operation::Bit(Bit::Reset), Shape::RmReg, size),
        0xbb => form(Operation::Bit(Bit::Complement), Shape::RmReg, size),
        0xba => {
            let bit = match reg_of(cursor.peek()?) {
                4 => Bit::Test,
                5 => Bit::Set,
                6 => Bit::Reset,
                7 => Bit::Complement,
                _ => return Ok(None),
            };
            form(Operation::Bit(bit), Shape::RmImmediateByte, Size::Operand)
        }
        0xb0 | 0xb1 => form(Operation::CompareExchange, Shape::RmReg, size),
        0xb6 => extend(Width::Byte, Fill::Zero),
        0xb7 => extend(Width::Word, Fill::Zero),
        0xbe => extend(Width::Byte, Fill::Sign),
        0xbf => extend(Width::Word, Fill::Sign),
        0xc0 | 0xc1 => form(Operation::ExchangeAdd, Shape::RmReg, size),
        // MOVNTI.
        0xc3 if !prefixes.is_mandatory() && is_memory(cursor.peek()?) => {
            form(Operation::Move, Shape::RmReg, Size::DwordOrMore)
        }
        _ => None,
    })
}

/// 0F 01: some forms are chosen by the whole ModRM byte, and some of those are others with a
/// mandatory prefix.
fn group_7(cursor: &mut Cursor<'_>, prefixes: &Prefixes) -> Result<Option<Form>, Undecodable> {
    let modrm = cursor.peek()?;
    let is_plain = !prefixes.is_mandatory();
    let whole = match modrm {
        0xc1 if is_plain => Intercepted::Vmcall,
        0xc8 if is_plain => Intercepted::Monitor,
        0xc9 if is_plain => Intercepted::Mwait,
        0xd0 if is_plain => Intercepted::Xgetbv,
        0xd1 if is_plain => Intercepted::Xsetbv,
        0xd8 => Intercepted::Vmrun,
        // With F2 or F3 it is VMGEXIT.
        0xd9 if prefixes.repeat.is_none() => Intercepted::Vmmcall,
        0xda => Intercepted::Vmload,
        0xdb => Intercepted::Vmsave,
        0xdc => Intercepted::Stgi,
        0xdd => Intercepted::Clgi,
        0xde => Intercepted::Skinit,
        0xdf => Intercepted::Invlpga,
        0xf9 => Intercepted::Rdtscp,
        _ => return Ok(group_7_with_operand(modrm)),
    };
    cursor.next()?;
    Ok(intercepted(whole))
}

fn group_7_with_operand(modrm: u8) -> Option<Form> {
    let (instruction, size) = match reg_of(modrm) {
        6 => (Intercepted::Lmsw, Size::Word),
        7 if is_memory(modrm) => (Intercepted::Invlpg, Size::Byte),
        _ => return None,
    };
    form(Operation::Intercepted(instruction), Shape::Rm, size)
}

/// 0F 38: MOVBE is all of it; with F2 its opcodes are CRC32.
fn movbe(cursor: &mut Cursor<'_>, prefixes: &Prefixes) -> Result<Option<Form>, Undecodable> {
    let shape = match cursor.next()? {
        0xf0 => Shape::RegRm,
        0xf1 => Shape::RmReg,
        _ => return Ok(None),
    };
    if prefixes.repeat.is_some() || !is_memory(cursor.peek()?) {
        return Ok(None);
    }
    Ok(form(Operation::MoveSwapped, shape, Size::Operand))
}

fn form(operation: Operation, shape: Shape, size: Size) -> Option<Form> {
    Some(Form {
        operation,
        shape,
        size,
    })
}

fn extend(from: Width, with: Fill) -> Option<Form> {
    form(
        Operation::Extend { from, with },
        Shape::RegRm,
        Size::Operand,
    )
}

/// An intercepted instruction without operands.
fn intercepted(instruction: Intercepted) -> Option<Form> {
    form(
        Operation::Intercepted(instruction),
        Shape::None,
        Size::Native,
    )
}

fn intercepted_move(instruction: Intercepted, shape: Shape) -> Option<Form> {
    form(Operation::Intercepted(instruction), shape, Size::Native)
}

fn intercepted_io(instruction: Intercepted, shape: Shape, opcode: u8) -> Option<Form> {
    let size = if opcode & 1 == 0 {
        Size::Byte
    } else {
        Size::OperandUpToDword
    };
    form(Operation::Intercepted(instruction), shape, size)
}

/// The operation in bits 5:3 of an opcode or of ModRM.
fn binary_of(number: u8) -> Operation {
    Operation::Binary(match number & 7 {
        0 => Binary::Add,
        1 => Binary::Or,
        2 => Binary::Adc,
        3 => Binary::Sbb,
        4 => Binary::And,
        5 => Binary::Sub,
        6 => Binary::Xor,
        _ => Binary::Cmp,
    })
}

/// Bit 1 of many opcodes: which operand is the destination.
fn direction_of(opcode: u8) -> Shape {
    if opcode & 2 == 0 {
        Shape::RmReg
    } else {
        Shape::RegRm
    }
}

/// Bit 0 of many opcodes: bytes, or what the operand size says.
fn size_of(opcode: u8) -> Size {
    if opcode & 1 == 0 {
        Size::Byte
    } else {
        Size::Operand
    }
}

fn reg_of(modrm: u8) -> u8 {
    (modrm >> 3) & 7
}

fn is_memory(modrm: u8) -> bool {
    modrm < 0xc0
}
