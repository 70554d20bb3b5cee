//! Interrupt requests on the bus: compatibility and remappable format (section 5.1.2).

use bitfield::bitfield;

use super::bits;

/// Bits 31:20 of every interrupt request's address.
pub const ADDRESS_PREFIX: u16 = 0xfee;

/// Delivery modes of requests, redirection entries and IRTEs.
pub mod delivery {
    /// The vector, to the destination.
    pub const FIXED: u8 = 0b000;
    /// The vector, to the least busy of the destinations.
    pub const LOWEST_PRIORITY: u8 = 0b001;
    /// System management interrupt.
    pub const SMI: u8 = 0b010;
    /// Non-maskable interrupt.
    pub const NMI: u8 = 0b100;
    /// Reset of the processor.
    pub const INIT: u8 = 0b101;
    /// Vector from the legacy interrupt controller.
    pub const EXTINT: u8 = 0b111;
}

bitfield! {
    /// Address of a compatibility-format request.
    #[derive(Clone, Copy, PartialEq, Eq)]
    pub struct CompatibilityAddress(pub u32);
    impl Debug;
    /// Destination mode: 0 physical, 1 logical.
    pub dm, set_dm: 2;
    /// Redirection hint.
    pub rh, set_rh: 3;
    /// Format: 0 for compatibility.
    pub format, set_format: 4;
    /// Bits the format reserves.
    pub u8, reserved, set_reserved: 11, 5;
    /// Destination, an xAPIC id.
    pub u8, destination, set_destination: 19, 12;
    /// Always [`ADDRESS_PREFIX`].
    pub u16, prefix, set_prefix: 31, 20;
}

bitfield! {
    /// Data of a compatibility-format request.
    #[derive(Clone, Copy, PartialEq, Eq)]
    pub struct CompatibilityData(pub u32);
    impl Debug;
    /// Vector.
    pub u8, vector, set_vector: 7, 0;
    /// Delivery mode, see [`delivery`].
    pub u8, delivery, set_delivery: 10, 8;
    /// Level asserted, for level-triggered requests.
    pub asserted, set_asserted: 14;
    /// Trigger mode: 0 edge, 1 level.
    pub tm, set_tm: 15;
}

bitfield! {
    /// Address of a remappable-format request.
    #[derive(Clone, Copy, PartialEq, Eq)]
    pub struct RemappableAddress(pub u32);
    impl Debug;
    /// Bit 15 of the handle.
    pub handle_15, set_handle_15: 2;
    /// Subhandle valid: the data's low half is added to the handle.
    pub shv, set_shv: 3;
    /// Format: 1 for remappable.
    pub format, set_format: 4;
    /// Bits 14:0 of the handle.
    pub u16, handle_14_0, set_handle_14_0: 19, 5;
    /// Always [`ADDRESS_PREFIX`].
    pub u16, prefix, set_prefix: 31, 20;
}

bitfield! {
    /// An I/O APIC redirection entry in compatibility format.
    #[derive(Clone, Copy, PartialEq, Eq)]
    pub struct CompatibilityRedirection(pub u64);
    impl Debug;
    /// Vector.
    pub u8, vector, set_vector: 7, 0;
    /// Delivery mode, see [`delivery`].
    pub u8, delivery, set_delivery: 10, 8;
    /// Destination mode: 0 physical, 1 logical.
    pub dm, set_dm: 11;
    /// Delivery status. Read only.
    pub delivery_status, set_delivery_status: 12;
    /// Polarity: 1 = active low.
    pub polarity, set_polarity: 13;
    /// Remote IRR. Read only.
    pub remote_irr, set_remote_irr: 14;
    /// Trigger mode: 1 = level.
    pub tm, set_tm: 15;
    /// Mask.
    pub mask, set_mask: 16;
    /// Bits the format reserves.
    pub u32, reserved, set_reserved: 47, 17;
    /// Format: 0 for compatibility.
    pub format, set_format: 48;
    /// Destination, an xAPIC id.
    pub u8, destination, set_destination: 63, 56;
}

bitfield! {
    /// An I/O APIC redirection entry in remappable format (section 5.1.5.1).
    #[derive(Clone, Copy, PartialEq, Eq)]
    pub struct RemappableRedirection(pub u64);
    impl Debug;
    /// Vector; must equal the IRTE's for level-triggered pins.
    pub u8, vector, set_vector: 7, 0;
    /// Bit 15 of the handle.
    pub handle_15, set_handle_15: 11;
    /// Delivery status. Read only.
    pub delivery_status, set_delivery_status: 12;
    /// Polarity: 1 = active low.
    pub polarity, set_polarity: 13;
    /// Remote IRR. Read only.
    pub remote_irr, set_remote_irr: 14;
    /// Trigger mode: 1 = level; must equal the IRTE's.
    pub tm, set_tm: 15;
    /// Mask.
    pub mask, set_mask: 16;
    /// Format: 1 for remappable.
    pub format, set_format: 48;
    /// Bits 14:0 of the handle.
    pub u16, handle_14_0, set_handle_14_0: 63, 49;
}

bits! {
    CompatibilityAddress: u32, CompatibilityData: u32, RemappableAddress: u32,
    CompatibilityRedirection: u64, RemappableRedirection: u64,
}
