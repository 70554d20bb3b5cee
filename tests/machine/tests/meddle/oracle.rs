//! An oracle for the guest: tells what a register really holds, past every hypervisor.
//!
//! Owns a serial port of the machine and a monitor of its own. A line with a physical address comes
//! in, a line with the double word that is there goes out. Knows not why somebody asks.

use std::fs;
use std::io::{BufRead, BufReader, Write};
use std::os::unix::net::{UnixListener, UnixStream};
use std::path::PathBuf;
use std::sync::atomic::{AtomicU32, Ordering};
use std::thread;

use qemu::Qmp;

/// What the guest's kernel is told.
pub(crate) const WORDS: &str = "bouncer.oracle=ttyS3";

/// Tells the oracles of one test program apart.
static COUNT: AtomicU32 = AtomicU32::new(0);

/// The sockets of one oracle, listening.
pub(crate) struct Oracle {
    directory: PathBuf,
}

impl Oracle {
    /// Opens its ears; it answers, on a thread of its own, until the machine ends.
    pub(crate) fn consult() -> Self {
        let number = COUNT.fetch_add(1, Ordering::Relaxed);
        let name = format!("bouncer-oracle-{}-{number}", std::process::id());
        let directory = std::env::temp_dir().join(name);
        fs::create_dir_all(&directory).expect("a directory for sockets");
        let questions = directory.join("questions");
        let listener = UnixListener::bind(questions).expect("a socket for questions");
        let (monitor, answer) = (directory.join("monitor"), directory.join("answer"));
        thread::spawn(move || {
            let (stream, _) = listener.accept()?;
            let mut qmp = Qmp::connect(&monitor).map_err(std::io::Error::other)?;
            converse(stream, |at| {
                qmp.dump_physical(at, 4, &answer).ok()?;
                let bytes = fs::read(&answer).ok()?;
                Some(u32::from_le_bytes(bytes.try_into().ok()?))
            })
        });
        Self { directory }
    }

    /// QEMU's arguments: the fourth serial port, with a line of interrupts of its own, and a
    /// monitor.
    pub(crate) fn arguments(&self) -> Vec<String> {
        let directory = self.directory.display();
        [
            "-chardev",
            &format!("socket,id=oracle,path={directory}/questions"),
            "-device",
            "isa-serial,index=3,iobase=0x2e8,irq=5,chardev=oracle",
            "-qmp",
            &format!("unix:{directory}/monitor,server=on,wait=off"),
        ]
        .map(str::to_owned)
        .to_vec()
    }
}

impl Drop for Oracle {
    fn drop(&mut self) {
        // What is left of it is a directory of dead sockets.
        let _ = fs::remove_dir_all(&self.directory);
    }
}

/// Answers until the machine hangs up. What cannot be read is answered with a dash, which is no
/// number: the check that asked fails and says so.
fn converse(stream: UnixStream, mut read: impl FnMut(u64) -> Option<u32>) -> std::io::Result<()> {
    let mut out = stream.try_clone()?;
    for line in BufReader::new(stream).lines() {
        let line = line?;
        let at = u64::from_str_radix(line.trim(), 16).ok();
        match at.and_then(&mut read) {
            Some(value) => writeln!(out, "{value:x}")?,
            None => writeln!(out, "-")?,
        }
    }
    Ok(())
}
