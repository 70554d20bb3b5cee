//! Memory type range registers as the guest knows them: a copy for each processor, which begins as the
//! firmware left the real ones, and changes nothing but what the guest reads.
//!
//! The real ones say how Bouncer itself reaches memory and devices. SDM vol. 3A, 12.11.2; APM vol. 2,
//! 7.7.2.

use x86::msr;

use crate::msr::Fault;

/// Pairs of base and mask that a processor can have at most.
const PAIRS: usize = 32;
/// The first register of the pairs.
pub const VARIABLE_FIRST: u32 = msr::IA32_MTRR_PHYSBASE0;
/// The last one.
pub const VARIABLE_LAST: u32 = VARIABLE_FIRST + 2 * PAIRS as u32 - 1;
/// The registers of fixed ranges, in the order of the addresses that they are for.
pub const FIXED: [u32; 11] = [
    msr::IA32_MTRR_FIX64K_00000,
    msr::IA32_MTRR_FIX16K_80000,
    msr::IA32_MTRR_FIX16K_A0000,
    msr::IA32_MTRR_FIX4K_C0000,
    msr::IA32_MTRR_FIX4K_C8000,
    msr::IA32_MTRR_FIX4K_D0000,
    msr::IA32_MTRR_FIX4K_D8000,
    msr::IA32_MTRR_FIX4K_E0000,
    msr::IA32_MTRR_FIX4K_E8000,
    msr::IA32_MTRR_FIX4K_F0000,
    msr::IA32_MTRR_FIX4K_F8000,
];

/// IA32_MTRRCAP: how many pairs there are, and whether there are fixed ranges.
const CAP_PAIRS: u64 = 0xff;
const CAP_FIXED: u64 = 1 << 8;
/// Bits that are reserved whatever the width of a physical address.
const BASE_RESERVED: u64 = 0xfff0_0000_0000_0f00;
const MASK_RESERVED: u64 = 0xfff0_0000_0000_07ff;
const DEFAULT_RESERVED: u64 = !0xcff;

/// One processor's copy.
#[derive(Clone, Debug)]
pub struct Shadow {
    pairs: usize,
    has_fixed: bool,
    variable: [u64; 2 * PAIRS],
    fixed: [u64; FIXED.len()],
    default: u64,
}

/// Which register an index names.
enum Place {
    /// A base or, at odd places, a mask.
    Variable(usize),
    Fixed(usize),
    Default,
}

impl Shadow {
    /// The registers as `read` gives them; it is asked for those alone that the processor has.
    pub fn of(read: impl Fn(u32) -> u64) -> Self {
        let capability = read(msr::IA32_MTRRCAP);
        let pairs = ((capability & CAP_PAIRS) as usize).min(PAIRS);
        let has_fixed = capability & CAP_FIXED != 0;
        let mut variable = [0; 2 * PAIRS];
        for (index, word) in variable.iter_mut().take(2 * pairs).enumerate() {
            *word = read(VARIABLE_FIRST + index as u32);
        }
        let fixed = match has_fixed {
            true => FIXED.map(&read),
            false => [0; FIXED.len()],
        };
        Self {
            pairs,
            has_fixed,
            variable,
            fixed,
            default: read(msr::IA32_MTRR_DEF_TYPE),
        }
    }

    /// What the guest reads of register `index`; a fault where the processor has none.
    pub fn read(&self, index: u32) -> Result<u64, Fault> {
        let word = match self.place(index)? {
            Place::Variable(at) => self.variable.get(at),
            Place::Fixed(at) => self.fixed.get(at),
            Place::Default => Some(&self.default),
        };
        word.copied().ok_or(Fault)
    }

    /// Takes a write of the guest's, or faults as the processor does: on a reserved bit or type.
    pub fn write(&mut self, index: u32, value: u64) -> Result<(), Fault> {
        let place = self.place(index)?;
        let old = self.read(index)?;
        let is_taken = match place {
            Place::Variable(at) if at % 2 == 0 => {
                value & BASE_RESERVED == 0 && is_type(value as u8)
            }
            Place::Variable(_) => value & MASK_RESERVED == 0,
            // AMD's processors have further bits in these bytes, which read as the firmware set them.
            Place::Fixed(_) => (value.to_le_bytes().iter().zip(old.to_le_bytes()))
                .all(|(new, old)| is_type(*new) || *new == old),
            Place::Default => value & DEFAULT_RESERVED == 0 && is_type(value as u8),
        };
        let word = match place {
            Place::Variable(at) => self.variable.get_mut(at),
            Place::Fixed(at) => self.fixed.get_mut(at),
            Place::Default => Some(&mut self.default),
        };
        match word.filter(|_| is_taken) {
            Some(word) => {
                *word = value;
                Ok(())
            }
            None => Err(Fault),
        }
    }

