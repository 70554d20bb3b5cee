use std::vec::Vec;

use memory::Hpa;
use proptest::prelude::*;

use super::*;

const UC: MemoryType = MemoryType::UNCACHEABLE;
const WC: MemoryType = MemoryType::WRITE_COMBINING;
const WT: MemoryType = MemoryType::WRITE_THROUGH;
const WP: MemoryType = MemoryType::WRITE_PROTECTED;
const WB: MemoryType = MemoryType::WRITE_BACK;

const MIB: u64 = 1 << 20;
/// E, and UC where nothing matches.
const ENABLED: u64 = 0x800;
/// E and FE.
const BOTH_ENABLED: u64 = 0xc00;

/// SDM vol. 3A, example 12-2, for physical addresses of 36 bits: 96 MiB of memory, of which 15
/// to 16 MiB is taken by a device, a card at 64 MiB and graphics memory at A000_0000h.
const EXAMPLE: [VariableMtrr; 6] = [
    VariableMtrr {
        base: 0x0000_0000_0000_0006,
        mask: 0x0000_000f_fc00_0800,
    },
    VariableMtrr {
        base: 0x0000_0000_0400_0006,
        mask: 0x0000_000f_fe00_0800,
    },
    VariableMtrr {
        base: 0x0000_0000_0600_0006,
        mask: 0x0000_000f_ffc0_0800,
    },
    VariableMtrr {
        base: 0x0000_0000_0400_0000,
        mask: 0x0000_000f_ffc0_0800,
    },
    VariableMtrr {
        base: 0x0000_0000_00f0_0000,
        mask: 0x0000_000f_fff0_0800,
    },
    VariableMtrr {
        base: 0x0000_0000_a000_0001,
        mask: 0x0000_000f_ff80_0800,
    },
];

fn runs(mtrrs: &Mtrrs<'_>, last: u64) -> Vec<(u64, MemoryType)> {
    let mut starts = Vec::new();
    let mut next = 0;
    while next <= last {
        let run = mtrrs.run(Hpa::new(next));
        starts.push((next, run.memory));
        next = run.last.raw() + 1;
    }
    starts
}

fn range(start: u64, len: u64, memory: MemoryType) -> VariableMtrr {
    VariableMtrr {
        base: start | u64::from(memory.bits()),
        mask: ((1 << 36) - len) | 0x800,
    }
}

#[test]
fn the_manuals_example_gives_the_manuals_map() {
    let mtrrs = Mtrrs::new(36, ENABLED, None, &EXAMPLE).unwrap();
    assert_eq!(
        runs(&mtrrs, (1 << 36) - 1),
        [
            (0, WB),
            (15 * MIB, UC),
            (16 * MIB, WB),
            (64 * MIB, UC),
            (68 * MIB, WB),
            (100 * MIB, UC),
            (0xa000_0000, WC),
            (0xa080_0000, UC),
        ]
    );
}

/// "If the MTRRs are not enabled, then all memory accesses are of the UC memory type."
#[test]
fn without_the_enable_flag_all_is_uncacheable() {
    let fixed = [0x0606_0606_0606_0606; FIXED_MTRRS];
    let mtrrs = Mtrrs::new(36, 0x406, Some(&fixed), &EXAMPLE).unwrap();
    assert_eq!(runs(&mtrrs, (1 << 36) - 1), [(0, UC)]);
}

#[test]
fn what_no_range_matches_has_the_default_type() {
    let mtrrs = Mtrrs::new(36, ENABLED | 6, None, &EXAMPLE[3..4]).unwrap();
    let expected = [(0, WB), (64 * MIB, UC), (68 * MIB, WB)];
    assert_eq!(runs(&mtrrs, (1 << 36) - 1), expected);
}

#[test]
fn a_range_whose_valid_flag_is_clear_matches_nothing() {
    let invalid = VariableMtrr {
        base: 0,
        mask: 0xf_fc00_0000,
    };
    let mtrrs = Mtrrs::new(36, ENABLED | 6, None, core::slice::from_ref(&invalid)).unwrap();
    assert_eq!(mtrrs.memory_type(Hpa::new(0)), WB);
}

