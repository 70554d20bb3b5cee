//! The first 64 bytes: header types 0 (endpoints) and 1 (bridges).
//!
//! Sources: PCI Local Bus 3.0, section 6.1 and 6.2; PCI-to-PCI Bridge Architecture 1.2, chapter
//! 3; PCI Express Base 6.0, section 7.5.1.

use bitfield::bitfield;

/// Offset of vendor id (bits 15:0) and device id (bits 31:16).
pub const IDENTITY: u16 = 0x00;
/// Offset of [`Command`], 16 bits. Status, 16 bits of write-1-to-clear flags, follows.
pub const COMMAND: u16 = 0x04;
/// Offset of [`Status`].
pub const STATUS: u16 = 0x06;
/// Offset of [`Class`].
pub const CLASS: u16 = 0x08;
/// Offset of [`HeaderType`], 8 bits.
pub const HEADER_TYPE: u16 = 0x0e;
/// Offset of the first base address register; the next ones follow every 4 bytes.
pub const BARS: u16 = 0x10;
/// Base address registers in header type 0.
pub const ENDPOINT_BARS: u16 = 6;
/// Base address registers in header type 1.
pub const BRIDGE_BARS: u16 = 2;
/// Offset of [`BusNumbers`] in header type 1.
pub const BUS_NUMBERS: u16 = 0x18;
/// Offset of a bridge's window of ports: [`PortWindow`], 16 bits. The secondary status register,
/// flags that are cleared by writing them, follows.
pub const PORT_WINDOW: u16 = 0x1c;
/// Offset of the upper 16 bits of base (low half) and limit (high half) of a bridge's ports.
pub const PORT_WINDOW_UPPER: u16 = 0x30;
/// Offset of the non-prefetchable [`Window`] in header type 1.
pub const MEMORY_WINDOW: u16 = 0x20;
/// Offset of the prefetchable [`Window`] in header type 1.
pub const PREFETCHABLE_WINDOW: u16 = 0x24;
/// Offset of the upper 32 bits of the prefetchable base.
pub const PREFETCHABLE_BASE_UPPER: u16 = 0x28;
/// Offset of the upper 32 bits of the prefetchable limit.
pub const PREFETCHABLE_LIMIT_UPPER: u16 = 0x2c;
/// Offset of subsystem vendor id and subsystem id in header type 0.
pub const SUBSYSTEM: u16 = 0x2c;
/// Offset of the expansion ROM base in header type 0.
pub const ENDPOINT_ROM: u16 = 0x30;
/// Offset of the expansion ROM base in header type 1.
pub const BRIDGE_ROM: u16 = 0x38;
/// Offset of the capabilities pointer, 8 bits.
pub const CAPABILITIES: u16 = 0x34;
/// Offset of the double word that ends with [`BridgeControl`] in header type 1.
pub const INTERRUPT: u16 = 0x3c;
/// Offset of the first register the header does not define.
pub const DEVICE_SPECIFIC: u16 = 0x40;

bitfield! {
    /// The command register.
    #[derive(Clone, Copy, PartialEq, Eq, Default)]
    #[repr(transparent)]
    pub struct Command(u16);
    impl Debug;
    /// Answers I/O space accesses.
    pub io_space, set_io_space: 0;
    /// Answers memory space accesses: base address registers decode.
    pub memory_space, set_memory_space: 1;
    /// May issue memory requests, interrupts by message included.
    pub bus_master, set_bus_master: 2;
    /// May not assert INTx.
    pub interrupt_disable, set_interrupt_disable: 10;
}

bitfield! {
    /// The status register.
    #[derive(Clone, Copy, PartialEq, Eq, Default)]
    #[repr(transparent)]
    pub struct Status(u16);
    impl Debug;
    /// There is a list of capabilities.
    pub capabilities, _: 4;
}

bitfield! {
    /// Revision and class code.
    #[derive(Clone, Copy, PartialEq, Eq, Default)]
    #[repr(transparent)]
    pub struct Class(u32);
    impl Debug;
    /// Revision id.
    pub u8, revision, _: 7, 0;
    /// Register-level programming interface.
    pub u8, interface, _: 15, 8;
    /// Sub-class.
    pub u8, subclass, _: 23, 16;
    /// Base class.
    pub u8, base, _: 31, 24;
}

