//! Bits of the controls. SDM vol. 3C, sections 25.6 to 25.8.

/// Pin-based controls, table 25-5.
pub mod pin {
    /// NMIs leave the guest.
    pub const NMI_EXITING: u32 = 1 << 3;
    /// The processor tracks when the guest can take an NMI.
    pub const VIRTUAL_NMIS: u32 = 1 << 5;
}

/// Primary processor-based controls, table 25-6.
pub mod primary {
    /// Leaves the guest as soon as it can take an NMI.
    pub const NMI_WINDOW: u32 = 1 << 22;
    /// Ports by bitmap.
    pub const IO_BITMAPS: u32 = 1 << 25;
    /// Registers by bitmap.
    pub const MSR_BITMAPS: u32 = 1 << 28;
    /// The secondary controls count.
    pub const SECONDARY: u32 = 1 << 31;
    /// Loads of CR3 leave the guest. One of the bits that are always set where the processor has no
    /// true controls.
    pub const CR3_LOAD_EXITING: u32 = 1 << 15;
    /// Stores of CR3 leave the guest. As for loads.
    pub const CR3_STORE_EXITING: u32 = 1 << 16;
}

/// Secondary processor-based controls, table 25-7.
pub mod secondary {
    /// Nested paging.
    pub const EPT: u32 = 1 << 1;
    /// RDTSCP and RDPID exist.
    pub const RDTSCP: u32 = 1 << 3;
    /// The guest's translations have a tag.
    pub const VPID: u32 = 1 << 5;
    /// The guest may run in real mode and without paging.
    pub const UNRESTRICTED_GUEST: u32 = 1 << 7;
    /// INVPCID exists.
    pub const INVPCID: u32 = 1 << 12;
    /// XSAVES and XRSTORS exist.
    pub const XSAVES: u32 = 1 << 20;
    /// TPAUSE, UMONITOR and UMWAIT exist.
    pub const USER_WAIT: u32 = 1 << 26;
}

/// VM-exit controls, table 25-13.
pub mod exit {
    /// DR7 and IA32_DEBUGCTL are saved.
    pub const SAVE_DEBUG: u32 = 1 << 2;
    /// Bouncer runs in 64-bit mode.
    pub const HOST_64_BIT: u32 = 1 << 9;
    /// IA32_PAT is saved.
    pub const SAVE_PAT: u32 = 1 << 18;
    /// IA32_PAT is loaded.
    pub const LOAD_PAT: u32 = 1 << 19;
    /// IA32_EFER is saved.
    pub const SAVE_EFER: u32 = 1 << 20;
    /// IA32_EFER is loaded.
    pub const LOAD_EFER: u32 = 1 << 21;
}

/// VM-entry controls, table 25-15.
pub mod entry {
    /// DR7 and IA32_DEBUGCTL are loaded.
    pub const LOAD_DEBUG: u32 = 1 << 2;
    /// The guest is in long mode.
    pub const LONG_MODE: u32 = 1 << 9;
    /// IA32_PAT is loaded.
    pub const LOAD_PAT: u32 = 1 << 14;
    /// IA32_EFER is loaded.
    pub const LOAD_EFER: u32 = 1 << 15;
}

/// The guest's interruptibility state, table 25-3.
pub mod interruptibility {
    /// The instruction behind STI.
    pub const STI: u64 = 1 << 0;
    /// The instruction behind a load of SS.
    pub const MOV_SS: u64 = 1 << 1;
    /// The guest is in its NMI handler.
    pub const NMI: u64 = 1 << 3;
}

/// Pending debug exceptions, table 25-4: a single step is to be told.
pub const PENDING_STEP: u64 = 1 << 14;
