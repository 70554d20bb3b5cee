//! A decoded instruction.
//!
//! Owns what an instruction asks for: operation, operands, sizes, length. Knows neither the bytes
//! it came from (`decode`) nor what it does to a processor (`execute`).

use crate::{
    operation::Operation,
    spec::{Efer, Rights},
};

/// The size of code: what operands and addresses are without an override.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Bits {
    /// Real-address and virtual-8086 mode, and code segments with D = 0.
    Bits16,
    /// Code segments with D = 1, in compatibility mode, too.
    Bits32,
    /// 64-bit mode.
    Bits64,
}

impl Bits {
    /// The size of the code that a processor runs whose CS has these `rights`
    /// (SDM vol. 3A, 5.2.1): L counts only while long mode is active.
    pub fn of_code(rights: Rights, efer: u64) -> Self {
        if Efer(efer).lma() && rights.long() {
            Self::Bits64
        } else if rights.big() {
            Self::Bits32
        } else {
            Self::Bits16
        }
    }

    /// `rip` as it is used in code of this size: instruction pointers wrap at their own width.
    pub(crate) fn wrap(self, rip: u64) -> u64 {
        match self {
            Self::Bits16 => rip & 0xffff,
            Self::Bits32 => rip & 0xffff_ffff,
            Self::Bits64 => rip,
        }
    }
}

/// The size of an operand or of an address.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Debug)]
pub enum Width {
    /// 8 bits.
    Byte,
    /// 16 bits.
    Word,
    /// 32 bits.
    Dword,
    /// 64 bits.
    Qword,
}

impl Width {
    /// 1, 2, 4 or 8.
    pub const fn bytes(self) -> usize {
        1 << self as usize
    }

    /// 8, 16, 32 or 64.
    pub const fn bits(self) -> u32 {
        8 << self as u32
    }

    /// Ones where the operand has bits.
    pub const fn mask(self) -> u64 {
        u64::MAX >> (64 - self.bits())
    }

    /// The top bit of the operand.
    pub(crate) const fn sign(self) -> u64 {
        1 << (self.bits() - 1)
    }

    /// `value` of this width, made 64 bits by repeating its top bit.
    pub(crate) const fn sign_extend(self, value: u64) -> u64 {
        let unused = 64 - self.bits();
        (((value << unused) as i64) >> unused) as u64
    }
}

/// A general register by its number in ModRM and REX: 0 is RAX, 15 is R15.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Register(u8);

impl Register {
    /// The accumulator.
    pub const RAX: Self = Self(0);
    /// The counter of repeated strings.
    pub const RCX: Self = Self(1);
    /// The port of IN and OUT.
    pub const RDX: Self = Self(2);
    /// A base of 16-bit addresses.
    pub const RBX: Self = Self(3);
    /// The stack pointer.
    pub const RSP: Self = Self(4);
    /// A base into the stack.
    pub const RBP: Self = Self(5);
    /// Where strings come from.
    pub const RSI: Self = Self(6);
    /// Where strings go.
    pub const RDI: Self = Self(7);

    /// The register of this number, or `None` from 16 on.
    pub const fn new(number: u8) -> Option<Self> {
        if number < 16 {
            Some(Self(number))
        } else {
            None
        }
    }

    /// The register that the low four bits name.
    pub(crate) const fn of_low_bits(number: u8) -> Self {
        Self(number & 15)
    }

    /// 0 to 15, for arrays of sixteen.
    pub const fn number(self) -> usize {
        self.0 as usize
    }
}

/// A segment register by its number in instructions.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Segment {
    /// Where strings go.
    Es,
    /// Code.
    Cs,
    /// Stack.
    Ss,
    /// Data, unless said otherwise.
    Ds,
    /// Has a base in 64-bit mode, too.
    Fs,
    /// Has a base in 64-bit mode, too.
    Gs,
}

/// What the displacement of a memory operand is added to.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Base {
    /// Nothing.
    None,
    /// A register.
    Register(Register),
    /// RIP of the instruction that follows (SDM vol. 2A, 2.2.1.6).
    NextInstruction,
}

/// A register times 1, 2, 4 or 8.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Index {
    /// The register.
    pub register: Register,
    /// The power of two: 0, 1, 2 or 3.
    pub shift: u8,
}

/// An operand in memory: `segment:[base + index + displacement]`, of the instruction's address
/// width.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Memory {
    /// The segment, overrides considered.
    pub segment: Segment,
    /// The base.
    pub base: Base,
    /// The index.
    pub index: Option<Index>,
    /// The displacement, sign-extended.
    pub displacement: u64,
}

/// Where an operand is.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Operand {
    /// There is none.
    None,
    /// The low bytes of a register.
    Register(Register),
    /// Bits 15:8 of RAX, RCX, RDX or RBX: AH, CH, DH, BH.
    HighByte(Register),
    /// In memory.
    Memory(Memory),
    /// In the instruction, already extended to the width of the operation.
    Immediate(u64),
    /// A control register.
    Control(u8),
    /// A debug register.
    Debug(u8),
}

impl Operand {
    pub(crate) fn is_register(&self) -> bool {
        matches!(self, Self::Register(_) | Self::HighByte(_))
    }
}

/// One instruction, understood.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Instruction {
    pub(crate) operation: Operation,
    pub(crate) width: Width,
    pub(crate) destination: Operand,
    pub(crate) source: Operand,
    pub(crate) address_width: Width,
    pub(crate) repeated: bool,
    pub(crate) bits: Bits,
    pub(crate) length: u8,
}

impl Instruction {
    /// What it does.
    pub fn operation(&self) -> Operation {
        self.operation
    }

    /// The width of what is computed or moved.
    pub fn width(&self) -> Width {
        self.width
    }

    /// The operand that manuals write first; CMP, TEST and BT only read it.
    pub fn destination(&self) -> Operand {
        self.destination
    }

    /// The operand that manuals write second.
    pub fn source(&self) -> Operand {
        self.source
    }

    /// The width of addresses, and of the counter of repeated strings.
    pub fn address_width(&self) -> Width {
        self.address_width
    }

    /// Whether a string instruction carries a repeat prefix.
    pub fn is_repeated(&self) -> bool {
        self.repeated
    }

    /// The size of the code it was decoded for.
    pub fn bits(&self) -> Bits {
        self.bits
    }

    /// Whether exactly one of its operands is in memory.
    pub fn has_one_in_memory(&self) -> bool {
        let is_in_memory = |operand| matches!(operand, Operand::Memory(_));
        is_in_memory(self.destination) != is_in_memory(self.source)
    }

    /// Its length in bytes, prefixes included: 1 to 15.
    pub fn length(&self) -> u8 {
        self.length
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn code_is_of_64_bits_only_while_long_mode_is_active() {
        let long = Rights(0x29b);
        assert_eq!(Bits::of_code(long, 1 << 10), Bits::Bits64);
        assert_eq!(Bits::of_code(long, 0), Bits::Bits16);
        assert_eq!(Bits::of_code(Rights(0x49b), 1 << 10), Bits::Bits32);
        assert_eq!(Bits::of_code(Rights::REAL, 0), Bits::Bits16);
    }
}
