//! Why Bouncer does not start, in sentences for the person at the console.

use core::fmt;

use acpi::{AcpiError, Signature};
use boot::handoff::HandoffError;
use ept::{MapError, MtrrError, PlanError};
use memory::{Hpa, OutOfFrames};

use crate::backend::Missing;
use crate::console::last_line;
use crate::cpu::instructions;
use crate::fabric::{Lacking, Obstacle};
use crate::machine::MAX_PROCESSORS;

/// Why Bouncer does not start.
#[derive(Clone, Copy, PartialEq, Debug)]
pub(crate) enum Refusal {
    /// The loader broke the contract.
    Handoff(HandoffError),
    /// The processor or its setting lacks something.
    Missing(Missing),
    /// The policy does not parse; the place was shown before.
    Policy { line: u32, column: u32 },
    /// An ACPI table is damaged.
    Acpi(AcpiError),
    /// An ACPI table that every machine has is not there.
    NoTable(Signature),
    /// No power-management timer.
    NoTimer,
    /// More processors than Bouncer has room for.
    Processors { found: usize },
    /// More I/O APICs than Bouncer has room for.
    IoApics,
    /// More windows into configuration space than can be kept from the guest.
    Windows,
    /// The running processor is not in the firmware's list, or cannot be reached by its id.
    UnlistedProcessor { id: u32 },
    /// The memory set aside for Bouncer does not suffice.
    OutOfFrames,
    /// Bouncer's own tables cannot be built.
    Table(paging::Refused<memory::Hva>),
    /// The guest's memory cannot be mapped.
    Map(MapError),
    /// The guest's memory cannot be planned.
    Plan(PlanError),
    /// The MTRRs make no sense.
    Mtrrs(MtrrError),
    /// The machine cannot confine devices, and the policy asks for it.
    NotConfined(Lacking),
    /// The remapping hardware cannot be taken over.
    Confinement(Obstacle),
    /// There is memory where addresses cannot name it.
    MemoryBeyond { last: Hpa, width: u32 },
    /// The memory map says nothing usable.
    Memory,
}

/// Prints the reason and stops.
pub(crate) fn refuse(refusal: Refusal) -> ! {
    last_line(format_args!("Bouncer does not start: {refusal}"));
    last_line(format_args!("@ended refused"));
    instructions::stop()
}

impl fmt::Display for Refusal {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Handoff(error) => write!(f, "the loader's hand-over is wrong: {error}"),
            Self::Missing(missing) => missing.fmt(f),
            Self::Policy { line, column } => write!(
                f,
                "policy.toml is wrong at line {line}, column {column}; `cargo xtask policy check` \
                 says the same before the machine is started"
            ),
            Self::Acpi(error) => error.fmt(f),
            Self::NoTable(signature) => write!(
                f,
                "the firmware has no ACPI table {signature}; start with ACPI turned on"
            ),
            Self::NoTimer => f.write_str(
                "the firmware names no ACPI power-management timer, by which Bouncer measures time",
            ),
            Self::Processors { found } => write!(
                f,
                "the machine has {found} processors and this build has room for {MAX_PROCESSORS}"
            ),
            Self::IoApics => f.write_str("the machine has more than 16 I/O APICs"),
            Self::Windows => f.write_str(
                "the firmware's MCFG table names more windows into configuration space than Bouncer can \
                 keep from the guest",
            ),
            Self::UnlistedProcessor { id } => write!(
                f,
                "the processor with APIC id {id} is not in the firmware's list (MADT), or its id is \
                 too large for the mode the firmware left the local APIC in"
            ),
            Self::OutOfFrames => f.write_str(
                "the memory that the loader set aside does not suffice: the loader and the \
                 hypervisor are not of the same build",
            ),
            Self::Table(error) => error.fmt(f),
            Self::Map(error) => error.fmt(f),
            Self::Plan(error) => error.fmt(f),
            Self::Mtrrs(error) => error.fmt(f),
            Self::NotConfined(lacking) => write!(
                f,
                "{lacking}, so that untrusted devices cannot be confined; turn on VT-d in the \
                 firmware's setup, or say require-iommu = false in policy.toml"
            ),
            Self::Confinement(obstacle) => obstacle.fmt(f),
            Self::MemoryBeyond { last, width } => write!(
                f,
                "the machine has memory up to {last}, and here {width} bits of an address name memory; \
                 turn memory encryption off in the firmware's setup, or take memory out"
            ),
            Self::Memory => {
                f.write_str("the memory map in the hand-over names no memory for Bouncer")
            }
        }
    }
}

impl From<OutOfFrames> for Refusal {
    fn from(_: OutOfFrames) -> Self {
        Self::OutOfFrames
    }
}

impl From<AcpiError> for Refusal {
    fn from(error: AcpiError) -> Self {
        Self::Acpi(error)
    }
}

impl From<MapError> for Refusal {
    fn from(error: MapError) -> Self {
        Self::Map(error)
    }
}

impl From<PlanError> for Refusal {
    fn from(error: PlanError) -> Self {
        Self::Plan(error)
    }
}

impl From<MtrrError> for Refusal {
    fn from(error: MtrrError) -> Self {
        Self::Mtrrs(error)
    }
}

impl From<paging::Refused<memory::Hva>> for Refusal {
    fn from(error: paging::Refused<memory::Hva>) -> Self {
        Self::Table(error)
    }
}
