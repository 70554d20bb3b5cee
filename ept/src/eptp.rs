//! The pointer with which a VMCS names an EPT table.

use memory::PAGE_SIZE;
use paging::{Format, Table};

use crate::spec::ept::Pointer;
use crate::{Ept, MemoryType};

/// An EPT pointer, valid for VM entry (SDM vol. 3C, §27.2.1.1) on a processor that supports
/// write-back tables of this depth.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Eptp(Pointer);

impl Eptp {
    /// Names `table`. Its entries are fetched as write-back memory; accessed and dirty flags
    /// stay as they are, so that the processor never stores to our tables.
    pub fn new(table: &Table<Ept>) -> Self {
        let mut pointer = Pointer::from_word(0);
        pointer.set_memory_type(MemoryType::WRITE_BACK.bits());
        pointer.set_levels_less_one(table.format().geometry().levels() as u8 - 1);
        pointer.set_page(table.root().raw() / PAGE_SIZE);
        Self(pointer)
    }

    /// The word for the VMCS, and for the descriptor of INVEPT.
    pub fn word(self) -> u64 {
        self.0.word()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::Depth;
    use kit::RecordingFrames;
    use paging::PageSize;

    /// Bits 2:0 are 6 for write-back, bits 5:3 "1 less than the EPT page-walk length".
    #[test]
    fn the_pointer_tells_type_and_depth() {
        for (depth, low) in [(Depth::Four, 0x1e), (Depth::Five, 0x26)] {
            let mut frames = RecordingFrames::new();
            let format = Ept::new(depth, 46, PageSize::GiB1);
            let table = Table::new(format, &mut frames).unwrap();
            assert_eq!(Eptp::new(&table).word(), table.root().raw() | low);
        }
    }
}
