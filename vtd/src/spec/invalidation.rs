//! Descriptors of the invalidation queue (section 6.5.2): 128 bits each.

use bitfield::bitfield;

use super::bits;

/// Bytes in a descriptor.
pub const SIZE: usize = 16;

/// Values of a descriptor's type field, bits 3:0.
pub mod kind {
    /// Context-cache invalidate (section 6.5.2.1).
    pub const CONTEXT_CACHE: u8 = 0x1;
    /// IOTLB invalidate (section 6.5.2.3).
    pub const IOTLB: u8 = 0x2;
    /// Device-TLB invalidate (section 6.5.2.5).
    pub const DEVICE_TLB: u8 = 0x3;
    /// Interrupt entry cache invalidate (section 6.5.2.7).
    pub const INTERRUPT_ENTRY: u8 = 0x4;
    /// Invalidation wait (section 6.5.2.8).
    pub const WAIT: u8 = 0x5;
}

/// Granularities of context-cache and IOTLB descriptors.
pub mod granularity {
    /// Everything.
    pub const GLOBAL: u8 = 0b01;
    /// One domain.
    pub const DOMAIN: u8 = 0b10;
    /// One device (context cache) or one aligned run of pages (IOTLB).
    pub const SELECTIVE: u8 = 0b11;
}

bitfield! {
    /// Bits 63:0 of any descriptor.
    #[derive(Clone, Copy, PartialEq, Eq)]
    pub struct AnyLow(pub u64);
    impl Debug;
    /// Type, bits 3:0 of it.
    pub u8, kind, set_kind: 3, 0;
    /// Type, bits 6:4 of it.
    pub u8, kind_high, set_kind_high: 11, 9;
}

bitfield! {
    /// Bits 63:0 of a context-cache invalidate descriptor; bits 127:64 are reserved.
    #[derive(Clone, Copy, PartialEq, Eq)]
    pub struct ContextCacheLow(pub u64);
    impl Debug;
    /// Type.
    pub u8, kind, set_kind: 3, 0;
    /// Granularity.
    pub u8, g, set_g: 5, 4;
    /// Domain id.
    pub u16, did, set_did: 31, 16;
    /// Source id.
    pub u16, sid, set_sid: 47, 32;
    /// Function mask.
    pub u8, fm, set_fm: 49, 48;
}

bitfield! {
    /// Bits 63:0 of an IOTLB invalidate descriptor.
    #[derive(Clone, Copy, PartialEq, Eq)]
    pub struct IotlbLow(pub u64);
    impl Debug;
    /// Type.
    pub u8, kind, set_kind: 3, 0;
    /// Granularity.
    pub u8, g, set_g: 5, 4;
    /// Drain writes.
    pub dw, set_dw: 6;
    /// Drain reads.
    pub dr, set_dr: 7;
    /// Domain id.
    pub u16, did, set_did: 31, 16;
}

bitfield! {
    /// Bits 127:64 of an IOTLB invalidate descriptor.
    #[derive(Clone, Copy, PartialEq, Eq)]
    pub struct IotlbHigh(pub u64);
    impl Debug;
    /// Address mask: 2^AM pages, aligned to as much.
    pub u8, am, set_am: 5, 0;
    /// Invalidation hint: only leaf entries changed.
    pub ih, set_ih: 6;
    /// Page number.
    pub u64, address, set_address: 63, 12;
}

bitfield! {
    /// Bits 63:0 of an interrupt entry cache invalidate descriptor; bits 127:64 are reserved.
    #[derive(Clone, Copy, PartialEq, Eq)]
    pub struct InterruptEntryLow(pub u64);
    impl Debug;
    /// Type.
    pub u8, kind, set_kind: 3, 0;
    /// Granularity: 0 global, 1 by index.
    pub g, set_g: 4;
    /// Index mask: 2^IM entries, aligned to as much.
    pub u8, im, set_im: 31, 27;
    /// Index.
    pub u16, iidx, set_iidx: 47, 32;
}

bitfield! {
    /// Bits 63:0 of an invalidation wait descriptor. Bits 127:64 are the status address.
    #[derive(Clone, Copy, PartialEq, Eq)]
    pub struct WaitLow(pub u64);
    impl Debug;
    /// Type.
    pub u8, kind, set_kind: 3, 0;
    /// Raise the invalidation completion event.
    pub iflag, set_iflag: 4;
    /// Write the status data to the status address.
    pub sw, set_sw: 5;
    /// Fence: nothing behind this descriptor starts before it completed.
    pub fence, set_fence: 6;
    /// Drain page requests.
    pub pd, set_pd: 7;
    /// Status data.
    pub u32, status, set_status: 63, 32;
}

bits! {
    AnyLow: u64, ContextCacheLow: u64, IotlbLow: u64, IotlbHigh: u64, InterruptEntryLow: u64,
    WaitLow: u64,
}
