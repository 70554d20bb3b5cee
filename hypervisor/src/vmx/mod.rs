//! The VMX backend: Intel's extension, with EPT and "unrestricted guest".
//!
//! The guest's interrupts, halts, and registers are its own; the guest-host masks keep of CR0 and CR4
//! what VMX operation itself needs. Manual: see the crate `vmx`.

// UNSAFETY: writes fields of the VMCS and enters the guest.
#![expect(unsafe_code)]

mod enable;
mod enter;
mod exit;
mod guest;
mod instructions;
mod permission;

use boot::handoff::GuestStart;
use ept::{Depth, Ept};
use instruction::spec::Rights;
use memory::Hpa;
use paging::PageSize;
use processor::msr::xss;
use vmx::spec::control::{PENDING_STEP, interruptibility, primary};
use vmx::spec::field::{Field, Segment};
use vmx::{Controls, Fixed, Flushes, Nested, NmiChance};

use crate::backend::{self, Backend, Event, Exit, Missing, NestedFormat, Shared, State};
use crate::cpu::area::Area;
use crate::cpu::instructions::forget_breakpoints;
use enable::set;
use enter::{Entered, How};
use instructions::read;

const IA32_FLUSH_CMD: u32 = 0x10b;
const GUEST_VPID: u16 = 1;
const DEBUG_VECTOR: u8 = 1;
const ALIGNMENT_VECTOR: u8 = 17;
const RFLAGS_RESERVED: u64 = 1 << 1;
const RFLAGS_TRAP: u64 = 1 << 8;
const RFLAGS_RESUME: u64 = 1 << 16;
/// DR6 after reset. SDM vol. 3A, table 10-1.
const DR6_AT_RESET: u64 = 0xffff_0ff0;
const DEBUGCTL_BTF: u64 = 1 << 1;
const CR0_PE: u64 = 1 << 0;
const CR0_PG: u64 = 1 << 31;
/// What is not offered: safer mode, supervisor keys, user interrupts, masked addresses, FRED.
const CR4_NOT_OFFERED: u64 = 1 << 14 | 1 << 24 | 1 << 25 | 1 << 28 | 1 << 32;
/// The activity state of a processor that runs.
const ACTIVE: u64 = 0;
/// 64-bit code in a segment's access rights.
const RIGHTS_LONG: u64 = 1 << 13;

/// Uses of the area's backend pages.
mod page {
    pub(super) const OPERATION: usize = 0;
    pub(super) const GUEST: usize = 1;
}

/// A virtual processor under VMX.
pub(crate) struct Processor {
    area: &'static Area,
    general: [u64; 16],
    rip: u64,
    rflags: u64,
    /// What is raised at the next entry.
    event: Option<vmx::Event>,
    /// An NMI is to be raised when the guest can take it.
    is_nmi_pending: bool,
    is_launched: bool,
    controls: Controls,
    nested: Nested,
    nested_root: u64,
    fixed: Fixed,
    flushes: Flushes,
}

impl Backend for Processor {
    const NAME: &'static str = "VMX with EPT";
    const PERMISSION_BYTES: u64 = (permission::PORT_MAP_BYTES + permission::MSR_MAP_BYTES) as u64;

    fn check() -> Result<(), Missing> {
        enable::check()
    }

    fn nested_format(physical_width: u32) -> NestedFormat {
        let nested = enable::capabilities().nested();
        let largest = match nested {
            Ok(Nested { has_1gib: true, .. }) => PageSize::GiB1,
            Ok(Nested { has_2mib: true, .. }) => PageSize::MiB2,
            _ => PageSize::KiB4,
        };
        NestedFormat::Ept(Ept::new(Depth::Four, physical_width, largest))
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
        let (capabilities, fixed) = (enable::capabilities(), enable::fixed());
        let (Ok(controls), Ok(nested)) = (Controls::choose(&capabilities), capabilities.nested())
        else {
            panic!("a processor that `check` has accepted lacks what it had");
        };
        enable::turn_on(area, &capabilities, &fixed);
        enable::write_host_state(area);
        let mut this = Self {
            area,
            general: [0; 16],
            rip: 0,
            rflags: RFLAGS_RESERVED,
            event: None,
            is_nmi_pending: false,
            is_launched: false,
            controls,
            nested,
            nested_root: shared.nested_root,
            fixed,
            flushes: enable::flushes(),
        };
        this.confine(shared);
        guest::power_on();
        this.reset();
        instructions::forget_nested(vmx::Scope::All, 0);
        this
    }

