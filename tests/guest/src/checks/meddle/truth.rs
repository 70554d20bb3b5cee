//! What the machine's registers really hold, asked of whoever runs the machine.
//!
//! Owns the fourth serial port: a line with a physical address goes out, a line with the double
//! word that is there comes back, read past every hypervisor. A machine without such a port has no
//! oracle, and checks judge by what a guest can see.

use std::cell::RefCell;
use std::fs::{File, OpenOptions};
use std::io::{Read, Write};
use std::os::fd::AsFd;
use std::os::unix::fs::OpenOptionsExt;

use super::function::Function;
use super::roads::Roads;
use crate::cmdline;
use crate::verdict::{Attempt, Shortfall, failed};
use nix::poll::{PollFd, PollFlags, PollTimeout, poll};
use nix::sys::termios;

const PORT: &str = "/dev/ttyS3";
/// How long an answer may take, in milliseconds: the emulator may be busy.
const PATIENCE: u16 = 10_000;

/// The oracle, if there is one.
#[derive(Debug)]
pub(super) struct Truth {
    port: Option<RefCell<File>>,
}

impl Truth {
    /// Opens the port if the kernel's command line says that somebody listens
    /// (`bouncer.oracle=ttyS3`).
    pub(super) fn open() -> Result<Self, Shortfall> {
        if cmdline::read().value("bouncer.oracle") != Some("ttyS3") {
            return Ok(Self { port: None });
        }
        let port = OpenOptions::new()
            .read(true)
            .write(true)
            .custom_flags(libc::O_NOCTTY)
            .open(PORT)
            .attempt(&format!("opening {PORT}"))?;
        let mut settings = termios::tcgetattr(&port).attempt(&format!("asking {PORT}"))?;
        termios::cfmakeraw(&mut settings);
        termios::tcsetattr(&port, termios::SetArg::TCSANOW, &settings)
            .attempt(&format!("setting {PORT}"))?;
        Ok(Self {
            port: Some(RefCell::new(port)),
        })
    }

    /// Whether somebody knows.
    pub(super) fn is_known(&self) -> bool {
        self.port.is_some()
    }

    /// The double word at a physical address; `None` without an oracle.
    pub(super) fn dword(&self, at: u64) -> Result<Option<u32>, Shortfall> {
        let Some(port) = &self.port else {
            return Ok(None);
        };
        let mut port = port.borrow_mut();
        port.write_all(format!("{at:x}\n").as_bytes())
            .attempt("asking the oracle")?;
        let line = line(&mut port)?;
        u32::from_str_radix(&line, 16)
            .map(Some)
            .attempt(&format!("the oracle's answer {line:?}"))
    }

    /// A double word of configuration space; `None` without an oracle.
    pub(super) fn config(
        &self,
        roads: &Roads,
        function: Function,
        offset: u16,
    ) -> Result<Option<u32>, Shortfall> {
        self.dword(roads.address(function, offset))
    }
}

fn line(port: &mut File) -> Result<String, Shortfall> {
    let mut text = String::new();
    loop {
        let ready = poll(
            &mut [PollFd::new(port.as_fd(), PollFlags::POLLIN)],
            PollTimeout::from(PATIENCE),
        );
        if ready.attempt("waiting for the oracle")? == 0 {
            return Err(failed("the oracle is silent"));
        }
        let mut byte = [0];
        port.read_exact(&mut byte).attempt("hearing the oracle")?;
        match byte[0] {
            b'\n' => return Ok(text),
            byte => text.push(char::from(byte)),
        }
    }
}
