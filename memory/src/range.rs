//! Ranges of bytes that are never empty and never wrap.

use crate::Address;

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

    /// The bytes both have.
    pub fn intersection(&self, other: &Self) -> Option<Self> {
        Self::inclusive(self.start.max(other.start), self.last.min(other.last))
    }
}
