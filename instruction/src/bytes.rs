//! The bytes of one instruction.
//!
//! Owns a run of at most fifteen bytes. Knows neither where they came from nor what they mean.

use core::{fmt, ops::Deref};

/// An instruction longer than this raises #GP (SDM vol. 2A, 2.3.11; APM vol. 3, 1.1).
pub const LONGEST: usize = 15;

/// At most [`LONGEST`] bytes, by value.
#[derive(Clone, Copy, PartialEq, Eq)]
pub struct Bytes {
    bytes: [u8; LONGEST],
    length: u8,
}

impl Bytes {
    /// Copies the first [`LONGEST`] bytes of `bytes`, or fewer if there are fewer.
    pub fn first_of(bytes: &[u8]) -> Self {
        let mut copy = [0; LONGEST];
        let mut length = 0;
        for (to, from) in copy.iter_mut().zip(bytes) {
            *to = *from;
            length += 1;
        }
        Self {
            bytes: copy,
            length,
        }
    }
}

impl Deref for Bytes {
    type Target = [u8];

    fn deref(&self) -> &[u8] {
        self.bytes
            .get(..usize::from(self.length))
            .unwrap_or(&self.bytes)
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
