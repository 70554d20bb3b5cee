//! Remapping structures: the parts of the table, one type each.
//!
//! Owns what each structure says and the lengths it must have. Refuses to know which of them
//! belong together; the table does.

use memory::{ByteRange, Hpa, PAGE_SIZE};
use pci::Address;

use super::scope::{self, Bridges, Scopes};
use super::{Defect, Malformed, byte_at, u16_at, u32_at, u64_at};
use crate::spec::dmar::{ALL_PORTS, ATC_REQUIRED, INCLUDE_PCI_ALL, structure};

/// One remapping structure.
#[derive(Clone, Copy, Debug)]
pub enum Structure<'a> {
    /// A remapping unit (DRHD).
    Unit(Unit<'a>),
    /// Memory that devices expect to reach (RMRR).
    ReservedRegion(ReservedRegion<'a>),
    /// Root ports below which ATS works (ATSR). We enable ATS for nobody.
    AtsPorts {
        /// The segment of the ports.
        segment: u16,
        /// Whether all ports of the segment are meant.
        is_all_ports: bool,
        /// The ports, if not all.
        scopes: Scopes<'a>,
    },
    /// The memory node a unit is near to (RHSA).
    Affinity {
        /// Register base of the unit.
        registers: Hpa,
        /// Proximity domain.
        proximity: u32,
    },
    /// The name of a device only ACPI enumerates (ANDD).
    NamespaceDevice {
        /// The number scopes refer to it by.
        number: u8,
        /// ACPI path, without its terminator.
        name: &'a [u8],
    },
    /// Devices of the chip with translation caches (SATC). We enable ATS for nobody.
    TranslationCaches {
        /// The segment of the devices.
        segment: u16,
        /// Whether the devices do not work without their caches.
        is_required: bool,
        /// The devices.
        scopes: Scopes<'a>,
    },
    /// A structure this revision does not know, or one nothing here needs (SIDP).
    Other {
        /// Its type.
        kind: u16,
        /// Its length in bytes.
        length: u16,
    },
}

/// One remapping unit.
#[derive(Clone, Copy, Debug)]
pub struct Unit<'a> {
    /// The segment whose devices it governs.
    pub segment: u16,
    /// Register base; page aligned, never zero.
    pub registers: Hpa,
    /// Bytes of registers, a power of two of pages.
    pub window: u64,
    /// Whether it governs all devices of its segment that no other unit names.
    pub is_catch_all: bool,
    scopes: Scopes<'a>,
}

impl<'a> Unit<'a> {
    /// What the unit governs by name. A catch-all unit lists here its I/O APICs and timers.
    pub fn scopes(&self) -> Scopes<'a> {
        self.scopes
    }
}

/// Memory that some devices were told to use and expect to keep reaching.
#[derive(Clone, Copy, Debug)]
pub struct ReservedRegion<'a> {
    /// The segment of the devices.
    pub segment: u16,
    /// The bytes; `None` if the firmware's base and limit are not a whole number of pages (such
    /// a region is not honoured).
    pub range: Option<ByteRange<Hpa>>,
    scopes: Scopes<'a>,
}

impl<'a> ReservedRegion<'a> {
    /// The devices.
    pub fn scopes(&self) -> Scopes<'a> {
        self.scopes
    }

    /// Whether the region belongs to `device`.
    pub fn belongs_to(&self, device: Address, bridges: &impl Bridges) -> bool {
        self.segment == device.segment
            && self
                .scopes()
                .any(|scope| scope.distance(device, bridges).is_some())
    }
}

/// The structures of a checked table.
#[derive(Clone, Debug)]
pub struct Structures<'a> {
    bytes: &'a [u8],
    at: usize,
}

impl<'a> Structures<'a> {
    /// The structures of `bytes`, from `at` on.
    pub(super) const fn from(bytes: &'a [u8], at: usize) -> Self {
        Self { bytes, at }
    }

    /// Where in the table the next one starts.
    pub(super) const fn offset(&self) -> usize {
        self.at
    }
}

