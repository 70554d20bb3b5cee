//! The interrupt-remapping table entry, remapped format (section 9.10): 128 bits.

use bitfield::bitfield;

use super::bits;

/// Bytes in an entry.
pub const SIZE: usize = 16;

bitfield! {
    /// Bits 63:0 of an entry.
    #[derive(Clone, Copy, PartialEq, Eq)]
    pub struct IrteLow(pub u64);
    impl Debug;
    /// Present. While clear, hardware looks at no other field but FPD.
    pub p, set_p: 0;
    /// Fault processing disable.
    pub fpd, set_fpd: 1;
    /// Destination mode: 0 physical, 1 logical.
    pub dm, set_dm: 2;
    /// Redirection hint.
    pub rh, set_rh: 3;
    /// Trigger mode: 0 edge, 1 level.
    pub tm, set_tm: 4;
    /// Delivery mode, see [`super::interrupt::delivery`].
    pub u8, dlm, set_dlm: 7, 5;
    /// Bits for software.
    pub u8, avail, set_avail: 11, 8;
    /// Mode: 0 remapped, 1 posted.
    pub im, set_im: 15;
    /// Vector.
    pub u8, v, set_v: 23, 16;
    /// Destination: an x2APIC id, or an xAPIC id in bits 15:8.
    pub u32, dst, set_dst: 63, 32;
}

bitfield! {
    /// Bits 127:64 of an entry.
    #[derive(Clone, Copy, PartialEq, Eq)]
    pub struct IrteHigh(pub u64);
    impl Debug;
    /// Source id.
    pub u16, sid, set_sid: 15, 0;
    /// Source id qualifier: 0 compares all 16 bits.
    pub u8, sq, set_sq: 17, 16;
    /// Source validation type.
    pub u8, svt, set_svt: 19, 18;
}

/// Values of [`IrteHigh::svt`].
pub mod svt {
    /// The requester is not verified.
    pub const NONE: u8 = 0b00;
    /// The requester id is compared with SID as SQ says.
    pub const SOURCE_ID: u8 = 0b01;
    /// The requester's bus lies between SID's high byte and its low byte.
    pub const BUS_RANGE: u8 = 0b10;
}

bits!(IrteLow: u64, IrteHigh: u64);
