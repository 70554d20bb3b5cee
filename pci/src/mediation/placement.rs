//! Where a device may decode memory and ports: nowhere that matters to anybody else.
//!
//! Owns the lists of what is protected and the question whether a range is legal. Refuses to know
//! which register asks.

use core::fmt;

use memory::{ByteRange, Hpa};

use super::decision::Reason;
use crate::Ports;

/// Protected ranges kept at most, neighbours of one kind merged.
pub const MAX_KEEPOUTS: usize = 96;

/// What a protected range holds.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum KeepoutKind {
    /// Main memory.
    Memory,
    /// Registers of a remapping unit.
    Remapping,
    /// Local APICs and the addresses interrupt messages are written to.
    LocalApic,
    /// An I/O APIC.
    IoApic,
    /// Memory-mapped configuration space.
    Ecam,
    /// The hypervisor's own memory.
    Hypervisor,
    /// Something of the platform's: flash, timers.
    Platform,
}

impl fmt::Display for KeepoutKind {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Memory => "main memory",
            Self::Remapping => "a remapping unit's registers",
            Self::LocalApic => "the local APICs",
            Self::IoApic => "an I/O APIC",
            Self::Ecam => "configuration space",
            Self::Hypervisor => "the hypervisor's memory",
            Self::Platform => "a range of the platform's own",
        })
    }
}

/// Runs of protected ports kept at most.
pub(super) const MAX_PORT_KEEPOUTS: usize = 32;

/// What protected ports belong to.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum PortKind {
    /// The system board: timers, interrupt controllers, keyboard, reset. PCI gives devices none of
    /// the first 256 ports.
    Board,
    /// What the hypervisor uses itself, or stops the guest at: its serial line, power management,
    /// configuration space.
    Hypervisor,
}

impl fmt::Display for PortKind {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Board => "those of the system board",
            Self::Hypervisor => "those that the hypervisor uses or watches",
        })
    }
}

/// The list of protected ranges is full: the machine's map is more ragged than provided for.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct TooManyKeepouts;

impl fmt::Display for TooManyKeepouts {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(
            f,
            "the machine has more than {MAX_KEEPOUTS} separate ranges of memory, or {MAX_PORT_KEEPOUTS} of ports, to protect from devices; join neighbours or build with a longer list"
        )
    }
}

/// The ranges no device may decode.
#[derive(Clone, Debug)]
pub struct Keepouts {
    ranges: heapless::Vec<(ByteRange<Hpa>, KeepoutKind), MAX_KEEPOUTS>,
    ports: heapless::Vec<(Ports, PortKind), MAX_PORT_KEEPOUTS>,
    // Last address of the machine.
    last: Hpa,
}

impl Keepouts {
    /// A machine with `address_bits` (1..=64) bits of physical address and nothing to protect.
    pub const fn new(address_bits: u32) -> Self {
        let last = match 1u64.checked_shl(address_bits) {
            Some(size) => size - 1,
            None => u64::MAX,
        };
        Self {
            ranges: heapless::Vec::new(),
            ports: heapless::Vec::new(),
            last: Hpa::new(last),
        }
    }

    /// Protects `range`.
    ///
    /// # Errors
    /// [`TooManyKeepouts`] if the list is full. Nothing may be started then.
    pub fn protect(
        &mut self,
        range: ByteRange<Hpa>,
        kind: KeepoutKind,
    ) -> Result<(), TooManyKeepouts> {
        for (known, known_kind) in &mut self.ranges {
            let touches = known.overlaps(&range)
                || known.last().checked_add(1) == Some(range.start())
                || range.last().checked_add(1) == Some(known.start());
            if *known_kind == kind
                && touches
                && let Some(joined) = ByteRange::inclusive(
                    known.start().min(range.start()),
                    known.last().max(range.last()),
                )
            {
                *known = joined;
                return Ok(());
            }
        }
        self.ranges.push((range, kind)).map_err(|_| TooManyKeepouts)
    }

    /// Protects `ports`.
    ///
    /// # Errors
    /// [`TooManyKeepouts`] if the list is full. Nothing may be started then.
    pub fn protect_ports(&mut self, ports: Ports, kind: PortKind) -> Result<(), TooManyKeepouts> {
        for (known, known_kind) in &mut self.ports {
            if *known_kind == kind
                && let Some(joined) = known.joined(ports)
            {
                *known = joined;
                return Ok(());
            }
        }
        self.ports.push((ports, kind)).map_err(|_| TooManyKeepouts)
    }