/// Where fewer bits of an address name memory than the registers have.
#[test]
fn a_range_beyond_the_last_address_matches_nothing_below() {
    let beyond = VariableMtrr {
        base: 1 << 40,
        mask: 0x1ff_f000_0000 | 0x800,
    };
    let mtrrs = Mtrrs::new(36, ENABLED | 6, None, core::slice::from_ref(&beyond)).unwrap();
    assert_eq!(runs(&mtrrs, (1 << 36) - 1), [(0, WB)]);
}

/// Table 12-9: the byte 0 of a register is for the lowest addresses.
#[test]
fn byte_0_of_a_fixed_register_is_the_lowest_address() {
    let mut fixed = [0x0606_0606_0606_0606; FIXED_MTRRS];
    fixed[0] = 0x0606_0606_0606_0600;
    fixed[1] = 0x0406_0606_0606_0606;
    fixed[2] = 0x0606_0606_0606_0601;
    fixed[3] = 0x0606_0606_0606_0605;
    fixed[10] = 0x0006_0606_0606_0606;
    let mtrrs = Mtrrs::new(36, BOTH_ENABLED | 6, Some(&fixed), &[]).unwrap();
    assert_eq!(
        runs(&mtrrs, (1 << 36) - 1),
        [
            (0, UC),
            (0x1_0000, WB),
            (0x9_c000, WT),
            (0xa_0000, WC),
            (0xa_4000, WB),
            (0xc_0000, WP),
            (0xc_1000, WB),
            (0xf_f000, UC),
            (0x10_0000, WB),
        ]
    );
}

#[test]
fn every_fixed_register_has_its_place() {
    let starts = [
        0, 0x8_0000, 0xa_0000, 0xc_0000, 0xc_8000, 0xd_0000, 0xd_8000, 0xe_0000, 0xe_8000,
        0xf_0000, 0xf_8000,
    ];
    for (index, start) in starts.into_iter().enumerate() {
        let mut fixed = [0; FIXED_MTRRS];
        fixed[index] = 0x0606_0606_0606_0606;
        let mtrrs = Mtrrs::new(36, BOTH_ENABLED, Some(&fixed), &[]).unwrap();
        let end = starts.get(index + 1).copied().unwrap_or(MIB);
        assert_eq!(mtrrs.memory_type(Hpa::new(start)), WB, "register {index}");
        assert_eq!(mtrrs.memory_type(Hpa::new(end - 1)), WB, "register {index}");
        assert_eq!(mtrrs.memory_type(Hpa::new(end)), UC, "register {index}");
    }
}

/// "If the physical address falls within the first 1 MByte and fixed MTRRs are enabled, the
/// processor uses the memory type of the appropriate fixed-range MTRR."
#[test]
fn a_fixed_range_wins_over_variable_ones() {
    let fixed = [0x0404_0404_0404_0404; FIXED_MTRRS];
    let mtrrs = Mtrrs::new(36, BOTH_ENABLED, Some(&fixed), &EXAMPLE).unwrap();
    let expected = [(0, WT), (MIB, WB)];
    assert_eq!(runs(&mtrrs, 15 * MIB - 1), expected);
}

#[test]
fn fixed_ranges_do_not_count_without_their_own_flag() {
    let fixed = [0x0404_0404_0404_0404; FIXED_MTRRS];
    let mtrrs = Mtrrs::new(36, ENABLED, Some(&fixed), &EXAMPLE).unwrap();
    assert_eq!(mtrrs.memory_type(Hpa::new(0)), WB);
}

#[test]
fn overlaps_follow_the_order_of_precedence() {
    let cases = [
        ("identical types are used", WB, WB, WB),
        ("one of the memory types is UC: UC", UC, WB, UC),
        ("UC wins over WC", UC, WC, UC),
        ("WT and WB: WT", WT, WB, WT),
        ("not defined: UC is safe", WC, WB, UC),
        ("not defined: UC is safe", WP, WT, UC),
    ];
    for (why, one, other, expected) in cases {
        for (first, second) in [(one, other), (other, one)] {
            let pair = [range(0, MIB, first), range(0, MIB, second)];
            let mtrrs = Mtrrs::new(36, ENABLED, None, &pair).unwrap();
            assert_eq!(mtrrs.memory_type(Hpa::new(0)), expected, "{why}");
        }
    }
}

