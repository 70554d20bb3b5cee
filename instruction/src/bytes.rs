//! The bytes of one instruction.
//!
//! Owns a run of at most fifteen bytes. Knows neither where they came from nor what they mean.

use core::{fmt, ops::Deref};

/// An instruction longer than this raises #GP (SDM vol. 2A, 2.3.11; APM vol. 3, 1.1).
pub const LONGEST: usize = 15;

/// At most [`LONGEST`] bytes, by value.
#[derive(Clone, Copy)]
pub struct Bytes {
    /// Zeros behind the last.
    bytes: [u8; ROOM],
    length: u8,
}

/// One more than there can be, so that all are compared as one word.
const ROOM: usize = LONGEST + 1;

impl PartialEq for Bytes {
    fn eq(&self, other: &Self) -> bool {
        let word = |bytes| u128::from_le_bytes(bytes);
        self.length == other.length && word(self.bytes) == word(other.bytes)
    }
}

impl Eq for Bytes {}

impl Bytes {
    /// Copies the first [`LONGEST`] bytes of `bytes`, or fewer if there are fewer.
    pub fn first_of(bytes: &[u8]) -> Self {
        let mut copy = [0; ROOM];
        let length = bytes.len().min(LONGEST);
        for (to, from) in copy.iter_mut().zip(&bytes[..length]) {
            *to = *from;
        }
        Self {
            bytes: copy,
            length: length as u8,
        }
    }

    /// The first `length` bytes of `bytes`, or all of them, of which the others are zeros.
    pub(crate) fn new(bytes: [u8; LONGEST], length: usize) -> Self {
        let mut room = [0; ROOM];
        room[..LONGEST].copy_from_slice(&bytes);
        Self {
            bytes: room,
            length: length.min(LONGEST) as u8,
        }
    }
}

impl Deref for Bytes {
    type Target = [u8];

    fn deref(&self) -> &[u8] {
        self.bytes
            .get(..usize::from(self.length))
            .unwrap_or_default()
    }
}

impl fmt::Debug for Bytes {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Bytes({self})")
    }
}

impl fmt::Display for Bytes {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if self.is_empty() {
            return f.write_str("no bytes");
        }
        for (at, byte) in self.iter().enumerate() {
            let gap = if at == 0 { "" } else { " " };
            write!(f, "{gap}{byte:02x}")?;
        }
        Ok(())
    }
}
