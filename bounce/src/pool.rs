//! Which pages of one part are free.
//!
//! Owns the free lists: a buddy allocator over whole pages, whose runs are cut to the page, so
//! that the addresses of a loan are one piece whatever its length. A few runs that came back are
//! kept as they are, for the next loan as long: then lending and taking back are one step each.
//! Otherwise both take a number of steps that depends on the length of the longest run alone.

use core::marker::PhantomData;
use core::num::NonZeroU32;

use memory::{ByteRange, Gpa, Iova, PAGE_SIZE};

use crate::loan::Lent;

/// Lengths of runs, as powers of two of pages: up to a part of the largest arena.
const ORDERS: usize = 18;
/// Lengths of runs that are kept as they are: requests of up to 128 KiB at any offset.
const KEPT_LENGTHS: usize = 34;
/// Runs that are kept as they are, at most.
const MOST_KEPT: u32 = 64;
/// No page.
const NONE: u32 = u32::MAX;
/// No page of the guest's: it does not begin at one.
pub(crate) const NOWHERE: Gpa = Gpa::new(u64::MAX);

/// What is known of one page. Kept apart from the page itself.
#[derive(Clone, Copy, Debug)]
pub struct Page {
    /// The guest's page whose bytes are here, while lent.
    pub(crate) origin: Gpa,
    next: u32,
    previous: u32,
    /// The length of the free run that begins here.
    free: Option<u8>,
}

impl Page {
    /// A page of which nothing is known yet.
    pub const NEW: Self = Self {
        origin: NOWHERE,
        next: NONE,
        previous: NONE,
        free: None,
    };
}

/// The pages of one part of an arena, lent and taken back in runs.
#[derive(Debug)]
pub struct Pool<'a, D> {
    pub(crate) first: Iova,
    pub(crate) pages: &'a mut [Page],
    /// For each length, the first of the free runs that have it.
    heads: [u32; ORDERS],
    /// A bit for each length of which there is a free run.
    lengths: u32,
    /// For each length in pages, the first of the runs that are kept as they are.
    kept: [u32; KEPT_LENGTHS],
    kept_count: u32,
    free: u32,
    direction: PhantomData<D>,
}

impl<'a, D> Pool<'a, D> {
    /// All pages of `part`, free. `pages` has an element for each.
    ///
    /// # Panics
    /// If it has not.
    pub fn new(part: ByteRange<Iova>, pages: &'a mut [Page]) -> Self {
        assert_eq!(
            part.len(),
            pages.len() as u64 * PAGE_SIZE,
            "an element for each page"
        );
        pages.fill(Page::NEW);
        let count = pages.len() as u32;
        let mut this = Self {
            first: part.start(),
            pages,
            heads: [NONE; ORDERS],
            lengths: 0,
            kept: [NONE; KEPT_LENGTHS],
            kept_count: 0,
            free: count,
            direction: PhantomData,
        };
        this.mend(0, count);
        this
    }

    /// Pages in all.
    pub fn pages(&self) -> u32 {
        self.pages.len() as u32
    }

    /// Pages that are free.
    pub fn free_pages(&self) -> u32 {
        self.free
    }

    /// Pages of the longest loan that is sure to be possible once everything else is back.
    pub fn longest(&self) -> u32 {
        1 << self.pages().ilog2().min(ORDERS as u32 - 1)
    }

    /// Where the pool's page number `index` is.
    pub fn address(&self, index: u32) -> Iova {
        Iova::new(self.first.raw() + u64::from(index) * PAGE_SIZE)
    }

    /// Lends room for `bytes` bytes that begin at `offset` within their first page. `None` if
    /// there is no run that long now, or nothing is asked for.
    pub fn lend(&mut self, offset: u16, bytes: u32) -> Option<Lent<D>> {
        let bytes = NonZeroU32::new(bytes)?;
        let offset = u32::from(offset) % PAGE_SIZE as u32;
        let pages = bytes.checked_add(offset)?.get().div_ceil(PAGE_SIZE as u32);
        let first = self.take(pages)?;
        // Nobody's bytes go where those of the loan before went.
        let run = first as usize..(first + pages) as usize;
        self.pages[run]
            .iter_mut()
            .for_each(|page| page.origin = NOWHERE);
        let at = Iova::new(self.address(first).raw() + u64::from(offset));
        Some(Lent::new(at, first, bytes))
    }

