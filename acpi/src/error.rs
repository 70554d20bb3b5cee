//! Which table is wrong, where it lies, and what is wrong with it.

use core::fmt;

use memory::Gpa;

use crate::Signature;

/// A table that is not believed.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct AcpiError {
    /// Which table was looked for.
    pub table: Signature,
    /// Where it begins.
    pub at: Gpa,
    /// What is wrong.
    pub fault: Fault,
}

/// What is wrong with a table. Offsets count from the table's first byte.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Fault {
    /// There is no memory `offset` bytes into the table.
    Unreadable {
        /// Where reading met the hole.
        offset: u32,
    },
    /// The memory does not take a change `offset` bytes into the table.
    Unwritable {
        /// Where writing met the hole.
        offset: u32,
    },
    /// Another signature is there.
    Signature {
        /// The four bytes found.
        found: Signature,
    },
    /// The length in the header is impossible.
    Length {
        /// What the header says.
        found: u32,
        /// The shortest possible.
        least: u32,
        /// The longest accepted.
        most: u32,
    },
    /// The bytes do not add up to 0.
    Checksum {
        /// What they add up to.
        sum: u8,
        /// How many bytes the sum covers.
        covered: u32,
    },
    /// The caller's buffer cannot hold the table.
    BufferTooSmall {
        /// Bytes the table has.
        length: u32,
        /// Bytes the buffer has.
        buffer: u32,
    },
    /// The root pointer names no list of tables.
    NoRoot,
    /// An entry's length is too short for its kind, or leads past the end of the table.
    EntryLength {
        /// Where the entry begins.
        offset: u32,
        /// The kind of entry.
        kind: u8,
        /// The length it says it has.
        found: u32,
        /// The shortest length of its kind.
        least: u32,
        /// The bytes left in the table.
        most: u32,
    },
    /// A field's value is impossible.
    Field {
        /// Where the field lies.
        offset: u32,
        /// What it should have been.
        expected: Field,
        /// Its value.
        found: u64,
    },
}

/// A field with a rule, named by what the rule demands.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Field {
    /// An address other than 0.
    TableAddress,
    /// A last bus number not before the first.
    LastBus,
    /// A 1 MiB-aligned configuration space that does not wrap.
    EcamBase,
    /// Buses no other entry of the same segment has.
    OwnBuses,
    /// The same sleep type as at the name's first appearance.
    SameSleepType,
}

impl fmt::Display for Field {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::TableAddress => "the address of a table, not 0",
            Self::LastBus => "a last bus not before the first",
            Self::EcamBase => "a configuration space on a 1 MiB boundary that does not wrap",
            Self::OwnBuses => "buses that no other entry of the segment has",
            Self::SameSleepType => "the sleep type the same name has elsewhere in the table",
        })
    }
}

impl fmt::Display for AcpiError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { table, at, fault } = self;
        write!(f, "ACPI table {table} at {at}: ")?;
        match fault {
            Fault::Unreadable { offset } => {
                write!(f, "there is no memory to read at offset {offset:#x}")
            }
            Fault::Unwritable { offset } => {
                write!(f, "the memory at offset {offset:#x} cannot be changed")
            }
            Fault::Signature { found } => {
                write!(f, "expected signature {table} at offset 0, found {found}")
            }
            Fault::Length { found, least, most } if least == most => {
                write!(f, "expected a length of {least} bytes, found {found}")
            }
            Fault::Length { found, least, most } => write!(
                f,
                "expected a length of {least} to {most} bytes, found {found}"
            ),
            Fault::Checksum { sum, covered } => write!(
                f,
                "expected its {covered} bytes to add up to 0, found {sum:#04x}; the firmware's \
                 table is damaged, update the firmware"
            ),
            Fault::BufferTooSmall { length, buffer } => write!(
                f,
                "its {length} bytes do not fit the {buffer} bytes Bouncer keeps for it"
            ),
            Fault::NoRoot => f.write_str("it names neither an XSDT nor an RSDT"),
            Fault::EntryLength {
                offset,
                kind,
                found,
                least,
                most,
            } => write!(
                f,
                "expected the entry of kind {kind} at offset {offset:#x} to have at least {least} \
                 of the {most} bytes left, found {found}"
            ),
            Fault::Field {
                offset,
                expected,
                found,
            } => write!(
                f,
                "expected {expected} at offset {offset:#x}, found {found:#x}"
            ),
        }
    }
}

impl core::error::Error for AcpiError {}
