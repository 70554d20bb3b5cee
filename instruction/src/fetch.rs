//! The fetch of an instruction's bytes.
//!
//! Owns the question of how many bytes an instruction really needs. Knows the decoder only by
//! its answer "these bytes end too early".

use memory::{GuestMemory, PAGE_SIZE};

use crate::{
    bytes::{Bytes, LONGEST},
    decode::{Undecodable, decode},
    fault::Fault,
    instruction::Bits,
    linear::{Access, Paging, translate},
};

/// Fetches the instruction at `rip`, up to 15 bytes of it and perhaps some beyond its end.
///
/// The next page is touched only if the instruction reaches into it: a fault there is not the
/// guest's if its instruction ends before. `cs_base` counts outside of 64-bit mode only. The
/// limit of CS is not checked: the processor was there already.
///
/// # Errors
///
/// As [`translate`], for a fetch.
pub fn fetch(
    memory: &impl GuestMemory,
    paging: &Paging,
    cs_base: u64,
    rip: u64,
    bits: Bits,
) -> Result<Bytes, Fault> {
    let linear = match bits {
        Bits::Bits64 => rip,
        Bits::Bits32 | Bits::Bits16 => to_32_bits(cs_base.wrapping_add(bits.wrap(rip))),
    };
    let mut bytes = [0; LONGEST];
    let left_in_page = PAGE_SIZE - linear % PAGE_SIZE;
    let in_first = LONGEST.min(usize::try_from(left_in_page).unwrap_or(LONGEST));
    let (first, rest) = bytes.split_at_mut(in_first);

    memory.read(translate(memory, paging, linear, Access::Fetch)?, first)?;
    if rest.is_empty() || decode(first, bits) != Err(Undecodable::Truncated) {
        return Ok(Bytes::new(bytes, in_first));
    }

    let next = linear.wrapping_add(left_in_page);
    let next = match bits {
        Bits::Bits64 => next,
        Bits::Bits32 | Bits::Bits16 => to_32_bits(next),
    };
    memory.read(translate(memory, paging, next, Access::Fetch)?, rest)?;
    Ok(Bytes::new(bytes, LONGEST))
}

fn to_32_bits(linear: u64) -> u64 {
    linear & u64::from(u32::MAX)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{
        fakes::Sparse,
        fault::{ErrorCode, PageFault},
        linear::Privilege,
    };

    /// 32-bit paging with one page of code, at 0x1000.
    fn one_page(code: &[u8]) -> (Sparse, Paging) {
        let mut memory = Sparse::default();
        memory.put(0x8000, &0x9007u32.to_le_bytes());
        memory.put(0x9004, &[0x07, 0x50, 0, 0, 0, 0, 0, 0]);
        memory.put(0x6000 - code.len() as u64, code);
        let paging = Paging {
            cr0: 1 << 31,
            cr3: 0x8000,
            cr4: 0,
            efer: 0,
            rflags: 0,
            privilege: Privilege::User,
            physical_bits: 40,
        };
        (memory, paging)
    }

    #[test]
    fn an_instruction_that_ends_with_its_page_does_not_touch_the_next_one() {
        let code = [0x89, 0x43, 0x08];
        let (memory, paging) = one_page(&code);
        let bytes = fetch(&memory, &paging, 0, 0x1ffd, Bits::Bits32);
        assert_eq!(bytes.as_deref(), Ok(&code[..]));
    }

    #[test]
    fn an_instruction_that_reaches_into_a_missing_page_faults_there() {
        let (memory, paging) = one_page(&[0x89, 0x43]);
        let bytes = fetch(&memory, &paging, 0, 0x1ffe, Bits::Bits32);
        let fault = PageFault {
            linear: 0x2000,
            code: ErrorCode(0b100),
        };
        assert_eq!(bytes, Err(Fault::Page(fault)));
    }

    #[test]
    fn an_instruction_is_put_together_from_pages_that_are_not_neighbours() {
        let (mut memory, paging) = one_page(&[0x89, 0x43]);
        memory.put(0x9008, &0xc007u32.to_le_bytes());
        memory.put(0xc000, &[0x08; 13]);
        let bytes = fetch(&memory, &paging, 0, 0x1ffe, Bits::Bits32).expect("both pages are there");
        assert_eq!(bytes.get(..3), Some(&[0x89, 0x43, 0x08][..]));
        assert_eq!(bytes.len(), LONGEST);
    }

    #[test]
    fn bytes_that_no_decoder_knows_do_not_ask_for_more() {
        let (memory, paging) = one_page(&[0x0f, 0x0b]);
        let bytes = fetch(&memory, &paging, 0, 0x1ffe, Bits::Bits32);
        assert_eq!(bytes.as_deref(), Ok(&[0x0f, 0x0b][..]));
    }

    #[test]
    fn code_is_relative_to_cs_outside_of_64_bit_mode() {
        let (mut memory, mut paging) = one_page(&[]);
        paging.cr0 = 0;
        memory.put(0xf_fff0, &[0xf4; 15]);
        let bytes = fetch(&memory, &paging, 0xf_0000, 0x1_fff0, Bits::Bits16);
        assert_eq!(bytes.as_deref(), Ok(&[0xf4; 15][..]));
    }
}
