//! The three serial channels: bytes as they come, and the lines they make.

use core::fmt;
use std::fs::File;
use std::io::Read;
use std::os::unix::net::UnixStream;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::mpsc::Sender;
use std::thread;
use std::time::{Duration, Instant};

/// A serial port of the machine.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Port {
    /// COM1: the guest's console.
    Console,
    /// COM2: the guest's line protocol.
    Guest,
    /// COM3: Bouncer's console.
    Bouncer,
}

impl Port {
    /// All three, in the order of their numbers.
    pub const ALL: [Self; 3] = [Self::Console, Self::Guest, Self::Bouncer];
}

impl fmt::Display for Port {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Console => "console",
            Self::Guest => "guest",
            Self::Bouncer => "bouncer",
        })
    }
}

/// One line from a port.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Line {
    /// Where it came from.
    pub port: Port,
    /// When its last byte came, counted from QEMU's start.
    pub at: Duration,
    /// Without its end; bytes that are not UTF-8 are replaced.
    pub text: String,
}

/// What a session waits for.
#[derive(Debug)]
pub(crate) enum Event {
    /// Some bytes came.
    Bytes {
        port: Port,
        at: Duration,
        bytes: Vec<u8>,
    },
    /// The emulator closed the channel.
    Closed,
    /// Not the machine but its owner: it is to stop.
    Stop,
}

/// Reads `stream` on a thread of its own until it closes.
pub(crate) fn listen(port: Port, mut stream: UnixStream, start: Instant, events: Sender<Event>) {
    thread::spawn(move || {
        let mut chunk = [0; 4096];
        while let Ok(count @ 1..) = stream.read(&mut chunk) {
            let bytes = chunk[..count].to_vec();
            if events
                .send(Event::Bytes {
                    port,
                    at: start.elapsed(),
                    bytes,
                })
                .is_err()
            {
                return;
            }
        }
        let _ = events.send(Event::Closed);
    });
}

/// Reads `file` as it grows, on a thread of its own, until nobody writes it any more.
pub(crate) fn follow(
    port: Port,
    mut file: File,
    has_ended: Arc<AtomicBool>,
    start: Instant,
    events: Sender<Event>,
) {
    /// Between two looks at a file that has not grown.
    const PAUSE: Duration = Duration::from_millis(20);
    thread::spawn(move || {
        let mut chunk = [0; 4096];
        loop {
            // Asked before reading: what was written before the end is still read.
            let is_last = has_ended.load(Ordering::Acquire);
            match file.read(&mut chunk) {
                Ok(count @ 1..) => {
                    let (at, bytes) = (start.elapsed(), chunk[..count].to_vec());
                    if events.send(Event::Bytes { port, at, bytes }).is_err() {
                        return;
                    }
                }
                Ok(0) if !is_last => thread::sleep(PAUSE),
                Ok(_) | Err(_) => break,
            }
        }
        let _ = events.send(Event::Closed);
    });
}

/// Bytes waiting for the end of their line.
#[derive(Debug, Default)]
pub(crate) struct Assembly {
    pending: Vec<u8>,
}

/// A line is cut here even without an end: a port that streams garbage must not eat the host's memory.
const LONGEST: usize = 16 * 1024;

impl Assembly {
    /// Adds `bytes` and returns the lines they complete.
    pub(crate) fn push(&mut self, bytes: &[u8]) -> Vec<String> {
        let mut lines = Vec::new();
        for byte in bytes {
            if *byte == b'\n' || self.pending.len() == LONGEST {
                lines.extend(self.flush());
            }
            if *byte != b'\n' {
                self.pending.push(*byte);
            }
        }
        lines
    }

    /// The line that has begun, if any; blank lines are none.
    pub(crate) fn flush(&mut self) -> Option<String> {
        let line = String::from_utf8_lossy(&self.pending).trim_end().to_owned();
        self.pending.clear();
        (!line.is_empty()).then_some(line)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn a_line_may_come_in_pieces() {
        let mut assembly = Assembly::default();
        assert!(assembly.push(b"bouncer-gu").is_empty());
        assert_eq!(
            assembly.push(b"est 1\r\nstart a\npa"),
            ["bouncer-guest 1", "start a"]
        );
        assert_eq!(assembly.flush().as_deref(), Some("pa"));
    }

    #[test]
    fn a_line_without_end_is_cut() {
        let mut assembly = Assembly::default();
        let lines = assembly.push(&[b'x'; LONGEST + 1]);
        assert_eq!(lines.iter().map(String::len).collect::<Vec<_>>(), [LONGEST]);
    }

    proptest! {
        #[test]
        fn where_the_pieces_are_cut_does_not_matter(bytes in proptest::collection::vec(any::<u8>(), 0..200), cut in 0usize..200) {
            let cut = cut.min(bytes.len());
            let (mut whole, mut pieces) = (Assembly::default(), Assembly::default());
            let expected = whole.push(&bytes);
            let mut lines = pieces.push(&bytes[..cut]);
            lines.extend(pieces.push(&bytes[cut..]));
            prop_assert_eq!(lines, expected);
        }
    }
}
