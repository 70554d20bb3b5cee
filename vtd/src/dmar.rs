//! The firmware's account of the remapping hardware: units, whom they govern, reserved memory.
//!
//! Owns the DMA remapping reporting table (chapter 8): [`Dmar::parse`] checks every length once,
//! so that everything read from a [`Dmar`] afterwards is total. Refuses to know how the table was
//! found, whether its ACPI checksum holds, and what the bridges are; the bus numbers behind a
//! bridge come from the caller through [`Bridges`]. `structure` beside it reads structures, `scope` their device scopes.

mod reserved;
mod scope;
mod structure;

use core::fmt;

use pci::{Address, Bdf};

use crate::spec::dmar::{FLAGS, HEADER, HOST_ADDRESS_WIDTH, SIGNATURE, flags};
pub use reserved::Flaw;
pub use scope::{Bridges, Hop, Scope, ScopeKind, Scopes};
pub use structure::{ReservedRegion, Structure, Structures, Unit};

/// Bytes of the longest table accepted; real ones stay below one page.
pub const LONGEST: usize = 64 * 1024;

/// A table every length of which was checked.
#[derive(Clone, Copy, Debug)]
pub struct Dmar<'a> {
    bytes: &'a [u8],
}

impl<'a> Dmar<'a> {
    /// Checks the table at the start of `bytes`, which may be longer than it.
    ///
    /// Unknown structures and unknown scopes are kept and skipped. A length that is zero, too
    /// short for its type or beyond what contains it is an error, as is a unit without
    /// registers, a unit twice, and a second catch-all unit of a segment.
    pub fn parse(bytes: &'a [u8]) -> Result<Self, Malformed> {
        let fault = |offset, defect| Malformed { offset, defect };
        if bytes.get(..4) != Some(&SIGNATURE) {
            return Err(fault(0, Defect::Signature));
        }
        let length = u32_at(bytes, 4).ok_or(fault(4, Defect::TableTruncated))? as usize;
        if length < HEADER {
            return Err(fault(4, Defect::TooShort));
        }
        if length > LONGEST {
            return Err(fault(4, Defect::TableTooLong));
        }
        let bytes = bytes
            .get(..length)
            .ok_or(fault(4, Defect::TableTruncated))?;
        let mut at = HEADER;
        while at < length {
            let body = structure::structure_at(bytes, at)?;
            structure::check(body, at)?;
            at += body.len();
        }
        let table = Self { bytes };
        table.check_units()?;
        Ok(table)
    }

    /// Address bits of the machine's memory bus that DMA may use, 1..=256.
    pub fn host_address_width(&self) -> u16 {
        u16::from(byte_at(self.bytes, HOST_ADDRESS_WIDTH)) + 1
    }

    /// Whether the platform supports interrupt remapping.
    pub fn supports_interrupt_remapping(&self) -> bool {
        self.flags() & flags::INTR_REMAP != 0
    }

    /// Whether the firmware asks to stay out of x2APIC mode.
    pub fn opts_out_of_x2apic(&self) -> bool {
        self.flags() & flags::X2APIC_OPT_OUT != 0
    }

    /// Whether the firmware asks for DMA remapping from the start.
    pub fn opts_in_to_dma_control(&self) -> bool {
        self.flags() & flags::DMA_CTRL_PLATFORM_OPT_IN != 0
    }

