//! A fast malicious device: QEMU's sound controller, driven over the machine's bus.
//!
//! Owns its two rings. Each command that it is told of it fetches from one ring and answers in the
//! other, wherever they are said to be: a read of 4 bytes and two writes, at once. So it reaches for
//! tens of thousands of pages in the time that `edu` needs for one.
//!
//! Registers: High Definition Audio Specification 1.0a, section 3.3.

use qemu::{QtestBus, Session, Store, Width};

use crate::attacker::{BUSES, ECAM, name_of};

/// QEMU's arguments: the controller, and somebody who answers its commands.
pub const DEVICE: [&str; 6] = [
    "-audiodev",
    "none,id=silence",
    "-device",
    "intel-hda,id=sound,addr=0a.0,msi=off",
    "-device",
    "hda-output,bus=sound.0,cad=0,audiodev=silence",
];

/// Vendor and device id.
const SOUND: u32 = 0x2668_8086;
const COMMAND: u64 = 0x04;
const BAR: u64 = 0x10;
const MEMORY_AND_MASTER: u16 = 0b110;

const GLOBAL: u64 = 0x08;
const COMMANDS_BASE: u64 = 0x40;
const COMMANDS_WRITTEN: u64 = 0x48;
const COMMANDS_CONTROL: u64 = 0x4c;
const ANSWERS_BASE: u64 = 0x50;
const ANSWERS_WRITTEN: u64 = 0x58;
const ANSWERS_MOST: u64 = 0x5a;
const ANSWERS_CONTROL: u64 = 0x5c;
const ANSWERS_STATUS: u64 = 0x5d;
/// The ring of commands runs; that of answers runs and raises its flag.
const RUN_COMMANDS: u64 = 0b10;
const RUN_ANSWERS: u64 = 0b11;
/// Entries of a ring, and most commands told of at once.
const ENTRIES: u64 = 256;
/// Most answers before the flag must be cleared.
const MOST: u64 = 255;
/// Where in the ring of answers the one with this index is.
const ANSWER_BYTES: u64 = 8;
/// Accesses for each command: one read and two writes.
pub const ACCESSES: u64 = 3;

/// The device.
#[derive(Debug)]
pub struct Sweeper {
    requester: u16,
    bar: u64,
    next: u64,
    /// Upper halves of where the rings are.
    upper: u64,
}

impl Sweeper {
    /// Finds the device, makes it a bus master and starts its rings, which are nowhere yet.
    ///
    /// # Panics
    /// If it is not there, has no place in memory, or the bus does not answer, as in all methods.
    pub fn arm(session: &mut Session) -> Self {
        let bus = bus(session);
        let config = |id: u16| ECAM + (u64::from(id) << 12);
        let requester = (0..BUSES * 256)
            .map(|id| id as u16)
            .find(|id| bus.readl(config(*id)).expect("the bus answers") == SOUND)
            .expect("there is a sound controller in the machine");
        let bar = bus.readl(config(requester) + BAR).expect("the bus answers");
        let bar = u64::from(bar & !0xf);
        assert_ne!(bar, 0, "the device has a place in memory");
        bus.writew(config(requester) + COMMAND, MEMORY_AND_MASTER)
            .expect("the bus answers");
        let this = Self {
            requester,
            bar,
            next: 0,
            upper: 0,
        };
        let (byte, word, double) = (Width::Byte, Width::Word, Width::Double);
        let stores = [
            this.store(GLOBAL, double, 1),
            this.store(ANSWERS_WRITTEN, word, 1 << 15),
            this.store(ANSWERS_MOST, word, MOST),
            this.store(ANSWERS_CONTROL, byte, RUN_ANSWERS),
            this.store(COMMANDS_CONTROL, byte, RUN_COMMANDS),
        ];
        bus.store_all(&stores).expect("the bus answers");
        this
    }

    /// Its requester id as Bouncer prints it.
    #[must_use]
    pub fn name(&self) -> String {
        name_of(self.requester)
    }

    /// Its requester id.
    #[must_use]
    pub fn requester(&self) -> u16 {
        self.requester
    }

    /// Reaches for each of `pages`: reads in it, and writes 8 zeros at a place of its own.
    pub fn sweep(&mut self, session: &mut Session, pages: impl IntoIterator<Item = u64>) {
        let mut stores = Vec::new();
        for page in pages {
            self.place_rings(&mut stores, page);
            self.tell(&mut stores, 1);
        }
        bus(session).store_all(&stores).expect("the bus answers");
    }

    /// Reaches for the page `commands` times.
    pub fn flood(&mut self, session: &mut Session, page: u64, commands: u64) {
        let mut stores = Vec::new();
        self.place_rings(&mut stores, page);
        let mut left = commands;
        while left != 0 {
            let some = left.min(ENTRIES - 2);
            self.tell(&mut stores, some);
            left -= some;
        }
        bus(session).store_all(&stores).expect("the bus answers");
    }

    /// Where the answer to the `index`th command from the start goes, in the page of the answers.
    #[must_use]
    pub fn place(index: u64) -> u64 {
        (index + 1) % ENTRIES * ANSWER_BYTES
    }

    fn place_rings(&mut self, stores: &mut Vec<Store>, page: u64) {
        let (low, upper) = (page & 0xffff_ffff, page >> 32);
        for base in [COMMANDS_BASE, ANSWERS_BASE] {
            stores.push(self.store(base, Width::Double, low));
            if upper != self.upper {
                stores.push(self.store(base + 4, Width::Double, upper));
            }
        }
        self.upper = upper;
    }

    fn tell(&mut self, stores: &mut Vec<Store>, commands: u64) {
        self.next = (self.next + commands) % ENTRIES;
        stores.push(self.store(COMMANDS_WRITTEN, Width::Word, self.next));
        stores.push(self.store(ANSWERS_STATUS, Width::Byte, 0b101));
    }

    fn store(&self, register: u64, width: Width, value: u64) -> Store {
        Store {
            address: self.bar + register,
            width,
            value,
        }
    }
}

fn bus(session: &mut Session) -> &mut QtestBus {
    session.qtest().expect("the machine has a bus")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn answers_go_round_the_ring() {
        assert_eq!(Sweeper::place(0), 8);
        assert_eq!(Sweeper::place(255), 0);
        assert_eq!(Sweeper::place(256), 8);
    }
}
