//! The root entry of legacy mode (section 9.1): one per bus, 128 bits.

use bitfield::bitfield;

use super::bits;

/// Entries in a root table: one per bus.
pub const ENTRIES: usize = 256;

bitfield! {
    /// Bits 63:0 of a root entry. Bits 127:64 are reserved.
    #[derive(Clone, Copy, PartialEq, Eq)]
    pub struct RootEntry(pub u64);
    impl Debug;
    /// Present.
    pub p, set_p: 0;
    /// Page number of the bus's context table.
    pub u64, ctp, set_ctp: 63, 12;
}

bits!(RootEntry: u64);
