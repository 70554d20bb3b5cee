//! Capabilities of the list in the first 256 bytes.
//!
//! Sources: PCI Local Bus 3.0, section 6.7 and 6.8; PCI Bus Power Management 1.2, section 3.2;
//! PCI Express Base 6.0, sections 7.5.2, 7.5.3, 7.7.1, 7.7.2, 7.8.5 and 7.8.11.

use bitfield::bitfield;

use super::header::raw;

/// What a capability is.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Hash)]
#[repr(transparent)]
pub struct Id(pub u8);

impl Id {
    /// Power management.
    pub const POWER: Self = Self(0x01);
    /// Message signalled interrupts.
    pub const MSI: Self = Self(0x05);
    /// PCI-X.
    pub const PCI_X: Self = Self(0x07);
    /// PCI Express.
    pub const EXPRESS: Self = Self(0x10);
    /// Message signalled interrupts with a table in memory space.
    pub const MSIX: Self = Self(0x11);
    /// Advanced features: a function-level reset for conventional devices.
    pub const ADVANCED_FEATURES: Self = Self(0x13);
    /// Flattening portal bridge: what a port passes on, besides its bus numbers and windows.
    pub const FLATTENING_PORTAL_BRIDGE: Self = Self(0x15);
    /// Enhanced allocation: resources at addresses no base address register holds.
    pub const ENHANCED_ALLOCATION: Self = Self(0x14);
}

bitfield! {
    /// Power management control and status, 4 bytes into [`Id::POWER`].
    #[derive(Clone, Copy, PartialEq, Eq, Default)]
    #[repr(transparent)]
    pub struct PowerControl(u32);
    impl Debug;
    /// 0 for D0 to 3 for D3hot.
    pub u8, state, _: 1, 0;
    /// Going from D3hot to D0 loses nothing.
    pub no_soft_reset, _: 3;
}

bitfield! {
    /// MSI message control, in bits 31:16 of the capability's first double word.
    #[derive(Clone, Copy, PartialEq, Eq, Default)]
    #[repr(transparent)]
    pub struct MsiControl(u16);
    impl Debug;
    /// Messages are sent instead of INTx.
    pub enable, _: 0;
    /// Binary logarithm of the vectors software granted.
    pub u8, vectors_granted, _: 6, 4;
    /// There is an upper address register.
    pub wide, _: 7;
    /// There are mask and pending registers.
    pub maskable, _: 8;
    /// Message data may have 32 bits.
    pub extended_data, _: 9;
    /// Message data has 32 bits.
    pub extended_data_enable, _: 10;
}

bitfield! {
    /// MSI-X message control, in bits 31:16 of the capability's first double word.
    #[derive(Clone, Copy, PartialEq, Eq, Default)]
    #[repr(transparent)]
    pub struct MsixControl(u16);
    impl Debug;
    /// Entries of the table, less one.
    pub u16, last_entry, _: 10, 0;
    /// Every vector is masked, whatever its own bit says.
    pub function_mask, _: 14;
    /// Messages are sent instead of INTx.
    pub enable, _: 15;
}

bitfield! {
    /// Where the MSI-X table (4 bytes in) or its pending bits (8 bytes in) are.
    #[derive(Clone, Copy, PartialEq, Eq, Default)]
    #[repr(transparent)]
    pub struct MsixPlace(u32);
    impl Debug;
    /// Which base address register, 0 to 5; 6 and 7 are reserved.
    pub u8, bar, _: 2, 0;
}

impl MsixPlace {
    /// The offset from what the base address register says, a multiple of 8.
    pub const fn offset(self) -> u32 {
        self.0 & !7
    }
}

/// Offsets into [`Id::EXPRESS`].
pub mod express {
    /// Device capabilities: phantom functions, function-level reset.
    pub const DEVICE_CAPABILITIES: u16 = 0x04;
    /// Device control.
    pub const DEVICE_CONTROL: u16 = 0x08;
    /// Link control.
    pub const LINK_CONTROL: u16 = 0x10;
    /// Slot capabilities.
    pub const SLOT_CAPABILITIES: u16 = 0x14;
    /// Slot control.
    pub const SLOT_CONTROL: u16 = 0x18;
    /// Device capabilities 2.
    pub const DEVICE_CAPABILITIES_2: u16 = 0x24;
    /// Device control 2.
    pub const DEVICE_CONTROL_2: u16 = 0x28;
}

