//! Plain computing gives the right answer: SHA-256 of known noise, on every processor.

use crate::cpus;
use crate::noise::Noise;
use crate::verdict::{Figures, Verdict, ensure};
use sha2::{Digest, Sha256};

const LENGTH: usize = 1 << 20;
const SEED: u64 = 0x426f_756e_6365_7221;

/// FIPS 180-4's example message "abc".
const ABC: &str = "ba7816bf8f01cfea414140de5dae2223b00361a396177a9cb410ff61f20015ad";
/// SHA-256 of the first mebibyte of [`SEED`]'s noise, computed with Python's hashlib.
const NOISE: &str = "3fc50ae2507c753d12b9473f0058401a017f1ab3fb493b0c0c8a09cb140450bd";

pub(super) fn run(_figures: &mut Figures) -> Verdict {
    for cpu in cpus::online()? {
        cpus::on(cpu, known_answers)?;
    }
    Ok(())
}

/// Hashes two messages whose hashes are known.
pub(super) fn known_answers() -> Verdict {
    for (message, expected) in [
        (b"abc".to_vec(), ABC),
        (Noise::new(SEED).bytes(LENGTH), NOISE),
    ] {
        let hash = hex(&Sha256::digest(&message));
        ensure!(
            hash == expected,
            "SHA-256 of {} bytes is {hash}, not {expected}",
            message.len()
        );
    }
    Ok(())
}

/// Bytes as lower-case hexadecimal digits.
pub(super) fn hex(bytes: &[u8]) -> String {
    bytes.iter().map(|byte| format!("{byte:02x}")).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_known_answers_hold_here() {
        assert_eq!(known_answers(), Ok(()));
    }
}
