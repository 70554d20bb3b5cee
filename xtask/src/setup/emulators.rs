//! Emulators: the system's QEMU, and a newer one unpacked beside it.
//!
//! Debian 12 has QEMU 7.2; its backports have 10.0, whose TCG knows x2APIC. Both are wanted: the newer to run, both
//! to test. The newer one is unpacked under `target/qemu/` and started through a script that points it at its own
//! firmware and modules, so the system keeps its version.

use std::fs;
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};

use qemu::{Bochs, Emulator, Version};

use super::archive::Archive;
use super::lock;
use crate::progress::say;
use crate::stop::Stop;
use crate::workspace;

/// Every emulator there is, the newest first; a missing newer one is told of and done without.
pub(crate) fn all() -> Result<Vec<Emulator>, Stop> {
    let system = Emulator::probe(Path::new("qemu-system-x86_64"))?;
    if system.version.has_x2apic_under_tcg() {
        return Ok(vec![system]);
    }
    match newer() {
        Ok(newer) => Ok(vec![newer, system]),
        Err(Stop::Failed(why) | Stop::Unready(why)) => {
            say(&format!(
                "doing without a newer QEMU than {}: {}",
                system.version,
                why.lines().next().unwrap_or_default()
            ));
            Ok(vec![system])
        }
    }
}

/// The QEMU at `path` if one is named, else the newest there is.
pub(crate) fn choose(path: Option<&Path>) -> Result<Emulator, Stop> {
    match path {
        Some(path) => Ok(Emulator::probe(path)?),
        None => all()?
            .into_iter()
            .next()
            .ok_or_else(|| Stop::unready("no QEMU is installed")),
    }
}

/// The system's Bochs.
pub(crate) fn bochs() -> Result<Bochs, Stop> {
    Ok(Bochs::probe(Path::new("bochs"))?)
}

fn newer() -> Result<Emulator, Stop> {
    let _alone = lock::take()?;
    let root = workspace::cache("qemu");
    let script = root.join("qemu-system-x86_64");
    if !script.exists() {
        say("fetching QEMU 10 from Debian's backports (kept in target/qemu): its TCG knows x2APIC");
        workspace::put_whole(&root, |aside| {
            Archive::open()?.unpack_with_needs("qemu-system-x86", "bookworm-backports", aside)
        })?;
        workspace::write(&script, launcher(&root))?;
        fs::set_permissions(&script, fs::Permissions::from_mode(0o755)).map_err(|error| {
            Stop::unready(format!(
                "cannot make {} executable: {error}",
                script.display()
            ))
        })?;
    }
    let newer = Emulator::probe(&script)?;
    if newer.version < Version::new(9, 0, 0) {
        return Err(Stop::unready(format!(
            "backports offer only QEMU {}",
            newer.version
        )));
    }
    Ok(newer)
}

/// A script that becomes the QEMU unpacked in `root`: the process id stays, so whoever kills it kills QEMU.
fn launcher(root: &Path) -> String {
    let within = |path: &str| root.join(path).display().to_string();
    let libraries: Vec<_> = ["usr/lib/x86_64-linux-gnu", "lib/x86_64-linux-gnu"]
        .map(within)
        .into();
    // ROMs of network cards come with a package that both versions share; it may be the system's.
    let data: Vec<PathBuf> = ["usr/share/qemu", "usr/share/seabios", "usr/lib/ipxe/qemu"]
        .iter()
        .map(|path| root.join(path))
        .chain([PathBuf::from("/usr/lib/ipxe/qemu")])
        .collect();
    let data: String = data
        .iter()
        .map(|path| format!(" -L '{}'", path.display()))
        .collect();
    format!(
        "#!/bin/sh\nLD_LIBRARY_PATH='{}' QEMU_MODULE_DIR='{}' exec '{}'{data} \"$@\"\n",
        libraries.join(":"),
        within("usr/lib/x86_64-linux-gnu/qemu"),
        within("usr/bin/qemu-system-x86_64"),
    )
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_launcher_becomes_qemu_and_passes_its_arguments_on() {
        let script = launcher(Path::new("/t/qemu"));
        assert!(
            script.starts_with("#!/bin/sh\nLD_LIBRARY_PATH='/t/qemu/usr/lib/x86_64-linux-gnu:"),
            "{script}"
        );
        assert!(
            script.contains(
                " exec '/t/qemu/usr/bin/qemu-system-x86_64' -L '/t/qemu/usr/share/qemu' "
            ),
            "{script}"
        );
        assert!(script.ends_with(" \"$@\"\n"), "{script}");
    }
}
