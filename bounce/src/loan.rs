//! The life of a loan: lent to the device, returned by it, taken back.
//!
//! The direction is part of the type: what the device reads is only ever filled, and what it
//! writes is only ever handed out, after it was returned.

use core::fmt;
use core::marker::PhantomData;
use core::num::NonZeroU32;

use memory::{ByteRange, Gpa, Hole, Iova, PAGE_SIZE};

use crate::pages::Pages;
use crate::pool::{NOWHERE, Page, Pool};

/// Which way bytes go.
pub trait Direction: fmt::Debug + sealed::Sealed {}

/// From the guest to the device, which may only read the pages.
#[derive(PartialEq, Eq, Debug)]
pub enum ToDevice {}

/// From the device, which may only write the pages, to the guest.
#[derive(PartialEq, Eq, Debug)]
pub enum FromDevice {}

impl Direction for ToDevice {}
impl Direction for FromDevice {}

mod sealed {
    pub trait Sealed {}
    impl Sealed for super::ToDevice {}
    impl Sealed for super::FromDevice {}
}

/// Pages that the device uses for one request, or for one queue.
///
/// Belongs to the pool that lent it, which is the only one to be asked about it. What the device
/// reads is never handed out to the guest:
///
/// ```compile_fail,E0599
/// # use bounce::{Lent, Pages, Pool, ToDevice};
/// fn leak(pool: &Pool<ToDevice>, lent: Lent<ToDevice>, pages: &mut impl Pages) {
///     let _ = pool.hand_out(&lent.returned(), 1, pages);
/// }
/// ```
///
/// what it writes is never filled:
///
/// ```compile_fail,E0599
/// # use bounce::{FromDevice, Lent, Pages, Pool};
/// fn leak(pool: &Pool<FromDevice>, lent: Lent<FromDevice>, pages: &mut impl Pages) {
///     let _ = pool.fill(&lent, pages);
/// }
/// ```
///
/// what is still lent is not handed out:
///
/// ```compile_fail,E0308
/// # use bounce::{FromDevice, Lent, Pages, Pool};
/// fn hurry(pool: &Pool<FromDevice>, lent: Lent<FromDevice>, pages: &mut impl Pages) {
///     let _ = pool.hand_out(&lent, 1, pages);
/// }
/// ```
///
/// and what was returned is not lent any more, nor taken back twice:
///
/// ```compile_fail,E0382
/// # use bounce::{Lent, Pages, Pool, ToDevice};
/// fn keep(pool: &mut Pool<ToDevice>, lent: Lent<ToDevice>, pages: &mut impl Pages) {
///     pool.take_back(lent.returned(), pages);
///     let _ = pool.fill(&lent, pages);
/// }
/// ```
///
/// ```compile_fail,E0382
/// # use bounce::{Lent, Pages, Pool, ToDevice};
/// fn repeat(pool: &mut Pool<ToDevice>, lent: Lent<ToDevice>, pages: &mut impl Pages) {
///     let returned = lent.returned();
///     pool.take_back(returned, pages);
///     pool.take_back(returned, pages);
/// }
/// ```
///
/// The whole life, in order:
///
/// ```
/// # use bounce::{FromDevice, Lent, Pages, Pool};
/// fn live(pool: &mut Pool<FromDevice>, lent: Lent<FromDevice>, pages: &mut impl Pages) {
///     let returned = lent.returned();
///     let _ = pool.hand_out(&returned, 1, pages);
///     pool.take_back(returned, pages);
/// }
/// ```
#[must_use = "pages that are not taken back are lost to their pool"]
#[derive(PartialEq, Eq, Debug)]
pub struct Lent<D> {
    at: Iova,
    first: u32,
    bytes: NonZeroU32,
    direction: PhantomData<D>,
}

/// Pages that the device is done with, as it says or because it was cut off. It may still write
/// them if it lies; it does that to itself.
#[must_use = "pages that are not taken back are lost to their pool"]
#[derive(PartialEq, Eq, Debug)]
pub struct Returned<D>(Lent<D>);

impl<D> Lent<D> {
    /// A loan of `bytes` bytes that begin at `at`, in the pool's page number `first`.
    pub(crate) fn new(at: Iova, first: u32, bytes: NonZeroU32) -> Self {
        Self {
            at,
            first,
            bytes,
            direction: PhantomData,
        }
    }

    /// Where the device finds the first byte.
    pub fn at(&self) -> Iova {
        self.at
    }

    /// How many bytes the request has.
    pub fn bytes(&self) -> u32 {
        self.bytes.get()
    }

    /// How many pages hold them.
    pub fn pages(&self) -> u32 {
        (self.offset() + self.bytes()).div_ceil(PAGE_SIZE as u32)
    }

    /// The number, in its pool, of the first page.
    pub fn first(&self) -> u32 {
        self.first
    }

    /// Where the first byte is within the first page.
    pub(crate) fn offset(&self) -> u32 {
        self.at.page_offset() as u32
    }

    /// Where the bytes are for the device.
    pub fn range(&self) -> ByteRange<Iova> {
        ByteRange::new(self.at, u64::from(self.bytes()))
            .expect("a loan has bytes and does not wrap")
    }