    fn run(&mut self) -> Exit {
        self.raise_pending_nmi();
        self.write_entry();
        self.flush();
        let how = How {
            is_launched: self.is_launched,
            clears_buffers: self.flushes.buffers,
        };
        // SAFETY: the VMCS was confined by `confine` and nothing above the seam can undo it: the seam
        // reaches general registers, RIP, flags and events only.
        let entered = unsafe { enter::enter(&mut self.general, how, self.area.nmis()) };
        match entered {
            Entered::Left => {}
            Entered::CalledOff => return Exit::Nmi,
            Entered::Failed => return self.instruction_failed(),
        }
        self.is_launched = true;
        self.rip = read(Field::RIP);
        self.rflags = read(Field::RFLAGS);
        self.general[4] = read(Field::RSP);
        self.deliver_again();
        self.exit()
    }

    fn forget_translations(&mut self) {
        instructions::forget_nested(self.nested.invept, self.nested_root);
    }

    fn sleep(&mut self) {
        enter::sleep_until_nmi(self.area.nmis());
    }

    fn skip(&mut self, bytes: u8) {
        let rip = self.rip.wrapping_add(u64::from(bytes));
        let is_long = self.efer() & efer::LMA != 0 && read(Field::CS_RIGHTS) & RIGHTS_LONG != 0;
        self.rip = if is_long {
            rip
        } else {
            rip & u64::from(u32::MAX)
        };
        self.end_instruction();
    }

    fn end_instruction(&mut self) {
        self.rflags &= !RFLAGS_RESUME;
        let blocked = read(Field::INTERRUPTIBILITY);
        let shadow = interruptibility::STI | interruptibility::MOV_SS;
        if blocked & shadow != 0 {
            // SAFETY: the guest's own state.
            unsafe { set(Field::INTERRUPTIBILITY, blocked & !shadow) };
        }
        // SDM vol. 3B, 18.3.1.4: a debug exception after each instruction while TF is set.
        if self.is_stepping() {
            // SAFETY: as above.
            unsafe {
                set(
                    Field::PENDING_DEBUG,
                    read(Field::PENDING_DEBUG) | PENDING_STEP,
                )
            };
        }
    }

    fn inject(&mut self, what: Event) {
        self.event = Some(match what {
            Event::Nmi => {
                self.is_nmi_pending = true;
                return;
            }
            Event::InvalidOpcode => vmx::Event::exception(6, None),
            Event::GeneralProtection => vmx::Event::exception(13, Some(0)),
            Event::Stack => vmx::Event::exception(12, Some(0)),
            Event::PageFault { address, error } => {
                instructions::write_page_fault_address(address);
                vmx::Event::exception(14, Some(error))
            }
        });
    }

    fn reset(&mut self) {
        guest::reset(self.fixed.cr4_set);
        instructions::write_page_fault_address(0);
        instructions::write_debug_status(DR6_AT_RESET);
        forget_breakpoints();
        self.general = [0; 16];
        self.general[2] = u64::from(crate::cpu::instructions::cpuid(1, 0).eax);
        self.rip = 0xfff0;
        self.rflags = RFLAGS_RESERVED;
        self.event = None;
        self.is_nmi_pending = false;
        self.open_nmi_window(false);
        // The same tag goes on with other tables and modes.
        if let Some(scope) = self.nested.invvpid {
            instructions::forget_linear(scope, GUEST_VPID);
        }
    }

    fn start_at(&mut self, vector: u8) {
        guest::start_at(vector);
        self.rip = 0;
    }

