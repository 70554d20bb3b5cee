//! The context entry of legacy mode (section 9.3): one per function, 128 bits.

use bitfield::bitfield;

use super::bits;

/// Entries in a context table: one per device and function of a bus.
pub const ENTRIES: usize = 256;

bitfield! {
    /// Bits 63:0 of a context entry.
    #[derive(Clone, Copy, PartialEq, Eq)]
    pub struct ContextLow(pub u64);
    impl Debug;
    /// Present. While clear, hardware looks at no other field but FPD.
    pub p, set_p: 0;
    /// Fault processing disable: faults of the function are not recorded.
    pub fpd, set_fpd: 1;
    /// Translation type.
    pub u8, tt, set_tt: 3, 2;
    /// Page number of the second-stage table.
    pub u64, ssptptr, set_ssptptr: 63, 12;
}

bitfield! {
    /// Bits 127:64 of a context entry.
    #[derive(Clone, Copy, PartialEq, Eq)]
    pub struct ContextHigh(pub u64);
    impl Debug;
    /// Address width: 1 = 39, 2 = 48, 3 = 57 bits.
    pub u8, aw, set_aw: 2, 0;
    /// Bits hardware ignores.
    pub u8, ignored, set_ignored: 6, 3;
    /// Domain id.
    pub u16, did, set_did: 23, 8;
}

/// Values of [`ContextLow::tt`].
pub mod tt {
    /// Untranslated requests go through the second stage; translated ones are blocked.
    pub const SECOND_STAGE: u8 = 0b00;
    /// As [`SECOND_STAGE`], and the function may use a device TLB.
    pub const DEVICE_TLB: u8 = 0b01;
    /// Requests pass untranslated.
    pub const PASS_THROUGH: u8 = 0b10;
}

bits!(ContextLow: u64, ContextHigh: u64);
