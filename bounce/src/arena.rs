//! Where a device finds its pages.

use memory::{ByteRange, Iova, PAGE_SIZE};

/// Bytes of a large page of second-level tables.
const LARGE_PAGE: u64 = 2 << 20;

/// One stretch of a device's pages.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Part {
    /// Queues the device reads.
    QueuesToDevice,
    /// Bytes of requests the device reads.
    ToDevice,
    /// Queues the device writes.
    QueuesFromDevice,
    /// Bytes of requests the device writes.
    FromDevice,
}

/// A device's pages in its own address space: first what it may only read, then what it may only
/// write, each with a quarter for queues and the rest for the bytes of requests.
///
/// The addresses begin low, so that a device of few address bits reaches them, and lie together
/// in one piece, so that the first byte's place in memory tells every other's.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Arena {
    base: Iova,
    /// Pages of each direction.
    half: u32,
}

impl Arena {
    /// Where the first page is, as a rule. The page at address 0 is left out: what a device reads
    /// from a pointer that nobody set is a fault.
    pub const BASE: Iova = Iova::new(LARGE_PAGE);
    /// Where arenas end: what lies behind is written as interrupts.
    pub const END: Iova = Iova::new(0xfee0_0000);
    /// Pages at least: below it there is no room for a queue each way and a request each way.
    pub const LEAST_PAGES: u32 = 16;
    /// Pages at most: 1 GiB.
    pub const MOST_PAGES: u32 = 1 << 18;

    /// An arena at [`Arena::BASE`]; see [`Arena::at`].
    pub fn new(bytes: u64) -> Option<Self> {
        Self::at(Self::BASE, bytes)
    }

    /// An arena from `base` on, rounded up to a large page, of at most `bytes` bytes: as many
    /// whole pages both ways as fit; where there is enough for large pages, whole ones of those.
    /// `None` if that is too little or too much, or would reach the range of interrupts.
    pub fn at(base: Iova, bytes: u64) -> Option<Self> {
        let unit = if bytes >= 2 * LARGE_PAGE {
            2 * LARGE_PAGE
        } else {
            2 * PAGE_SIZE
        };
        let pages = u32::try_from(bytes / unit * unit / PAGE_SIZE).ok()?;
        let base = Iova::new(base.raw().checked_next_multiple_of(LARGE_PAGE)?);
        let this = Self {
            base,
            half: pages / 2,
        };
        let is_low = base
            .checked_add(this.bytes())
            .is_some_and(|end| end <= Self::END);
        ((Self::LEAST_PAGES..=Self::MOST_PAGES).contains(&pages) && is_low).then_some(this)
    }

    /// Bytes in all, a multiple of the page size.
    pub fn bytes(&self) -> u64 {
        2 * u64::from(self.half) * PAGE_SIZE
    }

    /// Everything the device may read, or everything it may write.
    pub fn readable(&self) -> ByteRange<Iova> {
        self.stretch(0, self.half)
    }

    /// Everything the device may write.
    pub fn writable(&self) -> ByteRange<Iova> {
        self.stretch(self.half, self.half)
    }

    /// Where `part` lies; whole pages.
    pub fn part(&self, part: Part) -> ByteRange<Iova> {
        let queues = self.half / 4;
        let data = self.half - queues;
        match part {
            Part::QueuesToDevice => self.stretch(0, queues),
            Part::ToDevice => self.stretch(queues, data),
            Part::QueuesFromDevice => self.stretch(self.half, queues),
            Part::FromDevice => self.stretch(self.half + queues, data),
        }
    }

    /// How far from the first page `range` begins, if all of it is the device's.
    pub fn offset(&self, range: ByteRange<Iova>) -> Option<u64> {
        let all = self.stretch(0, 2 * self.half);
        all.covers(&range)
            .then(|| range.start().raw() - self.base.raw())
    }

    fn stretch(&self, first: u32, pages: u32) -> ByteRange<Iova> {
        let start = Iova::new(self.base.raw() + u64::from(first) * PAGE_SIZE);
        ByteRange::new(start, u64::from(pages) * PAGE_SIZE)
            .expect("an arena has pages in each part")
    }
}
