//! The window of ports of a bridge: what the guest wrote, and what the bridge is given.
//!
//! Owns its shadow. A window that would pass protected ports down is closed in the bridge while the
//! guest reads back what it wrote. A processor has 65536 ports: a window beyond them is closed, too,
//! and the upper halves of the bridge stay zero.
//!
//! Source: PCI-to-PCI Bridge Architecture 1.2, sections 3.2.5.6 and 3.2.5.11.

use super::decision::{Decision, Reason, Verdict};
use super::placement::Keepouts;
use super::{Mediation, Write};
use crate::config::{ConfigSpace, Register};
use crate::spec::header::{self, PortWindow as Bits};
use crate::{Address, Ports};

/// Base and limit bits of the register.
const WRITABLE: u16 = 0xf0f0;
/// A base above its limit: nothing passes.
const CLOSED: u16 = 0x00f0;
/// The register, without the status register behind it.
const WINDOW: Register = Register::word(header::PORT_WINDOW);
const UPPER: Register = Register::dword(header::PORT_WINDOW_UPPER);

/// The registers of one bridge as the guest wrote them.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) struct PortWindow {
    room: Room,
    low: u16,
    upper: u32,
}

/// How much of the window a bridge implements.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
enum Room {
    Absent,
    Narrow,
    Wide,
}

impl PortWindow {
    /// Reads the registers of the bridge at `at`. One that reads zero may be absent, which only a
    /// write can tell; the one made here has its base above its limit.
    pub(super) fn read(space: &mut impl ConfigSpace, at: Address) -> Self {
        let low = space.read(at, WINDOW) as u16;
        let mut probed = low;
        if low == 0 {
            space.write(at, WINDOW, 0xe0f0);
            probed = space.read(at, WINDOW) as u16;
            space.write(at, WINDOW, u32::from(low));
        }
        let room = match (probed, Bits::new(probed).base_type()) {
            (0, _) => Room::Absent,
            (_, 1) => Room::Wide,
            _ => Room::Narrow,
        };
        let upper = match room {
            Room::Wide => space.read(at, UPPER),
            _ => 0,
        };
        Self {
            room,
            low: low & WRITABLE,
            upper,
        }
    }

    /// The low half of the double word with the window, as the guest reads it.
    pub(super) const fn view(&self) -> u16 {
        match self.room {
            Room::Absent => 0,
            Room::Narrow => self.low,
            Room::Wide => self.low | 0x0101,
        }
    }

    /// The upper halves of base and limit, as the guest reads them.
    pub(super) const fn view_upper(&self) -> u32 {
        self.upper
    }

    /// Takes a write of the guest.
    const fn write(&mut self, register: Register, value: u32) {
        match (register.dword_offset(), self.room) {
            (header::PORT_WINDOW, Room::Narrow | Room::Wide) => {
                self.low = register.merge(self.low as u32, value) as u16 & WRITABLE;
            }
            (header::PORT_WINDOW_UPPER, Room::Wide) => {
                self.upper = register.merge(self.upper, value);
            }
            _ => {}
        }
    }

    /// What reset leaves.
    pub(super) const fn reset(&mut self) {
        self.low = 0;
        self.upper = 0;
    }

    /// Adds the stores that give the bridge what it may have, and says what it may not.
    pub(super) fn apply(
        &self,
        keepouts: &Keepouts,
        at: Address,
        decision: &mut Decision,
    ) -> Result<(), Reason> {
        if self.room == Room::Absent {
            return Ok(());
        }
        let passed = self.passed();
        let admitted = passed.map_or(Ok(()), |ports| keepouts.admit_ports(ports));
        let low = match (passed, admitted) {
            (Some(_), Ok(())) => self.low,
            _ => CLOSED,
        };
        if self.room == Room::Wide {
            decision.store(at, UPPER, 0);
        }
        decision.store(at, WINDOW, u32::from(low));
        admitted
    }

    /// The ports the guest wants passed, as far as a processor has them.
    fn passed(&self) -> Option<Ports> {
        let window = Bits::new(self.low);
        let first = u16::from(window.base()) << 12;
        let last = u16::from(window.limit()) << 12 | 0xfff;
        Ports::inclusive(first, last).filter(|_| self.upper == 0)
    }
}

impl<const N: usize> Mediation<N> {
    /// Takes a write to the double word of the window, or to that of its upper halves.
    pub(super) fn write_port_window(&mut self, write: Write) -> Decision {
        let Write {
            id, at, register, ..
        } = write;
        let keepouts = &self.keepouts;
        let slot = self.guarded.get_mut(id.index()).and_then(Option::as_mut);
        let Some(window) = slot.and_then(|g| g.port_window.as_mut()) else {
            return Decision::new(Verdict::Drop(Reason::Unknown));
        };
        let mut decision = Decision::new(Verdict::Pass);
        let is_upper = register.dword_offset() == header::PORT_WINDOW_UPPER;
        if is_upper || write.low_lanes() != 0 {
            window.write(register, write.value);
            if let Err(reason) = window.apply(keepouts, at, &mut decision) {
                decision.verdict = Verdict::Withhold(reason);
            }
        }
        if !is_upper && write.high_lanes() != 0 {
            // Flags are cleared by ones: lanes that were not written are zeros.
            let status = Register::word(header::PORT_WINDOW + 2);
            decision.store(at, status, write.spread() >> 16);
        }
        decision
    }
}
