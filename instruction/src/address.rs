//! The way from a memory operand to a linear address.
//!
//! Owns the sum of base, index and displacement, and the checks of segmentation (SDM vol. 3A,
//! 5.3 to 5.5). Knows nothing of paging (`linear`).

use crate::{
    fault::Fault,
    instruction::{Base, Bits, Instruction, Memory, Segment, Width},
    linear::Access,
    spec::Rights,
    vcpu::{SegmentRegister, Vcpu},
};

/// The linear address of the `width` bytes of `operand`, moved by `displaced` bytes; the fault
/// that segmentation owes where it does not allow `access`.
pub(crate) fn linear(
    instruction: &Instruction,
    operand: &Memory,
    displaced: u64,
    width: Width,
    access: Access,
    vcpu: &impl Vcpu,
) -> Result<u64, Fault> {
    let offset = offset(instruction, operand, vcpu).wrapping_add(displaced)
        & instruction.address_width().mask();
    let beyond = width.bytes() as u64 - 1;
    let segment = operand.segment;

    let (start, top) = if instruction.bits() == Bits::Bits64 {
        let base = match segment {
            Segment::Fs | Segment::Gs => vcpu.segment(segment).base,
            Segment::Es | Segment::Cs | Segment::Ss | Segment::Ds => 0,
        };
        (base.wrapping_add(offset), u64::MAX)
    } else {
        let register = vcpu.segment(segment);
        let top = u64::from(u32::MAX);
        if !allows(&register, offset, beyond, access) {
            return Err(refusal(segment));
        }
        (register.base.wrapping_add(offset) & top, top)
    };
    // Around the end of the address space processors differ; here it is the end.
    if beyond > top - start {
        return Err(refusal(segment));
    }
    Ok(start)
}

/// The exception that segmentation raises.
pub(crate) fn refusal(segment: Segment) -> Fault {
    match segment {
        Segment::Ss => Fault::Stack,
        _ => Fault::GeneralProtection,
    }
}

/// The effective address.
fn offset(instruction: &Instruction, operand: &Memory, vcpu: &impl Vcpu) -> u64 {
    let base = match operand.base {
        Base::None => 0,
        Base::Register(register) => vcpu.register(register),
        Base::NextInstruction => vcpu.rip().wrapping_add(u64::from(instruction.length())),
    };
    let index = match operand.index {
        None => 0,
        Some(index) => vcpu.register(index.register) << (index.shift & 3),
    };
    base.wrapping_add(index).wrapping_add(operand.displacement) & instruction.address_width().mask()
}

/// Whether `offset ..= offset + beyond` may be accessed by way of `register`.
fn allows(register: &SegmentRegister, offset: u64, beyond: u64, access: Access) -> bool {
    let rights = register.rights;
    let is_right = rights.present()
        && match access {
            Access::Read => !rights.code() || rights.writable_or_readable(),
            Access::Write => !rights.code() && rights.writable_or_readable(),
            Access::Fetch => rights.code(),
        };
    let limit = u64::from(register.limit);
    let Some(last) = offset.checked_add(beyond) else {
        return false;
    };
    let is_inside = if !rights.code() && rights.expand_down() {
        offset > limit && last <= upper_bound(rights)
    } else {
        last <= limit
    };
    is_right && is_inside
}

/// Where an expand-down segment ends.
fn upper_bound(rights: Rights) -> u64 {
    if rights.big() { 0xffff_ffff } else { 0xffff }
}
