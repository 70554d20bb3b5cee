//! The prefixes of an instruction.
//!
//! Owns legacy prefixes and REX, and the sizes they choose (SDM vol. 2A, 2.1.1 and 2.2.1).

use super::{Undecodable, cursor::Cursor};
use crate::instruction::{Bits, Operand, Register, Segment, Width};

/// The last of F2 and F3.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(super) enum Repeat {
    /// F2.
    WhileNotEqual,
    /// F3.
    WhileEqual,
}

/// The REX prefix, or its absence.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(super) struct Rex(u8);

impl Rex {
    const ABSENT: Self = Self(0);

    pub(super) fn is_present(self) -> bool {
        self != Self::ABSENT
    }

    pub(super) fn is_wide(self) -> bool {
        self.0 & 8 != 0
    }

    /// Bit 3 of the register in ModRM.reg.
    pub(super) fn reg(self) -> u8 {
        (self.0 & 4) << 1
    }

    /// Bit 3 of the register in SIB.index.
    pub(super) fn index(self) -> u8 {
        (self.0 & 2) << 2
    }

    /// Bit 3 of the register in ModRM.rm, SIB.base or the opcode.
    pub(super) fn base(self) -> u8 {
        (self.0 & 1) << 3
    }
}

pub(super) struct Prefixes {
    /// 66.
    pub(super) operand: bool,
    /// 67.
    pub(super) address: bool,
    /// F0.
    pub(super) lock: bool,
    pub(super) repeat: Option<Repeat>,
    pub(super) segment: Option<Segment>,
    pub(super) rex: Rex,
}

impl Prefixes {
    /// Takes all prefixes. The last one of a group counts, and a REX prefix counts only right
    /// before the opcode.
    pub(super) fn read(cursor: &mut Cursor<'_>, bits: Bits) -> Result<Self, Undecodable> {
        let mut prefixes = Self {
            operand: false,
            address: false,
            lock: false,
            repeat: None,
            segment: None,
            rex: Rex::ABSENT,
        };
        loop {
            let byte = cursor.peek()?;
            let mut rex = Rex::ABSENT;
            match byte {
                0x66 => prefixes.operand = true,
                0x67 => prefixes.address = true,
                0xf0 => prefixes.lock = true,
                0xf2 => prefixes.repeat = Some(Repeat::WhileNotEqual),
                0xf3 => prefixes.repeat = Some(Repeat::WhileEqual),
                0x64 => prefixes.segment = Some(Segment::Fs),
                0x65 => prefixes.segment = Some(Segment::Gs),
                // In 64-bit mode these four are null prefixes (APM vol. 3, 1.2.4): not even
                // FS and GS before them are undone.
                0x26 if bits != Bits::Bits64 => prefixes.segment = Some(Segment::Es),
                0x2e if bits != Bits::Bits64 => prefixes.segment = Some(Segment::Cs),
                0x36 if bits != Bits::Bits64 => prefixes.segment = Some(Segment::Ss),
                0x3e if bits != Bits::Bits64 => prefixes.segment = Some(Segment::Ds),
                0x26 | 0x2e | 0x36 | 0x3e => {}
                0x40..=0x4f if bits == Bits::Bits64 => rex = Rex(byte),
                _ => return Ok(prefixes),
            }
            prefixes.rex = rex;
            cursor.next()?;
        }
    }

    pub(super) fn operand_width(&self, bits: Bits) -> Width {
        match bits {
            _ if self.rex.is_wide() => Width::Qword,
            Bits::Bits16 if self.operand => Width::Dword,
            Bits::Bits16 => Width::Word,
            Bits::Bits32 | Bits::Bits64 if self.operand => Width::Word,
            Bits::Bits32 | Bits::Bits64 => Width::Dword,
        }
    }

    pub(super) fn address_width(&self, bits: Bits) -> Width {
        match (bits, self.address) {
            (Bits::Bits64, false) => Width::Qword,
            (Bits::Bits32, false) | (Bits::Bits16 | Bits::Bits64, true) => Width::Dword,
            (Bits::Bits16, false) | (Bits::Bits32, true) => Width::Word,
        }
    }

    /// The segment of data, unless overridden.
    pub(super) fn data_segment(&self, default: Segment) -> Segment {
        self.segment.unwrap_or(default)
    }

    /// The register operand of this number: without REX, the byte registers 4 to 7 are AH, CH,
    /// DH and BH (SDM vol. 2A, 2.2.1.2).
    pub(super) fn register(&self, number: u8, width: Width) -> Operand {
        if width == Width::Byte && !self.rex.is_present() && (4..8).contains(&number) {
            Operand::HighByte(Register::of_low_bits(number & 3))
        } else {
            Operand::Register(Register::of_low_bits(number))
        }
    }

    /// Whether a prefix is there that makes another instruction of some opcodes.
    pub(super) fn is_mandatory(&self) -> bool {
        self.operand || self.repeat.is_some()
    }
}
