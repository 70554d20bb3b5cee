//! Bounded waits on sockets.

use std::io::{ErrorKind, Read, Write};
use std::os::unix::net::{UnixListener, UnixStream};
use std::path::Path;
use std::time::{Duration, Instant};

use crate::Error;

const PAUSE: Duration = Duration::from_millis(5);

/// Accepts one connection on `listener`, which must not block, giving up when `is_hopeless` says so or time is up.
pub(crate) fn accept(
    listener: &UnixListener,
    name: &str,
    patience: Duration,
    mut is_hopeless: impl FnMut() -> Option<Error>,
) -> Result<UnixStream, Error> {
    let start = Instant::now();
    loop {
        match listener.accept() {
            Ok((stream, _)) => {
                stream
                    .set_nonblocking(false)
                    .map_err(|source| Error::file(name, "configure", source))?;
                return Ok(stream);
            }
            Err(error) if error.kind() == ErrorKind::WouldBlock => {}
            Err(source) => return Err(Error::file(name, "accept", source)),
        }
        if let Some(error) = is_hopeless() {
            return Err(error);
        }
        if start.elapsed() > patience {
            return Err(Error::TimedOut {
                waiting_for: format!("QEMU to open its {name} port"),
                after: patience,
            });
        }
        std::thread::sleep(PAUSE);
    }
}

/// Connects to a socket another program is about to serve.
pub(crate) fn connect(socket: &Path, patience: Duration) -> Result<UnixStream, Error> {
    let start = Instant::now();
    loop {
        match UnixStream::connect(socket) {
            Ok(stream) => return Ok(stream),
            Err(source) if start.elapsed() > patience => {
                return Err(Error::file(socket, "connect to", source));
            }
            Err(_) => std::thread::sleep(PAUSE),
        }
    }
}

/// A socket read and written line by line, each line within a time of its own.
#[derive(Debug)]
pub(crate) struct Lines {
    stream: UnixStream,
    pending: Vec<u8>,
    patience: Duration,
}

/// Why no line came.
#[derive(Debug)]
pub(crate) enum NoLine {
    /// The other end is closed.
    Closed,
    /// Time is up.
    Late,
}

impl Lines {
    pub(crate) fn over(stream: UnixStream, patience: Duration) -> Self {
        Self {
            stream,
            pending: Vec::new(),
            patience,
        }
    }

    pub(crate) fn patience(&self) -> Duration {
        self.patience
    }

    pub(crate) fn send(&mut self, line: &str) -> Result<(), NoLine> {
        // A peer that is gone and a peer that is stuck are told apart by the read that follows.
        let _ = self.stream.set_write_timeout(Some(self.patience));
        self.stream
            .write_all(format!("{line}\n").as_bytes())
            .map_err(|error| match error.kind() {
                ErrorKind::WouldBlock | ErrorKind::TimedOut => NoLine::Late,
                _ => NoLine::Closed,
            })
    }

    /// The next line without its end, within `patience` from now.
    pub(crate) fn receive(&mut self, patience: Duration) -> Result<String, NoLine> {
        let deadline = Instant::now() + patience;
        loop {
            if let Some(end) = self.pending.iter().position(|byte| *byte == b'\n') {
                let line: Vec<u8> = self.pending.drain(..=end).collect();
                return Ok(String::from_utf8_lossy(&line).trim().to_owned());
            }
            let left = deadline.saturating_duration_since(Instant::now());
            if left.is_zero() {
                return Err(NoLine::Late);
            }
            let _ = self.stream.set_read_timeout(Some(left));
            let mut chunk = [0; 4096];
            match self.stream.read(&mut chunk) {
                Ok(0) => return Err(NoLine::Closed),
                Ok(count) => self.pending.extend_from_slice(&chunk[..count]),
                Err(error) => match error.kind() {
                    ErrorKind::WouldBlock | ErrorKind::TimedOut => return Err(NoLine::Late),
                    ErrorKind::Interrupted => {}
                    _ => return Err(NoLine::Closed),
                },
            }
        }
    }
}

impl NoLine {
    pub(crate) fn while_waiting_for(self, what: &str, patience: Duration) -> Error {
        match self {
            Self::Late => Error::TimedOut {
                waiting_for: what.to_owned(),
                after: patience,
            },
            Self::Closed => Error::Refused {
                command: what.to_owned(),
                answer: "the connection is closed".into(),
            },
        }
    }
}
