//! Results and flags of integer operations.
//!
//! Owns what the manual calls "Operation" and "Flags Affected" of each instruction, on values.
//! Knows neither registers nor memory.
//!
//! Flags that the manual leaves undefined: AF is cleared by logical operations, and bit
//! operations touch nothing but CF, as processors do.

use crate::{
    instruction::Width,
    operation::{Binary, Bit, Fill, Unary},
    spec::Rflags,
};

/// A result with all flags as they are afterwards.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) struct Outcome {
    pub(crate) value: u64,
    pub(crate) flags: Rflags,
}

/// `left` op `right`, each of `width`.
pub(crate) fn binary(
    operation: Binary,
    width: Width,
    left: u64,
    right: u64,
    flags: Rflags,
) -> Outcome {
    let carry = u64::from(flags.cf());
    match operation {
        Binary::Add => add(width, left, right, 0, flags),
        Binary::Adc => add(width, left, right, carry, flags),
        Binary::Sub | Binary::Cmp => subtract(width, left, right, 0, flags),
        Binary::Sbb => subtract(width, left, right, carry, flags),
        Binary::And | Binary::Test => logical(width, left & right, flags),
        Binary::Or => logical(width, left | right, flags),
        Binary::Xor => logical(width, left ^ right, flags),
    }
}

/// op `value` of `width`.
pub(crate) fn unary(operation: Unary, width: Width, value: u64, flags: Rflags) -> Outcome {
    let keep_carry = |mut outcome: Outcome| {
        outcome.flags.set_cf(flags.cf());
        outcome
    };
    match operation {
        Unary::Not => Outcome {
            value: !value & width.mask(),
            flags,
        },
        Unary::Neg => subtract(width, 0, value, 0, flags),
        Unary::Inc => keep_carry(add(width, value, 1, 0, flags)),
        Unary::Dec => keep_carry(subtract(width, value, 1, 0, flags)),
    }
}

/// Copies bit `index` of `value` to CF, then changes it.
pub(crate) fn bit(operation: Bit, value: u64, index: u32, mut flags: Rflags) -> Outcome {
    let bit = 1u64.wrapping_shl(index);
    flags.set_cf(value & bit != 0);
    let value = match operation {
        Bit::Test => value,
        Bit::Set => value | bit,
        Bit::Reset => value & !bit,
        Bit::Complement => value ^ bit,
    };
    Outcome { value, flags }
}

/// `value` of width `from`, as 64 bits.
pub(crate) fn extend(from: Width, with: Fill, value: u64) -> u64 {
    match with {
        Fill::Zero => value & from.mask(),
        Fill::Sign => from.sign_extend(value),
    }
}

/// `value` of `width` with its bytes in the other order.
pub(crate) fn swap_bytes(width: Width, value: u64) -> u64 {
    value.swap_bytes() >> (64 - width.bits())
}

/// left + right + carry.
pub(crate) fn add(width: Width, left: u64, right: u64, carry: u64, flags: Rflags) -> Outcome {
    let (left, right) = (left & width.mask(), right & width.mask());
    let sum = u128::from(left) + u128::from(right) + u128::from(carry);
    let value = sum as u64 & width.mask();
    let mut flags = of_result(width, value, flags);
    flags.set_cf(sum > u128::from(width.mask()));
    flags.set_af((left ^ right ^ value) & 0x10 != 0);
    flags.set_of((left ^ value) & (right ^ value) & width.sign() != 0);
    Outcome { value, flags }
}

/// left - right - borrow.
pub(crate) fn subtract(width: Width, left: u64, right: u64, borrow: u64, flags: Rflags) -> Outcome {
    let (left, right) = (left & width.mask(), right & width.mask());
    let value = left.wrapping_sub(right).wrapping_sub(borrow) & width.mask();
    let mut flags = of_result(width, value, flags);
    flags.set_cf(u128::from(left) < u128::from(right) + u128::from(borrow));
    flags.set_af((left ^ right ^ value) & 0x10 != 0);
    flags.set_of((left ^ right) & (left ^ value) & width.sign() != 0);
    Outcome { value, flags }
}

fn logical(width: Width, value: u64, flags: Rflags) -> Outcome {
    let value = value & width.mask();
    let mut flags = of_result(width, value, flags);
    flags.set_cf(false);
    flags.set_af(false);
    flags.set_of(false);
    Outcome { value, flags }
}

/// SF, ZF and PF, which every result sets in the same way.
fn of_result(width: Width, value: u64, mut flags: Rflags) -> Rflags {
    flags.set_sf(value & width.sign() != 0);
    flags.set_zf(value == 0);
    flags.set_pf((value as u8).count_ones().is_multiple_of(2));
    flags
}
