//! Extended capabilities of the list that starts at offset 0x100.
//!
//! Sources: PCI Express Base 6.0, sections 7.6.3, 7.7.11 (ACS), 7.8.7 (ARI), 9.3.3 (SR-IOV) and
//! 10.5 (ATS, PRI).

use bitfield::bitfield;

use super::header::raw;

/// Where the list starts.
pub const FIRST: u16 = 0x100;

/// What an extended capability is.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Hash)]
#[repr(transparent)]
pub struct Id(pub u16);

impl Id {
    /// Null capability.
    pub const NULL: Self = Self(0x0000);
    /// Advanced error reporting.
    pub const AER: Self = Self(0x0001);
    /// Vendor-specific extended capability.
    pub const VENDOR: Self = Self(0x000b);
    /// Access control services.
    pub const ACS: Self = Self(0x000d);
    /// Alternative routing-id interpretation.
    pub const ARI: Self = Self(0x000e);
    /// Address translation services.
    pub const ATS: Self = Self(0x000f);
    /// Single-root I/O virtualisation.
    pub const SRIOV: Self = Self(0x0010);
    /// Multi-root I/O virtualisation.
    pub const MRIOV: Self = Self(0x0011);
    /// Multicast.
    pub const MULTICAST: Self = Self(0x0012);
    /// Page request interface.
    pub const PRI: Self = Self(0x0013);
    /// Resizable base address registers.
    pub const RESIZABLE_BAR: Self = Self(0x0015);
    /// Process address space ids.
    pub const PASID: Self = Self(0x001b);
    /// Downstream port containment.
    pub const DPC: Self = Self(0x001d);
    /// Resizable base address registers of virtual functions.
    pub const VF_RESIZABLE_BAR: Self = Self(0x0024);
}

bitfield! {
    /// The first double word of an extended capability.
    #[derive(Clone, Copy, PartialEq, Eq, Default)]
    #[repr(transparent)]
    pub struct Header(u32);
    impl Debug;
    u16, raw_id, _: 15, 0;
    /// Version of the structure.
    pub u8, version, _: 19, 16;
    /// Offset of the next one, 0 at the end of the list.
    pub u16, next, set_next: 31, 20;
}

impl Header {
    /// What this capability is.
    pub fn id(self) -> Id {
        Id(self.raw_id())
    }
}

/// Offset into [`Id::ACS`] of capabilities (bits 15:0) and control (bits 31:16), same layout.
pub const ACS_CONTROL: u16 = 0x04;

bitfield! {
    /// Access control services, as supported or as enabled.
    #[derive(Clone, Copy, PartialEq, Eq, Default)]
    #[repr(transparent)]
    pub struct Acs(u16);
    impl Debug;
    /// Drops requests whose bus number is not below the port.
    pub source_validation, set_source_validation: 0;
    /// Drops requests that claim to be translated.
    pub translation_blocking, set_translation_blocking: 1;
    /// Sends peer-to-peer requests up to the root complex.
    pub request_redirect, set_request_redirect: 2;
    /// Sends peer-to-peer completions up to the root complex.
    pub completion_redirect, set_completion_redirect: 3;
    /// Sends requests that came up up again.
    pub upstream_forwarding, set_upstream_forwarding: 4;
    /// Filters peer-to-peer requests by a vector.
    pub egress_control, set_egress_control: 5;
    /// Lets translated requests go peer to peer.
    pub direct_translated, set_direct_translated: 6;
}

/// Offset into [`Id::ATS`] of capability (bits 15:0) and control (bits 31:16).
pub const ATS_CONTROL: u16 = 0x04;
/// The enable bit in the double word at [`ATS_CONTROL`].
pub const ATS_ENABLE: u32 = 1 << 31;

/// Offset into [`Id::ARI`] of its capability register.
pub const ARI_CAPABILITY: u16 = 0x04;

bitfield! {
    /// The ARI capability register.
    #[derive(Clone, Copy, PartialEq, Eq, Default)]
    #[repr(transparent)]
    pub struct AriCapability(u16);
    impl Debug;
    /// The next higher function number, 0 in the last function.
    pub u8, next_function, _: 15, 8;
}

/// Offsets into [`Id::SRIOV`].
pub mod sriov {
    /// Control in bits 15:0, status in bits 31:16.
    pub const CONTROL: u16 = 0x08;
    /// Initial VFs in bits 15:0, total VFs in bits 31:16.
    pub const LIMITS: u16 = 0x0c;
    /// Number of VFs in bits 15:0.
    pub const COUNT: u16 = 0x10;
    /// First VF offset in bits 15:0, VF stride in bits 31:16.
    pub const NUMBERING: u16 = 0x14;
    /// The device id of VFs in bits 31:16.
    pub const DEVICE: u16 = 0x18;
    /// System page size as one bit; bit 0 for 4 KiB.
    pub const PAGE_SIZE: u16 = 0x20;
    /// The first of six base address registers.
    pub const BARS: u16 = 0x24;
    /// Bytes in the structure.
    pub const LENGTH: u16 = 0x40;
}

bitfield! {
    /// SR-IOV control.
    #[derive(Clone, Copy, PartialEq, Eq, Default)]
    #[repr(transparent)]
    pub struct SriovControl(u16);
    impl Debug;
    /// Virtual functions exist.
    pub enable, set_enable: 0;
    /// Virtual functions answer memory space accesses.
    pub memory_space, set_memory_space: 3;
    /// They may have function numbers above 7, which changes where they begin.
    pub ari_hierarchy, set_ari_hierarchy: 4;
}

raw!(Header: u32, Acs: u16, AriCapability: u16, SriovControl: u16);
