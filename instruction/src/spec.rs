//! The processor's own words: control registers, flags, segment rights.
//!
//! Owns bit positions and nothing else. Knows no instruction and no page table.

use bitfield::bitfield;

bitfield! {
    /// RFLAGS (SDM vol. 1, 3.4.3).
    #[derive(Clone, Copy, PartialEq, Eq)]
    pub struct Rflags(pub u64);
    impl Debug;
    /// Carry out of the top bit, or borrow into it.
    pub cf, set_cf: 0;
    /// Even number of ones in the low byte of the result.
    pub pf, set_pf: 2;
    /// Carry out of bit 3.
    pub af, set_af: 4;
    /// Result is zero.
    pub zf, set_zf: 6;
    /// Top bit of the result.
    pub sf, set_sf: 7;
    /// Single step.
    pub tf, set_tf: 8;
    /// Strings run downwards.
    pub df, set_df: 10;
    /// Signed overflow.
    pub of, set_of: 11;
    /// Suppresses instruction breakpoints until the instruction is done.
    pub rf, set_rf: 16;
    /// Alignment check, and with SMAP the permission to touch user pages.
    pub ac, set_ac: 18;
}

bitfield! {
    /// CR0 (SDM vol. 3A, 2.5).
    #[derive(Clone, Copy, PartialEq, Eq)]
    pub struct Cr0(pub u64);
    impl Debug;
    /// Supervisor writes respect read-only pages.
    pub wp, set_wp: 16;
    /// Paging is on.
    pub pg, set_pg: 31;
}

bitfield! {
    /// CR4 (SDM vol. 3A, 2.5).
    #[derive(Clone, Copy, PartialEq, Eq)]
    pub struct Cr4(pub u64);
    impl Debug;
    /// 4 MiB pages in 32-bit paging.
    pub pse, set_pse: 4;
    /// Entries of 64 bits.
    pub pae, set_pae: 5;
    /// Five levels.
    pub la57, set_la57: 12;
    /// The supervisor does not fetch from user pages.
    pub smep, set_smep: 20;
    /// The supervisor does not touch user pages unless RFLAGS.AC allows it.
    pub smap, set_smap: 21;
}

bitfield! {
    /// The extended feature enable register (SDM vol. 3A, 2.2.1).
    #[derive(Clone, Copy, PartialEq, Eq)]
    pub struct Efer(pub u64);
    impl Debug;
    /// IA-32e (long) mode is active.
    pub lma, set_lma: 10;
    /// Bit 63 of a paging entry forbids fetches.
    pub nxe, set_nxe: 11;
}

bitfield! {
    /// The rights of a segment, packed into 12 bits as the VMCB packs them: bits 55:52 and 47:40
    /// of the descriptor (APM vol. 2, 15.5.1 and 4.7).
    #[derive(Clone, Copy, PartialEq, Eq)]
    pub struct Rights(pub u16);
    impl Debug;
    /// Data: may be written. Code: may be read.
    pub writable_or_readable, set_writable_or_readable: 1;
    /// Data: valid offsets lie above the limit.
    pub expand_down, set_expand_down: 2;
    /// Code, not data.
    pub code, set_code: 3;
    /// The segment may be used at all.
    pub present, set_present: 7;
    /// L: 64-bit code.
    pub long, set_long: 9;
    /// D/B: 32-bit code; or the upper bound of an expand-down segment is 4 GiB.
    pub big, set_big: 10;
}

impl Rights {
    /// What holds for every segment in real-address and virtual-8086 mode, where nobody checks
    /// rights: present, data, writable.
    pub const REAL: Self = Self(0x93);

    /// Packs the access rights of a VMCS (SDM vol. 3C, 25.4.1, table "Format of Access Rights"):
    /// an unusable segment becomes one that is not present.
    pub fn from_vmcs(access_rights: u32) -> Self {
        let low = access_rights & 0xff;
        let high = (access_rights >> 12) & 0xf;
        let mut rights = Self((low | (high << 8)) as u16);
        if access_rights & (1 << 16) != 0 {
            rights.set_present(false);
        }
        rights
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_unusable_segment_of_a_vmcs_is_not_present() {
        assert_eq!(Rights::from_vmcs(0x1_0093), Rights(0x13));
    }

    #[test]
    fn rights_of_a_vmcs_are_packed_as_in_a_vmcb() {
        // 64-bit code: L is bit 13 there and bit 9 here; flat 32-bit data: D/B and G.
        assert_eq!(Rights::from_vmcs(0xa09b), Rights(0xa9b));
        assert_eq!(Rights::from_vmcs(0xc093), Rights(0xc93));
        assert!(Rights::from_vmcs(0xa09b).long());
    }
}
