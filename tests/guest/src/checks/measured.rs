//! What was measured before the kernel: the TPM's register that Bouncer extends, told as a figure.

use crate::verdict::{Figures, Verdict, skipped};

/// The register, in the bank of SHA-256.
const REGISTER: &str = "/sys/class/tpm/tpm0/pcr-sha256/14";

pub(super) fn run(figures: &mut Figures) -> Verdict {
    match std::fs::read_to_string(REGISTER) {
        Ok(value) => {
            figures.tell("measured", value.trim().to_lowercase());
            Ok(())
        }
        Err(error) => Err(skipped(format!("no TPM: {REGISTER}: {error}"))),
    }
}
