//! An error with the line it is about and a caret under the place.

use core::fmt;

use crate::Error;
use crate::text::{is_unseen, without_mark};

/// How many characters of a line are shown.
const SHOWN: usize = 96;
/// How many of them, at most, come before the place.
const BEFORE: usize = 64;

impl<'t> Error<'t> {
    /// The error as several lines for a person: file, line and column, the line itself with a
    /// caret under the place, and a hint. `text` is what was parsed, `file` what to call it.
    ///
    /// Safe for a serial console: nothing of `text` that would move its cursor gets through.
    pub fn rendered<'e>(&'e self, file: &'e str, text: &'e [u8]) -> Rendered<'e> {
        Rendered {
            error: self,
            file,
            text,
        }
    }
}

/// What [`Error::rendered`] gives: something to print.
#[derive(Clone, Copy, Debug)]
pub struct Rendered<'e> {
    error: &'e Error<'e>,
    file: &'e str,
    text: &'e [u8],
}

impl fmt::Display for Rendered<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let at = self.error.at;
        writeln!(
            f,
            "{}:{}:{}: {}",
            self.file, at.line, at.column, self.error.problem
        )?;
        writeln!(f, "{:>5} | {}", at.line, self.shown())?;
        writeln!(
            f,
            "      | {:indent$}{:^<width$}",
            "",
            "",
            indent = self.indent(),
            width = self.carets()
        )?;
        match self.error.hint() {
            Some(hint) => writeln!(f, "      = {hint}"),
            None => Ok(()),
        }
    }
}

impl Rendered<'_> {
    /// The part of the line that is shown.
    fn shown(&self) -> impl fmt::Display {
        Excerpt {
            line: self.line(),
            skip: self.skipped(),
        }
    }

    /// The bytes of the line the error is on, without its end.
    fn line(&self) -> &[u8] {
        let before = usize::try_from(self.error.at.line.saturating_sub(1)).unwrap_or(usize::MAX);
        let mut lines = without_mark(self.text).split(|byte| *byte == b'\n');
        let line = lines.nth(before).unwrap_or_default();
        line.strip_suffix(b"\r").unwrap_or(line)
    }

    /// How many characters of the line come before the place.
    fn before(&self) -> usize {
        usize::try_from(self.error.at.column.saturating_sub(1)).unwrap_or(usize::MAX)
    }

    /// How many characters at the start of a long line are not shown.
    fn skipped(&self) -> usize {
        self.before().saturating_sub(BEFORE)
    }

    /// How far to the right the caret stands.
    fn indent(&self) -> usize {
        self.before().min(BEFORE)
    }

    /// How many carets there are: at least one, none beyond what is shown.
    fn carets(&self) -> usize {
        let width = usize::try_from(self.error.at.width).unwrap_or(usize::MAX);
        width.clamp(1, SHOWN - BEFORE)
    }
}

/// At most [`SHOWN`] characters of a line, every one of them one column wide.
struct Excerpt<'t> {
    line: &'t [u8],
    skip: usize,
}

impl fmt::Display for Excerpt<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let characters = self.line.utf8_chunks().flat_map(|chunk| {
            let broken = (!chunk.invalid().is_empty()).then_some(char::REPLACEMENT_CHARACTER);
            chunk.valid().chars().chain(broken)
        });
        for character in characters.skip(self.skip).take(SHOWN) {
            let seen = match character {
                '\t' => ' ',
                unseen if is_unseen(unseen) => char::REPLACEMENT_CHARACTER,
                other => other,
            };
            fmt::Write::write_char(f, seen)?;
        }
        Ok(())
    }
}
