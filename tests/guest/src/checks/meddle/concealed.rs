//! What a guest must not even see: the remapping unit, its table, what makes devices bypass it.
//!
//! The registers of the unit read as ones and take no write; no function shows address translation
//! services, page requests or process address spaces; an untrusted device shows no option ROM.

use std::path::Path;

use super::function::Function;
use super::parties::{self, register};
use super::roads::{Road, Roads};
use super::stretch::Stretch;
use super::truth::Truth;
use super::vitals::{UNIT, Vitals};
use crate::verdict::{Figures, Shortfall, Verdict, ensure, failed};

/// PCI Express Base 6.0, section 7.8.8 and 10.5: capabilities that pass by translation, and where
/// each has the word with its enable bit.
const BYPASSES: [(u16, &str, u16, u16); 3] = [
    (0x0f, "ATS", 6, 1 << 15),
    (0x13, "PRI", 4, 1),
    (0x1b, "PASID", 6, 1),
];
const PAGE: u64 = 4096;

/// The DMAR table is not there.
pub(in super::super) fn table(_: &mut Figures) -> Verdict {
    let tables = "/sys/firmware/acpi/tables";
    ensure!(
        Path::new(&format!("{tables}/MCFG")).exists(),
        "{tables} shows no table at all"
    );
    ensure!(
        !Path::new(&format!("{tables}/DMAR")).exists(),
        "the guest has the DMAR table"
    );
    Ok(())
}

/// Every byte of the unit's registers, in every width; then the writes a guest would like to make.
pub(in super::super) fn unit(figures: &mut Figures) -> Verdict {
    let vitals = Vitals::watch()?;
    // Before anything is written: on a machine that shows the unit, a write would end it.
    vitals.unit_is_hidden("before any write")?;
    let unit = Stretch::map(UNIT, PAGE)?;
    let mut read = 0;
    for bytes in [1, 2, 4, 8] {
        for at in (UNIT..UNIT + PAGE).step_by(bytes) {
            let seen = unit.load(at, bytes);
            ensure!(
                seen == u64::MAX >> (64 - 8 * bytes),
                "the remapping unit at {at:#x} reads {seen:#x}"
            );
            read += 1;
        }
    }
    let truth = Truth::open()?;
    let before = registers(&truth)?;
    for (offset, bytes, value) in [
        (0x20, 8, vitals.canary()),
        (0x18, 4, 0),
        (0x18, 4, 0xc000_0000),
        (0x19, 1, 0x40),
        (0x28, 8, 1 << 63),
        (0x90, 8, vitals.canary()),
        (0x88, 8, 0x10),
        (0xb8, 8, vitals.canary()),
        (0x38, 4, 0),
        (0x40, 4, vitals.canary()),
        (0x3b, 8, u64::MAX),
        (0xffe, 2, 0xffff),
    ] {
        unit.store(UNIT + offset, bytes, value);
    }
    let after = registers(&truth)?;
    ensure!(
        before == after,
        "the guest's writes have changed the unit from {before:x?} to {after:x?}"
    );
    vitals.unit_is_hidden("after the writes")?;
    vitals.hold("after writes to the unit")?;
    figures.tell("meddle.unit.reads", read);
    Ok(())
}

/// The unit's status, root table, fault event registers and table of interrupts, in truth.
fn registers(truth: &Truth) -> Result<Vec<Option<u32>>, Shortfall> {
    [0x1c, 0x20, 0x24, 0x38, 0x3c, 0x40, 0xb8, 0xbc]
        .into_iter()
        .map(|offset| truth.dword(UNIT + offset))
        .collect()
}

/// No function shows what passes by translation; where it is in truth, a write does not enable it.
pub(in super::super) fn capabilities(figures: &mut Figures) -> Verdict {
    let roads = Roads::open()?;
    let truth = Truth::open()?;
    let mut walked = 0;
    let mut enabled = 0;
    for function in parties::functions()? {
        for (offset, header) in extended(|at| Ok(Some(roads.dword(function, at))))? {
            walked += 1;
            let id = header as u16;
            let found = BYPASSES.iter().find(|(bypass, ..)| *bypass == id);
            if let Some((_, name, ..)) = found {
                return Err(failed(format!("{function} shows {name} at {offset:#x}")));
            }
        }
        for (offset, header) in extended(|at| truth.config(&roads, function, at))? {
            enabled += refuses_to_enable(&roads, &truth, function, offset, header as u16)?;
        }
    }
    figures.tell("meddle.capabilities.seen", walked);
    figures.tell("meddle.capabilities.concealed", enabled);
    Ok(())
}

/// Writes the enable bit of a concealed capability by every road; gives how many there were.
fn refuses_to_enable(
    roads: &Roads,
    truth: &Truth,
    function: Function,
    offset: u16,
    id: u16,
) -> Result<usize, Shortfall> {
    let found = BYPASSES.iter().find(|(bypass, ..)| *bypass == id);
    let Some(&(_, name, into, enable)) = found else {
        return Ok(0);
    };
    for road in [Road::Sysfs, Road::Ecam] {
        let seen = roads.read(road, function, offset, 4)?;
        ensure!(
            seen as u16 != id,
            "{function} shows {name} at {offset:#x} by {road:?}"
        );
        roads.write(road, function, offset + into, 2, u32::from(enable))?;
        let at = (offset + into) & !3;
        let real = truth.config(roads, function, at)?.unwrap_or_default();
        let word = (real >> (8 * (offset + into - at))) as u16;
        ensure!(
            word & enable == 0,
            "{function}: {name} was enabled by {road:?}"
        );
    }
    Ok(1)
}

/// The extended capabilities that `read` shows: offset and header of each.
fn extended(
    read: impl Fn(u16) -> Result<Option<u32>, Shortfall>,
) -> Result<Vec<(u16, u32)>, Shortfall> {
    let mut found = Vec::new();
    let mut at = 0x100;
    // 3840 bytes hold no more headers than this.
    for _ in 0..960 {
        match read(at)? {
            None | Some(0 | u32::MAX) => break,
            Some(header) => {
                found.push((at, header));
                at = (header >> 20) as u16 & 0xffc;
            }
        }
        if at < 0x100 {
            break;
        }
    }
    Ok(found)
}

/// The ROM register of an untrusted device reads as zero, whatever is written to it.
pub(in super::super) fn rom(figures: &mut Figures) -> Verdict {
    let roads = Roads::open()?;
    let truth = Truth::open()?;
    let mut tried = 0;
    for foe in parties::foes(&roads)? {
        for road in Road::ALL {
            for (bytes, value) in [(4, 0xffff_ffff), (4, 0xfe00_0001), (1, 1), (2, 0x0001)] {
                roads.write(road, foe, register::ROM, bytes, value)?;
                let seen = roads.read(road, foe, register::ROM, 4)?;
                ensure!(
                    seen == 0,
                    "{foe}: its ROM register reads {seen:#x} after {value:#x} by {road:?}"
                );
                let real = truth.config(&roads, foe, register::ROM)?;
                ensure!(
                    real.is_none_or(|real| real & 1 == 0),
                    "{foe}: its ROM was enabled by {road:?}"
                );
                tried += 1;
            }
        }
    }
    figures.tell("meddle.rom.writes", tried);
    Ok(())
}
