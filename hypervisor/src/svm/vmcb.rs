//! The virtual machine control block: bits and places only. APM vol. 2, appendix B.

use core::mem::offset_of;

use bitfield::bitfield;

/// A segment register with its hidden part. APM table B-2.
#[derive(Clone, Copy, Debug, Default)]
#[repr(C)]
pub(crate) struct SegmentRegister {
    pub(crate) selector: u16,
    pub(crate) attributes: Attributes,
    pub(crate) limit: u32,
    pub(crate) base: u64,
}

bitfield! {
    /// Segment attributes: bits 55:52 and 47:40 of a descriptor, packed. APM 15.5.1.
    #[derive(Clone, Copy, Default)]
    pub struct Attributes(u16);
    impl Debug;
    /// Type, descriptor kind, privilege level, present.
    pub u8, low, set_low: 7, 0;
    /// 64-bit code.
    pub long, set_long: 9;
    /// 32-bit default size.
    pub big, set_big: 10;
}

impl Attributes {
    /// From the packed bits.
    pub(crate) const fn from_packed(bits: u16) -> Self {
        Self(bits)
    }

    /// The packed bits.
    pub(crate) const fn packed(self) -> u16 {
        self.0
    }
}

/// The control area. APM table B-1.
#[derive(Debug)]
#[repr(C)]
pub(crate) struct Control {
    pub(crate) intercept_cr: u32,
    pub(crate) intercept_dr: u32,
    pub(crate) intercept_exceptions: u32,
    pub(crate) intercepts: [u32; 3],
    reserved_18: [u8; 0x3c - 0x18],
    pub(crate) pause: [u16; 2],
    pub(crate) io_permissions: u64,
    pub(crate) msr_permissions: u64,
    pub(crate) tsc_offset: u64,
    pub(crate) asid: u32,
    pub(crate) tlb_control: u8,
    reserved_5d: [u8; 3],
    pub(crate) virtual_interrupt: u64,
    pub(crate) interrupt_shadow: u64,
    pub(crate) exit_code: u64,
    pub(crate) exit_info_1: u64,
    pub(crate) exit_info_2: u64,
    pub(crate) exit_interrupt: u64,
    pub(crate) nested: u64,
    reserved_98: [u8; 0xa8 - 0x98],
    pub(crate) event: u64,
    pub(crate) nested_root: u64,
    pub(crate) lbr: u64,
    pub(crate) clean: u64,
    pub(crate) next_rip: u64,
    reserved_d0: [u8; 0x400 - 0xd0],
}

/// The state-save area. APM table B-2.
#[derive(Debug)]
#[repr(C)]
pub(crate) struct Save {
    /// es, cs, ss, ds, fs, gs.
    pub(crate) segments: [SegmentRegister; 6],
    pub(crate) gdtr: SegmentRegister,
    pub(crate) ldtr: SegmentRegister,
    pub(crate) idtr: SegmentRegister,
    pub(crate) tr: SegmentRegister,
    reserved_a0: [u8; 0xcb - 0xa0],
    pub(crate) privilege: u8,
    reserved_cc: [u8; 4],
    pub(crate) efer: u64,
    reserved_d8: [u8; 0x148 - 0xd8],
    pub(crate) cr4: u64,
    pub(crate) cr3: u64,
    pub(crate) cr0: u64,
    pub(crate) dr7: u64,
    pub(crate) dr6: u64,
    pub(crate) rflags: u64,
    pub(crate) rip: u64,
    reserved_180: [u8; 0x1d8 - 0x180],
    pub(crate) rsp: u64,
    reserved_1e0: [u8; 0x1f8 - 0x1e0],
    pub(crate) rax: u64,
    pub(crate) star: u64,
    pub(crate) lstar: u64,
    pub(crate) cstar: u64,
    pub(crate) sfmask: u64,
    pub(crate) kernel_gs_base: u64,
    pub(crate) sysenter: [u64; 3],
    pub(crate) cr2: u64,
    reserved_248: [u8; 0x268 - 0x248],
    pub(crate) pat: u64,
    pub(crate) debug_control: u64,
    reserved_278: [u8; 0xc00 - 0x278],
}

/// The whole block, one page.
#[derive(Debug)]
#[repr(C, align(4096))]
pub(crate) struct Vmcb {
    pub(crate) control: Control,
    pub(crate) save: Save,
}

const _: () = {
    assert!(size_of::<Vmcb>() == 4096);
    assert!(offset_of!(Control, pause) == 0x3c);
    assert!(offset_of!(Control, asid) == 0x58);
    assert!(offset_of!(Control, exit_code) == 0x70);
    assert!(offset_of!(Control, event) == 0xa8);
    assert!(offset_of!(Control, next_rip) == 0xc8);
    assert!(offset_of!(Vmcb, save) == 0x400);
    assert!(offset_of!(Save, privilege) == 0xcb);
    assert!(offset_of!(Save, efer) == 0xd0);
    assert!(offset_of!(Save, cr4) == 0x148);
    assert!(offset_of!(Save, rip) == 0x178);
    assert!(offset_of!(Save, rsp) == 0x1d8);
    assert!(offset_of!(Save, rax) == 0x1f8);
    assert!(offset_of!(Save, cr2) == 0x240);
    assert!(offset_of!(Save, pat) == 0x268);
};

