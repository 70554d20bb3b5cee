//! Page tables that map the low 4 GiB to themselves, in pages of 2 MiB.
//!
//! ```text
//! page 0  page-map level 4      page 1  directory pointers      pages 2..6  directories, 1 GiB each
//! ```

use memory::{Hpa, PAGE_SIZE};

const PAGE: usize = PAGE_SIZE as usize;

/// Pages of the tables, one behind the other.
pub const PAGES: usize = 6;

const LEVEL_3: usize = 1;
const LEVEL_2: usize = 2;
const ENTRIES: usize = 512;
/// Present and writable.
const TABLE: u64 = 0b11;
/// Present, writable, and a page of 2 MiB.
const LARGE_PAGE: u64 = 0b1000_0011;
const LARGE_PAGE_SIZE: u64 = 2 << 20;

/// Writes the tables that will lie at `base`, which is their root.
pub fn fill(pages: &mut [[u8; PAGE]; PAGES], base: Hpa) {
    let to = |number: usize| base.raw().saturating_add((number * PAGE) as u64) | TABLE;
    let [level_4, level_3, directories @ ..] = pages;
    fill_words(level_4, core::iter::once(to(LEVEL_3)));
    fill_words(level_3, (LEVEL_2..PAGES).map(to));
    for (number, directory) in directories.iter_mut().enumerate() {
        let first = (number * ENTRIES) as u64;
        let entries = first..first + ENTRIES as u64;
        fill_words(
            directory,
            entries.map(|page| (page * LARGE_PAGE_SIZE) | LARGE_PAGE),
        );
    }
}

/// Writes words from the start of a page; the rest of it becomes zero.
pub(crate) fn fill_words(page: &mut [u8; PAGE], words: impl Iterator<Item = u64>) {
    let (slots, _) = page.as_chunks_mut();
    let words = words.chain(core::iter::repeat(0));
    for (slot, word) in slots.iter_mut().zip(words) {
        *slot = word.to_le_bytes();
    }
}

#[cfg(test)]
mod tests {
    extern crate std;

    use super::*;

    const BASE: u64 = 0x1_2000;

    fn word(pages: &[[u8; PAGE]; PAGES], page: u64, index: u64) -> u64 {
        let at = index as usize * 8;
        u64::from_le_bytes(pages[page as usize][at..at + 8].try_into().unwrap())
    }

    /// Where the tables lead `address`, walked as the processor does (SDM vol. 3A, 4.5.4).
    fn walk(pages: &[[u8; PAGE]; PAGES], address: u64) -> Option<u64> {
        let mut page = 0;
        for shift in [39, 30] {
            let entry = word(pages, page, address >> shift & 511);
            if entry & 3 != 3 {
                return None;
            }
            page = ((entry & !0xfff) - BASE) / PAGE_SIZE;
        }
        let entry = word(pages, page, address >> 21 & 511);
        (entry & 0x83 == 0x83).then_some((entry & !0x1f_ffff) + (address & 0x1f_ffff))
    }

    #[test]
    fn the_low_4_gib_and_nothing_else_are_mapped_one_to_one() {
        let mut pages = std::boxed::Box::new([[0xff; PAGE]; PAGES]);
        fill(&mut pages, Hpa::new(BASE));
        for address in [
            0,
            0xfff,
            0x1f_ffff,
            0x20_0000,
            0x3fff_ffff,
            0x4000_0000,
            0xfee0_0030,
            0xffff_ffff,
        ] {
            assert_eq!(walk(&pages, address), Some(address), "{address:#x}");
        }
        for address in [1 << 32, (1 << 39) - 1, 1 << 39, (1 << 48) - 1] {
            assert_eq!(walk(&pages, address), None, "{address:#x}");
        }
    }
}