impl<'a> Iterator for Structures<'a> {
    type Item = Structure<'a>;

    fn next(&mut self) -> Option<Self::Item> {
        let body = structure_at(self.bytes, self.at).ok()?;
        self.at += body.len();
        decode(body)
    }
}

/// The structure at `at`, by its own length, which is at least 4.
pub(super) fn structure_at(bytes: &[u8], at: usize) -> Result<&[u8], Malformed> {
    let fault = |defect| Malformed { offset: at, defect };
    let rest = bytes.get(at..).ok_or(fault(Defect::Overrun))?;
    let length = usize::from(u16_at(rest, 2).ok_or(fault(Defect::Overrun))?);
    if length < 4 {
        return Err(fault(Defect::TooShort));
    }
    rest.get(..length).ok_or(fault(Defect::Overrun))
}

/// Checks the lengths and the place of the registers of the structure `at` bytes into the table.
pub(super) fn check(body: &[u8], at: usize) -> Result<(), Malformed> {
    let kind = u16_at(body, 0).unwrap_or_default();
    let (fixed, has_scopes) = match kind {
        structure::DRHD => (16, true),
        structure::RMRR => (24, true),
        structure::ATSR | structure::SATC => (8, true),
        structure::RHSA => (20, false),
        structure::ANDD => (8, false),
        _ => return Ok(()),
    };
    let tail = body.get(fixed..).ok_or(Malformed {
        offset: at,
        defect: Defect::TooShort,
    })?;
    if kind == structure::DRHD {
        let registers = u64_at(body, 8).unwrap_or_default();
        if registers == 0 || !registers.is_multiple_of(PAGE_SIZE) {
            return Err(Malformed {
                offset: at + 8,
                defect: Defect::UnitWithoutRegisters,
            });
        }
    }
    if has_scopes {
        scope::check(tail, at + fixed)?;
    }
    Ok(())
}

/// The fields of a checked structure; `None` only for bytes that were never checked.
fn decode(body: &[u8]) -> Option<Structure<'_>> {
    let kind = u16_at(body, 0)?;
    let flags = byte_at(body, 4);
    Some(match kind {
        structure::DRHD => Structure::Unit(Unit {
            segment: u16_at(body, 6)?,
            registers: Hpa::new(u64_at(body, 8)?),
            window: PAGE_SIZE << (byte_at(body, 5) & 0xf),
            is_catch_all: flags & INCLUDE_PCI_ALL != 0,
            scopes: Scopes::over(body.get(16..)?),
        }),
        structure::RMRR => {
            let (base, last) = (u64_at(body, 8)?, u64_at(body, 16)?);
            let is_whole_pages =
                base.is_multiple_of(PAGE_SIZE) && last % PAGE_SIZE == PAGE_SIZE - 1;
            Structure::ReservedRegion(ReservedRegion {
                segment: u16_at(body, 6)?,
                range: ByteRange::inclusive(Hpa::new(base), Hpa::new(last))
                    .filter(|_| is_whole_pages),
                scopes: Scopes::over(body.get(24..)?),
            })
        }
        structure::ATSR => Structure::AtsPorts {
            segment: u16_at(body, 6)?,
            is_all_ports: flags & ALL_PORTS != 0,
            scopes: Scopes::over(body.get(8..)?),
        },
        structure::SATC => Structure::TranslationCaches {
            segment: u16_at(body, 6)?,
            is_required: flags & ATC_REQUIRED != 0,
            scopes: Scopes::over(body.get(8..)?),
        },
        structure::RHSA => Structure::Affinity {
            registers: Hpa::new(u64_at(body, 8)?),
            proximity: u32_at(body, 16)?,
        },
        structure::ANDD => {
            let name = body.get(8..)?;
            let end = name.iter().position(|&byte| byte == 0);
            Structure::NamespaceDevice {
                number: byte_at(body, 7),
                name: name.get(..end.unwrap_or(name.len()))?,
            }
        }
        _ => Structure::Other {
            kind,
            length: u16_at(body, 2)?,
        },
    })
}
