//! Firmware's runtime services work: Bouncer's variables and those of boot loaders are told as figures, and one is written
//! if asked for.
//!
//! `bouncer.variable=NAME:BYTE` names it. A variable is a file: four bytes of attributes, then its value (Linux,
//! "efivarfs").

use nix::errno::Errno;
use nix::mount::{MsFlags, mount};

use crate::cmdline;
use crate::verdict::{Attempt, Figures, Verdict, ensure, failed, skipped};

const VARIABLES: &str = "/sys/firmware/efi/efivars";
/// Bouncer's own.
const VENDOR: &str = "-b0ce8b0c-5a1e-4c8e-9d57-626f756e6365";
/// Whether firmware starts only what is signed (UEFI 2.10, 3.3).
const SECURE_BOOT: &str = "SecureBoot-8be4df61-93ca-11d2-aa0d-00e098032b8c";
/// What a boot loader says of itself: figure, and variable (The Boot Loader Interface, systemd.io).
const LOADERS: [(&str, &str); 2] = [
    (
        "efi.loader",
        "LoaderInfo-4a67b082-0a4c-41cf-b6c7-440b29bb8c4f",
    ),
    (
        "efi.entry",
        "LoaderEntrySelected-4a67b082-0a4c-41cf-b6c7-440b29bb8c4f",
    ),
];
/// Which programs shim holds to be revoked, in lines (shim, "SBAT"): it was there.
const SHIM: &str = "SbatLevelRT-605dab50-e046-4300-abb6-3dd810dd8b23";
/// Kept without power, for firmware and system (UEFI 2.10, 8.2.1).
const ATTRIBUTES: u32 = 7;

pub(super) fn run(figures: &mut Figures) -> Verdict {
    let none = None::<&str>;
    match mount(none, VARIABLES, Some("efivarfs"), MsFlags::empty(), none) {
        Ok(()) | Err(Errno::EBUSY) => {}
        Err(Errno::ENOENT) => return Err(skipped("this kernel was not started by UEFI firmware")),
        Err(error) => return Err(failed(format!("mounting efivarfs: {error}"))),
    }
    if let Ok(value) = std::fs::read(format!("{VARIABLES}/{SECURE_BOOT}")) {
        figures.tell("efi.secure-boot", format_args!("{:?}", value.get(4..)));
    }
    for (figure, variable) in LOADERS {
        if let Ok(value) = std::fs::read(format!("{VARIABLES}/{variable}")) {
            figures.tell(figure, text(value.get(4..).unwrap_or_default()));
        }
    }
    if let Ok(value) = std::fs::read(format!("{VARIABLES}/{SHIM}")) {
        let lines = String::from_utf8_lossy(value.get(4..).unwrap_or_default()).into_owned();
        figures.tell("efi.shim", lines.trim_end_matches(['\0', '\n']));
    }
    let mut count = 0;
    for entry in std::fs::read_dir(VARIABLES).attempt("listing the variables")? {
        let path = entry.attempt("listing the variables")?.path();
        let file = path.file_name().unwrap_or_default().to_string_lossy();
        count += 1;
        if let Some(name) = file.strip_suffix(VENDOR) {
            let value = std::fs::read(&path).attempt("reading a variable of Bouncer's")?;
            figures.tell(&format!("efi.{name}"), format_args!("{:?}", value.get(4..)));
        }
    }
    ensure!(count != 0, "the firmware tells of no variable at all");
    let cmdline = cmdline::read();
    if let Some(wish) = cmdline.value("bouncer.variable") {
        let (name, byte) = wish.split_once(':').unwrap_or((wish, ""));
        let byte: u8 = byte.parse().attempt("reading the wish for a variable")?;
        write(name, byte)?;
    }
    Ok(())
}

/// A text of UEFI's: UTF-16, ended by a zero (UEFI 2.10, 2.3.1).
fn text(value: &[u8]) -> String {
    let (units, _) = value.as_chunks();
    let units = units.iter().map(|unit| u16::from_le_bytes(*unit));
    let ended: Vec<_> = units.take_while(|unit| *unit != 0).collect();
    String::from_utf16_lossy(&ended)
}

fn write(name: &str, byte: u8) -> Verdict {
    let path = format!("{VARIABLES}/{name}{VENDOR}");
    let mut content = ATTRIBUTES.to_le_bytes().to_vec();
    content.push(byte);
    std::fs::write(&path, &content).attempt("writing a variable")?;
    let found = std::fs::read(&path).attempt("reading it back")?;
    ensure!(
        found == content,
        "{name} became {found:?} out of {content:?}"
    );
    Ok(())
}
