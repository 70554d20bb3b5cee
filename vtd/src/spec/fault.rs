//! Fault records (section "Fault Recording Registers") and fault reasons (chapter 7).

use core::fmt;

use bitfield::bitfield;

use super::bits;

/// Bytes in a fault-recording register.
pub const RECORD_SIZE: u32 = 16;

bitfield! {
    /// Bits 127:64 of a fault-recording register.
    #[derive(Clone, Copy, PartialEq, Eq)]
    pub struct RecordHigh(pub u64);
    impl Debug;
    /// Source id.
    pub u16, sid, set_sid: 15, 0;
    /// Second bit of the request's type.
    pub t2, set_t2: 28;
    /// Fault reason.
    pub u8, fr, set_fr: 39, 32;
    /// Address type.
    pub u8, at, set_at: 61, 60;
    /// First bit of the request's type: 0 write, 1 read or AtomicOp.
    pub t1, set_t1: 62;
    /// Fault: the record holds one. Cleared by writing one.
    pub f, set_f: 63;
}

bits!(RecordHigh: u64);

/// The bit of the record's last double word that is [`RecordHigh::f`].
pub const RECORD_F_IN_TOP_HALF: u32 = 1 << 31;

/// A fault reason as hardware encodes it; every value is possible.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
#[repr(transparent)]
pub struct Reason(pub u8);

impl Reason {
    /// The bus's root entry is not present.
    pub const ROOT_NOT_PRESENT: Self = Self(0x01);
    /// The function's context entry is not present.
    pub const CONTEXT_NOT_PRESENT: Self = Self(0x02);
    /// The context entry is programmed wrongly.
    pub const CONTEXT_INVALID: Self = Self(0x03);
    /// The address is beyond the domain's width.
    pub const BEYOND_WIDTH: Self = Self(0x04);
    /// A write met no write permission.
    pub const WRITE_DENIED: Self = Self(0x05);
    /// A read met no read permission.
    pub const READ_DENIED: Self = Self(0x06);
    /// A table could not be fetched.
    pub const TABLE_UNREACHABLE: Self = Self(0x07);
    /// The root table could not be fetched.
    pub const ROOT_UNREACHABLE: Self = Self(0x08);
    /// The context table could not be fetched.
    pub const CONTEXT_UNREACHABLE: Self = Self(0x09);
    /// Reserved bits are set in the root entry.
    pub const ROOT_RESERVED: Self = Self(0x0a);
    /// Reserved bits are set in the context entry.
    pub const CONTEXT_RESERVED: Self = Self(0x0b);
    /// Reserved bits are set in a second-stage entry.
    pub const ENTRY_RESERVED: Self = Self(0x0c);
    /// A translation or translated request, which the context entry blocks.
    pub const TRANSLATED_BLOCKED: Self = Self(0x0d);
    /// Reserved bits are set in an interrupt request.
    pub const INTERRUPT_RESERVED: Self = Self(0x20);
    /// The interrupt's index is beyond the table.
    pub const INTERRUPT_BEYOND_TABLE: Self = Self(0x21);
    /// The interrupt's entry is not present.
    pub const INTERRUPT_NOT_PRESENT: Self = Self(0x22);
    /// The interrupt-remapping table could not be fetched.
    pub const INTERRUPT_TABLE_UNREACHABLE: Self = Self(0x23);
    /// Reserved bits are set in the interrupt's entry.
    pub const INTERRUPT_ENTRY_RESERVED: Self = Self(0x24);
    /// A compatibility-format interrupt was blocked.
    pub const COMPATIBILITY_BLOCKED: Self = Self(0x25);
    /// The interrupt's requester is not its entry's.
    pub const INTERRUPT_WRONG_SOURCE: Self = Self(0x26);

    /// Whether the request was an interrupt, not a memory access.
    pub const fn is_interrupt(self) -> bool {
        self.0 >= 0x20 && self.0 < 0x30
    }
}

impl fmt::Display for Reason {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match *self {
            Self::ROOT_NOT_PRESENT => "its bus has no entry",
            Self::CONTEXT_NOT_PRESENT => "the device has no entry",
            Self::CONTEXT_INVALID => "the device's entry is invalid",
            Self::BEYOND_WIDTH => "the address is beyond the domain",
            Self::WRITE_DENIED => "no permission to write",
            Self::READ_DENIED => "no permission to read",
            Self::TABLE_UNREACHABLE => "a table could not be fetched",
            Self::ROOT_UNREACHABLE => "the root table could not be fetched",
            Self::CONTEXT_UNREACHABLE => "the context table could not be fetched",
            Self::ROOT_RESERVED => "reserved bits in the root entry",
            Self::CONTEXT_RESERVED => "reserved bits in the device's entry",
            Self::ENTRY_RESERVED => "reserved bits in a table entry",
            Self::TRANSLATED_BLOCKED => "the device claims translated addresses",
            Self::INTERRUPT_RESERVED => "reserved bits in the interrupt request",
            Self::INTERRUPT_BEYOND_TABLE => "interrupt index beyond the table",
            Self::INTERRUPT_NOT_PRESENT => "the interrupt's entry is not present",
            Self::INTERRUPT_TABLE_UNREACHABLE => "the interrupt table could not be fetched",
            Self::INTERRUPT_ENTRY_RESERVED => "reserved bits in the interrupt's entry",
            Self::COMPATIBILITY_BLOCKED => "compatibility-format interrupt blocked",
            Self::INTERRUPT_WRONG_SOURCE => "the interrupt belongs to another device",
            Self(other) => return write!(f, "fault reason {other:#04x}"),
        })
    }
}

impl fmt::Debug for Reason {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Reason({:#04x}: {self})", self.0)
    }
}
