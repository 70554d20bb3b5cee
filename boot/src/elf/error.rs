//! What can be wrong with the hypervisor's file, in sentences for the console.

use core::fmt;

use super::MAX_SPAN;
use crate::handoff::MAX_SEGMENTS;

/// A field with a rule, named by what the rule demands.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum ElfField {
    /// The identification of a 64-bit little-endian ELF file.
    Ident,
    /// The type of a position-independent file.
    Kind,
    /// The number of x86-64.
    Machine,
    /// The size of a program header.
    ProgramHeaderLen,
    /// The offset of program headers inside the file.
    ProgramHeaders,
    /// The offset of a dynamic segment inside the file.
    Dynamic,
    /// The size of a relocation.
    RelocationLen,
    /// The address of whole relocations inside a segment.
    Relocations,
}

impl fmt::Display for ElfField {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Ident => "the identification of a 64-bit little-endian ELF file",
            Self::Kind => "type 3, position independent (link it as static PIE)",
            Self::Machine => "machine 62, x86-64",
            Self::ProgramHeaderLen => "program headers of 56 bytes",
            Self::ProgramHeaders => "the offset of program headers inside the file",
            Self::Dynamic => "the offset of a dynamic segment inside the file",
            Self::RelocationLen => "relocations of 8 bytes, packed",
            Self::Relocations => "the address of whole relocations inside a segment",
        })
    }
}

/// Why the hypervisor's file is not loaded. Segments and relocations count from 0.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum ElfError {
    /// Fewer bytes than a file header.
    TooShort(usize),
    /// A field breaks its rule.
    Field {
        /// The rule.
        field: ElfField,
        /// What is there.
        found: u64,
    },
    /// More loadable segments than [`MAX_SEGMENTS`].
    TooManySegments,
    /// A segment is empty, larger in the file than in memory, or leads past [`MAX_SPAN`].
    Span(u32),
    /// A segment leads past the end of the file.
    Truncated(u32),
    /// A segment begins before the one ahead of it ends, or in the same page.
    SharedPage(u32),
    /// A segment is both writable and executable.
    WritableCode(u32),
    /// The first instruction is in no executable segment.
    Entry(u64),
    /// The file needs a dynamic linker; the dynamic tag says why.
    NotStatic(u64),
    /// A relocation that writes outside the segments.
    RelocationOffset {
        /// Which.
        number: u32,
        /// Where it would write.
        offset: u64,
    },
    /// The memory is smaller than the image.
    NoRoom {
        /// Bytes the image has.
        span: u64,
        /// Bytes there are.
        room: usize,
    },
    /// The image's address is not page aligned.
    Unaligned(u64),
    /// The image would wrap the address space.
    Wraps(u64),
}

impl fmt::Display for ElfError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("the hypervisor's file cannot be loaded: ")?;
        match self {
            Self::TooShort(len) => write!(f, "it has only {len} bytes"),
            Self::Field { field, found } => write!(f, "expected {field}, found {found:#x}"),
            Self::TooManySegments => write!(f, "it has more than {MAX_SEGMENTS} segments"),
            Self::Span(number) => write!(
                f,
                "segment {number} is empty, larger in the file than in memory, or leads past \
                 {MAX_SPAN:#x} bytes"
            ),
            Self::Truncated(number) => {
                write!(f, "segment {number} leads past the end of the file")
            }
            Self::SharedPage(number) => write!(
                f,
                "segment {number} shares a page with the one before it or comes before it"
            ),
            Self::WritableCode(number) => {
                write!(f, "segment {number} is both writable and executable")
            }
            Self::Entry(entry) => write!(
                f,
                "its first instruction at {entry:#x} is in no executable segment"
            ),
            Self::NotStatic(tag) => write!(
                f,
                "it needs a dynamic linker (dynamic tag {tag}); link it as static PIE, with packed \
                 relative relocations"
            ),
            Self::RelocationOffset { number, offset } => write!(
                f,
                "relocation {number} writes at {offset:#x}, outside every segment"
            ),
            Self::NoRoom { span, room } => {
                write!(f, "it takes {span} bytes where there are {room}")
            }
            Self::Unaligned(at) => write!(f, "the address {at:#x} is not page aligned"),
            Self::Wraps(at) => write!(f, "at {at:#x} it would wrap the address space"),
        }
    }
}

impl core::error::Error for ElfError {}
