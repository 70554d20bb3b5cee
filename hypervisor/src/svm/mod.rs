//! The SVM backend: AMD's extension, and what QEMU emulates beside Intel's VT-d.
//!
//! Works with what the oldest of them has: nested paging, and nothing else optional. Where the
//! processor does not say how long an instruction was, the run loop decodes it.
//! Manual: AMD64 APM vol. 2, publication 24593, revision 3.42.

// UNSAFETY: turns the extension on and shares pages with the processor.
#![expect(unsafe_code)]

mod enter;
mod permission;
mod vmcb;

use boot::handoff::{GuestStart, SegmentState};
use ept::{Depth, Npt};
use instruction::spec::Rights;
use memory::{Gpa, Hpa};
use processor::Reason;
use processor::msr::efer;
use raw_cpuid::CpuId;
use x86::msr::{IA32_EFER, rdmsr, wrmsr};

use crate::backend::{
    self, Backend, Direction, Event, Exit, Missing, NestedFault, NestedFormat, NestedKind,
    PortAccess, Shared, State,
};
use crate::cpu::area::Area;
use crate::cpu::instructions::{forget_breakpoints, read_msr, write_msr};
use crate::mappings;
use vmcb::{Attributes, SegmentRegister, Vmcb, code, event, intercept};

const VM_CR: u32 = 0xc001_0114;
const VM_CR_R_INIT: u64 = 1 << 1;
const VM_CR_DIS_A20M: u64 = 1 << 2;
const VM_CR_SVMDIS: u64 = 1 << 4;
const VM_HSAVE_PA: u32 = 0xc001_0117;
const GUEST_ASID: u32 = 1;
const DEBUG_VECTOR: u8 = 1;
const ALIGNMENT_VECTOR: u8 = 17;
const RFLAGS_RESERVED: u64 = 1 << 1;
const RFLAGS_TRAP: u64 = 1 << 8;
const RFLAGS_RESUME: u64 = 1 << 16;
const DR6_SINGLE_STEP: u64 = 1 << 14;
const DEBUGCTL: u32 = 0x1d9;
const DEBUGCTL_BTF: u64 = 1 << 1;
/// The PAT after reset. SDM vol. 3A, table 13-11.
const PAT_AT_RESET: u64 = 0x0007_0406_0007_0406;

/// Uses of the area's backend pages.
mod page {
    pub(super) const GUEST: usize = 0;
    pub(super) const HOST: usize = 1;
    pub(super) const HARDWARE: usize = 2;
}

/// Whether RFLAGS.TF steps from branch to branch. The register is the guest's own.
fn steps_branches() -> bool {
    read_msr(DEBUGCTL).is_ok_and(|control| control & DEBUGCTL_BTF != 0)
}

/// A virtual processor under SVM.
pub(crate) struct Processor {
    area: &'static Area,
    vmcb: &'static mut Vmcb,
    general: [u64; 16],
    nmi: NmiState,
}

/// Where the guest stands with NMIs; the processor tracks it no further than the next IRET.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
struct NmiState {
    /// One is to be raised.
    pending: bool,
    /// The guest is in its handler.
    blocked: bool,
    /// The handler's IRET is being stepped over.
    stepping: bool,
}

impl Backend for Processor {
    const NAME: &'static str = "SVM with nested paging";
    const PERMISSION_BYTES: u64 = (permission::PORT_MAP_BYTES + permission::MSR_MAP_BYTES) as u64;

    fn check() -> Result<(), Missing> {
        let cpuid = CpuId::new();
        let extended = cpuid.get_extended_processor_and_feature_identifiers();
        if !extended.as_ref().is_some_and(|features| features.has_svm()) {
            return Err(Missing::Virtualization);
        }
        if !extended.is_some_and(|features| features.has_execute_disable()) {
            return Err(Missing::NoExecute);
        }
        if !cpuid
            .get_svm_info()
            .is_some_and(|svm| svm.has_nested_paging())
        {
            return Err(Missing::NestedPaging);
        }
        // APM 15.4: with SVMDIS set, EFER.SVME cannot be set.
        match crate::cpu::instructions::read_msr(VM_CR) {
            Ok(value) if value & VM_CR_SVMDIS != 0 => Err(Missing::LockedByFirmware),
            _ => Ok(()),
        }
    }

    fn nested_format(physical_width: u32) -> NestedFormat {
        NestedFormat::Npt(Npt::new(
            Depth::Four,
            physical_width,
            mappings::largest_page(),
        ))
    }

