//! QEMU's firmware configuration device made to write where no processor may.
//!
//! It copies what it has to any physical address a program names, and passes by the remapping
//! unit: no real machine has it, every emulated one does (QEMU, docs/specs/fw_cfg.rst).

use super::page::Page;
use super::ports::Ports;
use super::truth::Truth;
use super::vitals::{UNIT, Vitals};
use crate::bouncer;
use crate::verdict::{Figures, Shortfall, Verdict, ensure, skipped};
use std::time::Duration;

const SELECTOR: u16 = 0x510;
const DATA: u16 = 0x511;
/// The upper and the lower half of the address of a request, most significant byte first.
const REQUEST: u16 = 0x514;
/// Item 0 is "QEMU".
const SIGNATURE: [u8; 4] = *b"QEMU";
const SELECT_AND_READ: u32 = 1 << 3 | 1 << 1;
const SEED: u64 = 0xf3;

/// Has "QEMU" written into Bouncer's memory and the remapping unit.
pub(in super::super) fn run(figures: &mut Figures) -> Verdict {
    let ports = Ports::open()?;
    ports.output(SELECTOR, 2, 0);
    if SIGNATURE.map(|_| ports.input(DATA, 1) as u8) != SIGNATURE {
        return Err(skipped("no firmware configuration device answers"));
    }
    let truth = Truth::open()?;
    if !bouncer::is_there() || !truth.is_known() {
        return Err(skipped("no Bouncer, or nobody to say what became of it"));
    }
    let vitals = Vitals::watch()?;
    let request = Page::of_noise(SEED)?;
    let own = bouncer::own_memory();
    // The last words of its memory, and the root table's address.
    for at in [own.base + own.length - 8, UNIT + 0x20] {
        let before = truth.dword(at)?;
        ask(ports, &request, at)?;
        let after = truth.dword(at)?;
        ensure!(
            before == after,
            "the firmware configuration device has changed {at:#x} from {before:x?} to {after:x?}"
        );
        vitals.hold("after a request to the firmware configuration device")?;
    }
    figures.tell("meddle.firmware.requests", 2);
    Ok(())
}

/// Makes one request: item 0, four bytes, to `at`.
fn ask(ports: Ports, request: &Page, at: u64) -> Result<(), Shortfall> {
    let mut bytes = [0; 16];
    bytes[..4].copy_from_slice(&SELECT_AND_READ.to_be_bytes());
    bytes[4..8].copy_from_slice(&(SIGNATURE.len() as u32).to_be_bytes());
    bytes[8..].copy_from_slice(&at.to_be_bytes());
    request.write(&bytes);
    let place = request.physical();
    ports.output(REQUEST, 4, ((place >> 32) as u32).swap_bytes());
    ports.output(REQUEST + 4, 4, (place as u32).swap_bytes());
    // The device is done when the write is; this is for one that is not there at all.
    std::thread::sleep(Duration::from_millis(1));
    Ok(())
}
