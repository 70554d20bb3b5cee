//! What a loader must know of the machine before it sets memory aside.

use core::arch::x86_64::CpuidResult;
use core::fmt;

use acpi::{AcpiError, Fadt, Madt, Rsdp, Signature, Tables};
use memory::{Gpa, GuestMemory};

/// Room for the largest of the tables that are copied.
const TABLE_BYTES: usize = 16 * 1024;

/// What the firmware's ACPI tables say.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Facts {
    /// Processors that may be started.
    pub processors: u32,
    /// The port of the power-management timer.
    pub pm_timer: Option<u16>,
}

/// Why the tables say nothing.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum FactsError {
    /// A table is damaged.
    Acpi(AcpiError),
    /// A table that every machine has is not there.
    NoTable(Signature),
}

impl fmt::Display for FactsError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Acpi(error) => error.fmt(f),
            Self::NoTable(signature) => {
                write!(
                    f,
                    "the firmware has no ACPI table {signature}; turn ACPI on"
                )
            }
        }
    }
}

impl core::error::Error for FactsError {}

impl From<AcpiError> for FactsError {
    fn from(error: AcpiError) -> Self {
        Self::Acpi(error)
    }
}

impl Facts {
    /// Reads the tables that the root pointer at `rsdp` leads to.
    ///
    /// # Errors
    /// [`FactsError`] if one is damaged or not there.
    pub fn read(memory: &impl GuestMemory, rsdp: u64) -> Result<Self, FactsError> {
        let tables = Tables::open(memory, &Rsdp::read(memory, Gpa::new(rsdp))?)?;
        let mut buffer = [0; TABLE_BYTES];
        let madt = tables
            .find(Signature::MADT)?
            .ok_or(FactsError::NoTable(Signature::MADT))?;
        let madt = madt.copy(memory, &mut buffer)?;
        let processors = Madt::parse(&madt)?.processors();
        let processors = processors.filter(|processor| processor.is_enabled).count() as u32;
        let fadt = tables
            .find(Signature::FADT)?
            .ok_or(FactsError::NoTable(Signature::FADT))?;
        let fadt = Fadt::parse(&fadt.copy(memory, &mut buffer)?)?;
        let pm_timer = fadt.pm_timer.and_then(|timer| timer.register.port());
        Ok(Self {
            processors,
            pm_timer,
        })
    }
}

/// How a processor addresses memory, from its answers to CPUID.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Paging {
    /// Bits of a physical address.
    pub physical_width: u8,
    /// Whether there are pages of 1 GiB.
    pub has_1gib_pages: bool,
}

impl Paging {
    /// Asks for leaves 8000_0000h, 8000_0001h (EDX bit 26) and 8000_0008h (EAX bits 7:0); without the last
    /// the width is 36 (SDM vol. 3A, 4.1.4).
    pub fn ask(cpuid: impl Fn(u32) -> CpuidResult) -> Self {
        const HIGHEST: u32 = 0x8000_0000;
        const FEATURES: u32 = 0x8000_0001;
        const WIDTHS: u32 = 0x8000_0008;
        let physical_width = if cpuid(HIGHEST).eax < WIDTHS {
            36
        } else {
            cpuid(WIDTHS).eax as u8
        };
        Self {
            physical_width,
            has_1gib_pages: cpuid(FEATURES).edx & 1 << 26 != 0,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn answers(highest: u32, edx: u32) -> Paging {
        Paging::ask(|leaf| CpuidResult {
            eax: if leaf == 0x8000_0000 { highest } else { 0x3027 },
            ebx: 0,
            ecx: 0,
            edx,
        })
    }

    #[test]
    fn the_width_is_the_low_byte_of_its_leaf() {
        assert_eq!(answers(0x8000_0008, 0).physical_width, 0x27);
        assert_eq!(answers(0x8000_0007, 0).physical_width, 36);
    }

    #[test]
    fn pages_of_1_gib_are_one_bit() {
        assert!(answers(0, 1 << 26).has_1gib_pages);
        assert!(!answers(0, !(1 << 26)).has_1gib_pages);
    }
}
