//! The order of things: what is touched, how often, and what a fault leaves behind. Results and
//! flags are compared with a real processor in `tests/processor.rs`.

use std::{format, vec::Vec};

use memory::{ByteRange, Gpa, Hole};
use proptest::prelude::*;

use super::*;
use crate::{
    decode::decode,
    fakes::{Processor, Touch},
    fault::{ErrorCode, PageFault},
    instruction::{Bits, Segment},
    spec::Rights,
    vcpu::SegmentRegister,
};

const ALL_BITS: [Bits; 3] = [Bits::Bits16, Bits::Bits32, Bits::Bits64];

fn decoded(bytes: &[u8], bits: Bits) -> Instruction {
    decode(bytes, bits).unwrap_or_else(|refusal| panic!("{refusal}"))
}

/// What one instruction touches, on a processor that is given back.
fn run(bytes: &[u8], bits: Bits, mut processor: Processor) -> Processor {
    execute(&decoded(bytes, bits), &mut processor).unwrap_or_else(|fault| panic!("{fault}"));
    processor
}

fn hole() -> Fault {
    let at = Gpa::new(0xdead_0000);
    Fault::Hole(Hole(ByteRange::inclusive(at, at).expect("one byte")))
}

/// Bytes that start with one of the opcodes that touch memory.
fn instructions() -> impl Strategy<Value = (Vec<u8>, Bits)> {
    let prefixes = Vec::from([0x66, 0x67, 0xf3, 0x48, 0x44, 0x41]);
    (
        prop::collection::vec(prop::sample::select(prefixes), 0..3),
        prop::sample::select(Vec::from(ALL_BITS)),
        any::<bool>(),
        prop::collection::vec(any::<u8>(), 15),
    )
        .prop_map(|(mut bytes, bits, is_behind_0f, rest)| {
            if is_behind_0f {
                bytes.push(0x0f);
            }
            bytes.extend(rest);
            (bytes, bits)
        })
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(6_000))]

    #[test]
    fn a_fault_leaves_registers_flags_and_rip_unchanged(
        (bytes, bits) in instructions(),
        registers: [u64; 16],
        flags in 0u64..0x1000,
        is_write in any::<bool>(),
    ) {
        let Ok(instruction) = decode(&bytes, bits) else { return Ok(()) };
        let mut processor = Processor::new(bits);
        processor.registers = registers;
        processor.rflags = flags;
        let fault = PageFault { linear: 0x1234, code: ErrorCode(2) };
        if is_write {
            processor.write_fault = Some(Fault::Page(fault));
        } else {
            processor.read_fault = Some(Fault::Page(fault));
        }
        let mut after = processor.clone();
        if execute(&instruction, &mut after).is_err() {
            after.touched.clear();
            prop_assert_eq!(after, processor, "{}", format!("{instruction:x?}"));
        }
    }

    #[test]
    fn memory_is_read_at_most_once_and_written_at_most_once_and_last(
        (bytes, bits) in instructions(),
        registers: [u64; 16],
    ) {
        let Ok(instruction) = decode(&bytes, bits) else { return Ok(()) };
        let mut processor = Processor::new(bits);
        processor.registers = registers;
        let _ = execute(&instruction, &mut processor);
        match processor.touched.as_slice() {
            [] | [_] => {}
            [Touch::Read(read, access, length), Touch::Wrote(wrote, stored)] => {
                prop_assert_eq!(*length, stored.len());
                if instruction.operation() == Operation::String(crate::StringOperation::Move) {
                    prop_assert_eq!(*access, Access::Read);
                } else {
                    prop_assert_eq!((read, *access), (wrote, Access::Write));
                }
            }
            other => prop_assert!(false, "{}", format!("{other:?} by {instruction:x?}")),
        }
    }
}