#[test]
fn a_third_range_cannot_undo_an_undefined_overlap() {
    let three = [range(0, MIB, WB), range(0, MIB, WC), range(0, MIB, WB)];
    let mtrrs = Mtrrs::new(36, ENABLED, None, &three).unwrap();
    assert_eq!(mtrrs.memory_type(Hpa::new(0)), UC);
}

#[test]
fn a_reserved_encoding_is_uncacheable() {
    let reserved = VariableMtrr {
        base: 7,
        mask: 0xf_fff0_0800,
    };
    let mtrrs = Mtrrs::new(36, ENABLED | 6, None, core::slice::from_ref(&reserved)).unwrap();
    assert_eq!(mtrrs.memory_type(Hpa::new(0)), UC);
}

/// Firmware that takes every processor for one of 36 bits.
#[test]
fn a_mask_for_fewer_address_bits_repeats_its_range() {
    let mtrrs = Mtrrs::new(38, ENABLED | 6, None, &EXAMPLE[3..4]).unwrap();
    let expected: Vec<_> = (0..4_u64)
        .flat_map(|repeat| {
            let base = repeat << 36;
            [(base + 64 * MIB, UC), (base + 68 * MIB, WB)]
        })
        .collect();
    assert_eq!(runs(&mtrrs, (1 << 38) - 1)[1..], expected);
}

#[test]
fn a_mask_that_scatters_its_range_over_all_memory_is_refused() {
    let scattered = [
        EXAMPLE[0],
        VariableMtrr {
            base: 0,
            mask: 0x1800,
        },
    ];
    let refused = Mtrrs::new(46, ENABLED, None, &scattered).unwrap_err();
    let expected = MtrrError::Scattered {
        index: 1,
        mask: 0x1800,
    };
    assert_eq!(refused, expected);
}

#[test]
fn a_width_no_processor_has_is_refused() {
    for width in [0, 31, 53, 64, u32::MAX] {
        let refused = Mtrrs::new(width, ENABLED, None, &[]).unwrap_err();
        assert_eq!(refused, MtrrError::Width(width));
    }
}

#[test]
fn a_run_beyond_the_last_address_ends() {
    let mtrrs = Mtrrs::new(36, ENABLED | 6, None, &EXAMPLE).unwrap();
    let run = mtrrs.run(Hpa::new(u64::MAX));
    assert_eq!(run.last, Hpa::new(u64::MAX));
}

prop_compose! {
    /// Registers whose ranges, whole or scattered, differ in the lowest 2 MiB.
    fn registers()(base in 0..512_u64, mask in 0..512_u64, memory in 0..8_u64, valid: bool)
        -> VariableMtrr {
        let high = !((2 << 20) - 1) & ((1 << 36) - 1);
        VariableMtrr {
            base: base << 12 | memory,
            mask: high | mask << 12 | if valid { 0x800 } else { 0 },
        }
    }
}

proptest! {
    #[test]
    fn a_run_is_as_long_as_page_after_page_has_its_type(
        variable in prop::collection::vec(registers(), 0..4),
        default in 0..8_u64,
        fixed in prop::option::of(prop::array::uniform11(any::<u64>())),
        start in 0..512_u64,
    ) {
        let default = BOTH_ENABLED | default;
        let mtrrs = Mtrrs::new(36, default, fixed.as_ref(), &variable).unwrap();
        let at = |page: u64| mtrrs.memory_type(Hpa::new(page << 12));
        let run = mtrrs.run(Hpa::new(start << 12));
        prop_assert_eq!(run.memory, at(start));
        let expected = (start..513).take_while(|page| at(*page) == run.memory).last().unwrap();
        if expected < 512 {
            prop_assert_eq!(run.last.raw(), (expected << 12) + 0xfff);
        } else {
            prop_assert_eq!(run.last.raw(), (1 << 36) - 1);
        }
    }

    #[test]
    fn a_variable_range_matches_what_agrees_with_its_base_under_its_mask(
        registers in registers(), page in 0..1024_u64,
    ) {
        let variable = [registers];
        let mtrrs = Mtrrs::new(36, ENABLED | 4, None, &variable).unwrap();
        let mask = registers.mask & !0xfff;
        let matches = registers.mask & 0x800 != 0 && (page << 12) & mask == registers.base & mask;
        let expected = if matches { decode(registers.base as u8) } else { WT };
        prop_assert_eq!(mtrrs.memory_type(Hpa::new(page << 12)), expected);
    }
}
