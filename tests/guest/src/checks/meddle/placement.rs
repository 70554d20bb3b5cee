//! Base address registers moved over what is nobody's to cover.
//!
//! Whatever the guest writes it may read back, but no device may decode there: not with decoding
//! switched on before, not after, and not for the moment between two halves of 64 bits.

use super::edu;
use super::function::Function;
use super::parties::{self, register};
use super::roads::{Road, Roads};
use super::truth::Truth;
use super::vitals::{UNIT, Vitals};
use crate::bouncer;
use crate::verdict::{Attempt, Figures, Shortfall, Verdict, ensure};

/// Moves an educational device on the root bus, one behind a port, and a drive with a register of
/// 64 bits over everything.
pub(in super::super) fn run(figures: &mut Figures) -> Verdict {
    let siege = Siege::lay()?;
    let mut attempts = 0;
    for foe in parties::foes(&siege.roads)? {
        attempts += siege.storm(Mover::narrow(&siege.roads, foe))?;
        parties::wake(&siege.roads, foe)?;
    }
    let drive = parties::of_class(parties::NVME)?;
    unbind(drive)?;
    attempts += siege.storm(Mover::wide(&siege.roads, drive))?;
    bind(drive)?;
    siege.vitals.unit_is_hidden("after every attempt")?;
    figures.tell("meddle.bars.attempts", attempts);
    figures.tell("meddle.bars.oracle", siege.truth.is_known());
    Ok(())
}

/// A function and the register it is moved by.
#[derive(Debug, Clone, Copy)]
struct Mover {
    function: Function,
    home: u64,
    size: u64,
    is_wide: bool,
}

impl Mover {
    fn narrow(roads: &Roads, function: Function) -> Self {
        Self {
            function,
            home: u64::from(roads.dword(function, register::BAR) & !0xf),
            size: edu::BAR_BYTES,
            is_wide: false,
        }
    }

    /// QEMU's NVMe controller: 16 KiB, or what its file in sysfs says, below or above 4 GiB.
    fn wide(roads: &Roads, function: Function) -> Self {
        let half = |offset| u64::from(roads.dword(function, offset));
        let home = half(register::BAR + 4) << 32 | half(register::BAR) & !0xf;
        let path = format!("{}/resource0", function.directory());
        let size = std::fs::metadata(path).map_or(0x4000, |file| file.len());
        Self {
            function,
            home,
            size,
            is_wide: true,
        }
    }
}

/// When the function decodes memory during an attempt.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Decoding {
    /// It is on when the register changes.
    Live,
    /// It is switched off, and on again after the register has changed.
    Switched,
}

/// Which half of a register of 64 bits is written first; all at once where the road allows.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Order {
    LowFirst,
    HighFirst,
    AtOnce,
}

