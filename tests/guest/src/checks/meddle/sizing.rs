//! All ones written to base address registers, as software learns their size: by every road, in
//! every width, with decoding on and off. The size is told and the register restored.

use super::edu;
use super::parties::{self, register};
use super::roads::{Road, Roads};
use crate::verdict::{Figures, Shortfall, Verdict, ensure};

/// PCI Local Bus 3.0, section 6.2.5.1: bits that stay zero are the size.
const SIZE_READING: u32 = !(edu::BAR_BYTES as u32 - 1);

/// Sizes every educational device's register, and the upper half of a drive's.
pub(in super::super) fn run(figures: &mut Figures) -> Verdict {
    let roads = Roads::open()?;
    let mut probes = 0;
    for function in parties::foes(&roads)?.into_iter().chain(parties::friend()) {
        let home = roads.dword(function, register::BAR);
        let command = roads.word(function, register::COMMAND);
        for switched in [command | register::MEMORY, command & !register::MEMORY] {
            roads.put_word(function, register::COMMAND, switched);
            for road in Road::ALL {
                for bytes in [1, 2, 4] {
                    in_pieces(&roads, road, function, bytes, u32::MAX)?;
                    let seen = roads.read(road, function, register::BAR, 4)?;
                    in_pieces(&roads, road, function, bytes, home)?;
                    ensure!(
                        seen == SIZE_READING,
                        "{function}: sized by {road:?} in pieces of {bytes}, reads {seen:#010x}"
                    );
                    let back = roads.read(road, function, register::BAR, 4)?;
                    ensure!(
                        back == home,
                        "{function}: {home:#010x} put back by {road:?}, reads {back:#010x}"
                    );
                    probes += 1;
                }
            }
        }
        roads.put_word(function, register::COMMAND, command);
        parties::wake(&roads, function)?;
    }
    misaligned_reads_agree(&roads)?;
    figures.tell("meddle.sizing.probes", probes);
    Ok(())
}

/// Writes the first base address register in pieces of `bytes`, the lowest first.
fn in_pieces(
    roads: &Roads,
    road: Road,
    function: super::function::Function,
    bytes: usize,
    value: u32,
) -> Result<(), Shortfall> {
    for piece in (0..4).step_by(bytes) {
        let offset = register::BAR + piece as u16;
        roads.write(road, function, offset, bytes, value >> (8 * piece))?;
    }
    Ok(())
}

/// Two and four bytes at every offset of the header, by the roads that take them, are the bytes
/// that are there.
fn misaligned_reads_agree(roads: &Roads) -> Verdict {
    let foe = parties::foes(roads)?[0];
    let header: Vec<u8> = (0..0x40)
        .step_by(4)
        .flat_map(|offset| roads.dword(foe, offset).to_le_bytes())
        .collect();
    for bytes in [2, 4] {
        for offset in 0..0x3c {
            let there = &header[offset..offset + bytes];
            let wanted = there
                .iter()
                .rev()
                .fold(0, |value: u32, &byte| value << 8 | u32::from(byte));
            for road in [Road::Ecam, Road::Sysfs] {
                let seen = roads.read(road, foe, offset as u16, bytes)?;
                ensure!(
                    seen == wanted,
                    "{foe}: {bytes} bytes at {offset:#x} by {road:?} read {seen:#x}, not {wanted:#x}"
                );
            }
        }
    }
    Ok(())
}
