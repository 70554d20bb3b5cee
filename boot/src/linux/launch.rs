//! The pages the kernel starts with: zero page, page tables, descriptors, stack, texts.
//!
//! ```text
//! page 0  boot_params            page 7   descriptor table
//!      1  page-map level 4            8   stack, growing down from page 9
//!      2  directory pointers          9   command line
//!   3..6  directories, 1 GiB each    10   ACPI's root pointer, never reused
//! ```

use memory::{ByteRange, Hpa, PAGE_SIZE};

use crate::handoff::{GuestKind, GuestStart};

const PAGE: usize = PAGE_SIZE as usize;

/// Bytes of all the pages together.
pub const LAUNCH_LEN: usize = 11 * PAGE;

/// Page numbers.
pub(super) const ZERO_PAGE: usize = 0;
const LEVEL_4: usize = 1;
const LEVEL_3: usize = 2;
const LEVEL_2: usize = 3;
const GDT: usize = 7;
const STACK_TOP: usize = 9;
pub(super) const COMMAND_LINE: usize = 9;
pub(super) const ROOT_POINTER: usize = 10;

/// How many page directories: one for each GiB the kernel may be started in.
const DIRECTORIES: usize = 4;
const ENTRIES: usize = 512;
/// Present and writable.
const TABLE: u64 = 0b11;
/// Present, writable, and a page of 2 MiB.
const LARGE_PAGE: u64 = 0b1000_0011;
const LARGE_PAGE_SIZE: u64 = 2 << 20;

/// Selectors 10h, `__BOOT_CS`, and 18h, `__BOOT_DS`: "both descriptors must be 4G flat segment",
/// the first to execute and read 64-bit code, the second to read and write.
const DESCRIPTORS: [u64; 4] = [0, 0, 0x00af_9b00_0000_ffff, 0x00cf_9300_0000_ffff];

/// Where page `number` of the pages at `base` lies.
pub(super) fn page_at(base: Hpa, number: usize) -> Hpa {
    Hpa::new(base.raw().saturating_add((number * PAGE) as u64))
}

/// The page that must not be given to the kernel as free memory.
pub(super) fn kept_page(base: Hpa) -> Option<ByteRange<Hpa>> {
    ByteRange::new(page_at(base, ROOT_POINTER), PAGE_SIZE)
}

/// The bytes of page `number`.
pub(super) fn page(pages: &mut [u8; LAUNCH_LEN], number: usize) -> &mut [u8; PAGE] {
    let (pages, _) = pages.as_chunks_mut();
    &mut pages[number]
}

/// The state the kernel's first instruction finds.
pub(super) fn start(base: Hpa, entry: Hpa) -> GuestStart {
    GuestStart {
        kind: GuestKind::LINUX64,
        gdt_limit: size_of_val(&DESCRIPTORS) as u16 - 1,
        reserved: 0,
        gdt_base: page_at(base, GDT).raw(),
        rip: entry.raw(),
        rsp: page_at(base, STACK_TOP).raw(),
        rsi: page_at(base, ZERO_PAGE).raw(),
        cr3: page_at(base, LEVEL_4).raw(),
    }
}

/// Writes the descriptor table, and page tables that map the low 4 GiB to themselves.
pub(super) fn fill_tables(pages: &mut [u8; LAUNCH_LEN], base: Hpa) {
    let to = |number| page_at(base, number).raw() | TABLE;
    fill_words(page(pages, GDT), DESCRIPTORS.into_iter());
    fill_words(page(pages, LEVEL_4), core::iter::once(to(LEVEL_3)));
    let directories = (LEVEL_2..LEVEL_2 + DIRECTORIES).map(to);
    fill_words(page(pages, LEVEL_3), directories);
    for directory in 0..DIRECTORIES {
        let first = (directory * ENTRIES) as u64;
        let entries =
            (first..first + ENTRIES as u64).map(|page| (page * LARGE_PAGE_SIZE) | LARGE_PAGE);
        fill_words(page(pages, LEVEL_2 + directory), entries);
    }
}

fn fill_words(page: &mut [u8; PAGE], words: impl Iterator<Item = u64>) {
    let (slots, _) = page.as_chunks_mut();
    for (slot, word) in slots.iter_mut().zip(words) {
        *slot = word.to_le_bytes();
    }
}
