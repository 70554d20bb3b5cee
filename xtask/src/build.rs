//! Builds what a machine boots: Bouncer for its boot loader, the test guest's init.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

use qemu::Bouncer;

use crate::progress;
use crate::setup::Target;
use crate::stop::Stop;
use crate::workspace;

/// Tells the loaders' builds where the hypervisor's image is.
pub(crate) const HYPERVISOR: &str = "BOUNCER_HYPERVISOR";

/// The profile everything a machine runs is built with.
const RELEASE: [&str; 3] = ["build", "--quiet", "--release"];

/// Builds the test guest's init, a static program.
pub(crate) fn guest() -> Result<PathBuf, Stop> {
    let mut build = cargo(Target::Guest);
    progress::command(
        "building the test guest",
        build.args(["--package", "guest"]),
    )?;
    stripped(&artifact(Target::Guest, "guest"), "guest")
}

/// Builds the hypervisor, then both loaders around it.
pub(crate) fn bouncer() -> Result<Bouncer, Stop> {
    let mut build = cargo(Target::BareMetal);
    progress::command(
        "building the hypervisor",
        build.args(["--package", "hypervisor"]),
    )?;
    // The loaders carry the image without symbols; the symbols stay here, for backtraces.
    let symbols = artifact(Target::BareMetal, "hypervisor");
    let image = stripped(&symbols, "hypervisor")?;

    let mut build = cargo(Target::BareMetal);
    build.args([
        "--package",
        "boot",
        "--bin",
        "multiboot",
        "--features",
        "multiboot",
    ]);
    progress::command("building the loader", build.env(HYPERVISOR, &image))?;

    let mut build = cargo(Target::Uefi);
    build.args(["--package", "efi"]);
    progress::command("building bouncer.efi", build.env(HYPERVISOR, &image))?;
    Ok(Bouncer {
        image: artifact(Target::BareMetal, "multiboot"),
        efi: artifact(Target::Uefi, "bouncer.efi"),
        hypervisor: image,
        symbols,
    })
}

/// Copies a program without its symbols to a place of its own. A copy that did not change keeps
/// its time, so that what is made from it is not made again.
fn stripped(program: &Path, name: &str) -> Result<PathBuf, Stop> {
    let directory = workspace::built().join("bouncer");
    workspace::make(&directory)?;
    let copy = directory.join(name);
    let fresh = directory.join(format!("{name}.{}", std::process::id()));
    let mut strip = Command::new("objcopy");
    strip.arg("--strip-all").arg(program).arg(&fresh);
    progress::command(&format!("stripping the {name}"), &mut strip)?;
    if fs::read(&copy).ok() == fs::read(&fresh).ok() {
        let _ = fs::remove_file(&fresh);
        return Ok(copy);
    }
    match fs::rename(&fresh, &copy) {
        Ok(()) => Ok(copy),
        Err(error) => Err(Stop::unready(format!(
            "cannot write {}: {error}",
            copy.display()
        ))),
    }
}

fn cargo(target: Target) -> Command {
    let mut cargo = Command::new("cargo");
    cargo
        .args(RELEASE)
        .args(["--target", target.triple()])
        .current_dir(workspace::root());
    cargo
}

fn artifact(target: Target, name: &str) -> PathBuf {
    workspace::built()
        .join(target.triple())
        .join("release")
        .join(name)
}
