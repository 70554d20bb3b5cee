//! A word somebody typed, kept for the sentence that refuses it.

use core::fmt;

/// Bytes of a word that are kept.
const KEPT: usize = 32;

/// The beginning of a word, shown with everything unprintable escaped.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Word {
    bytes: [u8; KEPT],
    len: usize,
}

impl Word {
    /// Keeps as much of `word` as there is room for.
    pub fn new(word: &[u8]) -> Self {
        let mut bytes = [0; KEPT];
        for (kept, byte) in bytes.iter_mut().zip(word) {
            *kept = *byte;
        }
        Self {
            bytes,
            len: word.len(),
        }
    }
}

impl fmt::Display for Word {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let kept = self.bytes.get(..self.len.min(KEPT)).unwrap_or(&[]);
        write!(f, "'{}", kept.escape_ascii())?;
        f.write_str(if self.len > KEPT { "...'" } else { "'" })
    }
}

/// The words of a command line, which are separated by white space.
pub(crate) fn words(line: &[u8]) -> impl Iterator<Item = &[u8]> {
    line.split(u8::is_ascii_whitespace)
        .filter(|word| !word.is_empty())
}
