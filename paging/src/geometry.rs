//! The shape of a table: how many levels, which pages, how wide the addresses.
//!
//! Owns the arithmetic of indices and spans. Knows no bits of any entry.

use core::fmt;

use memory::{Address, ByteRange, Hpa, PAGE_SIZE};

/// Bits of the address one level resolves: a table is a page of 64-bit words.
const INDEX_BITS: u32 = 9;

/// Bits of the address inside the smallest page.
const PAGE_BITS: u32 = PAGE_SIZE.trailing_zeros();

/// Words in a table.
pub(crate) const ENTRIES: usize = 1 << INDEX_BITS;

/// A size of page that one entry can map.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Debug)]
pub enum PageSize {
    /// 4 KiB, which every format has.
    KiB4,
    /// 2 MiB.
    MiB2,
    /// 1 GiB.
    GiB1,
}

impl PageSize {
    /// Bytes in a page of this size.
    pub const fn bytes(self) -> u64 {
        self.level().span()
    }

    /// The level whose entries map pages of this size.
    pub const fn level(self) -> Level {
        match self {
            Self::KiB4 => Level(0),
            Self::MiB2 => Level(1),
            Self::GiB1 => Level(2),
        }
    }
}

impl fmt::Display for PageSize {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::KiB4 => "4 KiB",
            Self::MiB2 => "2 MiB",
            Self::GiB1 => "1 GiB",
        })
    }
}

/// How far above the smallest pages a table sits. Entries of the lowest level map 4 KiB each,
/// those of every further level 512 times as much.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Debug)]
pub struct Level(u8);

impl Level {
    /// The level whose entries map 4 KiB pages.
    pub const LOWEST: Self = Self(0);

    /// Bytes that one entry of this level stands for.
    pub const fn span(self) -> u64 {
        1 << self.shift()
    }

    /// The size of the page that a leaf of this level maps, where such pages exist at all.
    pub const fn page_size(self) -> Option<PageSize> {
        match self.0 {
            0 => Some(PageSize::KiB4),
            1 => Some(PageSize::MiB2),
            2 => Some(PageSize::GiB1),
            _ => None,
        }
    }

    /// The level of the tables that entries of this level point to.
    pub const fn below(self) -> Option<Self> {
        match self.0.checked_sub(1) {
            Some(below) => Some(Self(below)),
            None => None,
        }
    }

    /// The index of the entry that resolves `address` (a number in the input space).
    pub const fn index(self, address: u64) -> usize {
        (address >> self.shift()) as usize % ENTRIES
    }

    pub(crate) const fn number(self) -> u8 {
        self.0
    }

    pub(crate) const fn from_number(number: u8) -> Self {
        Self(number)
    }

    pub(crate) const fn above(self) -> Self {
        Self(self.0 + 1)
    }

    pub(crate) const fn shift(self) -> u32 {
        PAGE_BITS + INDEX_BITS * self.0 as u32
    }

    /// What the entries of this level that `range` touches stand for, in order.
    pub(crate) fn pieces<A: Address>(self, range: ByteRange<A>) -> impl Iterator<Item = Piece<A>> {
        let first = range.start().raw() >> self.shift();
        let last = range.last().raw() >> self.shift();
        (first..=last).filter_map(move |number| {
            let region = ByteRange::new(A::new(number << self.shift()), self.span())?;
            Some(Piece {
                index: self.index(region.start().raw()),
                region,
                part: region.intersection(&range)?,
            })
        })
    }
}

/// One entry, as a change meets it.
pub(crate) struct Piece<A> {
    /// Its place in its table.
    pub(crate) index: usize,
    /// All the entry stands for.
    pub(crate) region: ByteRange<A>,
    /// What the change wants of it.
    pub(crate) part: ByteRange<A>,
}

impl<A: Address> Piece<A> {
    /// Whether the change wants all the entry stands for.
    pub(crate) fn is_whole(&self) -> bool {
        self.part == self.region
    }
}

/// The shape of a table.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Geometry {
    input_width: u8,
    output_width: u8,
    largest: PageSize,
}

impl Geometry {
    /// A table that translates addresses of `input_width` bits (31..=57, for three to five
    /// levels) to addresses of `output_width` bits (at most 52), with every size of page up
    /// to `largest`.
    ///
    /// # Panics
    /// If a width is out of its bounds: a format says its own.
    pub const fn new(input_width: u32, output_width: u32, largest: PageSize) -> Self {
        assert!(
            31 <= input_width && input_width <= 57,
            "tables have three to five levels"
        );
        assert!(
            32 <= output_width && output_width <= 52,
            "entries hold addresses of at most 52 bits"
        );
        Self {
            input_width: input_width as u8,
            output_width: output_width as u8,
            largest,
        }
    }

    /// Bits of an input address.
    pub const fn input_width(self) -> u32 {
        self.input_width as u32
    }

    /// Bits of an output address.
    pub const fn output_width(self) -> u32 {
        self.output_width as u32
    }

    /// The largest size of page; every smaller one exists too.
    pub const fn largest(self) -> PageSize {
        self.largest
    }

    /// Whether a leaf of `level` can map the page at `output`: there are pages of that size, and
    /// it is aligned to them.
    pub const fn has_page(self, level: Level, output: Hpa) -> bool {
        level.0 <= self.largest.level().0 && output.raw().is_multiple_of(level.span())
    }

    /// How many tables a walk reads on its way to a 4 KiB page.
    pub const fn levels(self) -> u32 {
        (self.input_width() - PAGE_BITS).div_ceil(INDEX_BITS)
    }

    /// The level of the root table.
    pub const fn root(self) -> Level {
        Level((self.levels() - 1) as u8)
    }

    /// The last input address.
    pub const fn last_input(self) -> u64 {
        (1 << self.input_width) - 1
    }

    /// The last output address.
    pub const fn last_output(self) -> u64 {
        (1 << self.output_width) - 1
    }
}

const _: () = {
    assert!(PageSize::KiB4.bytes() == 4 << 10);
    assert!(PageSize::MiB2.bytes() == 2 << 20);
    assert!(PageSize::GiB1.bytes() == 1 << 30);
    assert!(ENTRIES * size_of::<u64>() == PAGE_SIZE as usize);
    assert!(Geometry::new(39, 52, PageSize::GiB1).levels() == 3);
    assert!(Geometry::new(48, 52, PageSize::GiB1).levels() == 4);
    assert!(Geometry::new(57, 52, PageSize::GiB1).levels() == 5);
    assert!(Geometry::new(47, 52, PageSize::GiB1).levels() == 4);
};
