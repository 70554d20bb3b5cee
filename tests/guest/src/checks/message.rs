//! Programs MSI of a device through /sys, as a driver would, and leaves it on: of the one at 00:08.0, or of
//! that which the kernel's command line names (`bouncer.message=0000:02:01.0`).

use std::fs::OpenOptions;
use std::os::unix::fs::FileExt;

use crate::cmdline;
use crate::verdict::{Attempt, Figures, Verdict, ensure};

const DEVICE: &str = "0000:00:08.0";
/// Where the list of capabilities begins.
const POINTER: u64 = 0x34;
const MSI: u8 = 0x05;
/// A message to the first processor, with a vector that the kernel expects of nobody.
const ADDRESS: u32 = 0xfee0_0000;
const VECTOR: u16 = 0xd1;

pub(super) fn run(figures: &mut Figures) -> Verdict {
    let asked = cmdline::read();
    let device = asked.value("bouncer.message").unwrap_or(DEVICE);
    let path = format!("/sys/bus/pci/devices/{device}/config");
    let mut options = OpenOptions::new();
    let config = options.read(true).write(true).open(&path);
    let config = config.attempt(&path)?;
    let mut at = [0];
    config
        .read_exact_at(&mut at, POINTER)
        .attempt("reading it")?;
    let at = u64::from(at[0]);
    let mut id = [0];
    config.read_exact_at(&mut id, at).attempt("reading it")?;
    ensure!(
        id[0] == MSI,
        "capability {:#x} at {at:#x} is not MSI",
        id[0]
    );
    for (offset, bytes) in [
        (4, &ADDRESS.to_le_bytes()[..]),
        (8, &[0; 4]),
        (12, &VECTOR.to_le_bytes()),
        (2, &[1, 0]),
    ] {
        config
            .write_all_at(bytes, at + offset)
            .attempt("writing it")?;
    }
    let mut control = [0];
    config
        .read_exact_at(&mut control, at + 2)
        .attempt("reading it")?;
    ensure!(control[0] & 1 == 1, "MSI stays off: {:#x}", control[0]);
    figures.tell("message.vector", VECTOR);
    Ok(())
}
