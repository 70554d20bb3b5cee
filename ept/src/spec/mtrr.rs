//! MTRR registers (SDM vol. 3A, §12.11.2).

bitfield::bitfield! {
    /// IA32_MTRR_DEF_TYPE.
    #[derive(Clone, Copy, PartialEq, Eq)]
    pub struct DefaultType(u64);
    impl Debug;
    /// FE: the fixed ranges count.
    pub fixed_enabled, set_fixed_enabled: 10;
    /// E: MTRRs count at all.
    pub enabled, set_enabled: 11;
    u8;
    /// The type of what no range matches.
    pub memory_type, set_memory_type: 7, 0;
}

impl DefaultType {
    /// The register that reads as `word`.
    pub const fn from_word(word: u64) -> Self {
        Self(word)
    }
}

bitfield::bitfield! {
    /// IA32_MTRR_PHYSBASEn.
    #[derive(Clone, Copy, PartialEq, Eq)]
    pub struct Base(u64);
    impl Debug;
    u8;
    /// The type of the range.
    pub memory_type, set_memory_type: 7, 0;
    u64;
    /// The base, in pages of 4 KiB.
    pub page, set_page: 51, 12;
}

impl Base {
    /// The register that reads as `word`.
    pub const fn from_word(word: u64) -> Self {
        Self(word)
    }
}

bitfield::bitfield! {
    /// IA32_MTRR_PHYSMASKn.
    #[derive(Clone, Copy, PartialEq, Eq)]
    pub struct Mask(u64);
    impl Debug;
    /// V: the range counts.
    pub valid, set_valid: 11;
    u64;
    /// The bits of the address that must be those of the base, in pages of 4 KiB.
    pub page, set_page: 51, 12;
}

impl Mask {
    /// The register that reads as `word`.
    pub const fn from_word(word: u64) -> Self {
        Self(word)
    }
}
