//! The format of EPT, Intel's nested tables.
//!
//! Owns the meaning of one EPT entry. The memory type of a leaf takes the place of the MTRRs
//! (SDM vol. 3C, §29.3.7.2), so that it must repeat them; see [`crate::Mtrrs`].

use memory::{Gpa, Hpa, PAGE_SIZE};
use paging::{Entry, Format, Geometry, Level, PageSize};

use crate::mtrr::{Mtrrs, Run};
use crate::spec::ept as spec;
use crate::{Access, Depth, MemoryType, Nested};

/// EPT tables of one processor.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Ept {
    geometry: Geometry,
}

/// What an EPT leaf grants.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct EptAttributes {
    /// What the guest may do.
    pub access: Access,
    /// The type that stands in for the MTRRs.
    pub memory: MemoryType,
    /// The guest's PAT has no say in the type.
    pub ignore_pat: bool,
}

impl Ept {
    /// Tables of `depth` levels with pages up to `largest`, on a processor whose physical
    /// addresses have `physical_width` bits (32..=52).
    ///
    /// # Panics
    /// If the width is out of its bounds.
    pub const fn new(depth: Depth, physical_width: u32, largest: PageSize) -> Self {
        Self {
            geometry: Geometry::new(depth.width(), physical_width, largest),
        }
    }
}

impl Format for Ept {
    type Input = Gpa;
    type Attributes = EptAttributes;

    fn geometry(&self) -> Geometry {
        self.geometry
    }

    fn table(&self, table: Hpa) -> u64 {
        let mut entry = spec::Entry::from_word(0);
        entry.set_readable(true);
        entry.set_writable(true);
        entry.set_executable(true);
        entry.set_page(table.raw() / PAGE_SIZE);
        entry.word()
    }

    fn leaf(&self, output: Hpa, size: PageSize, attributes: EptAttributes) -> u64 {
        let mut entry = spec::Entry::from_word(0);
        entry.set_readable(true);
        entry.set_writable(attributes.access.write);
        entry.set_executable(attributes.access.execute);
        entry.set_memory_type(attributes.memory.bits());
        entry.set_ignore_pat(attributes.ignore_pat);
        entry.set_large(size != PageSize::KiB4);
        entry.set_page(output.raw() / PAGE_SIZE);
        entry.word()
    }

    // Misconfigurations are those of SDM vol. 3C, §29.3.3.1. Execute-only entries, which some
    // processors allow, are never written here and read as absent.
    fn decode(&self, word: u64, level: Level) -> Entry<EptAttributes> {
        let entry = spec::Entry::from_word(word);
        let output = Hpa::new(entry.page() * PAGE_SIZE);
        if !entry.readable() || output.raw() > self.geometry.last_output() {
            return Entry::Absent;
        }
        if level != Level::LOWEST && !entry.large() {
            return match entry.reserved_in_table() {
                0 => Entry::Table(output),
                _ => Entry::Absent,
            };
        }
        match MemoryType::from_bits(entry.memory_type()) {
            Some(memory) if self.geometry.has_page(level, output) => Entry::Leaf(
                output,
                EptAttributes {
                    access: Access {
                        write: entry.writable(),
                        execute: entry.executable(),
                    },
                    memory,
                    ignore_pat: entry.ignore_pat(),
                },
            ),
            _ => Entry::Absent,
        }
    }
}

impl Nested for Ept {
    fn attributes(&self, access: Access, memory: MemoryType) -> EptAttributes {
        EptAttributes {
            access,
            memory,
            ignore_pat: false,
        }
    }

    fn memory_run(&self, mtrrs: &Mtrrs<'_>, at: Hpa) -> Run {
        mtrrs.run(at)
    }
}

