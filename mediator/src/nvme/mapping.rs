//! Whole pages of the guest's that the device reaches in place, for the time of a request.
//!
//! The pages of a request get a run of addresses in a window. Behind the first and the last, where
//! the request does not have all of their bytes, are pages of ours as ever; behind the others are
//! the guest's. Before the guest sees the completion the run leads nowhere again.

use bounce::{Direction, Lent, Page, Pool, Window};
use memory::{ByteRange, Gpa, Iova, PAGE_SIZE};

use super::lending::{Besides, Short};
use super::lists::List;
use super::spec::{Command, Status};
use super::{Nvme, prp};
use crate::{Reach, World};

/// Whole pages from which on mapping them is cheaper than copying them, as far as known.
const LEAST_PAGES: u32 = 4;

/// A window of a device.
#[derive(Debug)]
pub(super) struct Mapping<'a> {
    pub(super) pool: Pool<'a, Window>,
    pub(super) list: List,
}

/// How the bytes of a request lie in pages.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
struct Shape {
    offset: u32,
    bytes: u32,
    pages: u32,
    /// Bytes before the first whole page, and behind the last.
    edges: [u32; 2],
}

impl Shape {
    /// `None` if it has not enough whole pages.
    fn new(at: Gpa, bytes: u32) -> Option<Self> {
        let page = PAGE_SIZE as u32;
        let offset = at.page_offset() as u32;
        let end = offset + bytes;
        let edges = [(page - offset) % page, end % page];
        let whole = bytes.checked_sub(edges[0])?.checked_sub(edges[1])? / page;
        (whole >= LEAST_PAGES).then_some(Self {
            offset,
            bytes,
            pages: end.div_ceil(page),
            edges,
        })
    }

    /// Which page of ours, if any, page `index` is.
    fn own(&self, index: u32) -> Option<u32> {
        if index == 0 && self.edges[0] != 0 {
            Some(0)
        } else if index + 1 == self.pages && self.edges[1] != 0 {
            Some(u32::from(self.edges[0] != 0))
        } else {
            None
        }
    }

    /// The bytes that are copied, both edges one behind the other: where they begin within their
    /// first page, and how many they are.
    fn copied(&self) -> (u16, u32) {
        let offset = if self.edges[0] == 0 { 0 } else { self.offset };
        (offset as u16, self.edges[0] + self.edges[1])
    }
}

/// Lends a run in the window, if there are enough whole pages. `reach` says whether the device
/// reads or writes.
// Apart from what every request runs through that is copied.
#[inline(never)]
pub(super) fn lend<D: Direction, W: World>(
    mapping: &mut Mapping<'_>,
    pool: &mut Pool<'_, D>,
    world: &mut W,
    (command, bytes): (&Command, u32),
    reach: [fn(u64) -> Reach; 2],
    besides: &mut Besides,
) -> Option<Result<Option<Lent<D>>, Short>> {
    let shape = Shape::new(command.prp1(), bytes)?;
    let run = mapping.pool.lend(shape.offset as u16, shape.bytes);
    let Some(run) = run else {
        return Some(Err(Short::Pages));
    };
    let (offset, copied) = shape.copied();
    let own = pool.lend(offset, copied);
    if own.is_none() && copied != 0 {
        mapping.pool.close(run);
        return Some(Err(Short::Pages));
    }
    let [guest, ours] = reach;
    let first = mapping.pool.address(run.first());
    let walked = prp::walk(command, shape.pages, world, |world, index, page| {
        let at = Iova::new(first.raw() + u64::from(index) * PAGE_SIZE);
        let behind = match (shape.own(index), &own) {
            (Some(own_index), Some(own)) => {
                pool.belongs_to(own, own_index, page);
                ours(pool.address(own.first() + own_index).raw())
            }
            _ => guest(page.raw()),
        };
        let is_mapped = world.map(at, behind);
        is_mapped.then_some(()).ok_or(Status::DATA_TRANSFER_ERROR)
    });
    Some(match walked {
        Ok(list) => {
            let run = Some(run);
            *besides = Besides { run, list };
            Ok(own)
        }
        Err(status) => {
            mapping.close(world, run);
            if let Some(own) = own {
                pool.take_back(own.returned(), world);
            }
            Err(Short::Refused(status))
        }
    })
}

impl Mapping<'_> {
    /// The run leads nowhere any more.
    pub(super) fn close(&mut self, world: &mut impl World, run: Lent<Window>) {
        let start = self.pool.address(run.first());
        let range = ByteRange::new(start, u64::from(run.pages()) * PAGE_SIZE);
        world.unmap(range.expect("a run has pages"));
        self.pool.close(run);
    }
}

impl<'a> Nvme<'a> {
    /// From now on the device reaches whole pages of reads and writes in place, in `window`, whole
    /// pages for each of which there is an element of `pages`. `false` if the queue pages do not
    /// hold the window's list; then everything is copied.
    ///
    /// # Panics
    /// If there is not an element for each page.
    pub fn map_whole_pages(
        &mut self,
        window: ByteRange<Iova>,
        pages: &'a mut [Page],
        world: &mut impl World,
    ) -> bool {
        let pool = Pool::new(window, pages);
        let most = self.limits.transfer / PAGE_SIZE as u32 + 1;
        let is_long = pool.longest() >= most;
        let address = |page| pool.address(page);
        let queues = &mut self.pools.queues_to;
        let list = List::new(queues, pool.pages(), address, world).filter(|_| is_long);
        self.mapping = list.map(|list| Mapping { pool, list });
        self.mapping.is_some()
    }
}
