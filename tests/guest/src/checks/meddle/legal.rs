//! What an ordinary system does to its devices, which must go on working under all that watching.
//!
//! A device moved to a free place, a latency timer set, interrupts moved between processors while
//! data flows, a driver unbound and bound, a device removed and found again.

mod bytes;
mod drivers;

use super::edu::{self, Edu};
use super::function::Function;
use super::mastering::Pages;
use super::parties::{self, register};
use super::roads::{Road, Roads};
use super::stretch::Stretch;
use crate::verdict::{Attempt, Figures, Shortfall, Verdict, ensure, failed};

pub(in super::super) use bytes::bytes;
pub(in super::super) use drivers::{affinity, rebind, rescan};

/// Moves each educational device to a free place and back, with decoding switched off meanwhile
/// and without.
pub(in super::super) fn bars(figures: &mut Figures) -> Verdict {
    let roads = Roads::open()?;
    let friend = parties::friend().ok();
    let mut moves = 0;
    let all = parties::foes(&roads)?.into_iter().chain(friend);
    for function in all {
        parties::wake(&roads, function)?;
        let home = u64::from(roads.dword(function, register::BAR) & !0xf);
        let away = match function.bus {
            0 => free_place()?,
            _ => other_half_of_window(&roads, function, home)?,
        };
        for road in Road::ALL {
            for live in [Live::Yes, Live::No] {
                let what =
                    format!("{function} from {home:#x} to {away:#x} by {road:?}, live {live:?}");
                relocate(&roads, road, function, away, live)?;
                let edu = answering(away, &what)?;
                ensure!(
                    Stretch::map(home, 4)?.dword(home) != edu::ID,
                    "{what}: it still answers at home"
                );
                if Some(function) == friend {
                    let command = roads.word(function, register::COMMAND);
                    roads.put_word(function, register::COMMAND, command | register::MASTER);
                    Pages::new()?.obey(&edu)?;
                    roads.put_word(function, register::COMMAND, command);
                }
                relocate(&roads, road, function, home, live)?;
                answering(home, &format!("{what}, and back"))?;
                moves += 1;
            }
        }
    }
    figures.tell("legal.bars.moves", moves);
    Ok(())
}

/// Sets the latency timer, the cache line size and the interrupt line of a trusted function: every
/// road sees what any road wrote. (PCI Express hardwires the first to zero.)
pub(in super::super) fn latency(_: &mut Figures) -> Verdict {
    let roads = Roads::open()?;
    let friend = parties::friend()?;
    for (offset, name) in [
        (register::LATENCY, "latency timer"),
        (register::CACHE_LINE, "cache line size"),
        (register::INTERRUPT_LINE, "interrupt line"),
    ] {
        let before = roads.read(Road::Ports, friend, offset, 1)?;
        for road in Road::ALL {
            for value in [0x40, 0x10, before] {
                roads.write(road, friend, offset, 1, value)?;
                for by in Road::ALL {
                    let seen = roads.read(by, friend, offset, 1)?;
                    let is_hardwired = offset == register::LATENCY && seen == 0;
                    ensure!(
                        seen == value || is_hardwired,
                        "{friend}: {name} {value:#x} by {road:?} reads {seen:#x} by {by:?}"
                    );
                }
            }
        }
    }
    parties::demand_edu(&roads, friend)
}

/// Whether memory decoding stays on while a register moves.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Live {
    Yes,
    No,
}

fn relocate(
    roads: &Roads,
    road: Road,
    function: Function,
    to: u64,
    live: Live,
) -> Result<(), Shortfall> {
    let command = u32::from(roads.word(function, register::COMMAND) | register::MEMORY);
    let off = command & !u32::from(register::MEMORY);
    if live == Live::No {
        roads.write(road, function, register::COMMAND, 2, off)?;
    }
    roads.write(road, function, register::BAR, 4, to as u32)?;
    roads.write(road, function, register::COMMAND, 2, command)
}

fn answering(at: u64, what: &str) -> Result<Edu, Shortfall> {
    Edu::at(at).attempt_as(what)
}

/// Says what was under way when something else failed.
trait Context<T> {
    fn attempt_as(self, what: &str) -> Result<T, Shortfall>;
}

impl<T> Context<T> for Result<T, Shortfall> {
    fn attempt_as(self, what: &str) -> Result<T, Shortfall> {
        self.map_err(|why| match why {
            Shortfall::Failed(why) => failed(format!("{what}: {why}")),
            skipped => skipped,
        })
    }
}

/// A mebibyte below 4 GiB that the root bus passes on and nobody has.
fn free_place() -> Result<u64, Shortfall> {
    let text = std::fs::read_to_string("/proc/iomem").attempt("reading /proc/iomem")?;
    free_in(&text).ok_or_else(|| failed("no free mebibyte in the root bus's windows"))
}

/// Reads Linux's resource tree: two blanks deeper is inside what is above.
fn free_in(iomem: &str) -> Option<u64> {
    let mut window = None;
    let mut windows: Vec<(u64, u64)> = Vec::new();
    let mut taken: Vec<(u64, u64)> = Vec::new();
    for line in iomem.lines() {
        let (range, name) = line.split_once(" : ")?;
        let (first, last) = range.trim().split_once('-')?;
        let range = (
            u64::from_str_radix(first, 16).ok()?,
            u64::from_str_radix(last, 16).ok()?,
        );
        let is_top = !line.starts_with(' ');
        if is_top {
            window = name.starts_with("PCI Bus 0000:00").then_some(range);
            windows.extend(window);
        } else if window.is_some() {
            taken.push(range);
        }
    }
    let size = edu::BAR_BYTES;
    windows
        .into_iter()
        .filter(|(first, _)| (1 << 20..1 << 32).contains(first))
        .find_map(|(first, last)| {
            let start = first.next_multiple_of(size);
            (start..last)
                .step_by(size as usize)
                .take_while(|at| at + size - 1 <= last)
                .find(|at| taken.iter().all(|&(f, l)| l < *at || f > at + size - 1))
        })
}

/// The window of a port is 2 MiB at least: beside the device there is room for another.
fn other_half_of_window(roads: &Roads, function: Function, home: u64) -> Result<u64, Shortfall> {
    let bridge = parties::bridge_of(roads, function)?;
    let window = u64::from(roads.dword(bridge, register::WINDOW));
    let first = (window & 0xfff0) << 16;
    let last = (window >> 20 & 0xfff) << 20 | 0xf_ffff;
    [first, first + edu::BAR_BYTES]
        .into_iter()
        .find(|&place| place != home && place + edu::BAR_BYTES - 1 <= last)
        .ok_or_else(|| {
            failed(format!(
                "{bridge}: its window {first:#x} to {last:#x} is full"
            ))
        })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_free_place_is_in_a_window_of_the_root_bus_and_nobody_s() {
        let text = "00001000-0009fbff : System RAM\n\
                    000a0000-000bffff : PCI Bus 0000:00\n\
                    c0000000-febfffff : PCI Bus 0000:00\n\
                    \x20 c0000000-c01fffff : PCI Bus 0000:01\n\
                    \x20   c0000000-c00fffff : 0000:01:00.0\n\
                    \x20 c0280000-c0280fff : 0000:00:02.0\n\
                    fec00000-fec003ff : IOAPIC 0\n";
        assert_eq!(free_in(text), Some(0xc030_0000));
        assert_eq!(free_in("00001000-0009fbff : System RAM\n"), None);
    }
}