#[test]
fn an_operand_that_wraps_around_the_end_of_the_address_space_is_refused() {
    // MOV [eax], ecx where the last byte that is there is the third.
    let store = decoded(&[0x89, 0x08], Bits::Bits64);
    let mut processor = Processor::new(Bits::Bits64).with(Register::RAX, u64::MAX - 2);
    assert_eq!(
        execute(&store, &mut processor),
        Err(Fault::GeneralProtection)
    );
    let mut processor = Processor::new(Bits::Bits64).with(Register::RAX, u64::MAX - 3);
    assert_eq!(execute(&store, &mut processor), Ok(()));

    let high = SegmentRegister {
        base: 0xffff_0000,
        limit: u32::MAX,
        rights: Rights(0x93),
    };
    let at = |offset| {
        Processor::new(Bits::Bits32)
            .with_segment(Segment::Ds, high)
            .with(Register::RAX, offset)
    };
    let store = decoded(&[0x89, 0x08], Bits::Bits32);
    assert_eq!(
        execute(&store, &mut at(0xfffd)),
        Err(Fault::GeneralProtection)
    );
    assert_eq!(execute(&store, &mut at(0xfffc)), Ok(()));
}

#[test]
fn a_comparison_writes_nothing_and_does_not_ask_to() {
    for bytes in [&[0x39, 0x03][..], &[0x85, 0x03], &[0x0f, 0xa3, 0x03]] {
        let processor = Processor::new(Bits::Bits64).with(Register::RAX, 1);
        let touched = run(bytes, Bits::Bits64, processor).touched;
        assert!(
            matches!(touched.as_slice(), [Touch::Read(_, Access::Read, 4)]),
            "{touched:?}"
        );
    }
}

#[test]
fn a_failed_compare_and_exchange_of_memory_writes_back_what_it_found() {
    // "The destination is written back if the comparison fails."
    let processor = Processor::new(Bits::Bits64)
        .with(Register::RAX, 1)
        .with(Register::RBX, 0x4000);
    let after = run(&[0xf0, 0x0f, 0xb1, 0x0b], Bits::Bits64, processor);
    assert_eq!(
        after.touched,
        [
            Touch::Read(0x4000, Access::Write, 4),
            Touch::Wrote(0x4000, Vec::from([0x11, 0x22, 0x33, 0x44]))
        ]
    );
    assert_eq!(after.registers[0], 0x4433_2211);
    assert!(!Rflags(after.rflags).zf());
}

#[test]
fn a_bit_offset_moves_the_address_by_whole_operands_downwards_too() {
    for (offset, at) in [(-1i64, 0x3ffc), (31, 0x4000), (32, 0x4004), (-33, 0x3ff8)] {
        let processor = Processor::new(Bits::Bits64)
            .with(Register::RBX, 0x4000)
            .with(Register::RCX, offset as u64);
        let after = run(&[0x0f, 0xab, 0x0b], Bits::Bits64, processor);
        assert_eq!(
            after.touched[0],
            Touch::Read(at, Access::Write, 4),
            "{offset}"
        );
    }
}

#[test]
fn an_immediate_bit_offset_stays_inside_the_operand() {
    let processor = Processor::new(Bits::Bits64).with(Register::RBX, 0x4000);
    let after = run(&[0x0f, 0xba, 0x2b, 0xff], Bits::Bits64, processor);
    assert_eq!(
        after.touched[1],
        Touch::Wrote(0x4000, Vec::from([0x11, 0x22, 0x33, 0xc4]))
    );
}

#[test]
fn an_address_relative_to_rip_counts_from_the_end_of_the_instruction() {
    let mut processor = Processor::new(Bits::Bits64);
    processor.rip = 0x7000;
    // MOV dword [rip - 16], 5
    let bytes = [0xc7, 0x05, 0xf0, 0xff, 0xff, 0xff, 5, 0, 0, 0];
    let after = run(&bytes, Bits::Bits64, processor);
    assert_eq!(
        after.touched,
        [Touch::Wrote(0x6ffa, Vec::from([5, 0, 0, 0]))]
    );
}

