//! A firmware image with ones in front: memory that reads as ones and takes no write.
//!
//! The attack on Bouncer's memory is rehearsed on it, without Bouncer: over ones it must pass,
//! over one wrong bit it must fail.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

use qemu::Emulator;

/// The firmware image ends where the 32-bit address space does.
const TOP: u64 = 1 << 32;
const BYTES: usize = 4 << 20;

/// One byte that is not ones.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Flaw {
    /// Where, counted from the first byte of ones.
    pub offset: usize,
    /// What is there instead.
    pub value: u8,
}

/// A firmware image with ones in front, written to a file.
#[derive(Clone, Debug)]
pub struct Rom {
    file: PathBuf,
    ones: usize,
}

impl Rom {
    /// Writes the firmware of `emulator` with ones in front to `file`, with a flaw if asked for.
    ///
    /// # Panics
    /// If the firmware cannot be found or the file not be written.
    #[must_use]
    pub fn of_ones(emulator: &Emulator, file: PathBuf, flaw: Option<Flaw>) -> Self {
        let firmware = firmware_of(emulator);
        let code = fs::read(&firmware)
            .unwrap_or_else(|error| panic!("{}: {error}; install seabios", firmware.display()));
        let ones = BYTES - code.len();
        let mut image = vec![0xff; ones];
        if let Some(Flaw { offset, value }) = flaw {
            image[offset] = value;
        }
        image.extend(code);
        fs::write(&file, image).unwrap_or_else(|error| panic!("{}: {error}", file.display()));
        Self { file, ones }
    }

    /// QEMU's arguments for it.
    #[must_use]
    pub fn arguments(&self) -> [String; 2] {
        ["-bios".into(), self.file.display().to_string()]
    }

    /// The word on the kernel's command line that points the attack at the ones.
    #[must_use]
    pub fn rehearsal(&self) -> String {
        format!(
            "bouncer.rehearsal={:#x},{:#x}",
            TOP - BYTES as u64,
            self.ones
        )
    }
}

/// Where the emulator's own firmware is: it tells its data directories when asked.
fn firmware_of(emulator: &Emulator) -> PathBuf {
    const NAME: &str = "bios-256k.bin";
    let output = Command::new(&emulator.program)
        .args(["-L", "help"])
        .output();
    let text = output.map(|output| String::from_utf8_lossy(&output.stdout).into_owned());
    let text = text.unwrap_or_default();
    let mut files = text
        .lines()
        .map(|directory| Path::new(directory.trim()).join(NAME));
    files
        .find(|file| file.exists())
        .unwrap_or_else(|| NAME.into())
}