    /// The device is done with it.
    pub fn returned(self) -> Returned<D> {
        Returned(self)
    }
}

impl<D> Returned<D> {
    /// What was lent.
    pub fn lent(&self) -> &Lent<D> {
        &self.0
    }
}

impl<D: Direction> Pool<'_, D> {
    /// Remembers that the bytes in page `index` of the loan are those of the guest's page at
    /// `page`.
    ///
    /// # Panics
    /// If the loan has fewer pages, or is another pool's.
    #[inline(always)]
    pub fn belongs_to(&mut self, lent: &Lent<D>, index: u32, page: Gpa) {
        self.expect_ours(lent);
        assert!(index < lent.pages(), "a page of the loan");
        self.pages[(lent.first + index) as usize].origin = Gpa::new(page.raw() & !(PAGE_SIZE - 1));
    }

    /// The guest's bytes of the loan's first `bytes` bytes, or of all there are, in order, and
    /// where the device has them; neighbouring pages of the guest in one piece.
    ///
    /// # Panics
    /// If one of the pages was never told whose it is ([`Pool::belongs_to`]), or the loan is
    /// another pool's.
    #[inline(always)]
    pub fn extents(&self, lent: &Lent<D>, bytes: u32) -> Extents<'_> {
        self.expect_ours(lent);
        let (first, offset) = (lent.first as usize, lent.offset());
        Extents {
            pages: &self.pages[first..first + lent.pages() as usize],
            base: lent.at.raw() - u64::from(offset),
            at: offset,
            end: offset + bytes.min(lent.bytes()),
        }
    }

    /// Whether all of the guest's bytes are its memory.
    pub fn is_memory(&self, lent: &Lent<D>, pages: &impl Pages) -> bool {
        self.extents(lent, lent.bytes())
            .all(|(range, _)| pages.is_memory(range))
    }

    /// Ends the loan. What the request had in the pages is gone before somebody else gets them.
    ///
    /// # Panics
    /// If the loan is another pool's.
    pub fn take_back(&mut self, returned: Returned<D>, pages: &mut impl Pages) {
        let Returned(lent) = returned;
        self.expect_ours(&lent);
        pages.scrub(lent.range());
        self.put(lent.first, lent.pages());
    }

    fn expect_ours(&self, lent: &Lent<D>) {
        let into = lent.at.raw().wrapping_sub(self.first.raw()) / PAGE_SIZE;
        let is_ours = into == u64::from(lent.first) && lent.first < self.pages();
        assert!(is_ours, "a loan is its own pool's");
    }
}

/// The pieces of a loan, each of which is one piece for both sides.
#[derive(Debug)]
pub struct Extents<'a> {
    /// The pages of the loan.
    pages: &'a [Page],
    /// Where the device finds the first.
    base: u64,
    /// How far into them the next piece begins, and the last ends.
    at: u32,
    end: u32,
}

impl Extents<'_> {
    /// Where the guest has the byte `at` bytes into the pages.
    #[inline(always)]
    fn origin(&self, at: u32) -> Gpa {
        let page = self.pages[(at / PAGE_SIZE as u32) as usize].origin;
        assert_ne!(page, NOWHERE, "the pages of a loan belong to somebody");
        Gpa::new(page.raw() + u64::from(at % PAGE_SIZE as u32))
    }
}

impl Iterator for Extents<'_> {
    type Item = (ByteRange<Gpa>, Iova);

    #[inline(always)]
    fn next(&mut self) -> Option<Self::Item> {
        let start = self.at;
        if start >= self.end {
            return None;
        }
        let origin = self.origin(start);
        let mut at = start;
        loop {
            at = (at / PAGE_SIZE as u32 + 1) * PAGE_SIZE as u32;
            let next = origin.checked_add(u64::from(at - start));
            if at >= self.end || next != Some(self.origin(at)) {
                break;
            }
        }
        self.at = at.min(self.end);
        let bytes = ByteRange::new(origin, u64::from(self.at - start))
            .expect("bytes up to the end of a page do not wrap");
        Some((bytes, Iova::new(self.base + u64::from(start))))
    }
}

impl Pool<'_, ToDevice> {
    /// Copies the guest's bytes into the loan, before the device is told of it. On `Err` the
    /// content of the loan is unspecified, and made of nothing but the request's bytes.
    pub fn fill(&self, lent: &Lent<ToDevice>, pages: &mut impl Pages) -> Result<(), Hole> {
        for (from, to) in self.extents(lent, lent.bytes()) {
            pages.copy_in(from, to)?;
        }
        Ok(())
    }
}

impl Pool<'_, FromDevice> {
    /// Copies the first `bytes` bytes that the device wrote, or all there are, to the guest.
    /// Whoever changes them meanwhile harms itself: each byte is fetched once. On `Err` what
    /// comes before the extent with the hole was written.
    pub fn hand_out(
        &self,
        returned: &Returned<FromDevice>,
        bytes: u32,
        pages: &mut impl Pages,
    ) -> Result<(), Hole> {
        for (to, from) in self.extents(&returned.0, bytes) {
            pages.copy_out(from, to)?;
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests;