bitfield! {
    /// PCI Express capabilities register, in bits 31:16 of the first double word.
    #[derive(Clone, Copy, PartialEq, Eq, Default)]
    #[repr(transparent)]
    pub struct ExpressFlags(u16);
    impl Debug;
    /// Version of the structure; from 2 on the second set of registers exists.
    pub u8, version, _: 3, 0;
    /// What kind of function or port this is; see [`PortType`].
    pub u8, port_type, _: 7, 4;
    /// A port with a slot that can be filled.
    pub slot_implemented, _: 8;
}

/// The device/port type of [`ExpressFlags::port_type`].
#[derive(Clone, Copy, PartialEq, Eq, Debug, Hash)]
#[repr(transparent)]
pub struct PortType(pub u8);

impl PortType {
    /// PCI Express endpoint.
    pub const ENDPOINT: Self = Self(0x0);
    /// Legacy PCI Express endpoint.
    pub const LEGACY_ENDPOINT: Self = Self(0x1);
    /// Root port of a root complex.
    pub const ROOT_PORT: Self = Self(0x4);
    /// Upstream port of a switch.
    pub const UPSTREAM: Self = Self(0x5);
    /// Downstream port of a switch.
    pub const DOWNSTREAM: Self = Self(0x6);
    /// Bridge from PCI Express down to conventional PCI.
    pub const EXPRESS_TO_PCI: Self = Self(0x7);
    /// Bridge from conventional PCI down to PCI Express.
    pub const PCI_TO_EXPRESS: Self = Self(0x8);
    /// Endpoint integrated in the root complex.
    pub const INTEGRATED_ENDPOINT: Self = Self(0x9);
    /// Event collector of the root complex.
    pub const EVENT_COLLECTOR: Self = Self(0xa);
}

bitfield! {
    /// Device capabilities.
    #[derive(Clone, Copy, PartialEq, Eq, Default)]
    #[repr(transparent)]
    pub struct DeviceCapabilities(u32);
    impl Debug;
    /// High bits of the function number that may be used for phantom functions: 0 to 3.
    pub u8, phantom_bits, _: 4, 3;
    /// Can be reset alone.
    pub function_reset, _: 28;
}

bitfield! {
    /// Device control, in bits 15:0 of its double word.
    #[derive(Clone, Copy, PartialEq, Eq, Default)]
    #[repr(transparent)]
    pub struct DeviceControl(u16);
    impl Debug;
    /// May use unclaimed function numbers as requester ids.
    pub phantom_functions, set_phantom_functions: 9;
    /// Resets the function (for bridges from PCI Express to PCI: allows configuration retries).
    pub reset, _: 15;
}

bitfield! {
    /// Link control, in bits 15:0 of its double word.
    #[derive(Clone, Copy, PartialEq, Eq, Default)]
    #[repr(transparent)]
    pub struct LinkControl(u16);
    impl Debug;
    /// The link is down; what is below was reset when it comes back.
    pub disable, _: 4;
}

bitfield! {
    /// Slot capabilities.
    #[derive(Clone, Copy, PartialEq, Eq, Default)]
    #[repr(transparent)]
    pub struct SlotCapabilities(u32);
    impl Debug;
    /// Software can switch the slot's power.
    pub power_controller, _: 1;
    /// A device may vanish without notice.
    pub surprise, _: 5;
    /// Devices may come and go.
    pub hot_plug, _: 6;
}

bitfield! {
    /// Slot control, in bits 15:0 of its double word.
    #[derive(Clone, Copy, PartialEq, Eq, Default)]
    #[repr(transparent)]
    pub struct SlotControl(u16);
    impl Debug;
    /// The slot's power is off.
    pub power_off, _: 10;
}

bitfield! {
    /// Device control 2, in bits 15:0 of its double word.
    #[derive(Clone, Copy, PartialEq, Eq, Default)]
    #[repr(transparent)]
    pub struct DeviceControl2(u16);
    impl Debug;
    /// The port lets the 5 device bits be function bits.
    pub ari_forwarding, _: 5;
}

raw!(
    PowerControl: u32, MsiControl: u16, MsixControl: u16, MsixPlace: u32, ExpressFlags: u16,
    DeviceCapabilities: u32, DeviceControl: u16, LinkControl: u16, SlotCapabilities: u32,
    SlotControl: u16, DeviceControl2: u16
);
