//! What the decoder refuses, and where it stops. What it accepts is compared with another
//! decoder in `tests/iced.rs`.

use std::{format, vec::Vec};

use proptest::prelude::*;

use super::*;
use crate::operation::Intercepted;

#[test]
fn an_instruction_of_15_bytes_is_the_longest() {
    // ADD dword [disp32], imm32 behind five prefixes, and behind six.
    let longest = [
        0x2e, 0x2e, 0x2e, 0x2e, 0x3e, 0x81, 0x05, 1, 0, 0, 0, 2, 0, 0, 0,
    ];
    assert_eq!(decode(&longest, Bits::Bits32).map(|i| i.length()), Ok(15));
    let mut longer = Vec::from([0x2e]);
    longer.extend(longest);
    assert_eq!(decode(&longer, Bits::Bits32), Err(Undecodable::TooLong));
    assert_eq!(decode(&[0x66; 20], Bits::Bits32), Err(Undecodable::TooLong));
}

#[test]
fn operands_on_the_stack_are_refused_by_name() {
    let refusals = [
        ([0xff, 0x10], Refused::Call),
        ([0xff, 0x18], Refused::Call),
        ([0xff, 0x20], Refused::Jump),
        ([0xff, 0x30], Refused::Push),
        ([0x8f, 0x00], Refused::Pop),
    ];
    for (bytes, refused) in refusals {
        for bits in [Bits::Bits16, Bits::Bits32, Bits::Bits64] {
            assert_eq!(decode(&bytes, bits), Err(Undecodable::Refused(refused)));
        }
    }
}

#[test]
fn lock_is_refused_before_what_is_not_a_read_and_a_write_of_memory() {
    for bytes in [
        &[0xf0, 0x89, 0x00][..],   // MOV
        &[0xf0, 0x01, 0xc0],       // ADD of registers
        &[0xf0, 0x39, 0x00],       // CMP
        &[0xf0, 0x85, 0x00],       // TEST
        &[0xf0, 0x0f, 0xa3, 0x00], // BT
        &[0xf0, 0x0f, 0xa2],       // CPUID
        &[0xf0, 0xa4],             // MOVS
    ] {
        let refusal = Undecodable::NotLockable(Bytes::first_of(bytes));
        assert_eq!(decode(bytes, Bits::Bits64), Err(refusal));
    }
}

#[test]
fn what_is_unknown_is_told_with_its_bytes() {
    let bytes = [0xc5, 0xf8, 0x29, 0x00];
    let refusal = decode(&bytes, Bits::Bits64).expect_err("VEX is not decoded");
    assert_eq!(refusal, Undecodable::Unknown(Bytes::first_of(&bytes)));
    assert!(format!("{refusal}").contains("c5 f8 29 00"));
}

#[test]
fn a_rex_prefix_counts_only_right_before_the_opcode() {
    let wide = decode(&[0x66, 0x48, 0x89, 0x00], Bits::Bits64).map(|i| i.width());
    let lost = decode(&[0x48, 0x66, 0x89, 0x00], Bits::Bits64).map(|i| i.width());
    assert_eq!((wide, lost), (Ok(Width::Qword), Ok(Width::Word)));
}

#[test]
fn the_length_of_intercepted_instructions_counts_prefixes() {
    let cpuid = decode(&[0xf3, 0x48, 0x0f, 0xa2, 0x90], Bits::Bits64).expect("known");
    assert_eq!(
        cpuid.operation(),
        Operation::Intercepted(Intercepted::Cpuid)
    );
    assert_eq!(cpuid.length(), 4);
}

#[test]
fn moves_of_control_registers_name_both_registers() {
    let mov = decode(&[0x44, 0x0f, 0x22, 0xc3], Bits::Bits64).expect("known");
    assert_eq!(mov.destination(), Operand::Control(8));
    assert_eq!(mov.source(), Operand::Register(Register::RBX));
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(10_000))]

    /// The fetch depends on it: only what lacks bytes asks for more.
    #[test]
    fn every_beginning_of_an_instruction_is_truncated(
        bytes in prop::collection::vec(any::<u8>(), 15),
        bits in prop::sample::select(Vec::from([Bits::Bits16, Bits::Bits32, Bits::Bits64])),
    ) {
        if let Ok(instruction) = decode(&bytes, bits) {
            let length = usize::from(instruction.length());
            for shorter in 0..length {
                prop_assert_eq!(decode(&bytes[..shorter], bits), Err(Undecodable::Truncated));
            }
            prop_assert_eq!(decode(&bytes[..length], bits), Ok(instruction));
        }
    }
}

#[test]
fn only_movs_has_two_operands_in_memory() {
    let has_one = |code: &[u8]| {
        let decoded = decode(code, Bits::Bits64).expect("an instruction");
        decoded.has_one_in_memory()
    };
    // MOV to and from memory, an immediate to it, ADD to it, STOS, LODS.
    for code in [
        &[0x89, 0x02][..],
        &[0x8b, 0x02],
        &[0xc7, 0x02, 1, 0, 0, 0],
        &[0x01, 0x02],
        &[0xab],
        &[0xad],
    ] {
        assert!(has_one(code), "{code:x?}");
    }
    // MOVS, and MOV between registers.
    for code in [&[0xa5][..], &[0xf3, 0xa5], &[0x89, 0xc2]] {
        assert!(!has_one(code), "{code:x?}");
    }
}
