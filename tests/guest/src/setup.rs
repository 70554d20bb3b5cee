//! What the kernel leaves to process 1: file systems, a console, modules.
//!
//! Owns the mount table and the module list's order; knows no check.

use std::ffi::CString;
use std::fs::{File, OpenOptions};
use std::path::Path;

use crate::cmdline;

use nix::errno::Errno;
use nix::kmod::{ModuleInitFlags, finit_module};
use nix::mount::{MsFlags, mount};
use nix::unistd;

/// What is mounted where: file system, directory.
const MOUNTS: [(&str, &str); 5] = [
    ("proc", "/proc"),
    ("sysfs", "/sys"),
    ("devtmpfs", "/dev"),
    ("tmpfs", "/run"),
    ("tmpfs", "/tmp"),
];

/// Mounts the kernel's file systems and takes the console for messages.
///
/// # Errors
/// What could not be mounted and why; the rest is mounted all the same.
pub(crate) fn mount_all() -> Result<(), String> {
    let mut outcome = Ok(());
    for (kind, target) in MOUNTS {
        // The directory is there already in a careful initramfs; mount says if it is not.
        let _ = std::fs::create_dir_all(target);
        match mount(
            Some(kind),
            target,
            Some(kind),
            MsFlags::empty(),
            None::<&str>,
        ) {
            // EBUSY: the kernel mounted devtmpfs itself.
            Ok(()) | Err(Errno::EBUSY) => {}
            Err(error) => outcome = Err(format!("mounting {kind} on {target}: {error}")),
        }
    }
    take_console();
    outcome
}

/// Loads the modules that `list` names, one absolute path a line, in order, each with what the kernel's command line
/// says to it.
///
/// # Errors
/// The first module that the kernel refuses, and why. An absent list is an empty one.
pub(crate) fn load_modules(list: &Path) -> Result<(), String> {
    let text = match std::fs::read_to_string(list) {
        Ok(text) => text,
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => return Ok(()),
        Err(error) => return Err(format!("reading {}: {error}", list.display())),
    };
    let cmdline = cmdline::read();
    for path in text.lines().map(str::trim).filter(|line| !line.is_empty()) {
        let module = File::open(path).map_err(|error| format!("opening {path}: {error}"))?;
        let name = Path::new(path).file_stem().unwrap_or_default();
        let parameters = CString::new(cmdline.parameters(&name.to_string_lossy()))
            .map_err(|error| format!("parameters of {path}: {error}"))?;
        match finit_module(&module, &parameters, ModuleInitFlags::empty()) {
            Ok(()) | Err(Errno::EEXIST) => {}
            Err(error) => return Err(format!("loading {path}: {error}")),
        }
    }
    Ok(())
}

/// Points standard input, output and error at the console: an initramfs without `/dev/console`
/// leaves process 1 with none.
fn take_console() {
    if let Ok(console) = OpenOptions::new()
        .read(true)
        .write(true)
        .open("/dev/console")
    {
        let _ = unistd::dup2_stdin(&console);
        let _ = unistd::dup2_stdout(&console);
        let _ = unistd::dup2_stderr(&console);
    }
}
