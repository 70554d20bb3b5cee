//! What a machine in Secure Boot mode is tried with: firmware variables that know the keys that machines are sold with
//! and a test key, that key, and a stub that makes one program of a kernel.
//!
//! Debian ships variables with either, and the key, with the firmware; the test key is for tests and nothing else, and has
//! a password that is told with it.

use std::path::Path;
use std::process::Command;

use qemu::{SecureBoot, Signer};

use super::lock;
use crate::progress;
use crate::stop::Stop;
use crate::workspace;

/// By the packages' own layout.
const STUB: &str = "usr/lib/systemd/boot/efi/linuxx64.efi.stub";
const SOLD: &str = "usr/share/OVMF/OVMF_VARS_4M.ms.fd";
const TEST: &str = "usr/share/OVMF/OVMF_VARS_4M.snakeoil.fd";
const TEST_KEY: &str = "usr/share/ovmf/PkKek-1-snakeoil.key";
const TEST_CERTIFICATE: &str = "usr/share/ovmf/PkKek-1-snakeoil.pem";
const PASSWORD: &str = "pass:snakeoil";

/// What is made of them.
const KEY: &str = "key.pem";
const VARIABLES: &str = "variables.fd";

/// Gets all of it, from the cache or from the packages that firmware comes in.
pub(crate) fn fetch() -> Result<SecureBoot, Stop> {
    super::fetch_firmware()?;
    let _alone = lock::take()?;
    let firmware = workspace::cache("firmware");
    let root = workspace::cache("secure-boot");
    if found(&firmware, &root).is_err() {
        workspace::put_whole(&root, |aside| {
            let mut open = Command::new("openssl");
            open.args(["pkey", "-passin", PASSWORD, "-in"])
                .arg(firmware.join(TEST_KEY))
                .arg("-out")
                .arg(aside.join(KEY));
            progress::command("opening the test key", &mut open)?;
            let [sold, test] = [SOLD, TEST].map(|path| firmware.join(path));
            qemu::trusting_both(&sold, &test, &aside.join(VARIABLES))?;
            Ok(())
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
        Err(Stop::unready(format!("there is no {}", path.display())))
    };
    Ok(SecureBoot {
        variables: file(root, VARIABLES)?,
        signer: Signer {
            key: file(root, KEY)?,
            certificate: file(firmware, TEST_CERTIFICATE)?,
        },
        stub: file(firmware, STUB)?,
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