    /// Every structure of the table, unknown ones included, in its order.
    pub fn structures(&self) -> Structures<'a> {
        Structures::from(self.bytes, HEADER)
    }

    /// The remapping units.
    pub fn units(&self) -> impl Iterator<Item = Unit<'a>> + use<'a> {
        self.structures().filter_map(|found| match found {
            Structure::Unit(unit) => Some(unit),
            _ => None,
        })
    }

    /// The reserved regions that devices expect to reach.
    pub fn reserved_regions(&self) -> impl Iterator<Item = ReservedRegion<'a>> + use<'a> {
        self.structures().filter_map(|found| match found {
            Structure::ReservedRegion(region) => Some(region),
            _ => None,
        })
    }

    /// The unit that governs `device`, or `None` if the table leaves it out.
    ///
    /// A unit that names the function wins over one that names a bridge above it, a nearer
    /// bridge over a farther one, and any of these over the segment's catch-all unit. Section
    /// 8.3: INCLUDE_PCI_ALL covers what is not explicitly in another unit's scope.
    pub fn unit_of(&self, device: Address, bridges: &impl Bridges) -> Option<Unit<'a>> {
        let mut best: Option<(u16, Unit<'a>)> = None;
        for unit in self.units().filter(|unit| unit.segment == device.segment) {
            let named = unit
                .scopes()
                .filter_map(|scope| scope.distance(device, bridges))
                .min();
            let catch_all = unit.is_catch_all.then_some(u16::MAX);
            if let Some(distance) = named.or(catch_all)
                && best.as_ref().is_none_or(|(nearest, _)| distance < *nearest)
            {
                best = Some((distance, unit));
            }
        }
        best.map(|(_, unit)| unit)
    }

    /// The unit whose scopes list the I/O APIC with ACPI id `id`, and the requester id its
    /// interrupts carry. `None` too if its path leads through a bridge without a bus number.
    pub fn io_apic(&self, id: u8, bridges: &impl Bridges) -> Option<(Unit<'a>, Bdf)> {
        self.platform_source(ScopeKind::IoApic, id, bridges)
    }

    /// The same for the timer (HPET block) with number `id`.
    pub fn timer(&self, id: u8, bridges: &impl Bridges) -> Option<(Unit<'a>, Bdf)> {
        self.platform_source(ScopeKind::Timer, id, bridges)
    }

    fn platform_source(
        &self,
        kind: ScopeKind,
        id: u8,
        bridges: &impl Bridges,
    ) -> Option<(Unit<'a>, Bdf)> {
        self.units().find_map(|unit| {
            let scope = unit
                .scopes()
                .find(|scope| scope.kind == kind && scope.enumeration_id == id)?;
            Some((unit, scope.resolve(unit.segment, bridges)?))
        })
    }

    fn flags(&self) -> u8 {
        byte_at(self.bytes, FLAGS)
    }

    fn check_units(&self) -> Result<(), Malformed> {
        let mut structures = self.structures();
        loop {
            let offset = structures.offset();
            let Some(found) = structures.next() else {
                return Ok(());
            };
            let Structure::Unit(unit) = found else {
                continue;
            };
            let earlier = Self {
                bytes: self.bytes.get(..offset).unwrap_or_default(),
            };
            let clash = earlier.units().find_map(|other| {
                let is_same_segment = other.segment == unit.segment;
                if other.registers == unit.registers {
                    Some(Defect::UnitTwice)
                } else if is_same_segment && other.is_catch_all && unit.is_catch_all {
                    Some(Defect::CatchAllTwice)
                } else {
                    None
                }
            });
            if let Some(defect) = clash {
                return Err(Malformed { offset, defect });
            }
        }
    }
}

/// What is wrong with a table, and where.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Malformed {
    /// Bytes from the start of the table.
    pub offset: usize,
    /// What is wrong there.
    pub defect: Defect,
}

/// What can be wrong with a table.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Defect {
    /// The table is not a DMAR.
    Signature,
    /// The table says it is longer than the bytes at hand.
    TableTruncated,
    /// The table is longer than [`LONGEST`].
    TableTooLong,
    /// A length is shorter than what must be there.
    TooShort,
    /// A length reaches beyond what contains it.
    Overrun,
    /// A scope's path is empty or has half a hop.
    Path,
    /// A hop names a device above 31 or a function above 7.
    Function,
    /// A unit's registers are at zero or not page aligned.
    UnitWithoutRegisters,
    /// Two units have the same registers.
    UnitTwice,
    /// Two units of a segment govern all that is left.
    CatchAllTwice,
}

impl fmt::Display for Malformed {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let what = match self.defect {
            Defect::Signature => "this is not a DMAR table",
            Defect::TableTruncated => "the table says it is longer than it is",
            Defect::TableTooLong => "the table is implausibly long",
            Defect::TooShort => "a length is too short",
            Defect::Overrun => "a length reaches beyond its container",
            Defect::Path => "a device path is empty or broken off",
            Defect::Function => "a device path names no possible device",
            Defect::UnitWithoutRegisters => "a remapping unit has no usable register address",
            Defect::UnitTwice => "a remapping unit is listed twice",
            Defect::CatchAllTwice => "two remapping units claim all remaining devices",
        };
        write!(
            f,
            "ACPI DMAR table, byte {}: {what}; update the firmware or start without Bouncer",
            self.offset
        )
    }
}

fn byte_at(bytes: &[u8], at: usize) -> u8 {
    bytes.get(at).copied().unwrap_or_default()
}

fn u16_at(bytes: &[u8], at: usize) -> Option<u16> {
    Some(u16::from_le_bytes(*bytes.get(at..)?.first_chunk()?))
}

fn u32_at(bytes: &[u8], at: usize) -> Option<u32> {
    Some(u32::from_le_bytes(*bytes.get(at..)?.first_chunk()?))
}

fn u64_at(bytes: &[u8], at: usize) -> Option<u64> {
    Some(u64::from_le_bytes(*bytes.get(at..)?.first_chunk()?))
}

#[cfg(test)]
mod tests;
