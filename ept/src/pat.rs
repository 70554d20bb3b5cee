//! Which entry of the PAT a page names.
//!
//! Owns the three bits of a long-mode leaf and what they mean under the PAT the processor has at
//! power-on, which is the one the hypervisor runs under.

/// IA32_PAT after power-on (SDM vol. 3A, table 12-12; APM §7.8.1). Entry i is byte i.
pub(crate) const POWER_ON_PAT: u64 = 0x0007_0406_0007_0406;

/// An entry of the PAT, 0..=7.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug)]
pub struct PatIndex(u8);

impl PatIndex {
    /// WB under the power-on PAT.
    pub const WRITE_BACK: Self = Self(0);
    /// WT under the power-on PAT.
    pub const WRITE_THROUGH: Self = Self(1);
    /// UC- under the power-on PAT: UC, unless an MTRR says WC.
    pub const UNCACHED_UNLESS_COMBINING: Self = Self(2);
    /// UC under the power-on PAT, whatever MTRRs say.
    pub const UNCACHED: Self = Self(3);

    /// The entry `4 * pat + 2 * pcd + pwt` (SDM vol. 3A, §4.9.2).
    pub(crate) const fn from_flags(pat: bool, pcd: bool, pwt: bool) -> Self {
        Self((pat as u8) << 2 | (pcd as u8) << 1 | pwt as u8)
    }

    pub(crate) const fn pat(self) -> bool {
        self.0 & 4 != 0
    }

    pub(crate) const fn pcd(self) -> bool {
        self.0 & 2 != 0
    }

    pub(crate) const fn pwt(self) -> bool {
        self.0 & 1 != 0
    }

    const fn encoding(self) -> u8 {
        POWER_ON_PAT.to_le_bytes()[self.0 as usize]
    }
}

const _: () = {
    assert!(PatIndex::WRITE_BACK.encoding() == 6);
    assert!(PatIndex::WRITE_THROUGH.encoding() == 4);
    assert!(PatIndex::UNCACHED_UNLESS_COMBINING.encoding() == 7);
    assert!(PatIndex::UNCACHED.encoding() == 0);
};
