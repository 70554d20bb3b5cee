//! What UEFI firmware tells and is found doing, in the words of the hand-over.
//!
//! Owns the meaning of its memory map and of the descriptors its processor runs on. Reads neither memory
//! nor registers: a loader passes them in.
//!
//! Source: UEFI Specification 2.10; Intel SDM vol. 3A, 3.4.5, 3.5 and 8.2.

use memory::{ByteRange, Hpa, PAGE_SIZE};

use crate::handoff::{GuestKind, GuestStart, SegmentState, TableState};
use crate::memory_map::{Region, RegionKind};

/// Memory of `pages` pages that the firmware's memory map gives the type `kind` (UEFI 7.2.1), as an
/// operating system will be free to use it once boot services have ended (UEFI 7.2.3). `None` if there is
/// none, or it wraps.
pub fn region(kind: u32, start: u64, pages: u64) -> Option<Region> {
    /// EfiLoaderCode to EfiBootServicesData.
    const UNTIL_EXIT: core::ops::RangeInclusive<u32> = 1..=4;
    /// EfiRuntimeServicesCode and -Data.
    const RUNTIME: core::ops::RangeInclusive<u32> = 5..=6;
    const CONVENTIONAL: u32 = 7;
    const UNUSABLE: u32 = 8;
    const ACPI_RECLAIM: u32 = 9;
    const ACPI_NVS: u32 = 10;
    const PERSISTENT: u32 = 14;
    let kind = match kind {
        CONVENTIONAL => RegionKind::USABLE,
        kind if UNTIL_EXIT.contains(&kind) => RegionKind::USABLE,
        UNUSABLE => RegionKind::UNUSABLE,
        ACPI_RECLAIM => RegionKind::ACPI_RECLAIMABLE,
        // Memory that is the firmware's for good, whose code runs and whose tables are walked in the guest.
        kind if kind == ACPI_NVS || RUNTIME.contains(&kind) => RegionKind::ACPI_NVS,
        PERSISTENT => RegionKind::PERSISTENT,
        _ => RegionKind::RESERVED,
    };
    let range = ByteRange::new(Hpa::new(start), pages.checked_mul(PAGE_SIZE)?)?;
    Some(Region { range, kind })
}

/// What a loader reads of the processor that firmware called it on.
#[derive(Clone, Copy, Debug)]
#[allow(missing_docs, reason = "the names are the registers'")]
pub struct Registers {
    pub cr0: u64,
    pub cr3: u64,
    pub cr4: u64,
    pub efer: u64,
    pub pat: u64,
    pub fs_base: u64,
    pub gs_base: u64,
    pub gdt: TableState,
    pub idt: TableState,
    /// Selectors of ES, CS, SS, DS, FS, GS.
    pub segments: [u16; 6],
    pub ldtr: u16,
    pub tr: u16,
}

/// The state in which firmware goes on at `rip` with the stack at `rsp`: its own. `gdt` are the bytes of
/// its descriptor table.
pub fn start(registers: &Registers, gdt: &[u8], rip: u64, rsp: u64) -> GuestStart {
    let mut segments = registers
        .segments
        .map(|selector| segment(selector, gdt).unwrap_or(UNUSABLE));
    // In 64-bit mode these two bases are the registers', whatever the descriptors say.
    let [.., fs, gs] = &mut segments;
    fs.base = registers.fs_base;
    gs.base = registers.gs_base;
    GuestStart {
        kind: GuestKind::FIRMWARE,
        reserved: 0,
        rip,
        rsp,
        rsi: 0,
        cr0: registers.cr0,
        cr3: registers.cr3,
        cr4: registers.cr4,
        efer: registers.efer,
        pat: registers.pat,
        gdt: registers.gdt,
        idt: registers.idt,
        segments,
        ldtr: segment(registers.ldtr, gdt).unwrap_or(UNUSABLE),
        tr: segment(registers.tr, gdt).unwrap_or(SegmentState::of_nothing(TASK_AFTER_RESET)),
    }
}

const UNUSABLE: SegmentState = SegmentState {
    limit: 0,
    ..SegmentState::of_nothing(SegmentState::UNUSABLE)
};
/// What a task register that nobody loaded holds: a busy TSS (SDM vol. 3A, table 10-1).
const TASK_AFTER_RESET: u32 = 0x8b;

/// What a segment register holds that was loaded with `selector`; `None` for the null selector, for one
/// of a local table, and for one outside the table.
fn segment(selector: u16, gdt: &[u8]) -> Option<SegmentState> {
    const LOCAL: u16 = 1 << 2;
    const NOT_INDEX: u16 = 7;
    let at = usize::from(selector & !NOT_INDEX);
    if at == 0 || selector & LOCAL != 0 {
        return None;
    }
    let word = |at: usize| {
        let bytes = gdt.get(at..)?.first_chunk()?;
        Some(u64::from_le_bytes(*bytes))
    };
    let low = Descriptor(word(at)?);
    let (high, accessed) = if low.is_system() {
        (word(at + 8)? << 32, 0)
    } else {
        // Loading the register sets the bit; a table in ROM keeps it clear.
        (0, 1)
    };
    Some(SegmentState {
        selector,
        reserved: 0,
        limit: low.limit(),
        base: low.base() | high,
        rights: low.rights() | accessed,
        reserved_too: 0,
    })
}

/// The first eight bytes of a descriptor. SDM vol. 3A, figures 3-8 and 8-4.
#[derive(Clone, Copy)]
struct Descriptor(u64);

impl Descriptor {
    fn is_system(self) -> bool {
        self.0 & 1 << 44 == 0
    }