#[test]
fn addresses_wrap_at_their_own_width() {
    // MOV al, [bx + si] in 16-bit code, MOV al, [ebx + esi] in 64-bit code.
    let bases = |processor: Processor| {
        processor
            .with(Register::RBX, 0x1234_ffff_ffff)
            .with(Register::RSI, 3)
    };
    let after = run(
        &[0x8a, 0x00],
        Bits::Bits16,
        bases(Processor::new(Bits::Bits16)),
    );
    assert_eq!(after.touched, [Touch::Read(2, Access::Read, 1)]);
    let after = run(
        &[0x67, 0x8a, 0x04, 0x33],
        Bits::Bits64,
        bases(Processor::new(Bits::Bits64)),
    );
    assert_eq!(after.touched, [Touch::Read(2, Access::Read, 1)]);
}

#[test]
fn rip_wraps_at_the_width_of_the_code() {
    for (bits, rip, next) in [
        (Bits::Bits16, 0xfffe, 0),
        (Bits::Bits32, 0xffff_fffe, 0),
        (Bits::Bits64, 0xffff_fffe, 0x1_0000_0000),
    ] {
        let mut processor = Processor::new(bits);
        processor.rip = rip;
        assert_eq!(run(&[0x89, 0xc3], bits, processor).rip, next, "{bits:?}");
    }
}

#[test]
fn the_end_of_an_instruction_clears_rf_and_nothing_else() {
    let mut processor = Processor::new(Bits::Bits64);
    processor.rflags = 0x5_0ed7;
    assert_eq!(run(&[0x89, 0xc3], Bits::Bits64, processor).rflags, 0x4_0ed7);
}

#[test]
fn a_repeated_string_stays_where_it_is_until_the_counter_is_zero() {
    let mut processor = Processor::new(Bits::Bits64)
        .with(Register::RCX, 2)
        .with(Register::RDI, 0x4000);
    let stos = decoded(&[0xf3, 0x48, 0xab], Bits::Bits64);
    execute(&stos, &mut processor).expect("memory takes it");
    assert_eq!((processor.rip, processor.registers[1]), (0x1000, 1));
    execute(&stos, &mut processor).expect("memory takes it");
    assert_eq!((processor.rip, processor.registers[1]), (0x1003, 0));
    assert_eq!(processor.registers[7], 0x4010);
}

#[test]
fn a_repeated_string_without_elements_touches_nothing() {
    let processor = Processor::new(Bits::Bits32).with(Register::RCX, 0x7_0000_0000);
    let after = run(&[0xf3, 0xa5], Bits::Bits32, processor);
    assert_eq!((after.rip, after.touched.len()), (0x1002, 0));
}

#[test]
fn strings_of_16_bit_addresses_leave_the_rest_of_their_registers() {
    let processor = Processor::new(Bits::Bits16)
        .with(Register::RSI, 0x11_ffff)
        .with(Register::RDI, 0x22_0000)
        .with(Register::RCX, 0x33_0001);
    let after = run(&[0xf3, 0xa4], Bits::Bits16, processor);
    assert_eq!(after.registers[6], 0x11_0000);
    assert_eq!(after.registers[7], 0x22_0001);
    assert_eq!(after.registers[1], 0x33_0000);
}

#[test]
fn an_intercepted_instruction_is_not_emulated() {
    let mut processor = Processor::new(Bits::Bits64);
    let before = processor.clone();
    let cpuid = decoded(&[0x0f, 0xa2], Bits::Bits64);
    assert_eq!(execute(&cpuid, &mut processor), Err(Fault::NotEmulated));
    assert_eq!(processor, before);
    advance(&cpuid, &mut processor);
    assert_eq!(processor.rip, 0x1002);
}

/// MOV dword [0x100], eax through each segment of 32-bit code.
fn store_through(prefix: u8, segment: Segment, register: SegmentRegister) -> Result<u64, Fault> {
    let mut processor = Processor::new(Bits::Bits32).with_segment(segment, register);
    let store = decoded(&[prefix, 0x89, 0x05, 0, 1, 0, 0], Bits::Bits32);
    execute(&store, &mut processor)?;
    match processor.touched.as_slice() {
        [Touch::Wrote(at, _)] => Ok(*at),
        other => panic!("{other:?}"),
    }
}

