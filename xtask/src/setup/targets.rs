//! Targets of the Rust toolchain.

use std::path::Path;
use std::process::Command;

use crate::progress;
use crate::stop::Stop;
use crate::workspace;

/// What is compiled for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Target {
    /// The hypervisor and its loader.
    BareMetal,
    /// The test guest's init.
    Guest,
    /// The UEFI loader.
    Uefi,
}

impl Target {
    /// Rust's name for it.
    pub(crate) const fn triple(self) -> &'static str {
        match self {
            Self::BareMetal => "x86_64-unknown-none",
            Self::Guest => "x86_64-unknown-linux-musl",
            Self::Uefi => "x86_64-unknown-uefi",
        }
    }

    const fn why(self) -> &'static str {
        match self {
            Self::BareMetal => "to build the hypervisor",
            Self::Guest => "to build the test guest",
            Self::Uefi => "to build the UEFI loader",
        }
    }
}

/// Adds `target` to the toolchain unless it is there.
pub(super) fn add(target: Target) -> Result<(), Stop> {
    if is_installed(target) {
        return Ok(());
    }
    let triple = target.triple();
    progress::say(&format!("adding Rust target {triple} {}", target.why()));
    progress::command(&format!("adding Rust target {triple}"), Command::new("rustup").args(["target", "add", triple]).current_dir(workspace::root()))
        .map(drop)
        .map_err(|_| {
            Stop::unready(format!(
                "Rust target {triple} is missing {}, and rustup could not add it: type `rustup target add {triple}` in this checkout",
                target.why()
            ))
        })
}

fn is_installed(target: Target) -> bool {
    let asked = Command::new("rustc")
        .args(["--print", "target-libdir", "--target", target.triple()])
        .current_dir(workspace::root())
        .output();
    // rustc tells where the target's libraries would be, whether they are there or not.
    asked.is_ok_and(|answer| {
        let directory = String::from_utf8_lossy(&answer.stdout).trim().to_owned();
        Path::new(&directory)
            .read_dir()
            .is_ok_and(|mut files| files.next().is_some())
    })
}
