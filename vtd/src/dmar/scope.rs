//! Device scopes: paths through bridges to the functions a structure is about.
//!
//! Owns the entries of section 8.3.1 and the walk along their paths. Refuses to read
//! configuration space: bus numbers behind bridges come through [`Bridges`].

use core::ops::RangeInclusive;

use pci::{Address, Bdf};

use super::{Defect, Malformed, byte_at};
use crate::spec::dmar::{SCOPE_HEADER, scope};

/// Whoever knows which buses are behind a bridge.
pub trait Bridges {
    /// The buses behind the bridge at `bridge`, secondary to subordinate, or `None` if nothing
    /// there is a bridge with bus numbers.
    fn buses_behind(&self, bridge: Address) -> Option<RangeInclusive<u8>>;
}

impl<F: Fn(Address) -> Option<RangeInclusive<u8>>> Bridges for F {
    fn buses_behind(&self, bridge: Address) -> Option<RangeInclusive<u8>> {
        self(bridge)
    }
}

/// What a scope entry stands for.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum ScopeKind {
    /// One function.
    Endpoint,
    /// A bridge and everything behind it.
    Bridge,
    /// An I/O APIC.
    IoApic,
    /// A timer (HPET block) that raises MSIs.
    Timer,
    /// A device only ACPI enumerates.
    Namespace,
    /// A type this revision does not know; it matches nothing.
    Other(u8),
}

/// One entry of a device scope.
#[derive(Clone, Copy, Debug)]
pub struct Scope<'a> {
    /// What it stands for.
    pub kind: ScopeKind,
    /// I/O APIC id, HPET number or ACPI device number.
    pub enumeration_id: u8,
    /// The bus the path starts on.
    pub start_bus: u8,
    path: &'a [u8],
}

/// One step of a path.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Hop {
    /// Device number, 0..32.
    pub device: u8,
    /// Function number, 0..8.
    pub function: u8,
}

impl<'a> Scope<'a> {
    /// The steps from the start bus to the function; at least one.
    pub fn path(&self) -> impl Iterator<Item = Hop> + use<'a> {
        self.path.as_chunks::<2>().0.iter().map(|hop| Hop {
            device: hop[0],
            function: hop[1],
        })
    }

    /// The function the path leads to, or `None` if a bridge on it has no bus number.
    pub fn resolve(&self, segment: u16, bridges: &impl Bridges) -> Option<Bdf> {
        let mut bus = self.start_bus;
        let mut reached: Option<Bdf> = None;
        for hop in self.path() {
            if let Some(bridge) = reached {
                bus = *bridges.buses_behind(Address::new(segment, bridge))?.start();
            }
            reached = Some(Bdf::new(bus, hop.device, hop.function)?);
        }
        reached
    }

    /// How near the entry is to `device` (of the entry's segment): 0 names it, more counts the
    /// buses of the bridge it is behind, `None` does not cover it.
    pub(super) fn distance(&self, device: Address, bridges: &impl Bridges) -> Option<u16> {
        if !matches!(self.kind, ScopeKind::Endpoint | ScopeKind::Bridge) {
            return None;
        }
        let named = self.resolve(device.segment, bridges)?;
        if named == device.bdf {
            return Some(0);
        }
        if self.kind != ScopeKind::Bridge {
            return None;
        }
        let buses = bridges.buses_behind(Address::new(device.segment, named))?;
        buses
            .contains(&device.bdf.bus())
            .then(|| u16::from(buses.end().saturating_sub(*buses.start())).saturating_add(1))
    }
}

/// The entries of a checked device scope.
#[derive(Clone, Copy, Debug)]
pub struct Scopes<'a> {
    rest: &'a [u8],
}

impl<'a> Scopes<'a> {
    pub(super) const fn over(rest: &'a [u8]) -> Self {
        Self { rest }
    }
}

impl<'a> Iterator for Scopes<'a> {
    type Item = Scope<'a>;

    fn next(&mut self) -> Option<Self::Item> {
        let length = usize::from(*self.rest.get(1)?);
        let (entry, rest) = self.rest.split_at_checked(length)?;
        let path = entry.get(SCOPE_HEADER..)?;
        self.rest = rest;
        Some(Scope {
            kind: match byte_at(entry, 0) {
                scope::ENDPOINT => ScopeKind::Endpoint,
                scope::BRIDGE => ScopeKind::Bridge,
                scope::IOAPIC => ScopeKind::IoApic,
                scope::HPET => ScopeKind::Timer,
                scope::NAMESPACE => ScopeKind::Namespace,
                other => ScopeKind::Other(other),
            },
            enumeration_id: byte_at(entry, 4),
            start_bus: byte_at(entry, 5),
            path,
        })
    }
}

/// Checks the entries in `bytes`, which start `at` bytes into the table.
pub(super) fn check(bytes: &[u8], at: usize) -> Result<(), Malformed> {
    let mut done = 0;
    while done < bytes.len() {
        let fault = |defect| Malformed {
            offset: at + done,
            defect,
        };
        let rest = bytes.get(done..).unwrap_or_default();
        let length = usize::from(*rest.get(1).ok_or(fault(Defect::Overrun))?);
        if length < SCOPE_HEADER {
            return Err(fault(Defect::TooShort));
        }
        let entry = rest.get(..length).ok_or(fault(Defect::Overrun))?;
        let (hops, half) = entry
            .get(SCOPE_HEADER..)
            .unwrap_or_default()
            .as_chunks::<2>();
        if hops.is_empty() || !half.is_empty() {
            return Err(fault(Defect::Path));
        }
        if hops
            .iter()
            .any(|&[device, function]| Bdf::new(0, device, function).is_none())
        {
            return Err(fault(Defect::Function));
        }
        done += length;
    }
    Ok(())
}
