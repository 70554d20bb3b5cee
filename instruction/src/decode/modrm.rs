//! The operand in ModRM and SIB.
//!
//! Owns the tables of 16-bit and 32-bit addressing forms (SDM vol. 2A, 2.1.5).

use super::{
    Undecodable,
    cursor::Cursor,
    prefix::{Prefixes, Rex},
};
use crate::instruction::{Base, Bits, Index, Memory, Operand, Register, Segment, Width};

/// A ModRM byte, its register numbers widened by REX.
pub(super) struct ModRm {
    mode: u8,
    pub(super) reg: u8,
    pub(super) rm: u8,
}

/// `segment:[displacement]`.
pub(super) fn absolute(segment: Segment, displacement: u64) -> Operand {
    Operand::Memory(Memory {
        segment,
        base: Base::None,
        index: None,
        displacement,
    })
}

/// `segment:[register]`.
pub(super) fn based(segment: Segment, register: Register) -> Operand {
    Operand::Memory(Memory {
        segment,
        base: Base::Register(register),
        index: None,
        displacement: 0,
    })
}

impl ModRm {
    pub(super) fn new(byte: u8, rex: Rex) -> Self {
        Self {
            mode: byte >> 6,
            reg: (byte >> 3) & 7 | rex.reg(),
            rm: byte & 7 | rex.base(),
        }
    }

    /// Whether `rm` names a register.
    pub(super) fn is_register(&self) -> bool {
        self.mode == 3
    }

    /// The full-width register that `rm` names, for forms where the mode is ignored.
    pub(super) fn rm_register(&self) -> Operand {
        Operand::Register(Register::of_low_bits(self.rm))
    }

    /// The memory operand; takes SIB and displacement.
    pub(super) fn memory(
        &self,
        cursor: &mut Cursor<'_>,
        prefixes: &Prefixes,
        address_width: Width,
        bits: Bits,
    ) -> Result<Memory, Undecodable> {
        let place = if address_width == Width::Word {
            self.place_16()
        } else {
            self.place_32(cursor, prefixes.rex, bits)?
        };
        let displacement = match place.displacement {
            None => 0,
            Some(width) => cursor.signed(width)?,
        };
        let default = match place.base {
            Base::Register(Register::RSP | Register::RBP) => Segment::Ss,
            _ => Segment::Ds,
        };
        Ok(Memory {
            segment: prefixes.data_segment(default),
            base: place.base,
            index: place.index,
            displacement,
        })
    }

    /// SDM vol. 2A, table 2-1.
    fn place_16(&self) -> Place {
        let (base, index) = match self.rm & 7 {
            0 => (Some(Register::RBX), Some(Register::RSI)),
            1 => (Some(Register::RBX), Some(Register::RDI)),
            2 => (Some(Register::RBP), Some(Register::RSI)),
            3 => (Some(Register::RBP), Some(Register::RDI)),
            4 => (Some(Register::RSI), None),
            5 => (Some(Register::RDI), None),
            6 if self.mode == 0 => (None, None),
            6 => (Some(Register::RBP), None),
            _ => (Some(Register::RBX), None),
        };
        let displacement = match self.mode {
            0 if base.is_none() => Some(Width::Word),
            0 => None,
            1 => Some(Width::Byte),
            _ => Some(Width::Word),
        };
        Place {
            base: base.map_or(Base::None, Base::Register),
            index: index.map(|register| Index { register, shift: 0 }),
            displacement,
        }
    }

    /// SDM vol. 2A, tables 2-2 and 2-3, and for 64-bit mode tables 2-5 and 2-7: the numbers that
    /// stand for something else are recognised by their low three bits.
    fn place_32(
        &self,
        cursor: &mut Cursor<'_>,
        rex: Rex,
        bits: Bits,
    ) -> Result<Place, Undecodable> {
        let register = |number| Base::Register(Register::of_low_bits(number));
        let displacement = match self.mode {
            0 => None,
            1 => Some(Width::Byte),
            _ => Some(Width::Dword),
        };
        Ok(match self.rm & 7 {
            4 => {
                let sib = cursor.next()?;
                let number = sib & 7 | rex.base();
                let index = (sib >> 3) & 7 | rex.index();
                let has_base = sib & 7 != 5 || self.mode != 0;
                Place {
                    base: if has_base {
                        register(number)
                    } else {
                        Base::None
                    },
                    index: (index != 4).then_some(Index {
                        register: Register::of_low_bits(index),
                        shift: sib >> 6,
                    }),
                    displacement: if has_base {
                        displacement
                    } else {
                        Some(Width::Dword)
                    },
                }
            }
            5 if self.mode == 0 => Place {
                base: match bits {
                    Bits::Bits64 => Base::NextInstruction,
                    Bits::Bits16 | Bits::Bits32 => Base::None,
                },
                index: None,
                displacement: Some(Width::Dword),
            },
            _ => Place {
                base: register(self.rm),
                index: None,
                displacement,
            },
        })
    }
}

/// A memory operand before its displacement is read.
struct Place {
    base: Base,
    index: Option<Index>,
    displacement: Option<Width>,
}