    /// The last offset in bytes.
    fn limit(self) -> u32 {
        let limit = (self.0 & 0xffff | self.0 >> 32 & 0xf_0000) as u32;
        let is_in_pages = self.0 & 1 << 55 != 0;
        if is_in_pages {
            limit << 12 | 0xfff
        } else {
            limit
        }
    }

    /// Bits 31:0 of the base.
    fn base(self) -> u64 {
        self.0 >> 16 & 0xff_ffff | self.0 >> 32 & 0xff00_0000
    }

    /// As a VMCS holds them.
    fn rights(self) -> u32 {
        (self.0 >> 40) as u32 & 0xf0ff
    }
}

#[cfg(test)]
mod tests {
    extern crate std;

    use std::vec::Vec;

    use proptest::prelude::*;

    use super::*;

    #[test]
    fn what_ends_with_boot_services_is_usable_and_runtime_memory_stays_the_firmwares() {
        let kind = |kind| region(kind, 0x1000, 1).unwrap().kind;
        for usable in [1, 2, 3, 4, 7] {
            assert_eq!(kind(usable), RegionKind::USABLE, "{usable}");
        }
        for reserved in [0, 11, 12, 13, 15, 16, 0x8000_0000] {
            assert_eq!(kind(reserved), RegionKind::RESERVED, "{reserved}");
        }
        assert_eq!(kind(8), RegionKind::UNUSABLE);
        assert_eq!(kind(9), RegionKind::ACPI_RECLAIMABLE);
        for kept in [5, 6, 10] {
            assert_eq!(kind(kept), RegionKind::ACPI_NVS, "{kept}");
        }
        assert_eq!(kind(14), RegionKind::PERSISTENT);
    }

    #[test]
    fn a_map_entry_of_nothing_or_round_the_address_space_is_none() {
        assert_eq!(region(7, 0x1000, 0), None);
        assert_eq!(region(7, 0x1000, u64::MAX), None);
        assert_eq!(region(7, u64::MAX - 0xfff, 2), None);
        assert_eq!(region(7, 0x1000, 1 << 52), None);
    }

    /// OVMF's table: null, data, code, a 16-bit pair, system code, spare, then 64-bit code; and a TSS.
    fn gdt() -> Vec<u8> {
        let words: [u64; 11] = [
            0,
            0x00cf_9200_0000_ffff,
            0x00cf_9f00_0000_ffff,
            0x00cf_9300_0000_ffff,
            0x00cf_9a00_0000_ffff,
            0,
            0x00cf_9300_0000_ffff,
            0x00af_9b00_0000_ffff,
            0,
            0x7f00_8b12_3456_0067,
            0x0000_0000_0000_0001,
        ];
        words.iter().flat_map(|word| word.to_le_bytes()).collect()
    }

    fn registers() -> Registers {
        let table = |base, limit| TableState {
            base,
            limit,
            reserved: 0,
        };
        Registers {
            cr0: 0x8001_0033,
            cr3: 0x7fc0_1000,
            cr4: 0x668,
            efer: 0xd00,
            pat: 0x0007_0406_0007_0406,
            fs_base: 0x1234,
            gs_base: 0x5678,
            gdt: table(0x7f5d_c000, 0x57),
            idt: table(0x7f00_0000, 0xfff),
            segments: [0x30, 0x38, 0x30, 0x08, 0x30, 0],
            ldtr: 0,
            tr: 0,
        }
    }

    #[test]
    fn firmware_goes_on_in_a_state_that_a_processor_can_be_in() {
        let start = start(&registers(), &gdt(), 0x7e00_0000, 0x7ff0_0000);
        assert_eq!(start.impossible(), None);
        assert_eq!((start.rip, start.rsp), (0x7e00_0000, 0x7ff0_0000));
        let [es, cs, _, ds, fs, gs] = start.segments;
        assert_eq!((es.selector, es.limit, es.rights), (0x30, u32::MAX, 0xc093));
        assert_eq!((cs.selector, cs.limit, cs.rights), (0x38, u32::MAX, 0xa09b));
        assert_eq!(fs.base, 0x1234);
        assert_eq!((gs.rights, gs.base), (SegmentState::UNUSABLE, 0x5678));
        // Loaded, the descriptor counts as accessed.
        assert_eq!(ds.rights, 0xc093);
    }

    #[test]
    fn a_task_register_that_was_never_loaded_is_as_after_reset() {
        let start = start(&registers(), &gdt(), 0, 0);
        assert_eq!(start.tr, SegmentState::of_nothing(0x8b));
        assert_eq!(start.ldtr.rights, SegmentState::UNUSABLE);
    }

    #[test]
    fn a_task_segment_has_a_base_of_64_bits() {
        let registers = Registers {
            tr: 0x48,
            ..registers()
        };
        let tr = start(&registers, &gdt(), 0, 0).tr;
        assert_eq!(
            (tr.selector, tr.base, tr.limit, tr.rights),
            (0x48, 0x1_7f12_3456, 0x67, 0x8b)
        );
        // Its second half lies outside this table.
        let registers = Registers {
            tr: 0x48,
            ..registers
        };
        let tr = start(&registers, &gdt()[..0x50], 0, 0).tr;
        assert_eq!(tr.selector, 0);
    }

    #[test]
    fn a_selector_of_a_local_table_or_outside_the_table_is_unusable() {
        for selector in [0x0c, 0x58, 0xfff8, 1, 2, 3] {
            assert_eq!(segment(selector, &gdt()), None, "{selector:#x}");
        }
    }

    proptest! {
        #[test]
        fn any_table_and_any_selector_are_read_or_refused(
            gdt in proptest::collection::vec(any::<u8>(), 0..96),
            selectors: [u16; 6],
            tr: u16,
        ) {
            let registers = Registers { segments: selectors, tr, ..registers() };
            let _ = start(&registers, &gdt, 0, 0).impossible();
        }
    }
}