    unsafe fn fill_permission_maps(at: Hpa, watched: &[u16]) {
        let ports = at.raw() as *mut [u8; permission::PORT_MAP_BYTES];
        // SAFETY: the bytes are ours alone (caller).
        unsafe {
            backend::fill_port_map(&mut *ports, watched);
            permission::fill_msr_map(&mut *ports.add(1).cast());
        }
    }

    fn enable(area: &'static Area, shared: &Shared) -> Self {
        let at = |which| area.backend_page(which) as u64;
        // SAFETY: the pages are this processor's, zeroed, and stay; all-zero is a valid block.
        let vmcb = unsafe {
            wrmsr(IA32_EFER, rdmsr(IA32_EFER) | efer::SVME);
            wrmsr(VM_HSAVE_PA, at(page::HARDWARE));
            enter::save_host(at(page::HOST));
            &mut *area.backend_page(page::GUEST).cast::<Vmcb>()
        };
        // APM 15.30.1: an INIT that is let in after its intercept becomes an exception instead of a
        // reset, and address line 20 is never masked. Not every emulator knows the register.
        // SAFETY: neither bit takes anything from Bouncer.
        let _ = unsafe { write_msr(VM_CR, VM_CR_R_INIT | VM_CR_DIS_A20M) };
        enter::hold_back_interrupts();
        let mut this = Self {
            area,
            vmcb,
            general: [0; 16],
            nmi: NmiState::default(),
        };
        this.confine(shared);
        this.reset();
        this
    }

    fn run(&mut self) -> Exit {
        self.raise_pending_nmi();
        self.vmcb.save.rax = self.general[0];
        self.vmcb.save.rsp = self.general[4];
        let at = |which| self.area.backend_page(which) as u64;
        // SAFETY: the block was confined by `confine` and nothing above the seam can undo it:
        // the seam reaches general registers, rip, flags and events only.
        unsafe { enter::enter(&raw mut self.general, at(page::GUEST), at(page::HOST)) };
        self.general[0] = self.vmcb.save.rax;
        self.general[4] = self.vmcb.save.rsp;
        self.vmcb.control.tlb_control = 0;
        self.deliver_again();
        self.exit()
    }

    fn forget_translations(&mut self) {
        self.vmcb.control.tlb_control = vmcb::FLUSH_ALL;
    }

    fn sleep(&mut self) {
        enter::sleep_until_nmi();
    }

    fn skip(&mut self, bytes: u8) {
        let rip = self.vmcb.save.rip.wrapping_add(u64::from(bytes));
        let is_long = self.vmcb.save.segments[1].attributes.long();
        self.vmcb.save.rip = if is_long {
            rip
        } else {
            rip & u64::from(u32::MAX)
        };
        self.end_instruction();
    }

    fn end_instruction(&mut self) {
        self.vmcb.control.interrupt_shadow &= !1;
        self.vmcb.save.rflags &= !RFLAGS_RESUME;
        // APM vol. 2, 13.1.4: a debug exception after each instruction while TF is set. The step over
        // an NMI handler's IRET is Bouncer's own.
        if self.vmcb.save.rflags & RFLAGS_TRAP != 0 && !self.nmi.stepping && !steps_branches() {
            self.vmcb.save.dr6 |= DR6_SINGLE_STEP;
            self.vmcb.control.event = event::exception(DEBUG_VECTOR);
        }
    }

    fn inject(&mut self, what: Event) {
        self.vmcb.control.event = match what {
            Event::Nmi => {
                self.nmi.pending = true;
                return;
            }
            Event::InvalidOpcode => event::exception(6),
            Event::GeneralProtection => event::exception_with(13, 0),
            Event::Stack => event::exception_with(12, 0),
            Event::PageFault { address, error } => {
                self.vmcb.save.cr2 = address;
                event::exception_with(14, error)
            }
        };
    }

    fn reset(&mut self) {
        // APM table 14-1, column INIT.
        let save = &mut self.vmcb.save;
        let data = SegmentRegister {
            attributes: Attributes::from_packed(0x93),
            limit: 0xffff,
            ..SegmentRegister::default()
        };
        let system = |attributes| SegmentRegister {
            attributes: Attributes::from_packed(attributes),
            ..data
        };
        save.segments = [data; 6];
        save.segments[1] = SegmentRegister {
            selector: 0xf000,
            attributes: Attributes::from_packed(0x9b),
            limit: 0xffff,
            base: 0xffff_0000,
        };
        save.gdtr = system(0);
        save.idtr = system(0);
        save.ldtr = system(0x82);
        save.tr = system(0x8b);
        save.privilege = 0;
        save.efer = efer::SVME;
        save.cr0 = 0x6000_0010;
        save.cr2 = 0;
        save.cr3 = 0;
        save.cr4 = 0;
        save.dr6 = 0xffff_0ff0;
        save.dr7 = 0x400;
        save.rflags = RFLAGS_RESERVED;
        save.rip = 0xfff0;
        forget_breakpoints();
        self.general = [0; 16];
        self.general[2] = u64::from(crate::cpu::instructions::cpuid(1, 0).eax);
        self.vmcb.control.event = 0;
        self.vmcb.control.interrupt_shadow = 0;
        // The same address space goes on with other tables and modes.
        self.vmcb.control.tlb_control = vmcb::FLUSH_ALL;
        self.nmi = NmiState::default();
        self.intercept_iret(false);
    }

