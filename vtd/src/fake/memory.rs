//! Memory that a driver and a unit both see, made of whole pages.

extern crate std;

use std::cell::RefCell;
use std::collections::BTreeMap;
use std::rc::Rc;
use std::vec::Vec;

use memory::{Flushed, Frame, Frames, Hpa, OutOfFrames, PAGE_SIZE};

/// Memory that driver and unit both see.
#[derive(Clone, Debug, Default)]
pub(crate) struct FakeMemory(Rc<RefCell<BTreeMap<u64, Vec<u64>>>>);

impl FakeMemory {
    /// How many pages are taken.
    pub(crate) fn taken(&self) -> usize {
        self.0.borrow().len()
    }

    pub(crate) fn word(&self, at: u64) -> u64 {
        let pages = self.0.borrow();
        let page = pages
            .get(&(at / PAGE_SIZE * PAGE_SIZE))
            .expect("the unit reads our pages");
        page[(at % PAGE_SIZE / 8) as usize]
    }

    pub(super) fn write_half(&self, at: u64, value: u32) {
        let mut pages = self.0.borrow_mut();
        let page = pages
            .get_mut(&(at / PAGE_SIZE * PAGE_SIZE))
            .expect("the unit writes our pages");
        let word = &mut page[(at % PAGE_SIZE / 8) as usize];
        let shift = at % 8 * 8;
        *word = *word & !(0xffff_ffff << shift) | u64::from(value) << shift;
    }
}

impl Frames for FakeMemory {
    fn take(&mut self) -> Result<Frame, OutOfFrames> {
        let mut pages = self.0.borrow_mut();
        let last = pages.last_key_value().map_or(0x10_0000, |(&base, _)| base);
        let base = last + PAGE_SIZE;
        pages.insert(base, std::vec![0; 512]);
        Ok(Frame::new(Hpa::new(base)).expect("aligned"))
    }

    fn read(&self, table: Hpa, index: usize) -> u64 {
        self.0.borrow()[&table.raw()][index]
    }

    fn publish(&mut self, table: Hpa, index: usize, word: u64) {
        self.0
            .borrow_mut()
            .get_mut(&table.raw())
            .expect("a page of ours")[index] = word;
    }

    fn give_back(&mut self, frame: Frame, _: &Flushed) {
        // The unit finds nothing there any more.
        let gone = self.0.borrow_mut().remove(&frame.base().raw());
        assert!(gone.is_some(), "{frame:?} was never taken");
    }
}
