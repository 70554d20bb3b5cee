//! Two processors at once, each on a road of its own, at the registers of one device.
//!
//! One moves the base address register over forbidden ranges through the window; the other
//! switches decoding and bus mastering through the ports; the device is told to copy meanwhile.
//! What is decided about one write must hold while the other is under way.

use super::edu;
use super::mastering::{Pages, is_really_off};
use super::parties::{self, register};
use super::roads::{Road, Roads};
use super::truth::Truth;
use super::vitals::{UNIT, Vitals};
use crate::bouncer;
use crate::cpus;
use crate::verdict::{Figures, Verdict, ensure, failed, skipped};

/// Writes of each processor.
const TURNS: u32 = 1_000;
/// Looks of the oracle meanwhile, and copies.
const LOOKS: usize = 3;

/// Races on the untrusted device of the root bus.
pub(in super::super) fn run(figures: &mut Figures) -> Verdict {
    let online = cpus::online()?;
    if online.len() < 2 {
        return Err(skipped("one processor: nobody to race with"));
    }
    let roads = Roads::open()?;
    let truth = Truth::open()?;
    let vitals = Vitals::watch()?;
    let pages = Pages::new()?;
    let foe = parties::foes(&roads)?[0];
    let edu = parties::wake(&roads, foe)?;
    let home = roads.dword(foe, register::BAR);
    let command = roads.word(foe, register::COMMAND);
    let mut places = vec![home, UNIT as u32, 0xfee0_0000, u32::MAX];
    if bouncer::is_there() {
        places.push(bouncer::own_memory().base as u32);
    }

    let outcome = std::thread::scope(|scope| {
        let (roads, places, online) = (&roads, &places, &online);
        let mover = scope.spawn(move || -> Verdict {
            cpus::pin(online[0])?;
            for turn in 0..TURNS {
                let place = places[turn as usize % places.len()];
                roads.write(Road::Ecam, foe, register::BAR, 4, place)?;
            }
            Ok(())
        });
        let switcher = scope.spawn(move || -> Verdict {
            cpus::pin(online[1])?;
            for turn in 0..TURNS {
                let on = (register::MEMORY * (turn & 1) as u16) | register::MASTER;
                roads.write(Road::Ports, foe, register::COMMAND, 2, u32::from(on))?;
            }
            Ok(())
        });
        let mut outcome = Ok(());
        for _ in 0..LOOKS {
            outcome = outcome
                .and_then(|()| is_really_off(roads, &truth, foe))
                // Its registers come and go: it may hear nothing of this.
                .and_then(|()| vitals.hold("during the race"));
        }
        for thread in [mover, switcher] {
            outcome = outcome.and(
                thread
                    .join()
                    .unwrap_or_else(|_| Err(failed("a thread panicked"))),
            );
        }
        outcome
    });

    roads.put_word(foe, register::COMMAND, 0);
    roads.put(foe, register::BAR, home);
    roads.put_word(
        foe,
        register::COMMAND,
        command | register::MEMORY | register::MASTER,
    );
    outcome?;
    for road in Road::ALL {
        let seen = roads.read(road, foe, register::BAR, 4)?;
        ensure!(
            seen == home,
            "after the race the register is {seen:#x} by {road:?}, not {home:#x}"
        );
    }
    is_really_off(&roads, &truth, foe)?;
    ensure!(edu.id() == edu::ID, "after the race {foe} is gone");
    pages.resist(&edu, "after the race")?;
    vitals.hold("after the race")?;
    roads.put_word(foe, register::COMMAND, command);
    figures.tell("meddle.race.writes", 2 * TURNS);
    Ok(())
}
