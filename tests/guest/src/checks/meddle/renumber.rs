//! The bus of an untrusted device has another number for a while, and somebody outside has the
//! device attack meanwhile: the guest goes on with something that can be judged.

use std::time::{Duration, Instant};

use super::super::hash;
use super::parties::{self, register};
use super::roads::Roads;
use crate::verdict::{Figures, Verdict, ensure, failed};

/// A number that no firmware gives out on a small machine.
const UNUSED: u8 = 0x0a;
/// How long each number lasts.
const WINDOW: Duration = Duration::from_secs(12);

/// Moves the bus and tells when, then puts it back and tells that.
pub(in super::super) fn run(figures: &mut Figures) -> Verdict {
    let roads = Roads::open()?;
    let foes = parties::foes(&roads)?;
    let foe = foes
        .into_iter()
        .find(|foe| foe.bus != 0)
        .ok_or_else(|| failed("no untrusted device is behind a bridge"))?;
    let bridge = parties::bridge_of(&roads, foe)?;
    let home = roads.dword(bridge, register::BUSES);
    parties::wake(&roads, foe)?;
    let number = u32::from(UNUSED);
    let buses = home & 0xff00_00ff | number << 8 | number << 16;
    for (event, buses, bus) in [("moved", buses, UNUSED), ("back", home, foe.bus)] {
        roads.put(bridge, register::BUSES, buses);
        let foe = foe.on_bus(bus);
        parties::demand_edu(&roads, foe)?;
        // A device learns its number from a write to it.
        parties::wake(&roads, foe)?;
        figures.tell(&format!("renumber.{event}"), foe);
        work_for(WINDOW)?;
    }
    Ok(())
}

fn work_for(window: Duration) -> Verdict {
    let (began, mut rounds) = (Instant::now(), 0_u32);
    while began.elapsed() < window {
        hash::known_answers()?;
        rounds += 1;
        std::thread::sleep(Duration::from_millis(20));
    }
    ensure!(rounds > 1, "only {rounds} rounds in {window:?}");
    Ok(())
}
