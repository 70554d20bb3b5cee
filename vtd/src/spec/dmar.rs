//! The DMA remapping reporting table of ACPI (chapter 8): offsets and encodings.

/// The table's signature.
pub const SIGNATURE: [u8; 4] = *b"DMAR";

/// Bytes of the ACPI header common to all tables.
pub const ACPI_HEADER: usize = 36;

/// Bytes before the first remapping structure (section 8.1).
pub const HEADER: usize = 48;

/// Offset of the host address width, minus one (section 8.1).
pub const HOST_ADDRESS_WIDTH: usize = 36;

/// Offset of the flags (section 8.1).
pub const FLAGS: usize = 37;

/// Bits of the table's flags (section 8.1).
pub mod flags {
    /// The platform supports interrupt remapping.
    pub const INTR_REMAP: u8 = 1 << 0;
    /// The firmware asks software not to enable x2APIC mode.
    pub const X2APIC_OPT_OUT: u8 = 1 << 1;
    /// The firmware asks software to use DMA remapping from the start.
    pub const DMA_CTRL_PLATFORM_OPT_IN: u8 = 1 << 2;
}

/// Types of remapping structures (section 8.2).
pub mod structure {
    /// DMA remapping hardware unit definition.
    pub const DRHD: u16 = 0;
    /// Reserved memory region reporting.
    pub const RMRR: u16 = 1;
    /// Root port ATS capability reporting.
    pub const ATSR: u16 = 2;
    /// Remapping hardware static affinity.
    pub const RHSA: u16 = 3;
    /// ACPI name-space device declaration.
    pub const ANDD: u16 = 4;
    /// SoC integrated address translation cache reporting.
    pub const SATC: u16 = 5;
    /// SoC integrated device property reporting.
    pub const SIDP: u16 = 6;
}

/// Bit 0 of a DRHD's flags: the unit governs every device of its segment no other unit names.
pub const INCLUDE_PCI_ALL: u8 = 1 << 0;

/// Bit 0 of an ATSR's flags: every root port of the segment supports ATS.
pub const ALL_PORTS: u8 = 1 << 0;

/// Bit 0 of an SATC's flags: the devices do not work without their translation caches.
pub const ATC_REQUIRED: u8 = 1 << 0;

/// Types of device scope entries (section 8.3.1).
pub mod scope {
    /// One function.
    pub const ENDPOINT: u8 = 1;
    /// A bridge and everything below it.
    pub const BRIDGE: u8 = 2;
    /// An I/O APIC.
    pub const IOAPIC: u8 = 3;
    /// A high-precision event timer that raises MSIs.
    pub const HPET: u8 = 4;
    /// A device ACPI enumerates, see ANDD.
    pub const NAMESPACE: u8 = 5;
}

/// Bytes of a device scope entry before its path.
pub const SCOPE_HEADER: usize = 6;