#[test]
fn an_operand_must_lie_inside_the_limit_of_its_segment() {
    let with_limit = |limit| SegmentRegister {
        base: 0xffff_ff00,
        limit,
        rights: Rights(0x93),
    };
    assert_eq!(store_through(0x3e, Segment::Ds, with_limit(0x103)), Ok(0));
    assert_eq!(
        store_through(0x3e, Segment::Ds, with_limit(0x102)),
        Err(Fault::GeneralProtection)
    );
    assert_eq!(
        store_through(0x36, Segment::Ss, with_limit(0x102)),
        Err(Fault::Stack)
    );
}

#[test]
fn an_expand_down_segment_is_valid_above_its_limit() {
    let expand_down = |limit, big: u16| SegmentRegister {
        base: 0,
        limit,
        rights: Rights(0x97 | big << 10),
    };
    let fault = Fault::GeneralProtection;
    assert_eq!(
        store_through(0x26, Segment::Es, expand_down(0xff, 1)),
        Ok(0x100)
    );
    assert_eq!(
        store_through(0x26, Segment::Es, expand_down(0x100, 1)),
        Err(fault)
    );
    // MOV [0x10000], eax: above what a 16-bit segment reaches.
    let mut processor =
        Processor::new(Bits::Bits32).with_segment(Segment::Ds, expand_down(0xff, 0));
    let store = decoded(&[0x89, 0x05, 0, 0, 1, 0], Bits::Bits32);
    assert_eq!(execute(&store, &mut processor), Err(fault));
}

#[test]
fn rights_of_a_segment_are_checked() {
    let with_rights = |rights| SegmentRegister {
        base: 0,
        limit: u32::MAX,
        rights: Rights(rights),
    };
    let fault = Fault::GeneralProtection;
    assert_eq!(
        store_through(0x3e, Segment::Ds, with_rights(0x91)),
        Err(fault),
        "read-only"
    );
    assert_eq!(
        store_through(0x2e, Segment::Cs, with_rights(0x9b)),
        Err(fault),
        "code"
    );
    assert_eq!(
        store_through(0x64, Segment::Fs, with_rights(0x13)),
        Err(fault),
        "unusable"
    );
    let load = decoded(&[0x2e, 0x8b, 0x05, 0, 1, 0, 0], Bits::Bits32);
    let mut processor = Processor::new(Bits::Bits32).with_segment(Segment::Cs, with_rights(0x99));
    assert_eq!(execute(&load, &mut processor), Err(fault), "execute-only");
}

#[test]
fn only_fs_and_gs_have_a_base_in_64_bit_mode() {
    let elsewhere = SegmentRegister {
        base: 0xffff_8000_0000_0000,
        limit: 0,
        rights: Rights(0),
    };
    let mut processor = Processor::new(Bits::Bits64).with(Register::RAX, 0x10);
    processor.segments = [elsewhere; 6];
    let touched = run(&[0x88, 0x00], Bits::Bits64, processor.clone()).touched;
    assert_eq!(touched, [Touch::Wrote(0x10, Vec::from([0x10]))]);
    let touched = run(&[0x65, 0x88, 0x00], Bits::Bits64, processor).touched;
    assert_eq!(
        touched,
        [Touch::Wrote(0xffff_8000_0000_0010, Vec::from([0x10]))]
    );
}

#[test]
fn what_is_not_canonical_by_way_of_rsp_is_a_stack_fault() {
    // "#SS(0) if a memory address referencing the SS segment is in a non-canonical form."
    let mut processor = Processor::new(Bits::Bits64);
    processor.read_fault = Some(Fault::GeneralProtection);
    let by_rsp = decoded(&[0x8b, 0x04, 0x24], Bits::Bits64);
    assert_eq!(execute(&by_rsp, &mut processor), Err(Fault::Stack));
    let by_rax = decoded(&[0x8b, 0x00], Bits::Bits64);
    assert_eq!(
        execute(&by_rax, &mut processor),
        Err(Fault::GeneralProtection)
    );
}

#[test]
fn what_memory_says_is_handed_on() {
    let mut processor = Processor::new(Bits::Bits64);
    processor.write_fault = Some(hole());
    let store = decoded(&[0x89, 0x00], Bits::Bits64);
    assert_eq!(execute(&store, &mut processor), Err(hole()));
}
