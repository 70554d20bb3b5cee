//! A place in the bytes of an instruction.
//!
//! Owns the two ways in which bytes can end: there are no more, or there may be no more.

use super::Undecodable;
use crate::{
    bytes::{Bytes, LONGEST},
    instruction::Width,
};

pub(super) struct Cursor<'a> {
    bytes: &'a [u8],
    at: u8,
}

impl<'a> Cursor<'a> {
    pub(super) fn new(bytes: &'a [u8]) -> Self {
        Self { bytes, at: 0 }
    }

    /// The next byte, which stays the next.
    pub(super) fn peek(&self) -> Result<u8, Undecodable> {
        let at = usize::from(self.at);
        if at >= LONGEST {
            return Err(Undecodable::TooLong);
        }
        self.bytes.get(at).copied().ok_or(Undecodable::Truncated)
    }

    pub(super) fn next(&mut self) -> Result<u8, Undecodable> {
        let byte = self.peek()?;
        self.at += 1;
        Ok(byte)
    }

    /// A little-endian number of `width`, sign-extended.
    pub(super) fn signed(&mut self, width: Width) -> Result<u64, Undecodable> {
        let mut bytes = [0; 8];
        for byte in bytes.iter_mut().take(width.bytes()) {
            *byte = self.next()?;
        }
        Ok(width.sign_extend(u64::from_le_bytes(bytes)))
    }

    /// How many bytes were taken.
    pub(super) fn position(&self) -> u8 {
        self.at
    }

    pub(super) fn all(&self) -> Bytes {
        Bytes::first_of(self.bytes)
    }

    pub(super) fn unknown(&self) -> Undecodable {
        Undecodable::Unknown(self.all())
    }
}
