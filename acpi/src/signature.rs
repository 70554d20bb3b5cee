//! The four letters a table is called by.

use core::fmt;

/// A table's signature (ACPI 6.5, 5.2.6).
#[derive(Clone, Copy, PartialEq, Eq, Hash)]
pub struct Signature(pub [u8; 4]);

impl Signature {
    /// The root pointer; its own signature is the eight bytes `RSD PTR `.
    pub const RSDP: Self = Self(*b"RSDP");
    /// The list of tables with 32-bit addresses.
    pub const RSDT: Self = Self(*b"RSDT");
    /// The list of tables with 64-bit addresses.
    pub const XSDT: Self = Self(*b"XSDT");
    /// Interrupt controllers and processors (MADT).
    pub const MADT: Self = Self(*b"APIC");
    /// Fixed hardware (FADT).
    pub const FADT: Self = Self(*b"FACP");
    /// Memory-mapped PCI configuration space.
    pub const MCFG: Self = Self(*b"MCFG");
    /// Intel's DMA remapping hardware.
    pub const DMAR: Self = Self(*b"DMAR");
    /// The main AML program.
    pub const DSDT: Self = Self(*b"DSDT");
    /// A further AML program.
    pub const SSDT: Self = Self(*b"SSDT");
}

impl fmt::Display for Signature {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}", self.0.escape_ascii())
    }
}

impl fmt::Debug for Signature {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Signature({self})")
    }
}