bitfield! {
    /// The header type register.
    #[derive(Clone, Copy, PartialEq, Eq, Default)]
    #[repr(transparent)]
    pub struct HeaderType(u8);
    impl Debug;
    /// The layout of bytes 0x10 to 0x3f.
    pub u8, layout, _: 6, 0;
    /// The device has more than one function.
    pub multi_function, _: 7;
}

impl HeaderType {
    /// Layout of endpoints.
    pub const ENDPOINT: u8 = 0;
    /// Layout of PCI-to-PCI bridges and PCI Express ports.
    pub const BRIDGE: u8 = 1;
}

bitfield! {
    /// The low half of a base address register.
    #[derive(Clone, Copy, PartialEq, Eq, Default)]
    #[repr(transparent)]
    pub struct BaseAddress(u32);
    impl Debug;
    /// In I/O space, else in memory space.
    pub is_io, _: 0;
    /// For memory: 0 for 32 bits, 2 for 64 bits of address.
    pub u8, memory_type, _: 2, 1;
    /// For memory: reads have no side effects.
    pub prefetchable, _: 3;
}

impl BaseAddress {
    /// The memory type of a pair of registers that hold 64 bits of address.
    pub const WIDE: u8 = 2;
    /// Bits that are no address, in memory space.
    pub const MEMORY_FLAGS: u32 = 0xf;
    /// Bits that are no address, in I/O space.
    pub const IO_FLAGS: u32 = 0x3;
    /// Address bits of an expansion ROM base.
    pub const ROM_ADDRESS: u32 = 0xffff_f800;
    /// The enable bit of an expansion ROM base.
    pub const ROM_ENABLE: u32 = 1;
}

bitfield! {
    /// The bus numbers of a bridge.
    #[derive(Clone, Copy, PartialEq, Eq, Default)]
    #[repr(transparent)]
    pub struct BusNumbers(u32);
    impl Debug;
    /// The bus above, as software recorded it; routes nothing.
    pub u8, primary, set_primary: 7, 0;
    /// The bus below.
    pub u8, secondary, set_secondary: 15, 8;
    /// The highest bus number below.
    pub u8, subordinate, set_subordinate: 23, 16;
}

bitfield! {
    /// Base and limit of a bridge's memory window, in units of 1 MiB.
    #[derive(Clone, Copy, PartialEq, Eq, Default)]
    #[repr(transparent)]
    pub struct Window(u32);
    impl Debug;
    /// Prefetchable only: 1 if the upper halves exist.
    pub u8, base_type, _: 3, 0;
    /// Address bits 31:20 of the first MiB.
    pub u16, base, set_base: 15, 4;
    /// Address bits 31:20 of the last MiB.
    pub u16, limit, set_limit: 31, 20;
}

bitfield! {
    /// The window of ports of a bridge, in units of 4096. Bridge 1.2, section 3.2.5.6.
    #[derive(Clone, Copy, PartialEq, Eq, Default)]
    pub struct PortWindow(u16);
    impl Debug;
    /// 0: 16 bits; 1: 32 bits.
    pub u8, base_type, _: 3, 0;
    /// Bits 15:12 of the first port.
    pub u8, base, _: 7, 4;
    /// Bits 15:12 of the last port.
    pub u8, limit, _: 15, 12;
}

bitfield! {
    /// The bridge control register (bits 31:16 of the double word at [`INTERRUPT`]).
    #[derive(Clone, Copy, PartialEq, Eq, Default)]
    #[repr(transparent)]
    pub struct BridgeControl(u16);
    impl Debug;
    /// Holds the secondary bus in reset.
    pub secondary_reset, _: 6;
}

macro_rules! raw {
    ($($name:ident: $word:ty),*) => { $(
        impl $name {
            /// Reads the register's bits.
            pub const fn new(raw: $word) -> Self {
                Self(raw)
            }
            /// The register's bits.
            pub const fn raw(self) -> $word {
                self.0
            }
        }
    )* };
}
pub(super) use raw;

raw!(Command: u16, Status: u16, Class: u32, HeaderType: u8, BaseAddress: u32, BusNumbers: u32, Window: u32, PortWindow: u16, BridgeControl: u16);

impl Command {
    /// The bit of [`Command::memory_space`].
    pub const MEMORY_SPACE: u16 = 1 << 1;
    /// The bit of [`Command::io_space`].
    pub const IO_SPACE: u16 = 1 << 0;
    /// The bit of [`Command::bus_master`].
    pub const BUS_MASTER: u16 = 1 << 2;
}
