//! The format of NPT, AMD's nested tables.
//!
//! Owns the meaning of one entry: that of a long-mode page table. The processor walks it as if the
//! guest's every access were a user's (APM §15.25.5), so that U/S is set at every level. Walks of
//! the guest's own tables count as stores: a page of them must not be trapped as read-only.

use memory::{Gpa, Hpa};
use paging::{Entry, Format, Geometry, Level, PageSize};

use crate::long_mode::{self, Meaning};
use crate::mtrr::{Mtrrs, Run};
use crate::spec::long_mode as spec;
use crate::{Access, Depth, MemoryType, Nested, PatIndex};

/// Nested tables of one processor.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Npt {
    geometry: Geometry,
}

/// What a leaf of a nested table grants.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct NptAttributes {
    /// What the guest may do.
    pub access: Access,
    /// The entry of the host's PAT that is combined with the guest's.
    pub cache: PatIndex,
}

impl Npt {
    /// Tables of `depth` levels (as CR4.LA57 of the host has it) with pages up to `largest`, on
    /// a processor whose physical addresses have `physical_width` bits (32..=52).
    ///
    /// # Panics
    /// If the width is out of its bounds.
    pub const fn new(depth: Depth, physical_width: u32, largest: PageSize) -> Self {
        Self {
            geometry: Geometry::new(depth.width(), physical_width, largest),
        }
    }
}

impl Format for Npt {
    type Input = Gpa;
    type Attributes = NptAttributes;

    fn geometry(&self) -> Geometry {
        self.geometry
    }

    fn table(&self, table: Hpa) -> u64 {
        let mut entry = long_mode::table(table);
        entry.set_user(true);
        entry.word()
    }

    fn leaf(&self, output: Hpa, size: PageSize, attributes: NptAttributes) -> u64 {
        let mut entry = long_mode::leaf(output, size, attributes.access, attributes.cache);
        entry.set_user(true);
        entry.word()
    }

    fn decode(&self, word: u64, level: Level) -> Entry<NptAttributes> {
        let entry = spec::Entry::from_word(word);
        match long_mode::decode(entry, level, self.geometry) {
            Some(_) if !entry.user() => Entry::Absent,
            Some(Meaning::Table(table)) => Entry::Table(table),
            Some(Meaning::Leaf(output, access, cache)) => {
                Entry::Leaf(output, NptAttributes { access, cache })
            }
            None => Entry::Absent,
        }
    }
}

impl Nested for Npt {
    // The processor combines the guest's PAT with the type of the nested leaf, and the result
    // with the MTRRs of the machine (APM §15.25.8). Write-back changes neither.
    fn attributes(&self, access: Access, _: MemoryType) -> NptAttributes {
        NptAttributes {
            access,
            cache: PatIndex::WRITE_BACK,
        }
    }

    fn memory_run(&self, _: &Mtrrs<'_>, _: Hpa) -> Run {
        Run {
            memory: MemoryType::WRITE_BACK,
            last: Hpa::new(u64::MAX),
        }
    }
}

const _: () = {
    let four = Npt::new(Depth::Four, 52, PageSize::GiB1).geometry;
    let five = Npt::new(Depth::Five, 52, PageSize::GiB1).geometry;
    assert!(four.levels() == 4 && five.levels() == 5);
    assert!(four.root().index(four.last_input()) == 511);
    assert!(five.root().index(five.last_input()) == 511);
    assert!(Level::LOWEST.index(four.last_input()) == 511);
    assert!(four.last_output() == 0x000f_ffff_ffff_ffff);
};

#[cfg(test)]
mod tests {
    use super::*;
    use memory::PAGE_SIZE;
    use proptest::prelude::*;

    const NPT: Npt = Npt::new(Depth::Four, 48, PageSize::GiB1);
    const MIB2: Level = PageSize::MiB2.level();
    const GIB1: Level = PageSize::GiB1.level();
    const PML4: Level = NPT.geometry.root();
    const ALL: NptAttributes = NptAttributes {
        access: Access::ALL,
        cache: PatIndex::WRITE_BACK,
    };

