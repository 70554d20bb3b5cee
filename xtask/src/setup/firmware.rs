//! UEFI firmware for machines, and the boot loaders that Debian installs under it: unpacked under
//! `target/firmware/`.

use std::path::Path;

use qemu::Firmware;

use super::archive::Archive;
use super::lock;
use crate::progress::say;
use crate::stop::Stop;
use crate::workspace;

/// The packages that are unpacked.
const PACKAGES: [&str; 4] = [
    "ovmf",
    "grub-efi-amd64-signed",
    "shim-signed",
    "systemd-boot-efi",
];

/// Gets all of it, from the cache or from the archive.
pub(crate) fn fetch() -> Result<Firmware, Stop> {
    let _alone = lock::take()?;
    let root = workspace::cache("firmware");
    if found(&root).is_err() {
        say("fetching UEFI firmware (OVMF) and boot loaders for it (kept in target/firmware)");
        workspace::put_whole(&root, |aside| {
            let archive = Archive::open()?;
            let mut packages = PACKAGES.iter();
            packages.try_for_each(|package| archive.unpack(package, aside))
        })?;
    }
    found(&root)
}

/// What the packages hold, by their own layout.
fn found(root: &Path) -> Result<Firmware, Stop> {
    let file = |path: &str| {
        let path = root.join(path);
        if path.is_file() {
            return Ok(path);
        }
        Err(Stop::unready(format!(
            "Debian's packages hold no {}",
            path.display()
        )))
    };
    Ok(Firmware {
        code: file("usr/share/OVMF/OVMF_CODE_4M.fd")?,
        variables: file("usr/share/OVMF/OVMF_VARS_4M.fd")?,
        grub: file("usr/lib/grub/x86_64-efi-signed/grubx64.efi.signed")?,
        shim: file("usr/lib/shim/shimx64.efi.signed")?,
        systemd_boot: file("usr/lib/systemd/boot/efi/systemd-bootx64.efi")?,
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_cache_without_firmware_is_named() {
        let stop = found(Path::new("/no/such/cache")).unwrap_err();
        assert_eq!(stop.status(), 2);
    }
}
