//! The message of an MSI capability set to what no device may send, or where none may write.
//!
//! The trusted device's interrupt is raised each time. An ordinary vector of the guest's arrives;
//! a non-maskable interrupt, one of system management, an INIT, a write to memory never does, and
//! the device is never given the guest's message as it is.

use super::edu::Edu;
use super::function::Function;
use super::page::Page;
use super::parties::{self, capability, register};
use super::roads::{Road, Roads};
use super::truth::Truth;
use super::vitals::{UNIT, Vitals};
use crate::bouncer;
use crate::cpus;
use crate::verdict::{Figures, Shortfall, Verdict, ensure};
use std::thread::sleep;
use std::time::Duration;

/// Intel SDM volume 3, 11.11: the address of a message to the processor with APIC id 0, and the
/// delivery modes of its data.
const TO_FIRST: u64 = 0xfee0_0000;
const SMI: u32 = 2 << 8;
const NMI: u32 = 4 << 8;
const INIT: u32 = 5 << 8;
const START_UP: u32 = 6 << 8;
const EXTERNAL: u32 = 7 << 8;
/// Modes 3 and, in a message, 1 with nobody named: reserved, or of no use to a device.
const RESERVED: u32 = 3 << 8;

/// A vector that Linux counts and otherwise ignores: `PIN` in `/proc/interrupts`, sent by no
/// device (arch/x86/include/asm/irq_vectors.h, POSTED_INTR_VECTOR).
const ORDINARY: u32 = 0xf2;
const ORDINARY_LINE: &str = "PIN";

/// VT-d 4.1, section 5.1.2.2: bit 4 marks an address in remappable format, bits 19:5 are bits 14:0
/// of the handle.
const REMAPPABLE: u64 = 1 << 4;
/// Handles that are guessed.
const HANDLES: u64 = 16;

const SEED: u64 = 0x0151;
/// How long an interrupt may take to be counted.
const SETTLE: Duration = Duration::from_millis(30);

/// Every evil message through the trusted device, and through the untrusted ones.
pub(in super::super) fn run(figures: &mut Figures) -> Verdict {
    let range = Range::open()?;
    let friend = parties::friend()?;
    let gun = Gun::load(&range, friend)?;
    gun.an_ordinary_vector_arrives("at first")?;
    let mut shots = 0;
    for road in Road::ALL {
        for (data, name) in [
            (NMI, "NMI"),
            (SMI, "SMI"),
            (START_UP | 8, "start-up"),
            (EXTERNAL, "ExtINT"),
            (RESERVED | ORDINARY, "a reserved mode"),
        ] {
            let what = format!("{name} by {road:?}");
            gun.shoot(road, Message::to_first(data | 0x02), &what)?;
            shots += 1;
        }
    }
    for (address, name) in range.places() {
        let message = Message {
            address,
            data: 0x5a5a,
        };
        gun.shoot(Road::Ecam, message, name)?;
        shots += 1;
    }
    for handle in 0..HANDLES {
        let message = Message {
            address: TO_FIRST | REMAPPABLE | handle << 5,
            data: 0x55,
        };
        gun.shoot(Road::Ports, message, &format!("handle {handle}"))?;
        shots += 1;
    }
    gun.an_ordinary_vector_arrives("afterwards")?;
    gun.unload();

    for foe in parties::foes(&range.roads)? {
        let gun = Gun::load(&range, foe)?;
        for (data, name) in [(NMI, "NMI"), (ORDINARY, "an ordinary vector")] {
            let what = format!("{name} from an untrusted device");
            gun.shoot(Road::Ecam, Message::to_first(data), &what)?;
            shots += 1;
        }
        gun.unload();
    }
    figures.tell("meddle.msi.messages", shots);
    figures.tell("meddle.msi.oracle", range.truth.is_known());
    Ok(())
}

/// An INIT for the first processor, which resets a machine that lets it through.
pub(in super::super) fn init(figures: &mut Figures) -> Verdict {
    let range = Range::open()?;
    let gun = Gun::load(&range, parties::friend()?)?;
    for road in Road::ALL {
        gun.shoot(road, Message::to_first(INIT), "INIT")?;
    }
    gun.an_ordinary_vector_arrives("after INIT")?;
    gun.unload();
    figures.tell("meddle.init.survived", Road::ALL.len());
    Ok(())
}

/// What a device is told to send.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
struct Message {
    address: u64,
    data: u32,
}

impl Message {
    const fn to_first(data: u32) -> Self {
        Self {
            address: TO_FIRST,
            data,
        }
    }
}

/// Where shots are fired and what watches them.
struct Range {
    roads: Roads,
    truth: Truth,
    vitals: Vitals,
    victim: Page,
}

impl Range {
    fn open() -> Result<Self, Shortfall> {
        Ok(Self {
            roads: Roads::open()?,
            truth: Truth::open()?,
            vitals: Vitals::watch()?,
            victim: Page::of_noise(SEED)?,
        })
    }

