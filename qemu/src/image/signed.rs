//! Programs for UEFI firmware that starts only what is signed (UEFI 2.10, 32.5).

use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

use serde::{Deserialize, Serialize};

use crate::Error;

/// Who signs: a key without a password, and the certificate by which firmware knows it, both as PEM.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Signer {
    /// The private key.
    pub key: PathBuf,
    /// The certificate.
    pub certificate: PathBuf,
}

impl Signer {
    /// Signs `program` as `output`, and returns `output`.
    ///
    /// # Errors
    /// [`Error::Missing`] without `sbsign`; what it said if it does not take key, certificate or program.
    pub fn sign(&self, program: &Path, output: &Path) -> Result<PathBuf, Error> {
        let mut sign = Command::new("sbsign");
        sign.arg("--key").arg(&self.key).arg("--cert");
        sign.arg(&self.certificate).arg("--output").arg(output);
        run(
            sign.arg(program),
            "install sbsigntool, which signs programs",
        )?;
        Ok(output.to_path_buf())
    }
}

/// Makes a program out of a kernel, its initial file system and its command line, by a stub of systemd's at `stub`
/// that starts the one with the others; writes it to `output`, and returns `output`.
///
/// # Errors
/// If `objcopy` is missing, or a file cannot be read or written.
pub fn unified(
    stub: &Path,
    kernel: &Path,
    initrd: &Path,
    append: &str,
    output: &Path,
) -> Result<PathBuf, Error> {
    let words = output.with_extension("cmdline");
    fs::write(&words, append).map_err(|error| Error::file(&words, "write", error))?;
    // Far enough apart for a kernel of 80 MiB; the stub itself ends below the first.
    let sections = [
        (".cmdline", words.as_path(), 0x30000),
        (".linux", kernel, 0x200_0000),
        (".initrd", initrd, 0x700_0000),
    ];
    let mut join = Command::new("objcopy");
    for (name, file, at) in sections {
        join.arg("--add-section")
            .arg(format!("{name}={}", file.display()))
            .arg("--change-section-vma")
            .arg(format!("{name}={at:#x}"));
    }
    run(join.arg(stub).arg(output), "install binutils")?;
    Ok(output.to_path_buf())
}

fn run(command: &mut Command, remedy: &str) -> Result<(), Error> {
    let name = command.get_program().to_string_lossy().into_owned();
    let output = command.output().map_err(|error| Error::Missing {
        what: format!("{name} ({error})"),
        remedy: remedy.into(),
    })?;
    if output.status.success() {
        return Ok(());
    }
    let said = String::from_utf8_lossy(&output.stderr).into_owned();
    Err(Error::Program { name, said })
}
