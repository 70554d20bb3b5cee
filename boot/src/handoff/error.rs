//! What can be wrong with a hand-over, in sentences for the console.

use core::fmt;

use super::{GuestKind, Loader, MAX_SEGMENTS, Register, Span, VERSION};
use crate::memory_map::{MAX_REGIONS, RegionKind};

/// A part of the hand-over that names memory.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Part {
    /// All of Bouncer's memory.
    Own,
    /// The loaded image.
    Image,
    /// The pages of untrusted devices.
    Pools,
    /// Those of them that the loader has cleared.
    Cleared,
    /// The policy text.
    Policy,
    /// The free memory.
    Free,
    /// A segment of the image, by number.
    Segment(u32),
    /// A region of the memory map, by number.
    Region(u32),
    /// ACPI's root pointer.
    Rsdp,
    /// The memory kept for ACPI tables.
    Tables,
    /// The page processors are started with.
    Trampoline,
    /// Where the loader finds what the hypervisor said.
    Echo,
    /// The guest's first instruction.
    GuestRip,
    /// The guest's stack.
    GuestStack,
    /// The guest's `boot_params`.
    GuestZeroPage,
    /// The guest's page tables.
    GuestPageTables,
    /// The guest's descriptor table.
    GuestGdt,
    /// The guest's interrupt descriptor table.
    GuestIdt,
}

impl fmt::Display for Part {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Own => f.write_str("Bouncer's memory"),
            Self::Image => f.write_str("the hypervisor's image"),
            Self::Pools => f.write_str("the pages of untrusted devices"),
            Self::Cleared => f.write_str("what the loader has cleared"),
            Self::Policy => f.write_str("the policy text"),
            Self::Free => f.write_str("the free memory"),
            Self::Segment(number) => write!(f, "segment {number} of the image"),
            Self::Region(number) => write!(f, "region {number} of the memory map"),
            Self::Rsdp => f.write_str("the ACPI root pointer"),
            Self::Tables => f.write_str("the memory kept for ACPI tables"),
            Self::Trampoline => f.write_str("the trampoline page"),
            Self::Echo => f.write_str("the memory for what is said to the loader"),
            Self::GuestRip => f.write_str("the guest's first instruction"),
            Self::GuestStack => f.write_str("the guest's stack"),
            Self::GuestZeroPage => f.write_str("the guest's zero page"),
            Self::GuestPageTables => f.write_str("the guest's page tables"),
            Self::GuestGdt => f.write_str("the guest's descriptor table"),
            Self::GuestIdt => f.write_str("the guest's interrupt descriptor table"),
        }
    }
}

/// Why a hand-over is not believed.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum HandoffError {
    /// The first eight bytes are others.
    Magic(u64),
    /// Another layout.
    Version(u32),
    /// Another size than this layout has.
    Size(u32),
    /// The words add up to this instead of 0.
    Checksum(u64),
    /// A loader nobody knows.
    Loader(Loader),
    /// A guest nobody knows how to enter.
    Guest(GuestKind),
    /// A serial port that is not the first of eight.
    SerialPort(u16),
    /// No segment, or more than [`MAX_SEGMENTS`].
    SegmentCount(u32),
    /// No region, or more than [`MAX_REGIONS`].
    RegionCount(u32),
    /// A region's kind is none we know.
    UnknownKind(Part, RegionKind),
    /// Memory that is empty or wraps the address space.
    NoRange(Part, Span),
    /// An address or a length that is not a multiple of `to`.
    Unaligned {
        /// Whose.
        part: Part,
        /// What is there.
        span: Span,
        /// What it must be a multiple of.
        to: u64,
    },
    /// Memory that must lie in another part and does not.
    Outside {
        /// Whose.
        part: Part,
        /// Where it lies.
        span: Span,
        /// Where it must lie.
        within: Part,
    },
    /// Two parts share bytes, or do not come in ascending order.
    Overlap(Part, Part),
    /// The image does not begin where Bouncer's memory does.
    ImageNotFirst(Span),
    /// A segment both writable and executable.
    WritableCode(Part),
    /// Memory the guest needs or shares that is not usable RAM in the memory map.
    NotUsable(Part, Span),
    /// Bouncer's memory is not exactly one region of its kind in the memory map.
    OwnNotCarvedOut(Span),
    /// The trampoline page is not below 1 MiB.
    TrampolineTooHigh(u64),
    /// The memory kept for ACPI tables is memory that the guest will use for something else, or lies
    /// above 4 GiB.
    TablesNotKept(Span),
    /// The address is 0 where there must be one.
    Missing(Part),
    /// A register of the guest's first state has a value that 64-bit mode does not allow.
    State(Register, u64),
}