    fn start_as(&mut self, start: &GuestStart) {
        guest::start_as(start, self.fixed.cr0_set, self.fixed.cr4_set);
        self.rip = start.rip;
        self.general[4] = start.rsp;
        self.general[6] = start.rsi;
    }

    fn state(&mut self) -> State<'_> {
        let segments = Segment::ALL.map(|segment| instruction::SegmentRegister {
            base: read(segment.base),
            limit: read(segment.limit) as u32,
            rights: Rights::from_vmcs(read(segment.rights) as u32),
        });
        let shown = |register, mask, shadow| {
            let mask = read(mask);
            read(register) & !mask | read(shadow) & mask
        };
        State {
            general: &mut self.general,
            rip: &mut self.rip,
            rflags: &mut self.rflags,
            cr0: shown(Field::CR0, Field::CR0_MASK, Field::CR0_SHADOW),
            cr2: instructions::page_fault_address(),
            cr3: read(Field::CR3),
            cr4: shown(Field::CR4, Field::CR4_MASK, Field::CR4_SHADOW),
            efer: read(Field::EFER),
            // SDM vol. 3C, 25.4.1: the privilege level is that of SS.
            privilege: (read(Field::SS_RIGHTS) >> 5 & 3) as u8,
            segments,
        }
    }

    fn write_efer(&mut self, value: u64) {
        // SAFETY: the guest's own state.
        unsafe { set(Field::EFER, value) };
        if let Some(scope) = self.nested.invvpid {
            instructions::forget_linear(scope, GUEST_VPID);
        }
    }

    fn instruction_len(&self) -> Option<u8> {
        exit::tells_instruction_len().then(|| read(Field::EXIT_INSTRUCTION_LEN) as u8)
    }
}

mod efer {
    pub(super) const LMA: u64 = 1 << 10;
}

impl Processor {
    /// Which exits there are, nested paging, permission maps, what stays Bouncer's of CR0 and CR4.
    fn confine(&mut self, shared: &Shared) {
        let maps = shared.permission_maps.raw();
        let half = permission::PORT_MAP_BYTES as u64 / 2;
        let controls = &self.controls;
        for (field, value) in [
            (Field::PIN_CONTROLS, controls.pin.into()),
            (Field::PRIMARY_CONTROLS, controls.primary.into()),
            (Field::SECONDARY_CONTROLS, controls.secondary.into()),
            (Field::EXIT_CONTROLS, controls.exit.into()),
            (Field::ENTRY_CONTROLS, controls.entry.into()),
            // Delivered without end by a guest that arranges it, both would keep the processor from
            // ever leaving the guest (CVE-2015-5307, CVE-2015-8104).
            (
                Field::EXCEPTION_BITMAP,
                1 << DEBUG_VECTOR | 1 << ALIGNMENT_VECTOR,
            ),
            (Field::IO_BITMAP_A, maps),
            (Field::IO_BITMAP_B, maps + half),
            (Field::MSR_BITMAP, maps + 2 * half),
            (Field::EPT_POINTER, shared.nested_root),
            (Field::CR0_MASK, self.fixed.cr0_set & !(CR0_PE | CR0_PG)),
            (Field::CR4_MASK, self.fixed.cr4_set | CR4_NOT_OFFERED),
            (Field::CR3_TARGET_COUNT, 0),
            (Field::EXIT_MSR_STORE_COUNT, 0),
            (Field::EXIT_MSR_LOAD_COUNT, 0),
            (Field::ENTRY_MSR_LOAD_COUNT, 0),
        ] {
            // SAFETY: this is what confines the guest.
            unsafe { set(field, value) };
        }
        if controls.has_vpid() {
            // SAFETY: as above.
            unsafe { set(Field::VPID, GUEST_VPID.into()) };
        }
        if controls.secondary & vmx::spec::control::secondary::XSAVES != 0 {
            // SAFETY: as above.
            // The register holds nothing else (`processor::msr::xss`), so that there is no such exit.
            unsafe { set(Field::XSS_EXITING, !xss::OFFERED) };
        }
    }

