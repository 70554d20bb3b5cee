//! The person's terminal as the guest's console.

use std::io::{Read, Write};
use std::os::unix::net::UnixStream;
use std::thread;

use rustix::stdio;
use rustix::termios::{self, OptionalActions, Termios};

/// Ctrl-A, as in QEMU's own multiplexer.
const ESCAPE: u8 = 1;

/// The terminal in raw mode; dropping it restores what was before.
#[derive(Debug)]
pub struct RawTerminal {
    before: Termios,
}

impl RawTerminal {
    /// Puts standard input into raw mode; `None` if it is not a terminal.
    #[must_use]
    pub fn enter() -> Option<Self> {
        let before = termios::tcgetattr(stdio::stdin()).ok()?;
        let mut raw = before.clone();
        raw.make_raw();
        termios::tcsetattr(stdio::stdin(), OptionalActions::Now, &raw).ok()?;
        Some(Self { before })
    }
}

impl Drop for RawTerminal {
    fn drop(&mut self) {
        let _ = termios::tcsetattr(stdio::stdin(), OptionalActions::Drain, &self.before);
    }
}

/// Types standard input into `console` on a thread of its own. Ctrl-A x closes the console's input and calls `end`;
/// Ctrl-A twice types one Ctrl-A.
pub fn type_into(mut console: UnixStream, end: impl FnOnce() + Send + 'static) {
    thread::spawn(move || {
        let mut keys = Keys::default();
        let mut input = std::io::stdin().lock();
        let mut chunk = [0; 256];
        while let Ok(count @ 1..) = input.read(&mut chunk) {
            let (typed, wants_end) = keys.press(&chunk[..count]);
            if console.write_all(&typed).is_err() {
                return;
            }
            if wants_end {
                return end();
            }
        }
    });
}

/// What has been typed after an escape that is still open.
#[derive(Debug, Default)]
struct Keys {
    escaped: bool,
}

impl Keys {
    /// What `input` types, and whether it asks for the end.
    fn press(&mut self, input: &[u8]) -> (Vec<u8>, bool) {
        let mut typed = Vec::with_capacity(input.len());
        for key in input {
            match (std::mem::take(&mut self.escaped), *key) {
                (true, b'x') => return (typed, true),
                (false, ESCAPE) => self.escaped = true,
                (_, key) => typed.push(key),
            }
        }
        (typed, false)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn keys_reach_the_guest_and_the_escape_ends_it() {
        let mut keys = Keys::default();
        assert_eq!(keys.press(b"ls\r\x03"), (b"ls\r\x03".to_vec(), false));
        assert_eq!(keys.press(b"a\x01"), (b"a".to_vec(), false));
        assert_eq!(keys.press(b"xyz"), (Vec::new(), true));
    }

    #[test]
    fn the_escape_typed_twice_is_typed_once() {
        assert_eq!(
            Keys::default().press(b"\x01\x01k"),
            (b"\x01k".to_vec(), false)
        );
    }
}
