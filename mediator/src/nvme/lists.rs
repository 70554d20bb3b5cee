//! The device's PRP lists, written once.
//!
//! The pages of a loan follow each other, so the list of any loan is a stretch of one list of all
//! pages. List pages overlap by the longest loan, so that no list of a loan crosses to another
//! page and none needs a pointer to the next: section 4.1.1.

use bounce::{FromDevice, Lent, Pool, ToDevice};
use memory::{Iova, PAGE_SIZE};

use crate::World;

/// Entries of a list page.
const ENTRIES: u32 = (PAGE_SIZE / 8) as u32;
/// Entries at most of one request.
const LONGEST: u32 = 128;
/// From the first page in one list page to the first in the next.
const STRIDE: u32 = ENTRIES - LONGEST;

/// Bytes of a request at most, so that its list is in one page wherever it begins.
pub(super) const LONGEST_TRANSFER: u32 = LONGEST * PAGE_SIZE as u32;

/// One list of all pages of one kind.
#[derive(Debug)]
pub(super) struct List {
    pages: Lent<ToDevice>,
}

/// The lists of both directions.
#[derive(Debug)]
pub(super) struct Lists {
    list: List,
    /// How many pages of the list the device reads; then come those it writes.
    readable: u32,
}

impl List {
    /// Writes the list of `count` pages, whose addresses `address` tells. `None` if the queue
    /// pages do not hold it.
    pub(super) fn new(
        queues: &mut Pool<'_, ToDevice>,
        count: u32,
        address: impl Fn(u32) -> Iova,
        world: &mut impl World,
    ) -> Option<Self> {
        let pages = queues.lend(0, count.div_ceil(STRIDE) * PAGE_SIZE as u32)?;
        for slot in 0..pages.bytes() / 8 {
            let page = slot / ENTRIES * STRIDE + slot % ENTRIES;
            let address = if page < count { address(page).raw() } else { 0 };
            let at = pages.at().raw() + u64::from(slot) * 8;
            world.store(Iova::new(at), &address.to_le_bytes());
        }
        Some(Self { pages })
    }

    /// Pages of the list.
    pub(super) fn pages(&self) -> u32 {
        self.pages.pages()
    }

    /// Both PRPs of a loan before whose pool there are `before` pages in the list.
    pub(super) fn pointers<D>(&self, lent: &Lent<D>, before: u32) -> [u64; 2] {
        let first = lent.at();
        let second = match lent.pages() {
            1 => 0,
            2 => first.raw() - first.page_offset() + PAGE_SIZE,
            _ => self.entry(before + lent.first() + 1),
        };
        [first.raw(), second]
    }

    /// Where the device finds the entry of page number `page`, with those of the pages after it
    /// behind it.
    fn entry(&self, page: u32) -> u64 {
        let slot = page / STRIDE * ENTRIES + page % STRIDE;
        self.pages.at().raw() + u64::from(slot) * 8
    }
}

impl Lists {
    /// Writes the lists for all pages of both pools. `None` if the queue pages do not hold them.
    pub(super) fn new(
        queues: &mut Pool<'_, ToDevice>,
        to: &Pool<'_, ToDevice>,
        from: &Pool<'_, FromDevice>,
        world: &mut impl World,
    ) -> Option<Self> {
        let readable = to.pages();
        let address = |page| match page {
            page if page < readable => to.address(page),
            page => from.address(page - readable),
        };
        let list = List::new(queues, readable + from.pages(), address, world)?;
        Some(Self { list, readable })
    }

    /// Pages of the queues' that the lists of pools of `pages` pages in all take.
    pub(super) fn pages_for(pages: u32) -> u32 {
        pages.div_ceil(STRIDE)
    }

    /// Pages of the lists.
    pub(super) fn pages(&self) -> u32 {
        self.list.pages()
    }

    /// Both PRPs of bytes that the device reads.
    pub(super) fn readable(&self, lent: &Lent<ToDevice>) -> [u64; 2] {
        self.list.pointers(lent, 0)
    }

    /// Both PRPs of bytes that the device writes.
    pub(super) fn writable(&self, lent: &Lent<FromDevice>) -> [u64; 2] {
        self.list.pointers(lent, self.readable)
    }
}