    fn start_at(&mut self, vector: u8) {
        let code = &mut self.vmcb.save.segments[1];
        code.selector = u16::from(vector) << 8;
        code.base = u64::from(vector) << 12;
        self.vmcb.save.rip = 0;
    }

    fn start_as(&mut self, start: &GuestStart) {
        let segment = |state: &SegmentState| SegmentRegister {
            selector: state.selector,
            attributes: Attributes::from_packed(Rights::from_vmcs(state.rights).0),
            limit: state.limit,
            base: state.base,
        };
        let save = &mut self.vmcb.save;
        save.segments = start.segments.each_ref().map(segment);
        save.ldtr = segment(&start.ldtr);
        save.tr = segment(&start.tr);
        for (register, table) in [(&mut save.gdtr, start.gdt), (&mut save.idtr, start.idt)] {
            register.base = table.base;
            register.limit = table.limit;
        }
        save.cr0 = start.cr0;
        save.cr3 = start.cr3;
        save.cr4 = start.cr4;
        save.efer = start.efer | efer::SVME;
        save.pat = start.pat;
        save.rip = start.rip;
        self.general[4] = start.rsp;
        self.general[6] = start.rsi;
    }

    fn state(&mut self) -> State<'_> {
        let save = &mut self.vmcb.save;
        let segments = save.segments.map(|segment| instruction::SegmentRegister {
            base: segment.base,
            limit: segment.limit,
            rights: Rights(segment.attributes.packed()),
        });
        State {
            general: &mut self.general,
            rip: &mut save.rip,
            rflags: &mut save.rflags,
            cr0: save.cr0,
            cr2: save.cr2,
            cr3: save.cr3,
            cr4: save.cr4,
            efer: save.efer,
            privilege: save.privilege,
            segments,
        }
    }

    fn write_efer(&mut self, value: u64) {
        self.vmcb.save.efer = value | efer::SVME;
        self.vmcb.control.tlb_control = vmcb::FLUSH_ALL;
    }

    fn instruction_len(&self) -> Option<u8> {
        // APM 15.7.1: next-RIP is zero where the processor does not save it.
        let next = self.vmcb.control.next_rip;
        let len = next.wrapping_sub(self.vmcb.save.rip);
        (next != 0 && (1..=15).contains(&len)).then_some(len as u8)
    }
}

impl Processor {
    /// Intercepts what would reach Bouncer, nested paging, permission maps.
    fn confine(&mut self, shared: &Shared) {
        use intercept::{
            CLGI, CPUID, INIT, INVD, INVLPGA, MSRS, NMI, PORTS, SHUTDOWN, SKINIT, STGI, VMLOAD,
            VMMCALL, VMRUN, VMSAVE,
        };
        let control = &mut self.vmcb.control;
        for (word, bit) in [
            NMI, INIT, CPUID, INVD, INVLPGA, PORTS, MSRS, SHUTDOWN, VMRUN, VMMCALL, VMLOAD, VMSAVE,
            STGI, CLGI, SKINIT,
        ] {
            control.intercepts[word] |= 1 << bit;
        }
        // Delivered without end by a guest that arranges it, both would keep the processor from ever
        // leaving the guest (CVE-2015-5307, CVE-2015-8104).
        control.intercept_exceptions = 1 << DEBUG_VECTOR | 1 << ALIGNMENT_VECTOR;
        control.asid = GUEST_ASID;
        control.tlb_control = vmcb::FLUSH_ALL;
        control.nested = vmcb::NESTED_PAGING;
        control.nested_root = shared.nested_root;
        control.io_permissions = shared.permission_maps.raw();
        control.msr_permissions = shared.permission_maps.raw() + permission::PORT_MAP_BYTES as u64;
        self.vmcb.save.pat = PAT_AT_RESET;
    }

