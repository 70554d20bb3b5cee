//! The format of the hypervisor's own tables.
//!
//! Owns the meaning of one long-mode entry as the hypervisor's own accesses meet it: supervisor
//! pages, in the lower half of the address space, under CR0.WP, EFER.NXE and the power-on PAT.

use memory::{Hpa, Hva};
use paging::{Entry, Format, Geometry, Level, PageSize};

use crate::long_mode::{self, Meaning};
use crate::spec::long_mode as spec;
use crate::{Access, Depth, PatIndex};

/// The hypervisor's own tables.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct HostPaging {
    geometry: Geometry,
}

/// What a leaf of the hypervisor's own tables grants.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct HostAttributes {
    /// What the hypervisor may do.
    pub access: Access,
    /// The entry of the PAT that says how the page is cached.
    pub cache: PatIndex,
    /// The translation is kept over loads of CR3 (under CR4.PGE).
    pub global: bool,
}

impl HostPaging {
    /// Tables of `depth` levels (as CR4.LA57 has it) with pages up to `largest`, on a processor
    /// whose physical addresses have `physical_width` bits (32..=52).
    ///
    /// # Panics
    /// If the width is out of its bounds.
    // The highest bit of an address that is translated is its sign (SDM vol. 1, §3.3.7.1): the
    // lower half has one bit less.
    pub const fn new(depth: Depth, physical_width: u32, largest: PageSize) -> Self {
        Self {
            geometry: Geometry::new(depth.width() - 1, physical_width, largest),
        }
    }
}

impl Format for HostPaging {
    type Input = Hva;
    type Attributes = HostAttributes;

    fn geometry(&self) -> Geometry {
        self.geometry
    }

    fn table(&self, table: Hpa) -> u64 {
        long_mode::table(table).word()
    }

    fn leaf(&self, output: Hpa, size: PageSize, attributes: HostAttributes) -> u64 {
        let mut entry = long_mode::leaf(output, size, attributes.access, attributes.cache);
        entry.set_global(attributes.global);
        entry.word()
    }

    fn decode(&self, word: u64, level: Level) -> Entry<HostAttributes> {
        let entry = spec::Entry::from_word(word);
        match long_mode::decode(entry, level, self.geometry) {
            Some(Meaning::Table(table)) => Entry::Table(table),
            Some(Meaning::Leaf(output, access, cache)) => Entry::Leaf(
                output,
                HostAttributes {
                    access,
                    cache,
                    global: entry.global(),
                },
            ),
            None => Entry::Absent,
        }
    }
}

const _: () = {
    let four = HostPaging::new(Depth::Four, 52, PageSize::GiB1).geometry;
    let five = HostPaging::new(Depth::Five, 52, PageSize::GiB1).geometry;
    assert!(four.levels() == 4 && five.levels() == 5);
    assert!(four.last_input() == 0x0000_7fff_ffff_ffff);
    assert!(four.root().index(four.last_input()) == 255);
    assert!(five.root().index(five.last_input()) == 255);
    assert!(Level::LOWEST.index(four.last_input()) == 511);
};

#[cfg(test)]
mod tests {
    use super::*;
    use memory::PAGE_SIZE;
    use proptest::prelude::*;

    const HOST: HostPaging = HostPaging::new(Depth::Four, 48, PageSize::GiB1);

    #[test]
    fn words_are_those_of_the_manuals_figures() {
        let data = HostAttributes {
            access: Access::READ_WRITE,
            cache: PatIndex::WRITE_BACK,
            global: true,
        };
        let code = HostAttributes {
            access: Access::READ_EXECUTE,
            ..data
        };
        let device = HostAttributes {
            cache: PatIndex::UNCACHED,
            ..data
        };
        assert_eq!(HOST.table(Hpa::new(0x5000)), 0x5023);
        assert_eq!(
            HOST.leaf(Hpa::new(0x5000), PageSize::KiB4, data),
            0x8000_0000_0000_5163
        );
        assert_eq!(
            HOST.leaf(Hpa::new(2 << 20), PageSize::MiB2, code),
            0x20_01e1
        );
        assert_eq!(
            HOST.leaf(Hpa::new(0xfee0_0000), PageSize::KiB4, device),
            0x8000_0000_fee0_017b
        );
    }

    /// A page for level 3 is no page for the supervisor under SMEP and SMAP.
    #[test]
    fn nothing_is_mapped_for_users() {
        let attributes = HostAttributes {
            access: Access::ALL,
            cache: PatIndex::WRITE_BACK,
            global: false,
        };
        let leaf = HOST.leaf(Hpa::new(0), PageSize::KiB4, attributes);
        assert!(!spec::Entry::from_word(leaf).user());
        assert!(!spec::Entry::from_word(HOST.table(Hpa::new(0))).user());
    }

    prop_compose! {
        fn attributes()(write: bool, execute: bool, cache in 0..8_u8, global: bool)
            -> HostAttributes {
            HostAttributes {
                access: Access { write, execute },
                cache: PatIndex::from_flags(cache & 4 != 0, cache & 2 != 0, cache & 1 != 0),
                global,
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
            let word = HOST.leaf(output, size, attributes);
            prop_assert_eq!(HOST.decode(word, size.level()), Entry::Leaf(output, attributes));
        }

        #[test]
        fn a_table_is_read_as_it_was_written(page in 0..1_u64 << 36) {
            let table = Hpa::new(page * PAGE_SIZE);
            let root = HOST.geometry.root();
            for level in [PageSize::MiB2.level(), PageSize::GiB1.level(), root] {
                prop_assert_eq!(HOST.decode(HOST.table(table), level), Entry::Table(table));
            }
        }
    }
}
