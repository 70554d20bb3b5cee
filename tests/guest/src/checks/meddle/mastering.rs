//! An untrusted device told to be a bus master: it says yes and never gets to memory.
//!
//! What it is told to copy stays where it was, in both directions. The trusted device, told the
//! same, obeys: so it is not the telling that fails. And even that one finds nothing of Bouncer's.

use super::edu::Edu;
use super::function::Function;
use super::page::Page;
use super::parties::{self, register};
use super::roads::{Road, Roads};
use super::truth::Truth;
use super::vitals::Vitals;
use crate::bouncer;
use crate::verdict::{Figures, Shortfall, Verdict, ensure, skipped};

const SECRET: u64 = 0x5ec3e7;
const VICTIM: u64 = 0x71c718;
/// Bytes of one copy; QEMU 7.2 takes no whole page.
const BYTES: u64 = 2048;
/// Of Bouncer's memory, less is asked for: each eight bytes are a fault, and a storm of faults
/// has consequences of its own.
const FEW: u64 = 64;

/// Tells every untrusted device, by every road and in every width.
pub(in super::super) fn run(figures: &mut Figures) -> Verdict {
    let roads = Roads::open()?;
    let truth = Truth::open()?;
    let pages = Pages::new()?;
    let mut told = 0;
    for foe in parties::foes(&roads)? {
        let edu = parties::wake(&roads, foe)?;
        let before = roads.word(foe, register::COMMAND);
        roads.put_word(foe, register::COMMAND, before | register::MASTER);
        pages.resist(&edu, &foe.to_string())?;
        for road in Road::ALL {
            for bytes in [1, 2, 4] {
                let wanted = before | register::MASTER;
                roads.write(road, foe, register::COMMAND, bytes, u32::from(wanted))?;
                reads_back_on(&roads, foe, &format!("{foe} by {road:?}, {bytes} bytes"))?;
                is_really_off(&roads, &truth, foe)?;
                told += 1;
            }
        }
        roads.put_word(foe, register::COMMAND, before);
        parties::demand_edu(&roads, foe)?;
    }
    figures.tell("meddle.master.told", told);
    Ok(())
}

/// The trusted device copies the guest's memory as told, and of Bouncer's nothing.
pub(in super::super) fn trusted(figures: &mut Figures) -> Verdict {
    let roads = Roads::open()?;
    let friend = parties::friend()?;
    let edu = parties::wake(&roads, friend)?;
    let command = roads.word(friend, register::COMMAND);
    roads.put_word(friend, register::COMMAND, command | register::MASTER);
    let pages = Pages::new()?;
    pages.obey(&edu)?;
    if !bouncer::is_there() {
        return Err(skipped("no Bouncer, so nothing of its own to reach for"));
    }
    let vitals = Vitals::watch()?;
    let own = bouncer::own_memory();
    for at in [own.base, own.base + own.length - FEW] {
        pages.finds_nothing(&edu, at)?;
        // What it writes, Bouncer must not be made of: the last bytes are the safest to try.
        if at != own.base {
            edu.give(at, FEW)?;
        }
        vitals.hold(&format!("a trusted device at {at:#x}"))?;
    }
    pages.obey(&edu)?;
    roads.put_word(friend, register::COMMAND, command);
    figures.tell("meddle.trusted.reached-for", 2);
    Ok(())
}

/// A page to be read and one to be written.
pub(super) struct Pages {
    secret: Page,
    victim: Page,
}

impl Pages {
    pub(super) fn new() -> Result<Self, Shortfall> {
        Ok(Self {
            secret: Page::of_noise(SECRET)?,
            victim: Page::of_noise(VICTIM)?,
        })
    }

    /// Demands that the device, driven to copy one page over the other, does not.
    pub(super) fn resist(&self, edu: &Edu, who: &str) -> Verdict {
        edu.take(self.secret.physical(), BYTES)?;
        edu.give(self.victim.physical(), BYTES)?;
        ensure!(
            self.victim.bytes()[..BYTES as usize] != self.secret.bytes()[..BYTES as usize],
            "{who} has read the guest's memory and written it elsewhere"
        );
        ensure!(
            self.victim.holds(VICTIM),
            "{who} has written to the guest's memory"
        );
        ensure!(
            self.secret.holds(SECRET),
            "{who} has written to the guest's memory beside it"
        );
        Ok(())
    }

    /// Demands that the device copies one page over the other.
    pub(super) fn obey(&self, edu: &Edu) -> Verdict {
        edu.take(self.secret.physical(), BYTES)?;
        edu.give(self.victim.physical(), BYTES)?;
        let (victim, secret) = (self.victim.bytes(), self.secret.bytes());
        self.victim.fill(VICTIM);
        ensure!(
            victim[..BYTES as usize] == secret[..BYTES as usize],
            "the trusted device does not copy as told, so nothing is shown"
        );
        Ok(())
    }

    /// Demands that the device, driven to fetch from `at`, brings back what it had, or all zeros,
    /// or all ones.
    fn finds_nothing(&self, edu: &Edu, at: u64) -> Verdict {
        edu.take(self.secret.physical(), FEW)?;
        edu.take(at, FEW)?;
        edu.give(self.victim.physical(), FEW)?;
        let found = self.victim.bytes();
        self.victim.fill(VICTIM);
        let found = &found[..FEW as usize];
        let is = |byte| found.iter().all(|&found| found == byte);
        let had = self.secret.bytes();
        ensure!(
            is(0) || is(0xff) || found == &had[..FEW as usize],
            "a trusted device has fetched {found:02x?} from {at:#x}, which is Bouncer's"
        );
        Ok(())
    }
}

fn reads_back_on(roads: &Roads, foe: Function, what: &str) -> Verdict {
    let command = roads.word(foe, register::COMMAND);
    ensure!(
        command & register::MASTER != 0,
        "{what}: bus mastering was switched on and reads back off"
    );
    Ok(())
}

/// Demands that the device itself is no bus master, if anybody knows.
pub(super) fn is_really_off(roads: &Roads, truth: &Truth, foe: Function) -> Verdict {
    let command = truth.config(roads, foe, register::COMMAND)?;
    ensure!(
        command.is_none_or(|command| command as u16 & register::MASTER == 0),
        "{foe} is a bus master in truth"
    );
    Ok(())
}
