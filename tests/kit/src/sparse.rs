//! Guest memory that is there only where it was put.

use std::cell::RefCell;
use std::collections::BTreeMap;
use std::iter;
use std::ops::Range;

use memory::{ByteRange, Gpa, GuestMemory, Hole, PAGE_SIZE};

/// Pages of guest memory, with holes between them.
#[derive(Clone, Default, Debug)]
pub struct SparseMemory {
    pages: RefCell<BTreeMap<u64, Vec<u8>>>,
}

impl SparseMemory {
    /// Nothing but holes.
    pub fn new() -> Self {
        Self::default()
    }

    /// The pages of `range` besides what is there already, filled with zeros.
    #[must_use]
    pub fn with(self, range: ByteRange<Gpa>) -> Self {
        for page in range.start().raw() / PAGE_SIZE..=range.last().raw() / PAGE_SIZE {
            self.pages
                .borrow_mut()
                .entry(page)
                .or_insert_with(|| vec![0; PAGE_SIZE as usize]);
        }
        self
    }

    /// The pages that hold `bytes` at `at`, and the bytes in them.
    ///
    /// # Panics
    /// If there are no bytes or they wrap.
    #[must_use]
    pub fn holding(self, at: Gpa, bytes: &[u8]) -> Self {
        let range = ByteRange::new(at, bytes.len() as u64).expect("bytes that do not wrap");
        let memory = self.with(range);
        memory.write(at, bytes).expect("the pages were just made");
        memory
    }

    /// Whether all of `range` is there.
    pub fn holds(&self, range: ByteRange<Gpa>) -> bool {
        self.hole(range).is_none()
    }

    /// The first bytes of `range` that are not there.
    fn hole(&self, range: ByteRange<Gpa>) -> Option<ByteRange<Gpa>> {
        let pages = self.pages.borrow();
        (range.start().raw() / PAGE_SIZE..=range.last().raw() / PAGE_SIZE)
            .find(|page| !pages.contains_key(page))
            .and_then(|page| ByteRange::new(Gpa::new(page * PAGE_SIZE), PAGE_SIZE))
            .and_then(|page| page.intersection(&range))
    }

    fn present(&self, at: Gpa, len: usize) -> Result<(), Hole> {
        match ByteRange::new(at, len as u64) {
            Some(range) => self.hole(range).map_or(Ok(()), |hole| Err(Hole(hole))),
            None if len == 0 => Ok(()),
            // The bytes run past the end of the address space: all that is before it is a hole.
            None => match ByteRange::inclusive(at, Gpa::new(u64::MAX)) {
                Some(range) => Err(Hole(range)),
                None => unreachable!("no address lies behind the last"),
            },
        }
    }
}

impl GuestMemory for SparseMemory {
    fn read(&self, at: Gpa, to: &mut [u8]) -> Result<(), Hole> {
        self.present(at, to.len())?;
        let pages = self.pages.borrow();
        for (page, offset, piece) in pieces(at, to.len()) {
            let end = offset + piece.len();
            to[piece].copy_from_slice(&pages[&page][offset..end]);
        }
        Ok(())
    }

    fn write(&self, at: Gpa, from: &[u8]) -> Result<(), Hole> {
        self.present(at, from.len())?;
        let mut pages = self.pages.borrow_mut();
        for (page, offset, piece) in pieces(at, from.len()) {
            let page = pages.get_mut(&page).expect("present");
            page[offset..offset + piece.len()].copy_from_slice(&from[piece]);
        }
        Ok(())
    }
}

/// Where `len` bytes at `at` lie: in which page, from where on, and which of them.
fn pieces(at: Gpa, len: usize) -> impl Iterator<Item = (u64, usize, Range<usize>)> {
    let (mut page, mut offset) = (at.raw() / PAGE_SIZE, at.page_offset() as usize);
    let mut done = 0;
    iter::from_fn(move || {
        let end = len.min(done + PAGE_SIZE as usize - offset);
        let piece = (page, offset, done..end);
        (page, offset, done) = (page + 1, 0, end);
        (!piece.2.is_empty()).then_some(piece)
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn range(start: u64, len: u64) -> ByteRange<Gpa> {
        ByteRange::new(Gpa::new(start), len).unwrap()
    }

    #[test]
    fn bytes_are_read_as_they_were_written_across_pages() {
        let memory = SparseMemory::new().with(range(0x1000, 0x2000));
        memory.write(Gpa::new(0x1ffe), &[1, 2, 3, 4]).unwrap();
        let mut bytes = [0; 6];
        memory.read(Gpa::new(0x1ffd), &mut bytes).unwrap();
        assert_eq!(bytes, [0, 1, 2, 3, 4, 0]);
    }

    #[test]
    fn an_access_that_touches_a_hole_names_it_and_writes_nothing() {
        let memory = SparseMemory::new().with(range(0x1000, 0x1000));
        let refused = memory.write(Gpa::new(0x1ffe), &[1, 2, 3, 4]);
        assert_eq!(refused, Err(Hole(range(0x2000, 2))));
        assert_eq!(memory.read_u32(Gpa::new(0x1ffc)), Ok(0));
    }

    #[test]
    fn an_access_past_the_end_of_the_address_space_is_a_hole() {
        let memory = SparseMemory::new().with(range(u64::MAX - 0xfff, 0x1000));
        assert!(memory.read_u64(Gpa::new(u64::MAX - 3)).is_err());
        assert_eq!(memory.read_u64(Gpa::new(u64::MAX - 7)), Ok(0));
    }
}
