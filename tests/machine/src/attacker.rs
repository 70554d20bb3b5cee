//! A malicious device: QEMU's `edu`, driven over the machine's bus while the guest runs.
//!
//! Owns its registers and its one trick, a transfer of up to 4 KiB between its buffer and any address.
//! Whoever drives it is stronger than the guest: the bus reaches configuration space past processor
//! and hypervisor, so that the device masters the bus although nobody allowed it to.

use std::fmt;
use std::thread;
use std::time::{Duration, Instant};

use qemu::{QtestBus, Session};

use crate::audit::Requester;

/// Where SeaBIOS maps configuration space of a q35 machine.
pub(crate) const ECAM: u64 = 0xb000_0000;
/// Vendor and device id of `edu`.
const EDU: u32 = 0x11e8_1234;
/// Buses that are looked at.
pub(crate) const BUSES: u64 = 16;
/// A transfer takes 100 ms of virtual time.
const PATIENCE: Duration = Duration::from_secs(20);
/// The device's buffer, at its own address for it.
const BUFFER: u64 = 0x4_0000;
/// Bytes of the buffer that one transfer fills: the whole of it.
pub const REACH: u64 = 4096;

const COMMAND: u64 = 0x04;
const BAR: u64 = 0x10;
const MEMORY_AND_MASTER: u16 = 0b110;

/// The remapping unit of a q35 machine, its command and status registers, and bit 31 of both.
const UNIT: u64 = 0xfed9_0000;
const GCMD: u64 = UNIT + 0x18;
const GSTS: u64 = UNIT + 0x1c;
const TRANSLATION: u32 = 1 << 31;
/// Bits of the status that the command register takes as they are.
const LASTING: u32 = 0x9680_0000;

/// The device.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Attacker {
    requester: u16,
    bar: u64,
}

/// Which way a transfer goes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Transfer {
    /// From memory into the device.
    Read,
    /// From the device to memory.
    Write,
}

impl fmt::Display for Transfer {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Read => "read",
            Self::Write => "write",
        })
    }
}

impl Attacker {
    /// Finds the device, the first one after those in `known`, and makes it a bus master.
    ///
    /// # Panics
    /// If it is not there or has no place in memory.
    pub fn arm(session: &mut Session, known: &[Self]) -> Self {
        let bus = bus(session);
        let mut ids = (0..BUSES * 256).map(|id| id as u16);
        let requester = ids
            .find(|id| {
                let is_known = known.iter().any(|other| other.requester == *id);
                !is_known && read_config(bus, *id, 0) == EDU
            })
            .expect("there is an `edu` in the machine");
        let bar = u64::from(read_config(bus, requester, BAR) & !0xf);
        assert_ne!(bar, 0, "the device has a place in memory");
        let attacker = Self { requester, bar };
        attacker.seize(session);
        attacker
    }

    /// Makes the device a bus master again.
    ///
    /// # Panics
    /// If the bus does not answer, as in all methods.
    pub fn seize(&self, session: &mut Session) {
        let at = config(self.requester) + COMMAND;
        bus(session)
            .writew(at, MEMORY_AND_MASTER)
            .expect("the bus answers");
    }

    /// Its requester id.
    #[must_use]
    pub fn requester(&self) -> Requester {
        Requester(self.requester)
    }

    /// Its requester id as Bouncer prints it.
    #[must_use]
    pub fn name(&self) -> String {
        name_of(self.requester)
    }

    /// Tries to move `bytes` bytes between its buffer and `address`.
    pub fn transfer(&self, session: &mut Session, which: Transfer, address: u64, bytes: u64) {
        let (from, to, command) = match which {
            Transfer::Read => (address, BUFFER, 0b01),
            Transfer::Write => (BUFFER, address, 0b11),
        };
        let bus = bus(session);
        for (register, value) in [(0x80, from), (0x88, to), (0x90, bytes)] {
            bus.writeq(self.bar + register, value)
                .expect("the bus answers");
        }
        bus.writel(self.bar + 0x98, command)
            .expect("the bus answers");
        let began = Instant::now();
        while bus.readl(self.bar + 0x98).expect("the bus answers") & 1 != 0 {
            assert!(
                began.elapsed() < PATIENCE,
                "the device finishes its transfer"
            );
            thread::sleep(Duration::from_millis(2));
        }
    }

    /// Raises its interrupt and takes it back.
    pub fn interrupt(&self, session: &mut Session) {
        let bus = bus(session);
        for register in [0x60, 0x64] {
            bus.writel(self.bar + register, 1).expect("the bus answers");
        }
    }

    /// Has its MSI capability send `data` to `address` when its interrupt is raised.
    pub fn program_message(&self, session: &mut Session, address: u64, data: u32) {
        let bus = bus(session);
        let at = u64::from(read_config(bus, self.requester, 0x34) & 0xff);
        let config = config(self.requester) + at;
        for (offset, value) in [(4, address as u32), (8, (address >> 32) as u32), (12, data)] {
            bus.writel(config + offset, value).expect("the bus answers");
        }
        bus.writew(config + 2, 1).expect("the bus answers");
    }

    /// What is in its buffer, which only its own transfers show: translation is switched off for a
    /// moment, and the buffer goes through `scratch`, a page of memory that nobody uses.
    #[must_use]
    pub fn loot(&self, session: &mut Session, scratch: u64) -> Vec<u8> {
        without_translation(session, |session| {
            self.transfer(session, Transfer::Write, scratch, REACH);
        });
        bus(session)
            .read(scratch, REACH as usize)
            .expect("the bus answers")
    }

    /// Fills its buffer, in the same way.
    pub fn load(&self, session: &mut Session, scratch: u64, content: &[u8]) {
        bus(session)
            .write(scratch, content)
            .expect("the bus answers");
        without_translation(session, |session| {
            self.transfer(session, Transfer::Read, scratch, REACH);
        });
    }
}

/// A requester id of segment 0 as Bouncer prints it.
pub(crate) fn name_of(id: u16) -> String {
    format!("0000:{:02x}:{:02x}.{}", id >> 8, id >> 3 & 0x1f, id & 7)
}

/// Switches the unit's translation off, if it is on, for as long as `act` lasts.
fn without_translation(session: &mut Session, act: impl FnOnce(&mut Session)) {
    let status = bus(session).readl(GSTS).expect("the bus answers");
    let lasting = status & LASTING;
    command(session, lasting & !TRANSLATION);
    act(session);
    command(session, lasting);
}

fn command(session: &mut Session, value: u32) {
    bus(session).writel(GCMD, value).expect("the bus answers");
}

/// Where the configuration space of the function with this requester id is.
pub(crate) fn config(requester: u16) -> u64 {
    ECAM + (u64::from(requester) << 12)
}

fn read_config(bus: &mut QtestBus, requester: u16, register: u64) -> u32 {
    bus.readl(config(requester) + register)
        .expect("the bus answers")
}

fn bus(session: &mut Session) -> &mut QtestBus {
    session.qtest().expect("the machine has a bus")
}
