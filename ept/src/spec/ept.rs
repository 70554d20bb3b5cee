//! EPT entries (SDM vol. 3C, §29.3.2, tables 29-1 to 29-7) and the EPT pointer (§25.6.11).

bitfield::bitfield! {
    /// One 64-bit entry of an EPT table.
    #[derive(Clone, Copy, PartialEq, Eq)]
    pub struct Entry(u64);
    impl Debug;
    /// Loads are allowed.
    pub readable, set_readable: 0;
    /// Stores are allowed.
    pub writable, set_writable: 1;
    /// Instructions may be fetched.
    pub executable, set_executable: 2;
    /// The type of the memory is not combined with the guest's PAT. Leaves alone.
    pub ignore_pat, set_ignore_pat: 6;
    /// The entry maps a page, in a level above the lowest.
    pub large, set_large: 7;
    /// Set by the processor when the entry is used, if the EPT pointer asks for it.
    pub accessed, set_accessed: 8;
    /// Set by the processor when a leaf is stored through, if the EPT pointer asks for it.
    pub dirty, set_dirty: 9;
    u8;
    /// The type of the memory. Leaves alone.
    pub memory_type, set_memory_type: 5, 3;
    /// Bits that are reserved in an entry that points to a table.
    pub reserved_in_table, _: 6, 3;
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

bitfield::bitfield! {
    /// The EPT pointer of a VMCS.
    #[derive(Clone, Copy, PartialEq, Eq)]
    pub struct Pointer(u64);
    impl Debug;
    /// The processor sets accessed and dirty flags.
    pub sets_accessed_and_dirty, set_sets_accessed_and_dirty: 6;
    u8;
    /// The type of the memory the tables themselves lie in: 0 is UC, 6 is WB.
    pub memory_type, set_memory_type: 2, 0;
    /// One less than the number of levels.
    pub levels_less_one, set_levels_less_one: 5, 3;
    u64;
    /// The address of the root table, in pages of 4 KiB.
    pub page, set_page: 51, 12;
}

impl Pointer {
    /// The pointer a VMCS holds as `word`.
    pub const fn from_word(word: u64) -> Self {
        Self(word)
    }

    /// The word a VMCS holds.
    pub const fn word(self) -> u64 {
        self.0
    }
}
