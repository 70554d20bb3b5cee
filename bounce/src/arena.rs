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

    /// How far from the first page the `len` bytes at `at` begin, if all of them are the device's.
    pub fn offset(&self, at: Iova, len: u64) -> Option<u64> {
        let offset = at.raw().wrapping_sub(self.base.raw());
        let bytes = self.bytes();
        (offset <= bytes && len <= bytes - offset).then_some(offset)
    }

    fn stretch(&self, first: u32, pages: u32) -> ByteRange<Iova> {
        let start = Iova::new(self.base.raw() + u64::from(first) * PAGE_SIZE);
        ByteRange::new(start, u64::from(pages) * PAGE_SIZE)
            .expect("an arena has pages in each part")
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    const PARTS: [Part; 4] = [
        Part::QueuesToDevice,
        Part::ToDevice,
        Part::QueuesFromDevice,
        Part::FromDevice,
    ];

    proptest! {
        #[test]
        fn an_arena_of_any_size_is_its_four_parts_and_no_more_than_was_given(
            bytes in prop_oneof![any::<u64>(), 0_u64..1 << 31, 0_u64..1 << 17],
        ) {
            let Some(arena) = Arena::new(bytes) else {
                let least = u64::from(Arena::LEAST_PAGES) * PAGE_SIZE;
                let most = u64::from(Arena::MOST_PAGES) * PAGE_SIZE;
                prop_assert!(bytes < least || bytes > most);
                return Ok(());
            };
            prop_assert!(arena.bytes() <= bytes);
            let parts = PARTS.map(|part| arena.part(part));
            let mut at = Arena::BASE;
            for part in parts {
                prop_assert_eq!(part.start(), at);
                prop_assert!(part.is_page_aligned());
                at = part.last().checked_add(1).unwrap();
            }
            prop_assert_eq!(at.raw(), Arena::BASE.raw() + arena.bytes());
            prop_assert_eq!(arena.readable(), parts[0].hull(&parts[1]));
            prop_assert_eq!(arena.writable(), parts[2].hull(&parts[3]));
            prop_assert_eq!(arena.readable().len(), arena.writable().len());
            let is_large = bytes >= 2 * LARGE_PAGE;
            let unit = if is_large { LARGE_PAGE } else { PAGE_SIZE };
            prop_assert!(arena.writable().start().raw().is_multiple_of(unit));
            prop_assert!(arena.writable().len().is_multiple_of(unit));
            prop_assert!(bytes - arena.bytes() < 2 * unit);
        }

        #[test]
        fn only_what_is_wholly_the_devices_has_an_offset(start: u64, len: u64, near in 0_u64..1 << 18) {
            let arena = Arena::new(1 << 17).unwrap();
            let end = Arena::BASE.raw() + arena.bytes();
            for (start, len) in [(start, len), (Arena::BASE.raw() - 10 + near, len % (1 << 18))] {
                let Some(range) = ByteRange::new(Iova::new(start), len) else { continue };
                let is_own = start >= Arena::BASE.raw() && range.last().raw() < end;
                prop_assert_eq!(arena.offset(range.start(), len), is_own.then(|| start - Arena::BASE.raw()));
            }
        }
    }

    #[test]
    fn the_smallest_and_the_largest_arena_are_made_and_none_beyond() {
        let least = u64::from(Arena::LEAST_PAGES) * PAGE_SIZE;
        assert_eq!(Arena::new(least).map(|arena| arena.bytes()), Some(least));
        assert_eq!(Arena::new(least - 1), None);
        assert_eq!(
            Arena::new(1 << 30).map(|arena| arena.bytes()),
            Some(1 << 30)
        );
        assert_eq!(Arena::new((1 << 30) + (4 << 20)), None);
        assert_eq!(Arena::new(u64::MAX), None);
    }

    #[test]
    fn the_first_page_and_the_range_of_interrupts_are_no_arenas() {
        let arena = Arena::new(1 << 30).unwrap();
        assert!(arena.readable().start() > Iova::new(PAGE_SIZE));
        assert!(arena.writable().last() < Iova::new(0xfee0_0000));
    }
}
