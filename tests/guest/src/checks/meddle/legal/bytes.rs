//! Transfers of a device that moves bytes at any address: each moves its own and no others.
//!
//! Owns two pages full of noise, between which bytes go through the device's buffer. What a device
//! that is mediated was really shown is for whoever looks from outside to say.

use super::super::page::{PAGE, Page};
use super::super::parties::{self, register};
use super::super::roads::Roads;
use crate::verdict::{Figures, Verdict, ensure, failed};

/// Where in the first page bytes are taken from, where in the second they go, and how many.
const TRANSFERS: &[(usize, usize, usize)] = &[
    (0x7c0, 0x340, 64),
    (0, PAGE - 1, 1),
    (1, 2, 3),
    (0xffb, 0, 5),
    (3, 0x801, 1021),
    (0, 0, 4095),
];

/// Moves bytes between the middles of pages by the first untrusted educational device.
pub(in super::super::super) fn bytes(figures: &mut Figures) -> Verdict {
    let roads = Roads::open()?;
    let mut foes = parties::foes(&roads)?.into_iter();
    let function = foes.next().ok_or_else(|| failed("no device".to_owned()))?;
    let edu = parties::wake(&roads, function)?;
    let command = roads.word(function, register::COMMAND);
    roads.put_word(function, register::COMMAND, command | register::MASTER);
    let (from, to) = (Page::of_noise(0x5ec2)?, Page::of_noise(0x7a6e)?);
    let source = from.bytes();
    let mut moved = 0;
    for &(at, into, count) in TRANSFERS {
        let mut expected = to.bytes();
        expected[into..into + count].copy_from_slice(&source[at..at + count]);
        edu.take(from.physical() + at as u64, count as u64)?;
        edu.give(to.physical() + into as u64, count as u64)?;
        let found = to.bytes();
        let wrong = (0..PAGE).find(|place| found[*place] != expected[*place]);
        ensure!(
            wrong.is_none(),
            "{function}: {count} bytes from {at:#x} to {into:#x}: the byte at {:#x} is not as it \
             should be",
            wrong.unwrap_or_default()
        );
        ensure!(from.bytes() == source, "{function}: the source changed");
        moved += count;
    }
    roads.put_word(function, register::COMMAND, command);
    figures.tell("edu.bytes", moved as u64);
    Ok(())
}
