//! The pages the kernel starts with: zero page, page tables, descriptors, stack, texts.
//!
//! ```text
//! page 0  boot_params            page 7   descriptor table
//!      1  page-map level 4            8   stack, growing down from page 9
//!      2  directory pointers          9   command line
//!   3..6  directories, 1 GiB each    10   ACPI's root pointer, never reused
//! ```

use memory::{ByteRange, Hpa, PAGE_SIZE};

use crate::handoff::{GuestKind, GuestStart, SegmentState, TableState};
use crate::identity;

const PAGE: usize = PAGE_SIZE as usize;

/// Bytes of all the pages together.
pub const LAUNCH_LEN: usize = 11 * PAGE;

/// Page numbers.
pub(super) const ZERO_PAGE: usize = 0;
const LEVEL_4: usize = 1;
const GDT: usize = 7;
const STACK_TOP: usize = 9;
pub(super) const COMMAND_LINE: usize = 9;
pub(super) const ROOT_POINTER: usize = 10;

/// Selectors 10h, `__BOOT_CS`, and 18h, `__BOOT_DS`: "both descriptors must be 4G flat segment",
/// the first to execute and read 64-bit code, the second to read and write.
const DESCRIPTORS: [u64; 4] = [0, 0, 0x00af_9b00_0000_ffff, 0x00cf_9300_0000_ffff];
const BOOT_CS: u16 = 0x10;
const BOOT_DS: u16 = 0x18;
/// What the processor keeps of the descriptors' rights.
const CODE_RIGHTS: u32 = 0xa09b;
const DATA_RIGHTS: u32 = 0xc093;
/// A local descriptor table and a busy TSS, as INIT leaves them (SDM vol. 3A, table 10-1).
const LDT_RIGHTS: u32 = 0x82;
const TSS_RIGHTS: u32 = 0x8b;
/// PG, WP, NE, ET, MP, PE.
const CR0: u64 = 0x8001_0033;
/// PAE.
const CR4: u64 = 1 << 5;
/// LMA, LME.
const EFER: u64 = 0x500;
/// The PAT after reset. SDM vol. 3A, table 13-11.
const PAT: u64 = 0x0007_0406_0007_0406;

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
    let flat = |selector, rights| SegmentState {
        selector,
        limit: u32::MAX,
        ..SegmentState::of_nothing(rights)
    };
    let data = flat(BOOT_DS, DATA_RIGHTS);
    let table = |base, limit| TableState {
        base,
        limit,
        reserved: 0,
    };
    GuestStart {
        kind: GuestKind::LINUX64,
        reserved: 0,
        rip: entry.raw(),
        rsp: page_at(base, STACK_TOP).raw(),
        rsi: page_at(base, ZERO_PAGE).raw(),
        cr0: CR0,
        cr3: page_at(base, LEVEL_4).raw(),
        cr4: CR4,
        efer: EFER,
        pat: PAT,
        gdt: table(
            page_at(base, GDT).raw(),
            size_of_val(&DESCRIPTORS) as u32 - 1,
        ),
        idt: table(0, 0xffff),
        segments: [data, flat(BOOT_CS, CODE_RIGHTS), data, data, data, data],
        ldtr: SegmentState::of_nothing(LDT_RIGHTS),
        tr: SegmentState::of_nothing(TSS_RIGHTS),
    }
}

/// Writes the descriptor table, and page tables that map the low 4 GiB to themselves.
pub(super) fn fill_tables(pages: &mut [u8; LAUNCH_LEN], base: Hpa) {
    identity::fill_words(page(pages, GDT), DESCRIPTORS.into_iter());
    let (all, _) = pages.as_chunks_mut();
    let (_, from_level_4) = all.split_at_mut(LEVEL_4);
    if let Some(tables) = from_level_4.first_chunk_mut() {
        identity::fill(tables, page_at(base, LEVEL_4));
    }
}
