//! MTRRs as values: the memory type of every physical address.
//!
//! Owns the rules by which ranges combine (SDM vol. 3A, §12.11.4.1; AMD's are the same, APM
//! §7.7). Reading the registers is for whoever runs on the processor.

use core::fmt;

use memory::Hpa;

use crate::MemoryType;
use crate::spec::mtrr::{Base, DefaultType, Mask};

/// How many fixed-range registers there are.
pub const FIXED_MTRRS: usize = 11;

/// Where fixed ranges end and variable ones begin to count.
const FIXED_END: u64 = 0x10_0000;

/// How many pieces the range of one variable MTRR may be in. A mask written for fewer address
/// bits than the processor has gives a power of two of them.
const MOST_PIECES: u64 = 1 << 16;

/// A pair of variable-range registers, as read.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct VariableMtrr {
    /// IA32_MTRR_PHYSBASEn.
    pub base: u64,
    /// IA32_MTRR_PHYSMASKn.
    pub mask: u64,
}

/// A run of addresses with one memory type.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Run {
    /// The type.
    pub memory: MemoryType,
    /// The last address of the run.
    pub last: Hpa,
}

/// MTRRs that cannot be made sense of.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum MtrrError {
    /// No processor has physical addresses of this many bits.
    Width(u32),
    /// The mask of a variable MTRR scatters its range over too many pieces.
    Scattered {
        /// Which pair of registers.
        index: usize,
        /// IA32_MTRR_PHYSMASKn.
        mask: u64,
    },
}

impl fmt::Display for MtrrError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Width(width) => write!(
                f,
                "MTRRs: physical addresses of {width} bits; expected 32 to 52, check CPUID 8000_0008h"
            ),
            Self::Scattered { index, mask } => write!(
                f,
                "MTRRs: variable range {index} has mask {mask:#x}, which scatters it over the whole memory; check the firmware's set-up"
            ),
        }
    }
}

impl core::error::Error for MtrrError {}

/// The MTRRs of a processor, as values.
#[derive(Clone, Copy, Debug)]
pub struct Mtrrs<'a> {
    last: u64,
    default: DefaultType,
    fixed: Option<&'a [u64; FIXED_MTRRS]>,
    variable: &'a [VariableMtrr],
}

impl<'a> Mtrrs<'a> {
    /// Takes the registers of a processor whose physical addresses have `physical_width` bits:
    /// `default` is IA32_MTRR_DEF_TYPE, `fixed` are IA32_MTRR_FIX64K_00000, FIX16K_80000,
    /// FIX16K_A0000 and FIX4K_C0000 to FIX4K_F8000 in this order, where IA32_MTRRCAP.FIX says
    /// they exist, and `variable` are the pairs that IA32_MTRRCAP.VCNT says exist.
    pub fn new(
        physical_width: u32,
        default: u64,
        fixed: Option<&'a [u64; FIXED_MTRRS]>,
        variable: &'a [VariableMtrr],
    ) -> Result<Self, MtrrError> {
        if !(32..=52).contains(&physical_width) {
            return Err(MtrrError::Width(physical_width));
        }
        let last = (1 << physical_width) - 1;
        let scattered = variable
            .iter()
            .position(|registers| Range::new(*registers, last).is_some_and(|it| it.is_scattered()));
        if let Some(index) = scattered {
            let mask = variable.get(index).map_or(0, |registers| registers.mask);
            return Err(MtrrError::Scattered { index, mask });
        }
        Ok(Self {
            last,
            default: DefaultType::from_word(default),
            fixed,
            variable,
        })
    }

    /// The type of the byte at `at`.
    pub fn memory_type(&self, at: Hpa) -> MemoryType {
        if !self.default.enabled() {
            return MemoryType::UNCACHEABLE;
        }
        if let Some(registers) = self.fixed_at(at.raw()) {
            return fixed_type(registers, at.raw());
        }
        self.ranges()
            .filter(|range| range.contains(at.raw()))
            .map(|range| range.memory)
            .reduce(overlap)
            .unwrap_or_else(|| decode(self.default.memory_type()))
    }

    /// The type of the byte at `at`, and how far it goes on.
    pub fn run(&self, at: Hpa) -> Run {
        let memory = self.memory_type(at);
        let mut last = self.unchanged_until(at.raw());
        while last < self.last && self.memory_type(Hpa::new(last + 1)) == memory {
            last = self.unchanged_until(last + 1);
        }
        Run {
            memory,
            last: Hpa::new(last),
        }
    }

    /// The last address up to which no range begins or ends behind `at`.
    // `Mtrrs::new` bounds the number of pieces, and so the number of these stretches.
    fn unchanged_until(&self, at: u64) -> u64 {
        if at > self.last {
            return u64::MAX;
        }
        if !self.default.enabled() {
            return self.last;
        }
        if self.fixed_at(at).is_some() {
            return at | (fixed_granule(at) - 1);
        }
        self.ranges()
            .map(|range| range.unchanged_until(at))
            .fold(self.last, u64::min)
    }

