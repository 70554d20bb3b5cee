//! A device told to copy from and to addresses that no table of the kernel's leads from.
//!
//! It is told physical addresses, which are nothing to it while its kernel translates. The page
//! keeps its bytes; what the kernel says of it is for the test on the other side to read.

use super::page::Page;
use super::parties::{self, register};
use super::roads::Roads;
use crate::verdict::{Figures, Verdict, ensure, failed};

const SECRET: u64 = 0x5ec3e7;
const OTHER: u64 = 0x07e4;
/// Bytes of one copy; QEMU 7.2 takes no whole page.
const BYTES: u64 = 2048;

pub(in super::super) fn run(figures: &mut Figures) -> Verdict {
    let roads = Roads::open()?;
    let foe = parties::foes(&roads)?.into_iter().next();
    let foe = foe.ok_or_else(|| failed("there is no educational device"))?;
    let edu = parties::wake(&roads, foe)?;
    let command = roads.word(foe, register::COMMAND);
    roads.put_word(foe, register::COMMAND, command | register::MASTER);
    let (read, written) = (Page::of_noise(SECRET)?, Page::of_noise(OTHER)?);
    figures.tell("untranslated.read", format!("{:#x}", read.physical()));
    figures.tell("untranslated.written", format!("{:#x}", written.physical()));
    edu.take(read.physical(), BYTES)?;
    edu.give(written.physical(), BYTES)?;
    ensure!(
        written.holds(OTHER),
        "{foe} has written the page at {:#x}",
        written.physical()
    );
    roads.put_word(foe, register::COMMAND, command);
    Ok(())
}