    #[test]
    fn words_are_those_of_the_manuals_figures() {
        let device = NptAttributes {
            access: Access::READ,
            cache: PatIndex::UNCACHED,
        };
        assert_eq!(NPT.table(Hpa::new(0x5000)), 0x5027);
        assert_eq!(NPT.leaf(Hpa::new(0x5000), PageSize::KiB4, ALL), 0x5067);
        assert_eq!(NPT.leaf(Hpa::new(2 << 20), PageSize::MiB2, ALL), 0x20_00e7);
        assert_eq!(
            NPT.leaf(Hpa::new(1 << 30), PageSize::GiB1, ALL),
            0x4000_00e7
        );
        assert_eq!(
            NPT.leaf(Hpa::new(0xfee0_0000), PageSize::KiB4, device),
            0x8000_0000_fee0_007d
        );
    }

    /// APM §15.25.5: the guest's accesses are those of a user, so that an entry for the supervisor
    /// alone faults.
    #[test]
    fn an_entry_without_the_user_bit_is_absent() {
        assert_eq!(NPT.decode(0x5063, Level::LOWEST), Entry::Absent);
        assert_eq!(NPT.decode(0x5023, MIB2), Entry::Absent);
    }

    #[test]
    fn an_entry_with_a_reserved_bit_is_absent() {
        let cases = [
            ("bit 48 of the address", 1 << 48 | 0x5067, Level::LOWEST),
            ("a 2 MiB page at 8 KiB", 0x20e7, MIB2),
            ("a 1 GiB page at 2 MiB", 0x20_00e7, GIB1),
            ("a page in the root", 0x4000_00e7, PML4),
        ];
        for (why, word, level) in cases {
            assert_eq!(NPT.decode(word, level), Entry::Absent, "{why}");
        }
    }

    #[test]
    fn flags_the_processor_sets_are_no_part_of_the_answer() {
        let leaf = Entry::Leaf(Hpa::new(0x5000), ALL);
        assert_eq!(NPT.decode(0x5007, Level::LOWEST), leaf);
        assert_eq!(NPT.decode(0x5067, Level::LOWEST), leaf);
    }

    #[test]
    fn every_memory_type_is_write_back_because_the_processor_adds_the_mtrrs() {
        let mtrrs = Mtrrs::new(48, 0x800, None, &[]).unwrap();
        let run = NPT.memory_run(&mtrrs, Hpa::new(0));
        assert_eq!(run.memory, MemoryType::WRITE_BACK);
        assert_eq!(NPT.attributes(Access::ALL, MemoryType::UNCACHEABLE), ALL);
    }

    prop_compose! {
        fn attributes()(write: bool, execute: bool, pat: bool, pcd: bool, pwt: bool)
            -> NptAttributes {
            NptAttributes {
                access: Access { write, execute },
                cache: PatIndex::from_flags(pat, pcd, pwt),
            }
        }
    }

    proptest! {
        #[test]
        fn a_leaf_is_read_as_it_was_written(
            page in 0..1_u64 << 36, size in 0..3_usize, attributes in attributes(),
        ) {
            let size = [PageSize::KiB4, PageSize::MiB2, PageSize::GiB1][size];
            let output = Hpa::new(page * PAGE_SIZE / size.bytes() * size.bytes());
            let word = NPT.leaf(output, size, attributes);
            prop_assert_eq!(NPT.decode(word, size.level()), Entry::Leaf(output, attributes));
        }

        #[test]
        fn a_table_is_read_as_it_was_written(page in 0..1_u64 << 36) {
            let table = Hpa::new(page * PAGE_SIZE);
            for level in [MIB2, GIB1, PML4] {
                prop_assert_eq!(NPT.decode(NPT.table(table), level), Entry::Table(table));
            }
        }

        #[test]
        fn any_word_has_a_meaning_that_fits_the_format(word: u64) {
            for level in [Level::LOWEST, MIB2, GIB1, PML4] {
                if let Entry::Leaf(output, _) = NPT.decode(word, level) {
                    prop_assert!(NPT.geometry.has_page(level, output));
                    prop_assert!(output.raw() <= NPT.geometry.last_output());
                }
            }
        }
    }
}
