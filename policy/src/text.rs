//! Bytes that may be read as a policy at all, and positions in them.

use crate::{Error, Problem};

/// The largest file read, in bytes.
pub const MAX_TEXT: usize = 64 * 1024;

/// The byte order mark some editors put first; it is not part of the text.
pub(crate) const BYTE_ORDER_MARK: &[u8] = b"\xef\xbb\xbf";

/// A stretch of characters within one line of the file.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Position {
    /// The line, from 1.
    pub line: u32,
    /// The character in the line, from 1.
    pub column: u32,
    /// How many characters are meant; 0 is the gap before `column`.
    pub width: u32,
}

impl Position {
    /// The first character of the file.
    pub(crate) const START: Self = Self {
        line: 1,
        column: 1,
        width: 0,
    };

    /// The position of the byte at `offset`, whatever the bytes are.
    fn of_byte(bytes: &[u8], offset: usize) -> Self {
        let mut at = Self {
            width: 1,
            ..Self::START
        };
        for byte in without_mark(bytes.get(..offset).unwrap_or(bytes)) {
            if *byte == b'\n' {
                at.line = at.line.saturating_add(1);
                at.column = 1;
            } else if byte & 0xc0 != 0x80 {
                // Every byte but the continuation bytes of UTF-8 starts a character.
                at.column = at.column.saturating_add(1);
            }
        }
        at
    }
}

/// `bytes` as text that can be read and shown without surprises, byte order mark removed.
///
/// # Errors
/// More than [`MAX_TEXT`] bytes; not UTF-8; a character that does something other than be seen.
pub(crate) fn legible(bytes: &[u8]) -> Result<&str, Error<'_>> {
    if bytes.len() > MAX_TEXT {
        let problem = Problem::TooLong { bytes: bytes.len() };
        return Err(Error::new(Position::of_byte(bytes, MAX_TEXT), problem));
    }
    let text = core::str::from_utf8(bytes).map_err(|refused| {
        let offset = refused.valid_up_to();
        Error::new(
            Position::of_byte(bytes, offset),
            Problem::NotUtf8 { offset },
        )
    })?;
    let text = text.strip_prefix('\u{feff}').unwrap_or(text);
    let mut characters = text.char_indices().peekable();
    while let Some((offset, character)) = characters.next() {
        let ends_line =
            character == '\r' && characters.peek().is_some_and(|(_, next)| *next == '\n');
        if !ends_line && is_unseen(character) {
            let at = Position::of_byte(text.as_bytes(), offset);
            return Err(Error::new(at, Problem::Unseen { character }));
        }
    }
    Ok(text)
}

/// `bytes` without the byte order mark some editors put first.
pub(crate) fn without_mark(bytes: &[u8]) -> &[u8] {
    bytes.strip_prefix(BYTE_ORDER_MARK).unwrap_or(bytes)
}

/// Whether `character` moves a cursor, changes a terminal or reorders a line instead of being seen.
pub(crate) fn is_unseen(character: char) -> bool {
    match character {
        '\t' | '\n' => false,
        // Direction overrides: an editor would show another file than the one that is read.
        '\u{202a}'..='\u{202e}' | '\u{2066}'..='\u{2069}' => true,
        // What an editor may show as the end of a line, and a byte order mark inside the text.
        '\u{2028}' | '\u{2029}' | '\u{feff}' => true,
        _ => character.is_control(),
    }
}
