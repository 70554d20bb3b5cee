//! Guest memory that changes after the first read.

use std::cell::RefCell;
use std::collections::BTreeMap;

use memory::{Gpa, GuestMemory, Hole};

use crate::SparseMemory;

/// Guest memory in which another processor waits for each byte to be read once, and changes it
/// then. Whoever fetches twice what must be fetched once finds two values.
///
/// A byte that was fetched reads from then on as [`FlippingMemory::then`] says, or inverted.
/// Writes are seen by every later read, like those of any memory.
#[derive(Clone, Debug)]
pub struct FlippingMemory {
    memory: SparseMemory,
    then: BTreeMap<u64, u8>,
    reads: RefCell<BTreeMap<u64, usize>>,
}

impl FlippingMemory {
    /// Memory that reads as `memory` the first time.
    pub fn new(memory: SparseMemory) -> Self {
        Self {
            memory,
            then: BTreeMap::new(),
            reads: RefCell::new(BTreeMap::new()),
        }
    }

    /// Says what the bytes at `at` become after their first read.
    #[must_use]
    pub fn then(mut self, at: Gpa, bytes: &[u8]) -> Self {
        self.then
            .extend((at.raw()..=u64::MAX).zip(bytes.iter().copied()));
        self
    }

    /// How often the byte at `at` was fetched.
    pub fn fetches(&self, at: Gpa) -> usize {
        self.reads.borrow().get(&at.raw()).copied().unwrap_or(0)
    }

    /// How often the byte that was fetched most often was fetched.
    pub fn most_fetches(&self) -> usize {
        self.reads.borrow().values().copied().max().unwrap_or(0)
    }
}

impl GuestMemory for FlippingMemory {
    fn read(&self, at: Gpa, to: &mut [u8]) -> Result<(), Hole> {
        self.memory.read(at, to)?;
        let mut reads = self.reads.borrow_mut();
        for address in (at.raw()..=u64::MAX).take(to.len()) {
            let count = reads.entry(address).or_insert(0);
            *count += 1;
            if *count == 1 {
                let mut now = [0];
                self.memory.read(Gpa::new(address), &mut now)?;
                let flipped = self.then.get(&address).copied().unwrap_or(!now[0]);
                self.memory.write(Gpa::new(address), &[flipped])?;
            }
        }
        Ok(())
    }

    fn write(&self, at: Gpa, from: &[u8]) -> Result<(), Hole> {
        self.memory.write(at, from)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const AT: Gpa = Gpa::new(0x1000);

    #[test]
    fn the_second_read_finds_what_the_other_processor_wrote() {
        let memory = SparseMemory::new().holding(AT, &[1, 0, 0, 0]);
        let memory = FlippingMemory::new(memory).then(AT, &[9, 0, 0, 0]);
        assert_eq!(memory.read_u32(AT), Ok(1));
        assert_eq!(memory.read_u32(AT), Ok(9));
        assert_eq!(memory.read_u32(AT), Ok(9));
    }

    #[test]
    fn a_byte_nothing_was_said_of_is_inverted() {
        let memory = FlippingMemory::new(SparseMemory::new().holding(AT, &[0xf0]));
        let mut byte = [0];
        memory.read(AT, &mut byte).unwrap();
        memory.read(AT, &mut byte).unwrap();
        assert_eq!(byte, [0x0f]);
    }

    #[test]
    fn fetches_are_counted_for_each_byte() {
        let memory = FlippingMemory::new(SparseMemory::new().holding(AT, &[0; 16]));
        memory.read_u64(AT).unwrap();
        memory.read_u32(Gpa::new(0x1004)).unwrap();
        assert_eq!(memory.fetches(AT), 1);
        assert_eq!(memory.fetches(Gpa::new(0x1004)), 2);
        assert_eq!(memory.most_fetches(), 2);
    }
}
