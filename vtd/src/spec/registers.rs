//! The remapping unit's registers: offsets and fields (chapter "Register Descriptions").

use bitfield::bitfield;

use super::bits;

/// Offsets from the unit's register base.
pub mod offset {
    /// Version Register, 32 bits.
    pub const VER: u32 = 0x00;
    /// Capability Register, 64 bits.
    pub const CAP: u32 = 0x08;
    /// Extended Capability Register, 64 bits.
    pub const ECAP: u32 = 0x10;
    /// Global Command Register, 32 bits.
    pub const GCMD: u32 = 0x18;
    /// Global Status Register, 32 bits.
    pub const GSTS: u32 = 0x1c;
    /// Root Table Address Register, 64 bits.
    pub const RTADDR: u32 = 0x20;
    /// Context Command Register, 64 bits.
    pub const CCMD: u32 = 0x28;
    /// Fault Status Register, 32 bits.
    pub const FSTS: u32 = 0x34;
    /// Fault Event Control Register, 32 bits.
    pub const FECTL: u32 = 0x38;
    /// Fault Event Data Register, 32 bits.
    pub const FEDATA: u32 = 0x3c;
    /// Fault Event Address Register, 32 bits.
    pub const FEADDR: u32 = 0x40;
    /// Fault Event Upper Address Register, 32 bits.
    pub const FEUADDR: u32 = 0x44;
    /// Protected Memory Enable Register, 32 bits.
    pub const PMEN: u32 = 0x64;
    /// Protected Low-Memory Base Register, 32 bits.
    pub const PLMBASE: u32 = 0x68;
    /// Protected Low-Memory Limit Register, 32 bits.
    pub const PLMLIMIT: u32 = 0x6c;
    /// Protected High-Memory Base Register, 64 bits.
    pub const PHMBASE: u32 = 0x70;
    /// Protected High-Memory Limit Register, 64 bits.
    pub const PHMLIMIT: u32 = 0x78;
    /// Invalidation Queue Head Register, 64 bits.
    pub const IQH: u32 = 0x80;
    /// Invalidation Queue Tail Register, 64 bits.
    pub const IQT: u32 = 0x88;
    /// Invalidation Queue Address Register, 64 bits.
    pub const IQA: u32 = 0x90;
    /// Invalidation Completion Status Register, 32 bits.
    pub const ICS: u32 = 0x9c;
    /// Invalidation Event Control Register, 32 bits.
    pub const IECTL: u32 = 0xa0;
    /// Invalidation Event Data Register, 32 bits.
    pub const IEDATA: u32 = 0xa4;
    /// Invalidation Event Address Register, 32 bits.
    pub const IEADDR: u32 = 0xa8;
    /// Invalidation Event Upper Address Register, 32 bits.
    pub const IEUADDR: u32 = 0xac;
    /// Invalidation Queue Error Record Register, 64 bits.
    pub const IQERCD: u32 = 0xb0;
    /// Interrupt Remapping Table Address Register, 64 bits.
    pub const IRTA: u32 = 0xb8;
    /// Invalidate Address Register, from the start of the IOTLB registers (ECAP.IRO).
    pub const IVA: u32 = 0x0;
    /// IOTLB Invalidate Register, from the start of the IOTLB registers (ECAP.IRO).
    pub const IOTLB: u32 = 0x8;
}

bitfield! {
    /// Version Register.
    #[derive(Clone, Copy, PartialEq, Eq)]
    pub struct Ver(pub u32);
    impl Debug;
    /// Minor version.
    pub u8, min, set_min: 3, 0;
    /// Major version.
    pub u8, max, set_max: 7, 4;
}