    fn fixed_at(&self, at: u64) -> Option<&'a [u64; FIXED_MTRRS]> {
        self.fixed
            .filter(|_| self.default.fixed_enabled() && at < FIXED_END)
    }

    fn ranges(&self) -> impl Iterator<Item = Range> {
        let last = self.last;
        self.variable
            .iter()
            .filter_map(move |registers| Range::new(*registers, last))
    }
}

/// The addresses one valid variable MTRR matches: those whose bits under `mask` are `base`.
#[derive(Clone, Copy, Debug)]
struct Range {
    base: u64,
    mask: u64,
    /// The last address of the processor.
    last: u64,
    memory: MemoryType,
}

impl Range {
    fn new(registers: VariableMtrr, last: u64) -> Option<Self> {
        let base = Base::from_word(registers.base);
        let mask = Mask::from_word(registers.mask);
        let bits = (mask.page() << 12) & last;
        // A range that begins beyond the last address holds none that anybody asks for.
        let is_beyond = (base.page() & mask.page()) << 12 & !last != 0;
        (mask.valid() && !is_beyond).then(|| Self {
            base: (base.page() << 12) & bits,
            mask: bits,
            last,
            memory: decode(base.memory_type()),
        })
    }

    fn contains(&self, at: u64) -> bool {
        at & self.mask == self.base
    }

    /// Whether the range is in more pieces than there can be a reason for.
    fn is_scattered(&self) -> bool {
        let free_above_a_piece = self.last & !self.mask & !self.within_a_piece();
        1_u64 << free_above_a_piece.count_ones() > MOST_PIECES
    }

    /// The address bits that vary inside one piece of the range.
    fn within_a_piece(&self) -> u64 {
        match self.mask {
            0 => self.last,
            mask => (1 << mask.trailing_zeros()) - 1,
        }
    }

    /// The last address up to which what `contains` says of `at` holds.
    fn unchanged_until(&self, at: u64) -> u64 {
        if self.contains(at) {
            at | self.within_a_piece()
        } else {
            self.next(at).map_or(self.last, |next| next - 1)
        }
    }

    /// The first address of the range behind `at`, which is not in it.
    fn next(&self, at: u64) -> Option<u64> {
        // Copies `at` outside the mask. Where the highest wrong bit was too small, the address
        // has grown by that, and everything free below may be zero. Where it was too large,
        // the free bits above it must count up by one.
        let wrong = (at & self.mask) ^ self.base;
        let below = (1 << wrong.checked_ilog2()?) - 1;
        let highest = below + 1;
        let from = if self.base & highest != 0 {
            at & !below
        } else {
            (at | self.mask | below | highest).checked_add(1)?
        };
        let next = (from & !self.mask) | self.base;
        (next <= self.last).then_some(next)
    }
}

/// The type where two variable ranges overlap: UC wins, WT wins over WB, "for overlaps not
/// defined by the above rules, processor behavior is undefined" (SDM vol. 3A, §12.11.4.1), for
/// which UC is safe.
fn overlap(one: MemoryType, other: MemoryType) -> MemoryType {
    const WT: MemoryType = MemoryType::WRITE_THROUGH;
    const WB: MemoryType = MemoryType::WRITE_BACK;
    match (one, other) {
        (one, other) if one == other => one,
        (WT, WB) | (WB, WT) => WT,
        _ => MemoryType::UNCACHEABLE,
    }
}

/// Bytes one byte of a fixed-range register stands for (SDM vol. 3A, table 12-9).
fn fixed_granule(at: u64) -> u64 {
    match at {
        0..0x8_0000 => 0x1_0000,
        0x8_0000..0xc_0000 => 0x4000,
        _ => 0x1000,
    }
}

fn fixed_type(registers: &[u64; FIXED_MTRRS], at: u64) -> MemoryType {
    let (first, start) = match at {
        0..0x8_0000 => (0, 0),
        0x8_0000..0xc_0000 => (8, 0x8_0000),
        _ => (24, 0xc_0000),
    };
    let byte = first + ((at - start) / fixed_granule(at)) as usize;
    // The lowest byte of a register stands for the lowest addresses.
    let register = registers.get(byte / 8).copied().unwrap_or(0);
    decode(register.to_le_bytes()[byte % 8])
}

/// A reserved encoding, which the processor does not let anybody write, counts as UC.
fn decode(bits: u8) -> MemoryType {
    MemoryType::from_bits(bits).unwrap_or(MemoryType::UNCACHEABLE)
}

#[cfg(test)]
mod tests;
