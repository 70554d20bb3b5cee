//! Pages with nothing in the way: what is measured is `bounce`, and copying.

use bounce::{Arena, Direction, Lent, Page, Pages, Part, Pool};
use memory::{ByteRange, Gpa, GuestMemory, Hole, Iova, PAGE_SIZE};

/// The guest's memory from address 0 on, and a device's pages.
#[derive(Debug)]
pub(crate) struct Plain {
    pub(crate) guest: Vec<u8>,
    /// Whether what is taken back is filled with zeros; if not, nothing but the account is.
    pub(crate) is_scrubbed: bool,
    own: Vec<u8>,
}

impl Plain {
    /// 16 MiB of each.
    pub(crate) fn new() -> (Self, Arena) {
        let arena = Arena::new(16 << 20).expect("a size that arenas have");
        let guest = (0..16_u32 << 20).map(|at| at as u8 | 1).collect();
        let own = vec![0; arena.bytes() as usize];
        let plain = Self {
            guest,
            is_scrubbed: true,
            own,
        };
        (plain, arena)
    }

    fn guests(&self, range: ByteRange<Gpa>) -> Result<&[u8], Hole> {
        let (start, last) = (range.start().raw() as usize, range.last().raw() as usize);
        self.guest.get(start..=last).ok_or(Hole(range))
    }
}

fn place(at: Iova, len: usize) -> core::ops::Range<usize> {
    let start = (at.raw() - Arena::BASE.raw()) as usize;
    start..start + len
}

impl GuestMemory for Plain {
    fn read(&self, _: Gpa, _: &mut [u8]) -> Result<(), Hole> {
        unreachable!("nothing but copying is measured")
    }

    fn write(&self, _: Gpa, _: &[u8]) -> Result<(), Hole> {
        unreachable!("nothing but copying is measured")
    }
}

impl Pages for Plain {
    fn is_memory(&self, range: ByteRange<Gpa>) -> bool {
        self.guests(range).is_ok()
    }

    fn copy_in(&mut self, from: ByteRange<Gpa>, to: Iova) -> Result<(), Hole> {
        let place = place(to, from.len() as usize);
        let (start, last) = (from.start().raw() as usize, from.last().raw() as usize);
        let guests = self.guest.get(start..=last).ok_or(Hole(from))?;
        self.own[place].copy_from_slice(guests);
        Ok(())
    }

    fn copy_out(&mut self, from: Iova, to: ByteRange<Gpa>) -> Result<(), Hole> {
        let (start, last) = (to.start().raw() as usize, to.last().raw() as usize);
        let guests = self.guest.get_mut(start..=last).ok_or(Hole(to))?;
        guests.copy_from_slice(&self.own[place(from, to.len() as usize)]);
        Ok(())
    }

    fn load(&self, at: Iova, to: &mut [u8]) {
        to.copy_from_slice(&self.own[place(at, to.len())]);
    }

    fn load_u64(&self, at: Iova) -> u64 {
        let mut bytes = [0; 8];
        self.load(at, &mut bytes);
        u64::from_le_bytes(bytes)
    }

    fn store(&mut self, at: Iova, from: &[u8]) {
        self.own[place(at, from.len())].copy_from_slice(from);
    }

    fn scrub(&mut self, at: ByteRange<Iova>) {
        if self.is_scrubbed {
            self.own[place(at.start(), at.len() as usize)].fill(0);
        }
    }
}

/// An account of the pages of `part`.
pub(crate) fn account(arena: Arena, part: Part) -> Vec<Page> {
    vec![Page::NEW; (arena.part(part).len() / PAGE_SIZE) as usize]
}

/// How far apart a request's pages are in the guest's memory: 1 is next to each other.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Apart(pub(crate) u64);

/// Lends `bytes` bytes of the guest's that begin at `offset` within a page.
pub(crate) fn lend<D: Direction>(
    pool: &mut Pool<'_, D>,
    offset: u16,
    bytes: u32,
    apart: Apart,
) -> Lent<D> {
    let lent = pool.lend(offset, bytes).expect("room");
    for index in 0..lent.pages() {
        let page = Gpa::new((16 + u64::from(index) * apart.0) * PAGE_SIZE);
        pool.belongs_to(&lent, index, page);
    }
    lent
}