/// The place of a forbidden range and what it holds.
type Target = (&'static str, u64);

struct Siege {
    roads: Roads,
    truth: Truth,
    vitals: Vitals,
    targets: Vec<Target>,
}

impl Siege {
    fn lay() -> Result<Self, Shortfall> {
        let roads = Roads::open()?;
        let vitals = Vitals::watch()?;
        let mut targets = vec![
            ("memory", vitals.canary()),
            ("the remapping unit", UNIT),
            ("the local APIC", 0xfee0_0000),
            ("the I/O APIC", 0xfec0_0000),
            ("configuration space", roads.window_base()),
            ("the last block below 4 GiB", 0xffff_f000),
        ];
        if bouncer::is_there() {
            let own = bouncer::own_memory();
            targets.push(("Bouncer", own.base));
            targets.push(("the end of Bouncer", own.base + own.length - 1));
        }
        if let Ok(friend) = parties::friend() {
            parties::wake(&roads, friend)?;
            let taken = roads.dword(friend, register::BAR) & !0xf;
            targets.push(("another device", u64::from(taken)));
        }
        Ok(Self {
            roads,
            truth: Truth::open()?,
            vitals,
            targets,
        })
    }

    /// Every target, by every road, in every order; gives how many attempts were made.
    fn storm(&self, mover: Mover) -> Result<usize, Shortfall> {
        let orders: &[Order] = if mover.is_wide {
            &[Order::LowFirst, Order::HighFirst, Order::AtOnce]
        } else {
            &[Order::LowFirst]
        };
        let mut attempts = 0;
        for &(name, target) in &self.targets {
            for decoding in [Decoding::Live, Decoding::Switched] {
                for &order in orders {
                    // The roads take turns: each has all targets, though not each in every way.
                    let road = Road::ALL[attempts % Road::ALL.len()];
                    let what = format!(
                        "{} over {name}, {decoding:?}, {road:?}, {order:?}",
                        mover.function
                    );
                    self.attempt(mover, target, decoding, road, order, &what)?;
                    attempts += 1;
                }
            }
        }
        Ok(attempts)
    }

    fn attempt(
        &self,
        mover: Mover,
        target: u64,
        decoding: Decoding,
        road: Road,
        order: Order,
        what: &str,
    ) -> Verdict {
        let function = mover.function;
        let place = target & !(mover.size - 1);
        let before = self.roads.word(function, register::COMMAND);
        if decoding == Decoding::Switched {
            self.switch(road, function, before & !register::MEMORY)?;
        } else {
            self.switch(road, function, before | register::MEMORY)?;
        }
        self.write_bar(mover, place, road, order)?;
        self.switch(road, function, before | register::MEMORY)?;
        let outcome = self
            .reads_back(mover, place, what)
            .and_then(|()| self.decodes_nothing_there(mover, place, what))
            .and_then(|()| self.vitals.hold(what));
        // Home again, whatever came of it.
        self.switch(Road::Ecam, function, before & !register::MEMORY)?;
        self.write_bar(mover, mover.home, Road::Ecam, Order::LowFirst)?;
        self.switch(Road::Ecam, function, before)?;
        outcome
    }

    fn switch(&self, road: Road, function: Function, command: u16) -> Verdict {
        let command = u32::from(command);
        self.roads
            .write(road, function, register::COMMAND, 2, command)
    }

    fn write_bar(&self, mover: Mover, place: u64, road: Road, order: Order) -> Verdict {
        let low = |roads: &Roads| roads.write(road, mover.function, register::BAR, 4, place as u32);
        let high = |roads: &Roads| {
            let half = (place >> 32) as u32;
            roads.write(road, mover.function, register::BAR + 4, 4, half)
        };
        match (mover.is_wide, order, road) {
            (false, ..) => low(&self.roads),
            (true, Order::LowFirst, _) => low(&self.roads).and_then(|()| high(&self.roads)),
            (true, Order::AtOnce, Road::Ecam) => {
                self.roads.put_wide(mover.function, register::BAR, place);
                Ok(())
            }
            (true, ..) => high(&self.roads).and_then(|()| low(&self.roads)),
        }
    }

    /// The register keeps what was written, as sizing and any order of moving devices need.
    fn reads_back(&self, mover: Mover, place: u64, what: &str) -> Verdict {
        let low = u64::from(self.roads.dword(mover.function, register::BAR) & !0xf);
        let high = if mover.is_wide {
            u64::from(self.roads.dword(mover.function, register::BAR + 4))
        } else {
            place >> 32
        };
        let seen = high << 32 | low;
        ensure!(
            seen == place,
            "{what}: {place:#x} was written and {seen:#x} is read back"
        );
        let command = self.roads.word(mover.function, register::COMMAND);
        ensure!(
            command & register::MEMORY != 0,
            "{what}: decoding was switched on and reads back off"
        );
        Ok(())
    }

    /// The device itself, whatever the guest reads.
    fn decodes_nothing_there(&self, mover: Mover, place: u64, what: &str) -> Verdict {
        let ask = |offset| self.truth.config(&self.roads, mover.function, offset);
        let (Some(command), Some(low)) = (ask(register::COMMAND)?, ask(register::BAR)?) else {
            return Ok(());
        };
        let high = match mover.is_wide {
            true => ask(register::BAR + 4)?.unwrap_or_default(),
            false => 0,
        };
        let real = u64::from(high) << 32 | u64::from(low & !0xf);
        let is_on = command as u16 & register::MEMORY != 0;
        ensure!(
            !(is_on && real == place),
            "{what}: the device decodes {real:#x}"
        );
        Ok(())
    }
}

fn bind(function: Function) -> Verdict {
    write_driver("bind", function)
}

fn unbind(function: Function) -> Verdict {
    write_driver("unbind", function)
}

fn write_driver(verb: &str, function: Function) -> Verdict {
    let path = format!("/sys/bus/pci/drivers/nvme/{verb}");
    std::fs::write(&path, function.to_string()).attempt(&format!("{path} of {function}"))
}
