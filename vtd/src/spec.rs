//! Bits only: the formats of the VT-d architecture, with no opinion of ours.
//!
//! Owns every offset, field and encoding that VT-d defines and this project uses. Refuses to
//! know what a field is set to and when. The driver beside it and the emulated unit both read
//! these words; neither reads the other.
//!
//! Source of everything below: the manual named at the crate's root. Sections are cited by number
//! where the number is certain, otherwise by title. Bits the specification reserves have no name
//! here and keep their value.

pub mod context;
pub mod dmar;
pub mod fault;
pub mod interrupt;
pub mod invalidation;
pub mod irte;
pub mod registers;
pub mod root;
pub mod second_stage;

/// A register or structure word whose raw bits are all there is to it.
pub trait Bits: Copy {
    /// `u32` or `u64`.
    type Word;
    /// Names the fields of `raw`.
    fn from_bits(raw: Self::Word) -> Self;
    /// The raw bits, reserved ones included.
    fn bits(self) -> Self::Word;
}

macro_rules! bits {
    ($($name:ident: $word:ty),* $(,)?) => {$(
        impl crate::spec::Bits for $name {
            type Word = $word;
            fn from_bits(raw: $word) -> Self {
                Self(raw)
            }
            fn bits(self) -> $word {
                self.0
            }
        }
    )*};
}
pub(crate) use bits;

impl Bits for u32 {
    type Word = u32;
    fn from_bits(raw: u32) -> Self {
        raw
    }
    fn bits(self) -> u32 {
        self
    }
}

impl Bits for u64 {
    type Word = u64;
    fn from_bits(raw: u64) -> Self {
        raw
    }
    fn bits(self) -> u64 {
        self
    }
}