    fn write_entry(&mut self) {
        let event = self.event;
        let is_protected = read(Field::CR0) & CR0_PE != 0;
        let word = event.map_or(0, |event| event.word(is_protected));
        // SAFETY: the guest's own state and its events.
        unsafe {
            set(Field::RIP, self.rip);
            set(Field::RSP, self.general[4]);
            set(Field::RFLAGS, self.rflags);
            set(Field::ENTRY_EVENT, word.into());
            if let Some(event) = event {
                set(Field::ENTRY_ERROR_CODE, event.error_code().into());
                set(Field::ENTRY_INSTRUCTION_LEN, event.instruction_len().into());
                // An event ends a halt (27.7.2). The step over HLT itself leaves the guest halted.
                set(Field::ACTIVITY, ACTIVE);
            }
        }
        // Behind STI, MOV SS and HLT the processor demands that a step that is due be pending (27.3.1.5).
        let blocked = read(Field::INTERRUPTIBILITY);
        let is_halted = read(Field::ACTIVITY) != ACTIVE;
        if is_halted || blocked & (interruptibility::STI | interruptibility::MOV_SS) != 0 {
            let pending = read(Field::PENDING_DEBUG) & !PENDING_STEP;
            let step = if self.is_stepping() { PENDING_STEP } else { 0 };
            // SAFETY: as above.
            unsafe { set(Field::PENDING_DEBUG, pending | step) };
        }
    }

    /// Leaves nothing of Bouncer's in the first-level cache, which a guest could look into by speculation.
    fn flush(&self) {
        if self.flushes.l1d {
            // SAFETY: the command writes the first-level cache back and empties it.
            let _ = unsafe { crate::cpu::instructions::write_msr(IA32_FLUSH_CMD, 1) };
        }
    }

    /// An event whose delivery was interrupted by the exit is delivered at the next entry.
    fn deliver_again(&mut self) {
        self.event = vmx::Event::told(
            read(Field::VECTORING_EVENT) as u32,
            read(Field::VECTORING_ERROR_CODE) as u32,
            read(Field::EXIT_INSTRUCTION_LEN) as u32,
        );
        if self.event.is_some_and(vmx::Event::is_nmi) {
            self.block_nmis(false);
        }
    }

    /// Raises a pending NMI if the guest can take it; otherwise asks to be told when it can.
    fn raise_pending_nmi(&mut self) {
        if !self.is_nmi_pending {
            return;
        }
        let blocked = read(Field::INTERRUPTIBILITY);
        match vmx::nmi_chance(blocked, self.event.is_some()) {
            NmiChance::Window => self.open_nmi_window(true),
            NmiChance::Now(unblocked) => {
                if unblocked != blocked {
                    // SAFETY: the guest's own state.
                    unsafe { set(Field::INTERRUPTIBILITY, unblocked) };
                }
                self.event = Some(vmx::Event::nmi());
                self.is_nmi_pending = false;
            }
        }
    }

    fn open_nmi_window(&mut self, is_open: bool) {
        let bit = if is_open { primary::NMI_WINDOW } else { 0 };
        let word = self.controls.primary & !primary::NMI_WINDOW | bit;
        // SAFETY: it adds an exit or takes it away again, and nothing that confines the guest.
        unsafe { set(Field::PRIMARY_CONTROLS, word.into()) };
    }

    fn block_nmis(&mut self, are_blocked: bool) {
        let rest = read(Field::INTERRUPTIBILITY) & !interruptibility::NMI;
        let bit = if are_blocked {
            interruptibility::NMI
        } else {
            0
        };
        // SAFETY: the guest's own state.
        unsafe { set(Field::INTERRUPTIBILITY, rest | bit) };
    }

    /// Whether the guest steps from instruction to instruction.
    fn is_stepping(&self) -> bool {
        self.rflags & RFLAGS_TRAP != 0 && read(Field::DEBUGCTL) & DEBUGCTL_BTF == 0
    }

    fn efer(&self) -> u64 {
        read(Field::EFER)
    }
}