/// Intercepts by word and bit of `Control::intercepts`. APM table B-1, offsets 00Ch, 010h, 014h.
pub(crate) mod intercept {
    /// (word, bit)
    pub(crate) type Intercept = (usize, u32);
    pub(crate) const NMI: Intercept = (0, 1);
    pub(crate) const INIT: Intercept = (0, 3);
    pub(crate) const CPUID: Intercept = (0, 18);
    pub(crate) const IRET: Intercept = (0, 20);
    pub(crate) const INVD: Intercept = (0, 22);
    pub(crate) const INVLPGA: Intercept = (0, 26);
    pub(crate) const PORTS: Intercept = (0, 27);
    pub(crate) const MSRS: Intercept = (0, 28);
    pub(crate) const SHUTDOWN: Intercept = (0, 31);
    pub(crate) const VMRUN: Intercept = (1, 0);
    pub(crate) const VMMCALL: Intercept = (1, 1);
    pub(crate) const VMLOAD: Intercept = (1, 2);
    pub(crate) const VMSAVE: Intercept = (1, 3);
    pub(crate) const STGI: Intercept = (1, 4);
    pub(crate) const CLGI: Intercept = (1, 5);
    pub(crate) const SKINIT: Intercept = (1, 6);
}

/// Exit codes. APM vol. 2, appendix C.
pub(crate) mod code {
    pub(crate) const DEBUG_EXCEPTION: u64 = 0x41;
    pub(crate) const ALIGNMENT_CHECK: u64 = 0x51;
    pub(crate) const NMI: u64 = 0x61;
    pub(crate) const INIT: u64 = 0x63;
    pub(crate) const CPUID: u64 = 0x72;
    pub(crate) const IRET: u64 = 0x74;
    pub(crate) const INVD: u64 = 0x76;
    pub(crate) const INVLPGA: u64 = 0x7a;
    pub(crate) const PORT: u64 = 0x7b;
    pub(crate) const MSR: u64 = 0x7c;
    pub(crate) const SHUTDOWN: u64 = 0x7f;
    pub(crate) const VMRUN: u64 = 0x80;
    pub(crate) const VMMCALL: u64 = 0x81;
    pub(crate) const VMLOAD: u64 = 0x82;
    pub(crate) const SKINIT: u64 = 0x86;
    pub(crate) const NESTED_PAGE_FAULT: u64 = 0x400;
    /// The guest was not entered: its state is not one the processor takes.
    pub(crate) const INVALID: u64 = u64::MAX;
}

bitfield! {
    /// EXITINFO1 of a port access. APM figure 15-2.
    #[derive(Clone, Copy)]
    pub struct PortInfo(u64);
    impl Debug;
    /// IN rather than OUT.
    pub is_in, _: 0;
    /// INS or OUTS.
    pub is_string, _: 2;
    /// Size: 1, 2 or 4 bytes, as a one-hot field read as a number.
    pub u8, bytes, _: 6, 4;
    /// The port.
    pub u16, port, _: 31, 16;
}

impl PortInfo {
    /// From the field.
    pub(crate) const fn new(raw: u64) -> Self {
        Self(raw)
    }
}

bitfield! {
    /// EXITINFO1 of a nested page fault. APM 15.25.6.
    #[derive(Clone, Copy)]
    pub struct NestedInfo(u64);
    impl Debug;
    /// A write.
    pub write, _: 1;
    /// An instruction fetch.
    pub fetch, _: 4;
    /// While walking the guest's page tables.
    pub walk, _: 33;
}

impl NestedInfo {
    /// From the field.
    pub(crate) const fn new(raw: u64) -> Self {
        Self(raw)
    }
}

/// EVENTINJ and EXITINTINFO. APM figure 15-4.
pub(crate) mod event {
    pub(crate) const VALID: u64 = 1 << 31;
    const ERROR_CODE: u64 = 1 << 11;
    const NMI: u64 = 2 << 8;
    const EXCEPTION: u64 = 3 << 8;

    /// Vector, type and valid bit.
    const KIND: u64 = VALID | 7 << 8 | 0xff;

    /// An NMI.
    pub(crate) const fn nmi() -> u64 {
        VALID | NMI | 2
    }

    /// An exception without error code.
    pub(crate) const fn exception(vector: u8) -> u64 {
        VALID | EXCEPTION | vector as u64
    }

    /// An exception with error code.
    pub(crate) const fn exception_with(vector: u8, error: u32) -> u64 {
        exception(vector) | ERROR_CODE | (error as u64) << 32
    }

    /// Whether an event field holds an NMI.
    pub(crate) const fn is_nmi(field: u64) -> bool {
        field & KIND == nmi()
    }
}

/// TLB control: flush everything of all address spaces. APM 15.16.2.
pub(crate) const FLUSH_ALL: u8 = 1;
/// `Control::nested`: nested paging on.
pub(crate) const NESTED_PAGING: u64 = 1;