    /// An event whose delivery was interrupted by the exit is delivered at the next entry.
    fn deliver_again(&mut self) {
        let interrupted = self.vmcb.control.exit_interrupt;
        self.vmcb.control.event = if interrupted & event::VALID != 0 {
            interrupted
        } else {
            0
        };
        if event::is_nmi(self.vmcb.control.event) {
            self.nmi.blocked = true;
        }
    }

    fn exit(&mut self) -> Exit {
        let control = &self.vmcb.control;
        let (info_1, info_2) = (control.exit_info_1, control.exit_info_2);
        match control.exit_code {
            code::CPUID => Exit::Cpuid,
            code::MSR if info_1 == 0 => Exit::ReadMsr,
            code::MSR => Exit::WriteMsr,
            code::PORT => {
                let info = vmcb::PortInfo::new(info_1);
                Exit::Port(PortAccess {
                    port: info.port(),
                    bytes: info.bytes(),
                    direction: if info.is_in() {
                        Direction::In
                    } else {
                        Direction::Out
                    },
                    is_string: info.is_string(),
                    // APM 15.10.2: EXITINFO2 is the address of the next instruction.
                    instruction_len: info_2.wrapping_sub(self.vmcb.save.rip).min(15) as u8,
                })
            }
            code::NESTED_PAGE_FAULT => {
                let info = vmcb::NestedInfo::new(info_1);
                let delivers = control.exit_interrupt & event::VALID != 0;
                let kind = match (info.walk(), info.fetch(), info.write()) {
                    _ if delivers => NestedKind::Delivery,
                    (true, ..) => NestedKind::PageWalk,
                    (_, true, _) => NestedKind::Fetch,
                    (_, _, true) => NestedKind::Write,
                    _ => NestedKind::Read,
                };
                Exit::Nested(NestedFault {
                    address: Gpa::new(info_2),
                    kind,
                })
            }
            code::NMI => {
                enter::take_pending_nmis();
                Exit::Nmi
            }
            code::IRET => {
                self.step_over_iret();
                Exit::Settled(Reason::NmiWindow)
            }
            code::DEBUG_EXCEPTION if self.nmi.stepping => {
                self.stop_stepping();
                Exit::Settled(Reason::NmiWindow)
            }
            code::DEBUG_EXCEPTION => {
                self.vmcb.control.event = event::exception(DEBUG_VECTOR);
                Exit::Settled(Reason::Exception)
            }
            code::ALIGNMENT_CHECK => {
                self.vmcb.control.event = event::exception_with(ALIGNMENT_VECTOR, 0);
                Exit::Settled(Reason::Exception)
            }
            code::INIT => {
                // Where it is redirected it is taken now, as an exception (`exceptions::caught`).
                enter::take_pending_nmis();
                Exit::Init
            }
            code::SHUTDOWN => Exit::Shutdown,
            code::VMMCALL => Exit::Hypercall,
            code::INVD => Exit::InvalidateCaches,
            code::VMRUN | code::VMLOAD..=code::SKINIT | code::INVLPGA => Exit::Virtualization,
            code @ code::INVALID => Exit::Refused {
                code,
                detail: [info_1, info_2],
            },
            code => Exit::Failed {
                code,
                detail: [info_1, info_2],
            },
        }
    }

    /// Raises a pending NMI if the guest is not in its handler; otherwise waits for the IRET.
    fn raise_pending_nmi(&mut self) {
        let is_free = self.vmcb.control.event & event::VALID == 0;
        if self.nmi.pending && !self.nmi.blocked && is_free {
            self.vmcb.control.event = event::nmi();
            self.nmi.pending = false;
            self.nmi.blocked = true;
        }
        // APM 15.21.9: the guest can take the next NMI when its handler has executed IRET.
        self.intercept_iret(self.nmi.blocked && !self.nmi.stepping);
    }

    /// The IRET still uses the handler's stack: the next NMI must not come before it has ended, so
    /// it is single-stepped. (TF set before the IRET traps after it, whatever flags it loads.)
    fn step_over_iret(&mut self) {
        self.nmi.stepping = true;
        self.vmcb.save.rflags |= RFLAGS_TRAP;
    }

    fn stop_stepping(&mut self) {
        self.vmcb.save.dr6 &= !DR6_SINGLE_STEP;
        self.nmi.stepping = false;
        self.nmi.blocked = false;
    }

    fn intercept_iret(&mut self, on: bool) {
        let (word, bit) = intercept::IRET;
        let intercepts = &mut self.vmcb.control.intercepts[word];
        *intercepts = *intercepts & !(1 << bit) | u32::from(on) << bit;
    }
}
