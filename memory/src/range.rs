//! Ranges of bytes that are never empty and never wrap.

use crate::{Address, Gpa, Hpa, PAGE_SIZE};

/// A non-empty run of bytes that does not wrap the 64-bit space: `start ..= last`.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Hash)]
pub struct ByteRange<A> {
    start: A,
    last: A,
}

impl<A: Address> ByteRange<A> {
    /// The `len` bytes from `start`, or `None` if there are none or they wrap.
    pub fn new(start: A, len: u64) -> Option<Self> {
        let last = start.raw().checked_add(len.checked_sub(1)?)?;
        Some(Self {
            start,
            last: A::new(last),
        })
    }

    /// The bytes from `start` up to and with `last`, or `None` if `last` comes first.
    pub fn inclusive(start: A, last: A) -> Option<Self> {
        (start <= last).then_some(Self { start, last })
    }

    /// The first byte.
    pub fn start(&self) -> A {
        self.start
    }

    /// The last byte, which belongs to the range.
    pub fn last(&self) -> A {
        self.last
    }

    /// How many bytes, saturating at `u64::MAX` for the whole space.
    pub fn len(&self) -> u64 {
        (self.last.raw() - self.start.raw()).saturating_add(1)
    }

    /// Always false; ranges are never empty.
    pub fn is_empty(&self) -> bool {
        false
    }

    /// Whether `at` is one of the bytes.
    pub fn contains(&self, at: A) -> bool {
        self.start <= at && at <= self.last
    }

    /// Whether every byte of `other` is one of ours.
    pub fn covers(&self, other: &Self) -> bool {
        self.start <= other.start && other.last <= self.last
    }

    /// Whether the two share a byte.
    pub fn overlaps(&self, other: &Self) -> bool {
        self.start <= other.last && other.start <= self.last
    }

    /// Whether the range is made of whole 4 KiB pages.
    pub fn is_page_aligned(&self) -> bool {
        self.start.raw().is_multiple_of(PAGE_SIZE) && self.last.raw() % PAGE_SIZE == PAGE_SIZE - 1
    }

    /// The whole 4 KiB pages that hold a byte of the range.
    pub fn whole_pages(&self) -> Self {
        Self {
            start: A::new(self.start.raw() & !(PAGE_SIZE - 1)),
            last: A::new(self.last.raw() | (PAGE_SIZE - 1)),
        }
    }

    /// The smallest range that covers both.
    pub fn hull(&self, other: &Self) -> Self {
        Self {
            start: self.start.min(other.start),
            last: self.last.max(other.last),
        }
    }

    /// The bytes both have.
    pub fn intersection(&self, other: &Self) -> Option<Self> {
        Self::inclusive(self.start.max(other.start), self.last.min(other.last))
    }
}

impl ByteRange<Gpa> {
    /// The same bytes on the machine's bus: the guest's memory is mapped one to one.
    pub const fn identity(&self) -> ByteRange<Hpa> {
        ByteRange {
            start: self.start.identity(),
            last: self.last.identity(),
        }
    }
}

impl ByteRange<Hpa> {
    /// The same bytes as the guest names them.
    pub const fn identity(&self) -> ByteRange<Gpa> {
        ByteRange {
            start: self.start.identity(),
            last: self.last.identity(),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::Gpa;
    use proptest::prelude::*;

    fn range(start: u64, len: u64) -> Option<ByteRange<Gpa>> {
        ByteRange::new(Gpa::new(start), len)
    }

    #[test]
    fn a_range_is_never_empty() {
        assert_eq!(range(5, 0), None);
        assert_eq!(ByteRange::inclusive(Gpa::new(5), Gpa::new(4)), None);
    }

    #[test]
    fn a_range_never_wraps() {
        assert_eq!(range(u64::MAX, 2), None);
        assert_eq!(range(2, u64::MAX), None);
        assert_eq!(range(u64::MAX, 1).unwrap().last(), Gpa::new(u64::MAX));
        assert_eq!(range(1, u64::MAX).unwrap().last(), Gpa::new(u64::MAX));
    }

    #[test]
    fn the_length_of_the_whole_space_saturates() {
        let all = ByteRange::inclusive(Gpa::new(0), Gpa::new(u64::MAX)).unwrap();
        assert_eq!(all.len(), u64::MAX);
        assert!(all.is_page_aligned());
        assert_eq!(all.whole_pages(), all);
    }

    #[test]
    fn a_range_is_the_same_bytes_for_guest_and_bus() {
        let guests = ByteRange::new(Gpa::new(0x1fff), 2).unwrap();
        let bus = ByteRange::new(Hpa::new(0x1fff), 2).unwrap();
        assert_eq!((guests.identity(), bus.identity()), (bus, guests));
    }

    #[test]
    fn whole_pages_hold_every_byte_and_no_page_more() {
        assert_eq!(
            range(0x1fff, 2).unwrap().whole_pages(),
            range(0x1000, 0x2000).unwrap()
        );
        assert_eq!(
            range(0x1000, 0x1000).unwrap().whole_pages(),
            range(0x1000, 0x1000).unwrap()
        );
        assert!(!range(0x1000, 0xfff).unwrap().is_page_aligned());
        assert!(!range(0x1001, 0xfff).unwrap().is_page_aligned());
    }

    /// Ranges near both ends of the space, which meet often.
    fn ranges() -> impl Strategy<Value = ByteRange<Gpa>> {
        (0..24_u64, 1..16_u64, any::<bool>()).prop_map(|(start, len, is_high)| {
            let start = if is_high {
                u64::MAX - 40 + start
            } else {
                start
            };
            range(start, len).unwrap()
        })
    }

    fn bytes() -> impl Iterator<Item = Gpa> {
        (0..64).chain(u64::MAX - 64..=u64::MAX).map(Gpa::new)
    }

    proptest! {
        #[test]
        fn a_range_holds_its_first_and_last_byte_and_as_many_as_it_says(one in ranges()) {
            prop_assert!(one.contains(one.start()) && one.contains(one.last()));
            let held = bytes().filter(|at| one.contains(*at)).count() as u64;
            prop_assert_eq!(held, one.len());
            prop_assert!(!one.is_empty());
        }

        #[test]
        fn an_intersection_is_the_bytes_that_both_hold(one in ranges(), other in ranges()) {
            let both = one.intersection(&other);
            for at in bytes() {
                let held = both.is_some_and(|both| both.contains(at));
                prop_assert_eq!(held, one.contains(at) && other.contains(at));
            }
            prop_assert_eq!(both.is_some(), one.overlaps(&other));
            prop_assert_eq!(both == Some(other), one.covers(&other));
        }

        #[test]
        fn a_hull_is_the_smallest_range_over_both(one in ranges(), other in ranges()) {
            let hull = one.hull(&other);
            prop_assert!(hull.covers(&one) && hull.covers(&other));
            prop_assert!(hull.start() == one.start() || hull.start() == other.start());
            prop_assert!(hull.last() == one.last() || hull.last() == other.last());
        }

        #[test]
        fn any_two_numbers_make_a_range_or_none(start: u64, len: u64) {
            if let Some(range) = range(start, len) {
                prop_assert_eq!(range.len(), len);
                prop_assert!(range.whole_pages().covers(&range));
                prop_assert!(range.whole_pages().is_page_aligned());
            } else {
                prop_assert!(len == 0 || start.checked_add(len - 1).is_none());
            }
        }
    }
}