bitfield! {
    /// Capability Register.
    #[derive(Clone, Copy, PartialEq, Eq)]
    pub struct Cap(pub u64);
    impl Debug;
    /// Number of domains: 4 + 2 × ND bits of domain id.
    pub u8, nd, set_nd: 2, 0;
    /// Advanced fault logging.
    pub afl, set_afl: 3;
    /// Required write-buffer flushing.
    pub rwbf, set_rwbf: 4;
    /// Protected low-memory region.
    pub plmr, set_plmr: 5;
    /// Protected high-memory region.
    pub phmr, set_phmr: 6;
    /// Caching mode.
    pub cm, set_cm: 7;
    /// Supported adjusted guest address widths: bit 1 = 39, bit 2 = 48, bit 3 = 57 address bits.
    pub u8, sagaw, set_sagaw: 12, 8;
    /// Maximum guest address width, minus one.
    pub u8, mgaw, set_mgaw: 21, 16;
    /// Zero-length reads of write-only pages.
    pub zlr, set_zlr: 22;
    /// Fault-recording register offset, in units of 16 bytes.
    pub u16, fro, set_fro: 33, 24;
    /// Second-stage large pages: bit 0 = 2 MiB, bit 1 = 1 GiB.
    pub u8, sslps, set_sslps: 37, 34;
    /// Page-selective invalidation.
    pub psi, set_psi: 39;
    /// Number of fault-recording registers, minus one.
    pub u8, nfr, set_nfr: 47, 40;
    /// Maximum address mask value of a page-selective invalidation.
    pub u8, mamv, set_mamv: 53, 48;
    /// Write draining.
    pub dwd, set_dwd: 54;
    /// Read draining.
    pub drd, set_drd: 55;
    /// First-stage 1 GiB pages.
    pub fs1gp, set_fs1gp: 56;
    /// Posted interrupts.
    pub pi, set_pi: 59;
    /// Enhanced set interrupt-remap-table pointer: the command invalidates by itself.
    pub esirtps, set_esirtps: 62;
    /// Enhanced set root-table pointer: the command invalidates by itself.
    pub esrtps, set_esrtps: 63;
}

bitfield! {
    /// Extended Capability Register.
    #[derive(Clone, Copy, PartialEq, Eq)]
    pub struct Ecap(pub u64);
    impl Debug;
    /// Page-walk coherency: the unit snoops processor caches when it walks tables.
    pub c, set_c: 0;
    /// Queued invalidation.
    pub qi, set_qi: 1;
    /// Device TLBs.
    pub dt, set_dt: 2;
    /// Interrupt remapping.
    pub ir, set_ir: 3;
    /// Extended interrupt mode: 32-bit destinations.
    pub eim, set_eim: 4;
    /// Pass-through translation type.
    pub pt, set_pt: 6;
    /// Snoop control.
    pub sc, set_sc: 7;
    /// IOTLB register offset, in units of 16 bytes.
    pub u16, iro, set_iro: 17, 8;
    /// Maximum handle mask value of an interrupt-entry invalidation.
    pub u8, mhmv, set_mhmv: 23, 20;
    /// Nested translation.
    pub nest, set_nest: 26;
    /// Page requests.
    pub prs, set_prs: 29;
    /// Scalable mode.
    pub smts, set_smts: 43;
    /// Second-stage translation in scalable mode.
    pub ssts, set_ssts: 46;
    /// First-stage translation in scalable mode.
    pub fsts, set_fsts: 47;
    /// Abort-DMA mode.
    pub adms, set_adms: 52;
}

bitfield! {
    /// Global Command Register. Write only.
    #[derive(Clone, Copy, PartialEq, Eq)]
    pub struct Gcmd(pub u32);
    impl Debug;
    /// Compatibility-format interrupts pass.
    pub cfi, set_cfi: 23;
    /// Set interrupt-remap-table pointer; one shot.
    pub sirtp, set_sirtp: 24;
    /// Interrupt remapping enable.
    pub ire, set_ire: 25;
    /// Queued invalidation enable.
    pub qie, set_qie: 26;
    /// Write-buffer flush; one shot.
    pub wbf, set_wbf: 27;
    /// Enable advanced fault logging.
    pub eafl, set_eafl: 28;
    /// Set fault log pointer; one shot.
    pub sfl, set_sfl: 29;
    /// Set root-table pointer; one shot.
    pub srtp, set_srtp: 30;
    /// Translation enable.
    pub te, set_te: 31;
}

