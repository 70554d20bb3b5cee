//! What makes a table EPT, NPT or VT-d: the meaning of one word.
//!
//! Owns the contract between the walker and a format. A format knows its bits and nothing of
//! tables, frames or order.

use core::fmt;

use memory::{Address, Hpa};

use crate::{Geometry, Level, PageSize};

/// A format of table that some hardware walks.
///
/// Every table is 512 words of 64 bits; a word of zero is absent in every format. Encoding and
/// decoding are inverse: `decode(leaf(o, s, a), s.level())` is `Leaf` of `o` and `a`, and
/// `decode(table(t), l)` is `Table` of `t` at every level above the lowest.
pub trait Format: Copy + fmt::Debug {
    /// The space that is translated.
    type Input: Address;

    /// What a leaf grants, and how: permissions, memory type. Two neighbouring pages are merged
    /// into a larger one only if they are equal in this.
    type Attributes: Copy + PartialEq + fmt::Debug;

    /// The shape of this table.
    fn geometry(&self) -> Geometry;

    /// The word that points to the table at `table` and takes no permission away.
    fn table(&self, table: Hpa) -> u64;

    /// The word that maps a page of `size` to `output`, which is aligned to it.
    fn leaf(&self, output: Hpa, size: PageSize, attributes: Self::Attributes) -> u64;

    /// What hardware makes of `word` in a table of `level`. A word that hardware faults on is
    /// absent, and so is one this format never writes; bits that hardware sets on its own
    /// (accessed, dirty) are no part of the answer.
    fn decode(&self, word: u64, level: Level) -> Entry<Self::Attributes>;
}

/// What one word of a table says.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Entry<Attributes> {
    /// Nothing is mapped here.
    Absent,
    /// The next table of the walk is at this address.
    Table(Hpa),
    /// A page, which starts at this address and is as large as the level says.
    Leaf(Hpa, Attributes),
}

/// The word that is absent in every format.
pub(crate) const ABSENT: u64 = 0;
