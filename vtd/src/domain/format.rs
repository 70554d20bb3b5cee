//! Second-stage tables as a format for the walker (section 9.8).
//!
//! Owns the meaning of an entry and the choice of a width that all units concerned can walk.

use memory::{Hpa, Iova};
use paging::{Entry, Format, Geometry, Level, PageSize};

use crate::spec::registers::{Cap, Ecap};
use crate::spec::second_stage;

/// What a device may do to a page.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Access {
    /// Read it.
    Read,
    /// Write it.
    Write,
    /// Both.
    ReadWrite,
}

/// How many levels a unit walks.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Debug)]
pub enum AddressWidth {
    /// Three levels.
    Bits39,
    /// Four levels.
    Bits48,
    /// Five levels.
    Bits57,
}

impl AddressWidth {
    const ALL: [Self; 3] = [Self::Bits39, Self::Bits48, Self::Bits57];

    /// Bits of the addresses translated.
    pub const fn bits(self) -> u32 {
        match self {
            Self::Bits39 => 39,
            Self::Bits48 => 48,
            Self::Bits57 => 57,
        }
    }

    /// The encoding of a context entry, and the number of the bit in CAP.SAGAW.
    pub const fn encoding(self) -> u8 {
        match self {
            Self::Bits39 => 1,
            Self::Bits48 => 2,
            Self::Bits57 => 3,
        }
    }
}

/// What one unit, or several at once, can walk.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Support {
    /// As CAP.SAGAW.
    widths: u8,
    /// Bits of an address that may be set at all.
    reach: u32,
    /// As CAP.SSLPS.
    large_pages: u8,
    snoops: bool,
    /// Bits of a domain's number; 0 where the encoding is reserved.
    number_bits: u32,
}

impl Support {
    /// Reads it off a unit's capabilities.
    pub fn of(cap: Cap, ecap: Ecap) -> Self {
        Self {
            widths: cap.sagaw(),
            reach: u32::from(cap.mgaw()) + 1,
            large_pages: cap.sslps(),
            snoops: ecap.sc(),
            number_bits: match cap.nd() {
                reserved if reserved > 6 => 0,
                nd => 4 + 2 * u32::from(nd),
            },
        }
    }

    /// What both can walk.
    pub fn and(self, other: Self) -> Self {
        Self {
            widths: self.widths & other.widths,
            reach: self.reach.min(other.reach),
            large_pages: self.large_pages & other.large_pages,
            snoops: self.snoops && other.snoops,
            number_bits: self.number_bits.min(other.number_bits),
        }
    }

    /// How many domain numbers there are, 0 included: 16 to 65536, or none where the encoding
    /// is reserved.
    pub fn domains(self) -> u32 {
        1 << self.number_bits & !1
    }

    /// Whether tables of `width` can be walked.
    pub fn includes(self, width: AddressWidth) -> bool {
        self.widths >> width.encoding() & 1 != 0
    }

    /// The format with the fewest levels whose addresses have at least `needed` bits and lead to
    /// any address of a bus of `host_width` bits. `None` if no width will do.
    pub fn format(self, needed: u32, host_width: u16) -> Option<SecondStage> {
        if needed > self.reach {
            return None;
        }
        let width = AddressWidth::ALL
            .into_iter()
            .find(|&width| self.includes(width) && width.bits() >= needed)?;
        let largest = match self.large_pages & 0b11 {
            0b11 => PageSize::GiB1,
            0b01 => PageSize::MiB2,
            _ => PageSize::KiB4,
        };
        Some(SecondStage {
            width,
            reach: self.reach.min(width.bits()) as u8,
            snoops: self.snoops,
            geometry: Geometry::new(width.bits(), u32::from(host_width).clamp(32, 52), largest),
        })
    }
}

/// The second-stage table of some width.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct SecondStage {
    geometry: Geometry,
    width: AddressWidth,
    // May be less than the width: units that walk four levels but take 39 bits are common.
    reach: u8,
    snoops: bool,
}

impl SecondStage {
    /// The width a context entry must give.
    pub const fn address_width(&self) -> AddressWidth {
        self.width
    }

    /// Bits of the addresses that devices may use.
    pub const fn reach(&self) -> u32 {
        self.reach as u32
    }
}

impl Format for SecondStage {
    type Input = Iova;
    type Attributes = Access;

    fn geometry(&self) -> Geometry {
        self.geometry
    }

    fn table(&self, table: Hpa) -> u64 {
        word(table, Access::ReadWrite).0
    }

    fn leaf(&self, output: Hpa, size: PageSize, access: Access) -> u64 {
        let mut entry = word(output, access);
        entry.set_ps(size != PageSize::KiB4);
        // Without this a device could ask for a transfer that leaves stale lines in caches.
        entry.set_snp(self.snoops);
        entry.0
    }

    fn decode(&self, word: u64, level: Level) -> Entry<Access> {
        let entry = second_stage::Entry(word);
        let at = Hpa::new(entry.address() << 12);
        let access = match (entry.r(), entry.w()) {
            (false, false) => return Entry::Absent,
            (true, false) => Access::Read,
            (false, true) => Access::Write,
            (true, true) => Access::ReadWrite,
        };
        if level == Level::LOWEST {
            return Entry::Leaf(at, access);
        }
        if !entry.ps() {
            return Entry::Table(at);
        }
        match level.page_size() {
            Some(size)
                if size <= self.geometry.largest() && at.raw().is_multiple_of(size.bytes()) =>
            {
                Entry::Leaf(at, access)
            }
            _ => Entry::Absent,
        }
    }
}

fn word(at: Hpa, access: Access) -> second_stage::Entry {
    let mut entry = second_stage::Entry(0);
    entry.set_r(access != Access::Write);
    entry.set_w(access != Access::Read);
    entry.set_address(at.raw() >> 12);
    entry
}

const _: () = {
    let [three, four, five] = AddressWidth::ALL;
    assert!(Geometry::new(three.bits(), 52, PageSize::GiB1).levels() == 3);
    assert!(Geometry::new(four.bits(), 52, PageSize::GiB1).levels() == 4);
    assert!(Geometry::new(five.bits(), 52, PageSize::GiB1).levels() == 5);
};
