//! Configuration space as a seam: naturally aligned accesses to 4096 bytes a function.
//!
//! Owns the words of an access ([`Width`], [`Register`]) and the trait through which logic
//! reaches real registers ([`ConfigSpace`]). Refuses to know how an access travels (ECAM, ports)
//! and what a register means.

use crate::Address;

/// Bytes of configuration space a function has.
pub const CONFIG_BYTES: u16 = 4096;

/// How many bytes an access moves.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Debug, Hash)]
pub enum Width {
    /// 8 bits.
    Byte,
    /// 16 bits.
    Word,
    /// 32 bits.
    Dword,
}

impl Width {
    /// 1, 2 or 4.
    pub const fn bytes(self) -> u16 {
        match self {
            Self::Byte => 1,
            Self::Word => 2,
            Self::Dword => 4,
        }
    }

    /// The bits a value of this width may have.
    pub const fn mask(self) -> u32 {
        match self {
            Self::Byte => 0xff,
            Self::Word => 0xffff,
            Self::Dword => 0xffff_ffff,
        }
    }
}

/// A naturally aligned run of 1, 2 or 4 bytes of a function's configuration space.
///
/// It lies in one double word, whose offset is [`Register::dword_offset`].
#[derive(Clone, Copy, PartialEq, Eq, Debug, Hash)]
pub struct Register {
    offset: u16,
    width: Width,
}

impl Register {
    /// The `width` bytes at `offset` (0..4096), or `None` if they are not naturally aligned or
    /// lie outside configuration space.
    pub const fn new(offset: u16, width: Width) -> Option<Self> {
        if offset >= CONFIG_BYTES || !offset.is_multiple_of(width.bytes()) {
            return None;
        }
        Some(Self { offset, width })
    }

    /// The byte at `offset`, modulo 4096.
    pub const fn byte(offset: u16) -> Self {
        Self {
            offset: offset % CONFIG_BYTES,
            width: Width::Byte,
        }
    }

    /// The aligned 16 bits that hold `offset`, modulo 4096.
    pub const fn word(offset: u16) -> Self {
        Self {
            offset: (offset % CONFIG_BYTES) & !1,
            width: Width::Word,
        }
    }

    /// The aligned 32 bits that hold `offset`, modulo 4096.
    pub const fn dword(offset: u16) -> Self {
        Self {
            offset: (offset % CONFIG_BYTES) & !3,
            width: Width::Dword,
        }
    }

    /// The offset of the first byte.
    pub const fn offset(self) -> u16 {
        self.offset
    }

    /// How many bytes.
    pub const fn width(self) -> Width {
        self.width
    }

    /// The offset of the double word the bytes lie in.
    pub const fn dword_offset(self) -> u16 {
        self.offset & !3
    }

    /// The bits of that double word the bytes are.
    pub const fn lanes(self) -> u32 {
        self.width.mask() << self.shift()
    }

    /// The bytes as they lie in their double word: `value` moved to its lanes, zeros around.
    pub const fn spread(self, value: u32) -> u32 {
        (value & self.width.mask()) << self.shift()
    }

    /// The bytes out of their double word.
    pub const fn extract(self, dword: u32) -> u32 {
        (dword >> self.shift()) & self.width.mask()
    }

    /// The double word after a write of `value` to these bytes.
    pub const fn merge(self, dword: u32, value: u32) -> u32 {
        (dword & !self.lanes()) | self.spread(value)
    }

    const fn shift(self) -> u32 {
        8 * (self.offset as u32 & 3)
    }
}

/// The machine's real configuration space.
///
/// What nobody answers reads as all ones, and writes to it are lost.
pub trait ConfigSpace {
    /// Reads `register` of `at`; the value is in the low bits.
    fn read(&self, at: Address, register: Register) -> u32;

    /// Writes the low bits of `value` to `register` of `at`.
    fn write(&mut self, at: Address, register: Register, value: u32);

    /// Reads the byte at `offset`.
    fn read_u8(&self, at: Address, offset: u16) -> u8 {
        self.read(at, Register::byte(offset)) as u8
    }

    /// Reads the aligned 16 bits that hold `offset`.
    fn read_u16(&self, at: Address, offset: u16) -> u16 {
        self.read(at, Register::word(offset)) as u16
    }

    /// Reads the aligned 32 bits that hold `offset`.
    fn read_u32(&self, at: Address, offset: u16) -> u32 {
        self.read(at, Register::dword(offset))
    }
}

#[cfg(test)]
mod tests {
    extern crate std;

    use proptest::prelude::*;

    use super::*;

    #[test]
    fn an_access_that_is_not_naturally_aligned_is_no_register() {
        assert_eq!(Register::new(1, Width::Word), None);
        assert_eq!(Register::new(2, Width::Dword), None);
        assert_eq!(Register::new(4096, Width::Byte), None);
    }

    proptest! {
        #[test]
        fn a_merged_value_is_extracted_again(offset in 0u16..4096, dword: u32, value: u32) {
            for register in [Register::byte(offset), Register::word(offset), Register::dword(offset)] {
                let merged = register.merge(dword, value);
                prop_assert_eq!(register.extract(merged), value & register.width().mask());
                prop_assert_eq!(merged & !register.lanes(), dword & !register.lanes());
            }
        }
    }
}