bitfield! {
    /// Global Status Register. Read only; each bit mirrors the command bit in the same place.
    #[derive(Clone, Copy, PartialEq, Eq)]
    pub struct Gsts(pub u32);
    impl Debug;
    /// Compatibility-format interrupts pass.
    pub cfis, set_cfis: 23;
    /// The interrupt-remap-table pointer was taken over.
    pub irtps, set_irtps: 24;
    /// Interrupt remapping is on.
    pub ires, set_ires: 25;
    /// Queued invalidation is on.
    pub qies, set_qies: 26;
    /// A write-buffer flush is under way.
    pub wbfs, set_wbfs: 27;
    /// Advanced fault logging is on.
    pub afls, set_afls: 28;
    /// The fault log pointer was taken over.
    pub fls, set_fls: 29;
    /// The root-table pointer was taken over.
    pub rtps, set_rtps: 30;
    /// Translation is on.
    pub tes, set_tes: 31;
}

bitfield! {
    /// Root Table Address Register.
    #[derive(Clone, Copy, PartialEq, Eq)]
    pub struct Rtaddr(pub u64);
    impl Debug;
    /// Translation table mode: 0 legacy, 1 scalable, 3 abort DMA.
    pub u8, ttm, set_ttm: 11, 10;
    /// Page number of the root table.
    pub u64, rta, set_rta: 63, 12;
}

/// Values of [`Rtaddr::ttm`].
pub mod ttm {
    /// Root and context tables of 128-bit entries.
    pub const LEGACY: u8 = 0b00;
    /// Scalable-mode root and context tables.
    pub const SCALABLE: u8 = 0b01;
    /// Every request is blocked.
    pub const ABORT_DMA: u8 = 0b11;
}

bitfield! {
    /// Context Command Register: register-based context-cache invalidation.
    #[derive(Clone, Copy, PartialEq, Eq)]
    pub struct Ccmd(pub u64);
    impl Debug;
    /// Domain id.
    pub u16, did, set_did: 15, 0;
    /// Source id.
    pub u16, sid, set_sid: 31, 16;
    /// Function mask.
    pub u8, fm, set_fm: 33, 32;
    /// Granularity hardware chose.
    pub u8, caig, set_caig: 60, 59;
    /// Granularity requested: 1 global, 2 domain, 3 device.
    pub u8, cirg, set_cirg: 62, 61;
    /// Invalidate; cleared by hardware when done.
    pub icc, set_icc: 63;
}

bitfield! {
    /// IOTLB Invalidate Register: register-based IOTLB invalidation.
    #[derive(Clone, Copy, PartialEq, Eq)]
    pub struct Iotlb(pub u64);
    impl Debug;
    /// Domain id.
    pub u16, did, set_did: 47, 32;
    /// Drain writes.
    pub dw, set_dw: 48;
    /// Drain reads.
    pub dr, set_dr: 49;
    /// Granularity hardware chose.
    pub u8, iaig, set_iaig: 58, 57;
    /// Granularity requested: 1 global, 2 domain, 3 page.
    pub u8, iirg, set_iirg: 61, 60;
    /// Invalidate; cleared by hardware when done.
    pub ivt, set_ivt: 63;
}

bitfield! {
    /// Fault Status Register. Bits 0 and 4 to 6 are cleared by writing ones.
    #[derive(Clone, Copy, PartialEq, Eq)]
    pub struct Fsts(pub u32);
    impl Debug;
    /// Primary fault overflow: a fault found every record taken.
    pub pfo, set_pfo: 0;
    /// Primary fault pending: some record has its F bit set. Read only.
    pub ppf, set_ppf: 1;
    /// Invalidation queue error.
    pub iqe, set_iqe: 4;
    /// Invalidation completion error.
    pub ice, set_ice: 5;
    /// Invalidation time-out error.
    pub ite, set_ite: 6;
    /// Fault record index: the first pending record when PPF is set.
    pub u8, fri, set_fri: 15, 8;
}

