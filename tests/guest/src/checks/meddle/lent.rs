//! A device in the hands of a program that maps memory for it: it reaches that, as long as it is mapped, and as it is
//! mapped, and nothing else.
//!
//! The addresses of what is refused are figures, for the test on the other side to find what the kernel says of them.

use std::time::Instant;

use super::edu::{ENGINE, Edu};
use super::page::{PAGE, Page};
use super::parties::{self, register};
use super::roads::Roads;
use super::vfio::{Held, May};
use crate::verdict::{Figures, Verdict, ensure, failed};

const SECRET: u64 = 0x5ec3e7;
const OTHER: u64 = 0x07e4;
/// Bytes of one copy; QEMU 7.2 takes no whole page.
const BYTES: u64 = 2048;

/// How often the engine may be done first.
const TRIES: u32 = 10;

/// Where the device finds what is mapped for it, and where nothing ever is.
const READABLE: u64 = 0x1000_0000;
const WRITABLE: u64 = 0x1000_5000;
const NOWHERE: u64 = 0x1234_5000;
const ELSEWHERE: u64 = 0x2000_7000;

pub(in super::super) fn run(figures: &mut Figures) -> Verdict {
    let roads = Roads::open()?;
    let foe = parties::foes(&roads)?.into_iter().next();
    let foe = foe.ok_or_else(|| failed("there is no educational device"))?;
    let held = Held::take(foe)?;
    let edu = parties::wake(&roads, foe)?;
    let command = roads.word(foe, register::COMMAND);
    roads.put_word(foe, register::COMMAND, command | register::MASTER);
    let (secret, other) = (Page::of_noise(SECRET)?, Page::of_noise(OTHER)?);

    held.map(secret.address(), READABLE, PAGE as u64, May::Read)?;
    held.map(other.address(), WRITABLE, PAGE as u64, May::ReadAndWrite)?;

    // First of all: QEMU's unit drops writes to what it remembers as readable without a record.
    figures.tell("lent.read-only", format!("{READABLE:#x}"));
    edu.give(READABLE, BYTES)?;
    ensure!(secret.holds(SECRET), "{foe} has written what it may read");
    copies(&edu, &secret, &other, WRITABLE)?;

    figures.tell("lent.never", format!("{NOWHERE:#x}"));
    edu.take(NOWHERE, BYTES)?;

    figures.tell("lent.unmapped", format!("{WRITABLE:#x}"));
    unmapped_in_flight(&held, &edu, &other)?;
    edu.give(WRITABLE, BYTES)?;
    ensure!(other.holds(OTHER), "{foe} has written what was unmapped");

    // Of more than three in five seconds the kernel says nothing.
    edu.give(secret.physical(), BYTES)?;
    ensure!(
        secret.holds(SECRET),
        "{foe} has written by a physical address"
    );

    held.map(other.address(), ELSEWHERE, PAGE as u64, May::ReadAndWrite)?;
    copies(&edu, &secret, &other, ELSEWHERE)?;

    let mut signals = held.listen()?;
    edu.interrupt();
    figures.tell("lent.messages", signals.wait()?);
    roads.put_word(foe, register::COMMAND, command);
    Ok(())
}

/// Demands that nothing arrives of what the device was told to write while the page was still mapped.
fn unmapped_in_flight(held: &Held, edu: &Edu, other: &Page) -> Verdict {
    for _ in 0..TRIES {
        let began = Instant::now();
        edu.begin_to_give(WRITABLE, BYTES);
        held.unmap(WRITABLE, PAGE as u64)?;
        let was_in_flight = began.elapsed() < ENGINE;
        edu.finish()?;
        if was_in_flight {
            ensure!(
                other.holds(OTHER),
                "the device has written what was unmapped while it was at work"
            );
            return Ok(());
        }
        // The host was busy elsewhere.
        other.fill(OTHER);
        held.map(other.address(), WRITABLE, PAGE as u64, May::ReadAndWrite)?;
    }
    Err(failed(
        "the engine was always done before the unmapping was",
    ))
}

/// Demands that the device copies what it may read over the page that it finds at `to`, and nothing beside it.
fn copies(edu: &Edu, secret: &Page, other: &Page, to: u64) -> Verdict {
    edu.take(READABLE, BYTES)?;
    edu.give(to, BYTES)?;
    let (now, wanted) = (other.bytes(), secret.bytes());
    other.fill(OTHER);
    let (before, middle) = (other.bytes(), BYTES as usize);
    ensure!(
        now[..middle] == wanted[..middle],
        "the device does not copy to {to:#x}, where memory is mapped for it"
    );
    ensure!(
        now[middle..] == before[middle..],
        "the device has written more than it was told to, at {to:#x}"
    );
    Ok(())
}