impl fmt::Display for HandoffError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let blame = "loader and hypervisor were not built together; rebuild the boot image";
        match self {
            Self::Magic(found) => write!(
                f,
                "there is no hand-over where the loader says: it begins with {found:#018x}; {blame}"
            ),
            Self::Version(found) => write!(
                f,
                "the hand-over has version {found}, this program knows {VERSION}; {blame}"
            ),
            Self::Size(found) => write!(
                f,
                "the hand-over says it has {found} bytes, this program's has {}; {blame}",
                size_of::<super::Handoff>()
            ),
            Self::Checksum(sum) => write!(
                f,
                "the hand-over's words add up to {sum:#x} instead of 0: something changed it \
                 after the loader sealed it"
            ),
            Self::Loader(loader) => write!(f, "the hand-over comes from {loader}; {blame}"),
            Self::Guest(kind) => write!(
                f,
                "the hand-over asks for a guest of kind {}; {blame}",
                kind.0
            ),
            Self::SerialPort(port) => write!(
                f,
                "the serial port {port:#x} is not a multiple of 8; give serial=0x3f8, 0x2f8, \
                 0x3e8, 0x2e8, or 0 for none"
            ),
            Self::SegmentCount(found) => write!(
                f,
                "the hand-over tells of {found} image segments; 1 to {MAX_SEGMENTS} are possible; {blame}"
            ),
            Self::RegionCount(found) => write!(
                f,
                "the hand-over tells of {found} memory regions; 1 to {MAX_REGIONS} are possible; {blame}"
            ),
            Self::UnknownKind(part, kind) => {
                write!(f, "{part} is of an {kind}; {blame}")
            }
            Self::NoRange(part, span) => write!(
                f,
                "{part} at {:#x} with {:#x} bytes is empty or wraps the address space",
                span.base, span.len
            ),
            Self::Unaligned { part, span, to } => write!(
                f,
                "{part} at {:#x} with {:#x} bytes does not consist of whole units of {to:#x}",
                span.base, span.len
            ),
            Self::Outside { part, span, within } => write!(
                f,
                "{part} at {:#x} with {:#x} bytes is not inside {within}",
                span.base, span.len
            ),
            Self::Overlap(first, second) => {
                write!(f, "{first} and {second} overlap or are out of order")
            }
            Self::ImageNotFirst(span) => write!(
                f,
                "the hypervisor's image at {:#x} does not begin Bouncer's memory",
                span.base
            ),
            Self::WritableCode(part) => {
                write!(f, "{part} is both writable and executable; {blame}")
            }
            Self::NotUsable(part, span) => write!(
                f,
                "{part} at {:#x} with {:#x} bytes is not in usable memory of the guest",
                span.base, span.len
            ),
            Self::OwnNotCarvedOut(span) => write!(
                f,
                "Bouncer's memory at {:#x} with {:#x} bytes is not carved out of the memory map \
                 as one region",
                span.base, span.len
            ),
            Self::TrampolineTooHigh(at) => write!(
                f,
                "the trampoline page at {at:#x} is not below 1 MiB, where processors start"
            ),
            Self::TablesNotKept(span) => write!(
                f,
                "the memory at {:#x} with {:#x} bytes, meant for an ACPI table, is not kept by the guest \
                 or lies above 4 GiB",
                span.base, span.len
            ),
            Self::Missing(part) => write!(f, "{part} is missing from the hand-over"),
            Self::State(register, value) => write!(
                f,
                "the guest is to start with {value:#x} in {register}, with which no processor is in the \
                 64-bit mode of four-level paging"
            ),
        }
    }
}

impl core::error::Error for HandoffError {}
