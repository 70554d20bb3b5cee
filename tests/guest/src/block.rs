//! A block device's file, opened once the kernel is ready for it.
//!
//! The kernel makes the file before the device behind it answers to it: between the two, opening
//! it says that there is no such device. So it is opened until that has passed.

use crate::verdict::{Attempt, Shortfall};
use std::fs::{File, OpenOptions};
use std::os::unix::fs::OpenOptionsExt;
use std::path::Path;
use std::time::{Duration, Instant};

/// How long the driver may take to find the device.
const PATIENCE: Duration = Duration::from_secs(20);
const PAUSE: Duration = Duration::from_millis(10);

/// What is done with a device.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Use {
    Read,
    ReadAndWrite,
}

/// Whether the page cache stands between a program and the device.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Way {
    /// No: the device reads and writes the program's memory, which must be aligned.
    Direct,
    /// Yes.
    Buffered,
}

/// Opens the device's file, and waits for it first.
pub(crate) fn open(path: &Path, purpose: Use, way: Way) -> Result<File, Shortfall> {
    let began = Instant::now();
    let flags = match way {
        Way::Direct => libc::O_DIRECT,
        Way::Buffered => 0,
    };
    let mut options = OpenOptions::new();
    options
        .read(true)
        .write(purpose == Use::ReadAndWrite)
        .custom_flags(flags);
    loop {
        let opened = options.open(path);
        let is_coming = opened
            .as_ref()
            .is_err_and(|error| matches!(error.raw_os_error(), Some(libc::ENOENT | libc::ENXIO)));
        if !is_coming || began.elapsed() >= PATIENCE {
            return opened.attempt(&format!("opening {}", path.display()));
        }
        std::thread::sleep(PAUSE);
    }
}
