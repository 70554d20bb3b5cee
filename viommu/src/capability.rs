//! What the unit says it can do, made of what the rest of this crate does.

use paging::PageSize;
use vtd::domain::SecondStage;
use vtd::spec::registers::{Cap, Ecap, Ver};

use crate::fault::RECORDS;

/// Where the fault records are, in units of 16 bytes from the register base.
pub(crate) const RECORDS_AT: u16 = 0x22;
/// Where the IOTLB registers are, in the same units.
pub(crate) const IOTLB_AT: u16 = 0xf;
/// The largest address mask of a page-selective invalidation: 1 GiB.
pub(crate) const LARGEST_MASK: u8 = 18;
/// The largest index mask of an interrupt-entry invalidation.
pub(crate) const LARGEST_INDEX_MASK: u8 = 15;
/// Bits of the addresses that devices may use at most.
const ADDRESS_BITS: u8 = 48;
/// Bits of addresses that three levels of tables resolve.
const THREE_LEVELS: u8 = 39;

/// How wide the ids of interrupt destinations are that the machine can carry.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Width {
    /// 8 bits.
    Narrow,
    /// 32 bits.
    Wide,
}

/// What a unit does with the guest's tables of pages.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) enum Kind {
    /// They are walked for each access.
    Walks,
    /// They are carried over into others.
    Carries(Limits),
    /// Nothing: only interrupts are remapped.
    Leaves,
}

/// What the tables can hold that the guest's are carried over into.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Limits {
    /// Bits of the addresses that devices may use.
    pub(crate) bits: u8,
    /// The largest page.
    pub(crate) largest: PageSize,
}

impl Limits {
    /// Those of tables of this format.
    pub fn of(format: &SecondStage) -> Self {
        Self {
            bits: format.reach().min(u32::from(ADDRESS_BITS)) as u8,
            largest: paging::Format::geometry(format).largest(),
        }
    }

    /// Those of a unit that walks the guest's tables itself.
    const NONE: Self = Self {
        bits: ADDRESS_BITS,
        largest: PageSize::GiB1,
    };

    /// Whether tables for addresses of so many bits are offered.
    pub(crate) fn have_tables(self, bits: u32) -> bool {
        bits <= u32::from(THREE_LEVELS) || self.bits > THREE_LEVELS
    }

    /// The last address that a device may use.
    pub fn last(self) -> u64 {
        (1 << self.bits) - 1
    }
}

/// Version 1.0.
pub(crate) fn version() -> Ver {
    let mut version = Ver(0);
    version.set_max(1);
    version
}

/// Caching mode where tables are carried over: what becomes present needs an invalidation, too. No write buffer,
/// no protected memory, no fault log, no posted interrupts.
/// Without tables of pages there is no width of addresses.
pub(crate) fn capabilities(kind: Kind) -> Cap {
    let limits = match kind {
        Kind::Carries(limits) => limits,
        Kind::Walks | Kind::Leaves => Limits::NONE,
    };
    let mut cap = Cap(0);
    // 16 bits of domain number.
    cap.set_nd(6);
    cap.set_cm(matches!(kind, Kind::Carries(_)));
    // Three and four levels.
    cap.set_sagaw(match kind {
        Kind::Leaves => 0,
        _ if limits.have_tables(48) => 0b110,
        _ => 0b010,
    });
    cap.set_mgaw(limits.bits - 1);
    cap.set_fro(RECORDS_AT);
    cap.set_nfr(RECORDS as u8 - 1);
    cap.set_sslps(match limits.largest {
        PageSize::KiB4 => 0,
        PageSize::MiB2 => 0b01,
        PageSize::GiB1 => 0b11,
    });
    cap.set_psi(true);
    cap.set_mamv(LARGEST_MASK);
    cap.set_dwd(true);
    cap.set_drd(true);
    cap
}

/// No device TLBs, no snoop control, no scalable mode. Tables are read through the processor's caches. What is
/// carried over is lent by tables: there addresses do not pass through.
pub(crate) fn extended(width: Width, kind: Kind) -> Ecap {
    let mut ecap = Ecap(0);
    ecap.set_c(true);
    ecap.set_qi(true);
    ecap.set_ir(true);
    ecap.set_eim(width == Width::Wide);
    ecap.set_pt(kind == Kind::Walks);
    ecap.set_iro(IOTLB_AT);
    ecap.set_mhmv(LARGEST_INDEX_MASK);
    ecap
}