const _: () = {
    let four = Ept::new(Depth::Four, 52, PageSize::GiB1).geometry;
    let five = Ept::new(Depth::Five, 52, PageSize::GiB1).geometry;
    assert!(four.levels() == 4 && five.levels() == 5);
    assert!(four.root().index(four.last_input()) == 511);
    assert!(five.root().index(five.last_input()) == 511);
    assert!(Level::LOWEST.index(four.last_input()) == 511);
    assert!(four.last_output() == 0x000f_ffff_ffff_ffff);
};

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    const EPT: Ept = Ept::new(Depth::Four, 46, PageSize::GiB1);
    const MIB2: Level = PageSize::MiB2.level();
    const GIB1: Level = PageSize::GiB1.level();
    const PML4: Level = EPT.geometry.root();
    const ALL: EptAttributes = EptAttributes {
        access: Access::ALL,
        memory: MemoryType::WRITE_BACK,
        ignore_pat: false,
    };

    #[test]
    fn words_are_those_of_the_manuals_tables() {
        assert_eq!(EPT.table(Hpa::new(0x1234_5000)), 0x1234_5007);
        assert_eq!(EPT.leaf(Hpa::new(0x5000), PageSize::KiB4, ALL), 0x5037);
        assert_eq!(EPT.leaf(Hpa::new(2 << 20), PageSize::MiB2, ALL), 0x20_00b7);
        assert_eq!(
            EPT.leaf(Hpa::new(1 << 30), PageSize::GiB1, ALL),
            0x4000_00b7
        );
        let device = EptAttributes {
            access: Access::READ,
            memory: MemoryType::UNCACHEABLE,
            ignore_pat: true,
        };
        assert_eq!(
            EPT.leaf(Hpa::new(0xfee0_0000), PageSize::KiB4, device),
            0xfee0_0041
        );
    }

    #[test]
    fn an_entry_that_grants_nothing_is_absent() {
        assert_eq!(EPT.decode(0, Level::LOWEST), Entry::Absent);
        assert_eq!(EPT.decode(0x5030, Level::LOWEST), Entry::Absent);
    }

    /// "EPT misconfigurations": what the processor exits on, §29.3.3.1.
    #[test]
    fn a_misconfigured_entry_is_absent() {
        let cases = [
            ("writable but not readable", 0x5032, Level::LOWEST),
            ("execute-only", 0x5034, Level::LOWEST),
            ("memory type 2", 0x5017, Level::LOWEST),
            ("memory type 3", 0x501f, Level::LOWEST),
            ("memory type 7", 0x503f, Level::LOWEST),
            ("bit 46 of the address", 0x4000_0000_5037, Level::LOWEST),
            ("a 2 MiB page at 4 KiB", 0x10b7, MIB2),
            ("a 1 GiB page at 2 MiB", 0x20_00b7, GIB1),
            ("a page in the root", 0x4000_00b7, PML4),
            ("bit 3 in a table entry", 0x500f, MIB2),
            ("bit 6 in a table entry", 0x5047, GIB1),
        ];
        for (why, word, level) in cases {
            assert_eq!(EPT.decode(word, level), Entry::Absent, "{why}");
        }
    }

    #[test]
    fn a_page_of_a_size_the_processor_lacks_is_absent() {
        let small = Ept::new(Depth::Four, 46, PageSize::MiB2);
        assert_eq!(small.decode(0x4000_00b7, GIB1), Entry::Absent);
    }

    #[test]
    fn flags_the_processor_sets_are_no_part_of_the_answer() {
        let leaf = Entry::Leaf(Hpa::new(0x5000), ALL);
        assert_eq!(EPT.decode(0x5037 | 1 << 8 | 1 << 9, Level::LOWEST), leaf);
        let table = Entry::Table(Hpa::new(0x5000));
        assert_eq!(EPT.decode(0x5007 | 1 << 8, MIB2), table);
    }

    prop_compose! {
        fn attributes()(write: bool, execute: bool, memory in 0..8_u8, ignore_pat: bool)
            -> EptAttributes {
            EptAttributes {
                access: Access { write, execute },
                memory: MemoryType::from_bits(memory).unwrap_or(MemoryType::WRITE_BACK),
                ignore_pat,
            }
        }
    }

    proptest! {
        #[test]
        fn a_leaf_is_read_as_it_was_written(
            page in 0..1_u64 << 34, size in 0..3_usize, attributes in attributes(),
        ) {
            let size = [PageSize::KiB4, PageSize::MiB2, PageSize::GiB1][size];
            let output = Hpa::new(page * PAGE_SIZE / size.bytes() * size.bytes());
            let word = EPT.leaf(output, size, attributes);
            prop_assert_eq!(EPT.decode(word, size.level()), Entry::Leaf(output, attributes));
        }

        #[test]
        fn a_table_is_read_as_it_was_written(page in 0..1_u64 << 34) {
            let table = Hpa::new(page * PAGE_SIZE);
            for level in [MIB2, GIB1, PML4] {
                prop_assert_eq!(EPT.decode(EPT.table(table), level), Entry::Table(table));
            }
        }

        #[test]
        fn any_word_has_a_meaning_that_fits_the_format(word: u64) {
            for level in [Level::LOWEST, MIB2, GIB1, PML4] {
                if let Entry::Leaf(output, _) = EPT.decode(word, level) {
                    prop_assert!(EPT.geometry.has_page(level, output));
                    prop_assert!(output.raw() <= EPT.geometry.last_output());
                }
            }
        }
    }
}
