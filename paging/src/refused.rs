//! Why a table was left as it was.

use core::fmt;

use memory::{Address, ByteRange, Hpa};

/// A change that was not made. The table answers as before for every address.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Refused<Input> {
    /// The range is not made of whole 4 KiB pages.
    UnalignedInput(ByteRange<Input>),
    /// The range was to go to an address inside a 4 KiB page.
    UnalignedOutput(Hpa),
    /// The range reaches beyond what the table can translate.
    BeyondInput {
        /// The range that was asked.
        range: ByteRange<Input>,
        /// Bits of the addresses the table translates.
        width: u32,
    },
    /// The range would go to addresses that the table's entries cannot hold.
    BeyondOutput {
        /// Where the range was to go.
        output: Hpa,
        /// Bytes in the range.
        len: u64,
        /// Bits of the addresses that entries hold.
        width: u32,
    },
    /// The pool has fewer pages than the change needs for its tables.
    OutOfFrames {
        /// The range that was asked.
        range: ByteRange<Input>,
        /// Pages the change needs.
        needed: usize,
    },
}

impl<Input: Address> fmt::Display for Refused<Input> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::UnalignedInput(range) => write!(
                f,
                "page table: {:#x}..={:#x} is not made of whole 4 KiB pages; nothing was changed",
                range.start().raw(),
                range.last().raw()
            ),
            Self::UnalignedOutput(output) => write!(
                f,
                "page table: {output} is not the start of a 4 KiB page; nothing was changed"
            ),
            Self::BeyondInput { range, width } => write!(
                f,
                "page table: {:#x}..={:#x} reaches beyond the {width} bits this table translates; nothing was changed",
                range.start().raw(),
                range.last().raw()
            ),
            Self::BeyondOutput { output, len, width } => write!(
                f,
                "page table: {len:#x} bytes at {output} reach beyond the {width} bits an entry holds; nothing was changed"
            ),
            Self::OutOfFrames { range, needed } => write!(
                f,
                "page table: {:#x}..={:#x} needs {needed} pages for its tables and the pool has fewer; nothing was changed, enlarge the pool",
                range.start().raw(),
                range.last().raw()
            ),
        }
    }
}

impl<Input: Address> core::error::Error for Refused<Input> {}
