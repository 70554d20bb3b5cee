//! What the unit says it can do, made of what the rest of this crate does.

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
/// Bits of the addresses that devices may use.
const ADDRESS_BITS: u8 = 48;

/// How wide the ids of interrupt destinations are that the machine can carry.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Width {
    /// 8 bits.
    Narrow,
    /// 32 bits.
    Wide,
}

/// Version 1.0.
pub(crate) fn version() -> Ver {
    let mut version = Ver(0);
    version.set_max(1);
    version
}

/// No caching mode: what becomes present needs no invalidation. No write buffer, no protected memory, no
/// fault log, no posted interrupts.
pub(crate) fn capabilities() -> Cap {
    let mut cap = Cap(0);
    // 16 bits of domain number.
    cap.set_nd(6);
    // Three and four levels.
    cap.set_sagaw(0b110);
    cap.set_mgaw(ADDRESS_BITS - 1);
    cap.set_fro(RECORDS_AT);
    cap.set_nfr(RECORDS as u8 - 1);
    // 2 MiB and 1 GiB.
    cap.set_sslps(0b11);
    cap.set_psi(true);
    cap.set_mamv(LARGEST_MASK);
    cap.set_dwd(true);
    cap.set_drd(true);
    cap
}

/// No device TLBs, no snoop control, no scalable mode. Tables are read through the processor's caches.
pub(crate) fn extended(width: Width) -> Ecap {
    let mut ecap = Ecap(0);
    ecap.set_c(true);
    ecap.set_qi(true);
    ecap.set_ir(true);
    ecap.set_eim(width == Width::Wide);
    ecap.set_pt(true);
    ecap.set_iro(IOTLB_AT);
    ecap.set_mhmv(LARGEST_INDEX_MASK);
    ecap
}
