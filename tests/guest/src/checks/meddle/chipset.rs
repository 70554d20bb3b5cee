//! Registers of the chip set that move memory, ports and configuration space themselves.
//!
//! Bouncer watches ports and pages where the firmware put them: the guest must not be able to put
//! them elsewhere. What is written back on failure is what was there.

use super::function::Function;
use super::roads::{Road, Roads};
use super::truth::Truth;
use super::vitals::Vitals;
use crate::verdict::{Figures, Shortfall, Verdict, ensure};

const HOST: Function = Function::new(0, 0, 0);
const LPC: Function = Function::new(0, 0x1f, 0);

/// One register and what is tried on it.
struct Register {
    name: &'static str,
    function: Function,
    offset: u16,
    bytes: usize,
    /// Bits that are flipped.
    flip: u32,
}

/// Intel 3 Series Express Chipset (host bridge) and ICH9 (LPC bridge) datasheets, as QEMU's q35
/// has them. The lock bits are left alone: they cannot be taken back.
const REGISTERS: [Register; 7] = [
    Register {
        name: "PCIEXBAR",
        function: HOST,
        offset: 0x60,
        bytes: 4,
        // 256 MiB further on, and off.
        flip: 0x1000_0001,
    },
    Register {
        name: "PCIEXBAR's upper half",
        function: HOST,
        offset: 0x64,
        bytes: 4,
        flip: 0x1,
    },
    Register {
        name: "PAM1",
        function: HOST,
        offset: 0x91,
        bytes: 1,
        // Reads and writes of 0xC0000 to DRAM or to the ROM.
        flip: 0x33,
    },
    Register {
        name: "SMRAM",
        function: HOST,
        offset: 0x9d,
        bytes: 1,
        // D_OPN: system management memory for everybody.
        flip: 0x40,
    },
    Register {
        name: "ESMRAMC",
        function: HOST,
        offset: 0x9e,
        bytes: 1,
        // TSEG_EN and its size.
        flip: 0x07,
    },
    Register {
        name: "PMBASE",
        function: LPC,
        offset: 0x40,
        bytes: 4,
        flip: 0x0000_1000,
    },
    Register {
        name: "RCBA",
        function: LPC,
        offset: 0xf0,
        bytes: 4,
        flip: 0x0010_0000,
    },
];

/// Flips every register by every road, whole and by the byte; none may change.
pub(in super::super) fn run(figures: &mut Figures) -> Verdict {
    let roads = Roads::open()?;
    let truth = Truth::open()?;
    let vitals = Vitals::watch()?;
    for register in &REGISTERS {
        let mut moved = Vec::new();
        for road in Road::ALL {
            for bytes in [1, register.bytes] {
                if flips(register, &roads, &truth, road, bytes)? {
                    moved.push(format!("{} by {road:?} in {bytes}", register.name));
                }
            }
        }
        // The first that moves is the last: what follows may end the machine.
        ensure!(moved.is_empty(), "moved: {}", moved.join(", "));
        vitals.hold(register.name)?;
    }
    figures.tell("meddle.chipset.registers", REGISTERS.len());
    Ok(())
}

/// Whether a register changes, to the guest's eyes or in truth. It is put back either way.
fn flips(
    register: &Register,
    roads: &Roads,
    truth: &Truth,
    road: Road,
    bytes: usize,
) -> Result<bool, Shortfall> {
    let Register {
        function, offset, ..
    } = *register;
    // By the ports: a window that has moved could not be put back through itself.
    let read = || roads.read(Road::Ports, function, offset, register.bytes);
    let real = || truth.config(roads, function, offset & !3);
    let (before, truly_before) = (read()?, real()?);
    let wanted = before ^ register.flip;
    let write = |road, value: u32| -> Verdict {
        for piece in (0..register.bytes).step_by(bytes) {
            let at = offset + piece as u16;
            roads.write(road, function, at, bytes, value >> (8 * piece))?;
        }
        Ok(())
    };
    write(road, wanted)?;
    let after = read()?;
    // The oracle looks through the window: where the guest sees it moved, it is of no use.
    let truly_after = match after == before {
        true => real()?,
        false => truly_before,
    };
    if after != before || truly_after != truly_before {
        write(Road::Ports, before)?;
        let back = read()?;
        ensure!(
            back == before,
            "{}: {before:#x} cannot be put back, it stays {back:#x}",
            register.name
        );
        return Ok(true);
    }
    Ok(false)
}