    /// Whether a device may decode `ports`, or a bridge pass them down.
    ///
    /// # Errors
    /// What they would cover.
    pub fn admit_ports(&self, ports: Ports) -> Result<(), Reason> {
        let at = ports.first();
        match self.ports.iter().find(|(known, _)| known.overlap(ports)) {
            Some(&(_, kind)) => Err(Reason::ProtectedPorts { at, kind }),
            None => Ok(()),
        }
    }

    /// Whether a device may decode `range`.
    ///
    /// # Errors
    /// What the range would cover.
    pub fn admit(&self, range: ByteRange<Hpa>) -> Result<(), Reason> {
        self.admit_but(range, None)
    }

    /// Whether a device that firmware had decode `range` may go on: chip sets have registers among what
    /// else is the platform's.
    ///
    /// # Errors
    /// What the range covers.
    pub fn admit_beside_platform(&self, range: ByteRange<Hpa>) -> Result<(), Reason> {
        self.admit_but(range, Some(KeepoutKind::Platform))
    }

    fn admit_but(&self, range: ByteRange<Hpa>, legal: Option<KeepoutKind>) -> Result<(), Reason> {
        let at = range.start();
        if range.last() > self.last {
            return Err(Reason::BeyondMachine { at });
        }
        let mut covered = self.ranges.iter().filter(|(r, _)| r.overlaps(&range));
        match covered.find(|(_, kind)| Some(*kind) != legal) {
            Some(&(_, kind)) => Err(Reason::Protected { at, kind }),
            None => Ok(()),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn range(start: u64, len: u64) -> ByteRange<Hpa> {
        ByteRange::new(Hpa::new(start), len).unwrap()
    }

    #[test]
    fn neighbours_of_one_kind_take_one_place() {
        let mut keepouts = Keepouts::new(39);
        for page in 0..1000 {
            let page = range(page * 0x1000, 0x1000);
            assert_eq!(keepouts.protect(page, KeepoutKind::Memory), Ok(()));
        }
        assert_eq!(
            keepouts.admit(range(0x3e_7fff, 1)),
            Err(Reason::Protected {
                at: Hpa::new(0x3e_7fff),
                kind: KeepoutKind::Memory
            })
        );
        assert_eq!(keepouts.admit(range(0x3e_8000, 0x1000)), Ok(()));
    }

    #[test]
    fn a_map_too_ragged_is_refused() {
        let mut keepouts = Keepouts::new(39);
        let mut protect =
            |n: usize| keepouts.protect(range(n as u64 * 0x2000, 0x1000), KeepoutKind::Memory);
        assert!((0..MAX_KEEPOUTS).all(|n| protect(n).is_ok()));
        assert_eq!(protect(MAX_KEEPOUTS), Err(TooManyKeepouts));
    }

    #[test]
    fn protected_ports_are_admitted_to_nobody() {
        let mut keepouts = Keepouts::new(39);
        let ports = |first, count| Ports::new(first, count).unwrap();
        let kind = PortKind::Hypervisor;
        assert_eq!(keepouts.protect_ports(ports(0x3f8, 8), kind), Ok(()));
        assert_eq!(
            keepouts.admit_ports(ports(0x3c0, 0x40)),
            Err(Reason::ProtectedPorts { at: 0x3c0, kind })
        );
        assert_eq!(keepouts.admit_ports(ports(0x400, 0x40)), Ok(()));
    }

    #[test]
    fn more_runs_of_ports_than_there_is_room_for_are_refused() {
        let mut keepouts = Keepouts::new(39);
        let mut protect = |n: usize| {
            let ports = Ports::new(n as u16 * 8, 4).unwrap();
            keepouts.protect_ports(ports, PortKind::Board)
        };
        assert!((0..MAX_PORT_KEEPOUTS).all(|n| protect(n).is_ok()));
        assert_eq!(protect(MAX_PORT_KEEPOUTS), Err(TooManyKeepouts));
    }

    #[test]
    fn a_machine_of_64_bits_has_no_end() {
        let keepouts = Keepouts::new(64);
        assert_eq!(keepouts.admit(range(u64::MAX - 0xfff, 0x1000)), Ok(()));
        let keepouts = Keepouts::new(39);
        assert!(keepouts.admit(range(1 << 39, 0x1000)).is_err());
    }
}
