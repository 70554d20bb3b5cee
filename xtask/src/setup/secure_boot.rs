//! What a machine in Secure Boot mode is tried with: firmware variables that know a test key, that key, and a stub
//! that makes one program of a kernel.
//!
//! Debian ships variables and key with the firmware, for tests and nothing else; the key has a password that is
//! told with it.

use std::path::Path;
use std::process::Command;

use qemu::{SecureBoot, Signer};

use super::archive::Archive;
use super::lock;
use crate::progress::{self, say};
use crate::stop::Stop;
use crate::workspace;

/// The package with the stub.
const PACKAGE: &str = "systemd-boot-efi";
const STUB: &str = "usr/lib/systemd/boot/efi/linuxx64.efi.stub";
const KEY: &str = "key.pem";
const PASSWORD: &str = "pass:snakeoil";

/// Gets all of it, from the cache or from the archive.
pub(crate) fn fetch() -> Result<SecureBoot, Stop> {
    super::fetch_firmware()?;
    let _alone = lock::take()?;
    let firmware = workspace::cache("firmware");
    let root = workspace::cache("secure-boot");
    if !root.exists() {
        say("fetching a stub for kernels (kept in target/secure-boot)");
        workspace::put_whole(&root, |aside| {
            Archive::open()?.unpack(PACKAGE, aside)?;
            let mut open = Command::new("openssl");
            open.args(["pkey", "-passin", PASSWORD, "-in"])
                .arg(firmware.join("usr/share/ovmf/PkKek-1-snakeoil.key"))
                .arg("-out")
                .arg(aside.join(KEY));
            progress::command("opening the test key", &mut open).map(drop)
        })?;
    }
    found(&firmware, &root)
}

fn found(firmware: &Path, root: &Path) -> Result<SecureBoot, Stop> {
    let file = |root: &Path, path: &str| {
        let path = root.join(path);
        if path.is_file() {
            return Ok(path);
        }
        Err(Stop::unready(format!(
            "there is no {}; remove {} to fetch it again",
            path.display(),
            root.display()
        )))
    };
    Ok(SecureBoot {
        variables: file(firmware, "usr/share/OVMF/OVMF_VARS_4M.snakeoil.fd")?,
        signer: Signer {
            key: file(root, KEY)?,
            certificate: file(firmware, "usr/share/ovmf/PkKek-1-snakeoil.pem")?,
        },
        stub: file(root, STUB)?,
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_cache_without_what_is_needed_is_named() {
        let nowhere = Path::new("/no/such/cache");
        assert_eq!(found(nowhere, nowhere).unwrap_err().status(), 2);
    }
}