    /// Addresses that are no interrupt's.
    fn places(&self) -> Vec<(u64, &'static str)> {
        let mut places = vec![
            (self.victim.physical(), "a message into the guest's memory"),
            // Fault event data: what else writes there decides what the unit writes on a fault.
            (UNIT + 0x3c, "a message into the remapping unit"),
            (
                self.roads.window_base(),
                "a message into configuration space",
            ),
            (TO_FIRST + (1 << 32), "a message above 4 GiB"),
        ];
        if bouncer::is_there() {
            let own = bouncer::own_memory();
            places.push((own.base + own.length - 8, "a message into Bouncer"));
        }
        places
    }
}

/// A device whose interrupt is raised.
struct Gun<'a> {
    range: &'a Range,
    function: Function,
    msi: u16,
    edu: Edu,
    command: u16,
}

impl<'a> Gun<'a> {
    fn load(range: &'a Range, function: Function) -> Result<Self, Shortfall> {
        let roads = &range.roads;
        let command = roads.word(function, register::COMMAND);
        let edu = parties::wake(roads, function)?;
        let on = roads.word(function, register::COMMAND) | register::MASTER;
        roads.put_word(function, register::COMMAND, on);
        Ok(Self {
            range,
            function,
            msi: parties::capability_of(roads, function, capability::MSI)?,
            edu,
            command,
        })
    }

    /// Sets the message, first with MSI off and then on, raises the interrupt, and looks around.
    fn shoot(&self, road: Road, message: Message, what: &str) -> Verdict {
        let before = Counts::take()?;
        self.aim(road, message, what)?;
        let given = self.is_not_given(message, what);
        // Only with MSI on: with it off, the device would pull an interrupt line nobody expects.
        self.edu.interrupt();
        sleep(SETTLE);
        self.safe()?;
        let after = Counts::take()?;
        ensure!(
            after.unmasked == before.unmasked,
            "{what}: {} non-maskable interrupts came",
            after.unmasked - before.unmasked
        );
        ensure!(
            self.range.victim.holds(SEED),
            "{what}: the guest's memory has changed"
        );
        given?;
        self.range.vitals.hold(what)
    }

    fn an_ordinary_vector_arrives(&self, when: &str) -> Verdict {
        let before = Counts::take()?;
        self.aim(Road::Ecam, Message::to_first(ORDINARY), when)?;
        self.edu.interrupt();
        sleep(SETTLE);
        self.safe()?;
        let came = Counts::take()?.ordinary - before.ordinary;
        ensure!(
            came == 1,
            "{when}: an ordinary vector of a trusted device came {came} times"
        );
        Ok(())
    }

    /// Writes address, data and, last, the enable bit; what was written must be read back.
    fn aim(&self, road: Road, message: Message, what: &str) -> Verdict {
        let Message { address, data } = message;
        let roads = &self.range.roads;
        let write =
            |into, bytes, value| roads.write(road, self.function, self.msi + into, bytes, value);
        write(2, 2, 0)?;
        write(4, 4, address as u32)?;
        write(8, 4, (address >> 32) as u32)?;
        write(12, 2, data)?;
        write(2, 2, 1)?;
        // A change while it is on, by the byte, comes to the same.
        write(12, 1, data)?;
        write(13, 1, data >> 8)?;
        let low = roads.dword(self.function, self.msi + 4);
        let high = roads.dword(self.function, self.msi + 8);
        let seen = Message {
            address: u64::from(high) << 32 | u64::from(low),
            data: u32::from(roads.word(self.function, self.msi + 12)),
        };
        ensure!(
            seen == message,
            "{what}: {message:x?} was written and {seen:x?} is read back"
        );
        Ok(())
    }

    /// Demands that the device does not hold what the guest wrote, if anybody knows.
    fn is_not_given(&self, message: Message, what: &str) -> Verdict {
        let ask = |into| {
            let Range { roads, truth, .. } = self.range;
            truth.config(roads, self.function, self.msi + into)
        };
        let (Some(control), Some(low), Some(high), Some(data)) =
            (ask(0)?, ask(4)?, ask(8)?, ask(12)?)
        else {
            return Ok(());
        };
        let real = Message {
            address: u64::from(high) << 32 | u64::from(low),
            data: data & 0xffff,
        };
        let is_on = control >> 16 & 1 != 0;
        ensure!(
            !(is_on && real == message),
            "{what}: the device was given {real:x?} as the guest wrote it"
        );
        Ok(())
    }

    /// A message that does no harm, and MSI off.
    fn safe(&self) -> Result<(), Shortfall> {
        let roads = &self.range.roads;
        roads.put_word(self.function, self.msi + 2, 0);
        roads.put(self.function, self.msi + 4, TO_FIRST as u32);
        roads.put(self.function, self.msi + 8, 0);
        roads.put_word(self.function, self.msi + 12, ORDINARY as u16);
        Ok(())
    }

    fn unload(self) {
        let roads = &self.range.roads;
        roads.put_word(self.function, register::COMMAND, self.command);
    }
}

/// Interrupts so far, over all processors.
struct Counts {
    unmasked: u64,
    ordinary: u64,
}

impl Counts {
    fn take() -> Result<Self, Shortfall> {
        let sum = |label| Ok(cpus::interrupts(label)?.into_iter().sum());
        Ok(Self {
            unmasked: sum("NMI")?,
            ordinary: sum(ORDINARY_LINE)?,
        })
    }
}