    fn place(&self, index: u32) -> Result<Place, Fault> {
        if index == msr::IA32_MTRR_DEF_TYPE {
            return Ok(Place::Default);
        }
        if let Some(at) = FIXED.iter().position(|fixed| *fixed == index) {
            return self.has_fixed.then_some(Place::Fixed(at)).ok_or(Fault);
        }
        let at = index.wrapping_sub(VARIABLE_FIRST) as usize;
        (at < 2 * self.pairs)
            .then_some(Place::Variable(at))
            .ok_or(Fault)
    }
}

/// Whether the lowest bits of a register name a memory type (SDM vol. 3A, table 12-8).
fn is_type(bits: u8) -> bool {
    matches!(bits, 0 | 1 | 4 | 5 | 6)
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    /// Ten pairs and the fixed ranges, all write-back.
    fn firmware(index: u32) -> u64 {
        match index {
            msr::IA32_MTRRCAP => 0xd0a,
            msr::IA32_MTRR_DEF_TYPE => 0xc06,
            0x200..=0x213 if index.is_multiple_of(2) => u64::from(index) << 20 | 6,
            0x200..=0x213 => 0xf_f000_0800,
            _ if FIXED.contains(&index) => 0x0606_0606_0606_0606,
            _ => panic!("{index:#x} is not there"),
        }
    }

    #[test]
    fn the_copy_begins_as_the_firmware_left_the_registers() {
        let shadow = Shadow::of(firmware);
        for index in (0x200..=0x213).chain(FIXED).chain([0x2ff]) {
            assert_eq!(shadow.read(index), Ok(firmware(index)), "{index:#x}");
        }
    }

    #[test]
    fn what_the_guest_writes_it_reads() {
        let mut shadow = Shadow::of(firmware);
        for (index, value) in [
            (0x200, 0xd000_0001),
            (0x201, 0xf_ff80_0800),
            (0x259, 0),
            (0x2ff, 0xc00),
        ] {
            assert_eq!(shadow.write(index, value), Ok(()), "{index:#x}");
            assert_eq!(shadow.read(index), Ok(value), "{index:#x}");
        }
        assert_eq!(shadow.read(0x202), Ok(firmware(0x202)));
    }

    /// SDM vol. 3A, 12.11.2.1 to 12.11.2.3: reserved bits and types fault.
    #[test]
    fn what_the_processor_refuses_faults() {
        let mut shadow = Shadow::of(firmware);
        for (index, value) in [
            (0x200, 2),
            (0x200, 0x100 | 6),
            (0x200, 1 << 52 | 6),
            (0x201, 1),
            (0x250, 0x0606_0606_0606_0603),
            (0x2ff, 0x1006),
            (0x2ff, 0xc07),
            (0x214, 6),
        ] {
            assert_eq!(
                shadow.write(index, value),
                Err(Fault),
                "{index:#x} {value:#x}"
            );
        }
        assert_eq!(shadow.read(0x214), Err(Fault), "the eleventh pair");
        let without = Shadow::of(|index| firmware(index) & if index == 0xfe { 0xff } else { !0 });
        assert_eq!(without.read(0x250), Err(Fault));
    }

    #[test]
    fn what_only_the_firmware_may_set_can_be_written_back() {
        let odd = |index| match index {
            0x250 => 0x1e1e_1e1e_1e1e_1e1e,
            index => firmware(index),
        };
        let mut shadow = Shadow::of(odd);
        assert_eq!(shadow.write(0x250, odd(0x250)), Ok(()));
        assert_eq!(shadow.write(0x258, odd(0x250)), Err(Fault));
    }

    proptest! {
        #[test]
        fn any_index_and_value_is_kept_or_faults(capability: u64, index in 0..0x400_u32, value: u64) {
            let mut shadow = Shadow::of(|index| if index == 0xfe { capability } else { 6 });
            let before = shadow.read(index);
            let expected = shadow.write(index, value).map_or(before, |()| Ok(value));
            prop_assert_eq!(shadow.read(index), expected);
        }
    }
}
