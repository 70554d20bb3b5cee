//! What was measured before the kernel, told as figures: the TPM's registers (`register.N`, in hexadecimal), and the log of
//! what they were extended with, as the kernel has it from firmware (`log.NNN`, in hexadecimal, one piece after the other).

use std::fmt::Write as _;

use nix::errno::Errno;
use nix::mount::{MsFlags, mount};

use crate::verdict::{Attempt, Figures, Verdict, ensure, failed, skipped};

/// The registers that firmware and loaders extend, in the bank of SHA-256.
const REGISTERS: &str = "/sys/class/tpm/tpm0/pcr-sha256";
const COUNT: u32 = 16;

const SECURITY: &str = "/sys/kernel/security";
/// The log (Linux, "TPM Event Log").
const LOG: &str = "/sys/kernel/security/tpm0/binary_bios_measurements";
/// Bytes of it in a line; a log that is longer than all lines is none that firmware makes.
const PIECE: usize = 4096;
const PIECES: usize = 256;

pub(super) fn run(figures: &mut Figures) -> Verdict {
    for register in 0..COUNT {
        let path = format!("{REGISTERS}/{register}");
        match std::fs::read_to_string(&path) {
            Ok(value) => {
                let value = value.trim().to_lowercase();
                figures.tell(&format!("register.{register}"), value);
            }
            Err(error) => return Err(skipped(format!("no TPM: {path}: {error}"))),
        }
    }
    let kind = Some("securityfs");
    match mount(kind, SECURITY, kind, MsFlags::empty(), None::<&str>) {
        Ok(()) | Err(Errno::EBUSY) => {}
        Err(error) => return Err(failed(format!("mounting securityfs: {error}"))),
    }
    let log = std::fs::read(LOG).attempt("reading the log of measurements")?;
    ensure!(
        log.len() <= PIECE * PIECES,
        "the log of measurements has {} bytes",
        log.len()
    );
    for (number, piece) in log.chunks(PIECE).enumerate() {
        figures.tell(&format!("log.{number:03}"), hexadecimal(piece));
    }
    Ok(())
}

fn hexadecimal(bytes: &[u8]) -> String {
    bytes.iter().fold(String::new(), |mut text, byte| {
        let _ = write!(text, "{byte:02x}");
        text
    })
}