bitfield! {
    /// Fault Event Control Register; the Invalidation Event Control Register has the same bits.
    #[derive(Clone, Copy, PartialEq, Eq)]
    pub struct Fectl(pub u32);
    impl Debug;
    /// Interrupt pending. Read only.
    pub ip, set_ip: 30;
    /// Interrupt mask.
    pub im, set_im: 31;
}

bitfield! {
    /// Protected Memory Enable Register.
    #[derive(Clone, Copy, PartialEq, Eq)]
    pub struct Pmen(pub u32);
    impl Debug;
    /// Protected region status. Read only.
    pub prs, set_prs: 0;
    /// Enable protected memory.
    pub epm, set_epm: 31;
}

bitfield! {
    /// Invalidation Queue Head or Tail Register, for 128-bit descriptors.
    #[derive(Clone, Copy, PartialEq, Eq)]
    pub struct QueueIndex(pub u64);
    impl Debug;
    /// Index of a descriptor.
    pub u16, index, set_index: 18, 4;
}

bitfield! {
    /// Invalidation Queue Address Register.
    #[derive(Clone, Copy, PartialEq, Eq)]
    pub struct Iqa(pub u64);
    impl Debug;
    /// Queue size: 2^QS pages, 256 × 2^QS descriptors of 128 bits.
    pub u8, qs, set_qs: 2, 0;
    /// Descriptor width: 1 = 256 bits.
    pub dw, set_dw: 11;
    /// Page number of the queue.
    pub u64, iqa, set_iqa: 63, 12;
}

bitfield! {
    /// Invalidation Queue Error Record Register. Read only.
    #[derive(Clone, Copy, PartialEq, Eq)]
    pub struct Iqercd(pub u64);
    impl Debug;
    /// What was wrong with the descriptor.
    pub u8, iqei, set_iqei: 3, 0;
    /// Source id of an invalidation time-out.
    pub u16, itesid, set_itesid: 47, 32;
    /// Source id of an invalidation completion error.
    pub u16, icesid, set_icesid: 63, 48;
}

bitfield! {
    /// Invalidation Completion Status Register. Cleared by writing ones.
    #[derive(Clone, Copy, PartialEq, Eq)]
    pub struct Ics(pub u32);
    impl Debug;
    /// A wait descriptor with its interrupt flag completed.
    pub iwc, set_iwc: 0;
}

bitfield! {
    /// Interrupt Remapping Table Address Register.
    #[derive(Clone, Copy, PartialEq, Eq)]
    pub struct Irta(pub u64);
    impl Debug;
    /// Size: 2^(S+1) entries.
    pub u8, s, set_s: 3, 0;
    /// Extended interrupt mode enable: destinations are 32-bit x2APIC ids.
    pub eime, set_eime: 11;
    /// Page number of the table.
    pub u64, irta, set_irta: 63, 12;
}

bits! {
    Ver: u32, Cap: u64, Ecap: u64, Gcmd: u32, Gsts: u32, Rtaddr: u64, Ccmd: u64, Iotlb: u64,
    Fsts: u32, Fectl: u32, Pmen: u32, QueueIndex: u64, Iqa: u64, Iqercd: u64, Ics: u32, Irta: u64,
}

#[cfg(test)]
mod tests {
    use super::*;

    /// The registers of QEMU 10.0.2's default unit, as read there.
    #[test]
    fn the_capabilities_of_an_emulated_unit_decode() {
        let cap = Cap(0x00d2_008c_222f_0606);
        assert_eq!((cap.nd(), cap.sagaw(), cap.mgaw()), (6, 0b110, 47));
        assert_eq!((cap.fro(), cap.nfr(), cap.mamv()), (0x22, 0, 18));
        assert!(cap.psi() && cap.drd() && cap.dwd());
        assert!(!cap.rwbf() && !cap.cm() && !cap.plmr() && !cap.phmr());
        assert_eq!(cap.sslps(), 0b11);

        let ecap = Ecap(0x00f0_0f4a);
        assert!(ecap.qi() && ecap.ir() && ecap.pt() && !ecap.c() && !ecap.eim());
        assert_eq!((ecap.iro(), ecap.mhmv()), (0xf, 0xf));
    }
}
