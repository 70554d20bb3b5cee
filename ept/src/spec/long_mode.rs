//! An entry of a long-mode page table (APM §5.4.1; nested tables have the same, §15.25.5).

bitfield::bitfield! {
    /// One 64-bit entry. In a leaf of more than 4 KiB the bits `size_or_pat` and 12 are the page
    /// size and the PAT bit; in a leaf of 4 KiB the former is the PAT bit and the latter a part
    /// of the address.
    #[derive(Clone, Copy, PartialEq, Eq)]
    pub struct Entry(u64);
    impl Debug;
    /// P: the entry is used at all.
    pub present, set_present: 0;
    /// R/W: stores are allowed.
    pub writable, set_writable: 1;
    /// U/S: accesses of privilege level 3 are allowed.
    pub user, set_user: 2;
    /// PWT: bit 0 of the index into the PAT.
    pub write_through, set_write_through: 3;
    /// PCD: bit 1 of the index into the PAT.
    pub cache_disable, set_cache_disable: 4;
    /// A: set by the processor when the entry is used.
    pub accessed, set_accessed: 5;
    /// D: set by the processor when a leaf is stored through.
    pub dirty, set_dirty: 6;
    /// PS in upper levels, PAT in the lowest.
    pub size_or_pat, set_size_or_pat: 7;
    /// G: the translation survives a load of CR3. Leaves alone.
    pub global, set_global: 8;
    /// PAT of a leaf of more than 4 KiB.
    pub large_pat, set_large_pat: 12;
    /// NX: no instruction may be fetched.
    pub no_execute, set_no_execute: 63;
    u64;
    /// The address of the page or table, in pages of 4 KiB.
    pub page, set_page: 51, 12;
}

impl Entry {
    /// The entry a table holds as `word`.
    pub const fn from_word(word: u64) -> Self {
        Self(word)
    }

    /// The word a table holds.
    pub const fn word(self) -> u64 {
        self.0
    }
}