    /// Takes a run of `count` pages, at least one.
    fn take(&mut self, count: u32) -> Option<u32> {
        let first = match self.take_kept(count) {
            Some(first) => first,
            None => self.cut(count).or_else(|| {
                self.mend_kept();
                self.cut(count)
            })?,
        };
        self.free -= count;
        Some(first)
    }

    /// Frees a run of pages.
    pub(crate) fn put(&mut self, first: u32, count: u32) {
        self.free += count;
        match self.kept.get_mut(count as usize) {
            Some(head) if self.kept_count < MOST_KEPT => {
                self.pages[first as usize].next = core::mem::replace(head, first);
                self.kept_count += 1;
            }
            _ => self.mend(first, count),
        }
    }

    /// A run of exactly `count` pages that was kept.
    #[inline(always)]
    fn take_kept(&mut self, count: u32) -> Option<u32> {
        let head = self.kept.get_mut(count as usize)?;
        let first = core::mem::replace(head, self.pages.get(*head as usize)?.next);
        self.kept_count -= 1;
        Some(first)
    }

    /// Puts together whatever was kept in pieces.
    fn mend_kept(&mut self) {
        for count in 1..KEPT_LENGTHS as u32 {
            while let Some(first) = self.take_kept(count) {
                self.mend(first, count);
            }
        }
    }

    /// Cuts `count` pages off the shortest free run that has as many.
    fn cut(&mut self, count: u32) -> Option<u32> {
        let order = count.checked_next_power_of_two()?.trailing_zeros();
        let fitting = self.lengths & u32::MAX.checked_shl(order)?;
        if fitting == 0 {
            return None;
        }
        let found = fitting.trailing_zeros() as usize;
        let first = self.heads[found];
        self.unlink(first, found);
        // What the run is too long by goes back.
        self.mend(first + count, (1 << found) - count);
        Some(first)
    }

    /// Puts a free run into the lists, in the longest pieces that begin at a multiple of their
    /// length.
    fn mend(&mut self, first: u32, count: u32) {
        let (mut at, end) = (first, first + count);
        while at < end {
            let aligned = at.trailing_zeros().min(ORDERS as u32 - 1);
            let order = aligned.min((end - at).ilog2());
            self.merge(at, order as usize);
            at += 1 << order;
        }
    }

    /// Puts one piece into its list, together with whatever it makes whole.
    fn merge(&mut self, mut at: u32, mut order: usize) {
        while order + 1 < ORDERS {
            let buddy = at ^ (1 << order);
            let is_whole = self
                .pages
                .get(buddy as usize)
                .is_some_and(|page| page.free == Some(order as u8));
            if !is_whole {
                break;
            }
            self.unlink(buddy, order);
            at &= !(1 << order);
            order += 1;
        }
        self.link(at, order);
    }

    fn link(&mut self, at: u32, order: usize) {
        let head = core::mem::replace(&mut self.heads[order], at);
        self.lengths |= 1 << order;
        if head != NONE {
            self.pages[head as usize].previous = at;
        }
        self.pages[at as usize] = Page {
            next: head,
            free: Some(order as u8),
            ..Page::NEW
        };
    }

    fn unlink(&mut self, at: u32, order: usize) {
        let page = core::mem::replace(&mut self.pages[at as usize], Page::NEW);
        match page.previous {
            NONE => self.heads[order] = page.next,
            previous => self.pages[previous as usize].next = page.next,
        }
        match page.next {
            NONE if page.previous == NONE => self.lengths &= !(1 << order),
            NONE => {}
            next => self.pages[next as usize].previous = page.previous,
        }
    }
}

#[cfg(test)]
mod tests;
