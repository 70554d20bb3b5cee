//! The seam between the run loop and the processor's virtualization extension.
//!
//! As wide as the run loop and no wider: what is above knows neither VMX nor SVM.

use core::fmt;

use boot::handoff::GuestStart;
use ept::{Ept, Npt};
use instruction::SegmentRegister;
use memory::{Gpa, Hpa};
use processor::Reason;
use raw_cpuid::CpuId;

use crate::cpu::area::Area;

/// One virtual processor on the physical processor that runs this code.
pub(crate) trait Backend: Sized {
    /// The extension's name for the console.
    const NAME: &'static str;

    /// Bytes of the permission maps that all processors share.
    const PERMISSION_BYTES: u64;

    /// Says why this processor cannot be used, if it cannot.
    fn check() -> Result<(), Missing>;

    /// The format of the nested tables, on a processor with physical addresses of so many bits.
    fn nested_format(physical_width: u32) -> NestedFormat;

    /// Fills in the permission maps at `at`: exits for the `watched` ports and for every register that
    /// is not the guest's own.
    ///
    /// # Safety
    /// `at` names `PERMISSION_BYTES` bytes, page aligned, that nobody else uses yet.
    unsafe fn fill_permission_maps(at: Hpa, watched: &[u16]);

    /// Turns the extension on and makes a virtual processor that waits for a start-up message.
    fn enable(area: &'static Area, shared: &Shared) -> Self;

    /// Runs the guest until something happens. NMIs that came meanwhile have been taken.
    fn run(&mut self) -> Exit;

    /// Forgets what the processor knows of the guest's nested tables before the next entry.
    fn forget_translations(&mut self);

    /// Sleeps outside the guest until the next NMI.
    fn sleep(&mut self);

    /// Goes behind the instruction that caused the exit.
    fn skip(&mut self, bytes: u8);

    /// Does what the processor does at the end of an instruction that was carried out for it: the
    /// shadow of the one before ends, and a guest that single-steps is told.
    fn end_instruction(&mut self);

    /// Raises an event in the guest at the next entry. An NMI waits until the guest can take it.
    fn inject(&mut self, event: Event);

    /// Sets the state that INIT leaves, waiting for a start-up message.
    fn reset(&mut self);

    /// Starts in real mode at `vector << 12`, after `reset`.
    fn start_at(&mut self, vector: u8);

    /// Starts where the loader says, after `reset`.
    fn start_as(&mut self, start: &GuestStart);

    /// The guest's registers.
    fn state(&mut self) -> State<'_>;

    /// Writes the guest's extended-feature register.
    fn write_efer(&mut self, value: u64);

    /// Length of the intercepted instruction, where the processor says it.
    fn instruction_len(&self) -> Option<u8>;
}

/// What all virtual processors have in common.
#[derive(Debug)]
pub(crate) struct Shared {
    /// The nested page tables, as the processor is told of them.
    pub(crate) nested_root: u64,
    /// Which ports and registers cause an exit, in the extension's own format.
    pub(crate) permission_maps: Hpa,
}

/// Fills a map of a bit for each port, as either extension reads it: only `watched` cause an exit.
pub(crate) fn fill_port_map(map: &mut [u8], watched: &[u16]) {
    map.fill(0);
    for port in watched {
        map[usize::from(*port) / 8] |= 1 << (port % 8);
    }
}

/// What a machine is laid out by before there is a processor in a guest: so that the code that does it
/// exists once.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Means {
    pub(crate) check: fn() -> Result<(), Missing>,
    pub(crate) nested_format: fn(u32) -> NestedFormat,
    pub(crate) permission_bytes: u64,
    /// As [`Backend::fill_permission_maps`].
    pub(crate) fill_permission_maps: unsafe fn(Hpa, &[u16]),
}

impl Means {
    /// Those of one backend.
    pub(crate) const fn of<B: Backend>() -> Self {
        Self {
            check: B::check,
            nested_format: B::nested_format,
            permission_bytes: B::PERMISSION_BYTES,
            fill_permission_maps: B::fill_permission_maps,
        }
    }
}

/// The format of nested page tables.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) enum NestedFormat {
    Npt(Npt),
    Ept(Ept),
}

/// A processor's virtualization extension.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) enum Extension {
    /// Intel's.
    Vmx,
    /// AMD's.
    Svm,
}

impl Extension {
    /// Which one this processor has.
    pub(crate) fn here() -> Option<Self> {
        let cpuid = CpuId::new();
        let features = cpuid.get_feature_info();
        let extended = cpuid.get_extended_processor_and_feature_identifiers();
        if features.is_some_and(|features| features.has_vmx()) {
            Some(Self::Vmx)
        } else if extended.is_some_and(|features| features.has_svm()) {
            Some(Self::Svm)
        } else {
            None
        }
    }
}

/// Why the guest stopped.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) enum Exit {
    /// CPUID.
    Cpuid,
    /// RDMSR of the register in ECX.
    ReadMsr,
    /// WRMSR of the register in ECX.
    WriteMsr,
    /// A port that was asked to be watched.
    Port(PortAccess),
    /// An access that the nested tables refuse.
    Nested(NestedFault),
    /// An NMI, already taken and noted.
    Nmi,
    /// The backend finished something of its own; nothing to be done.
    Settled(Reason),
    /// An INIT signal reached the processor.
    Init,
    /// Triple fault.
    Shutdown,
    /// VMCALL or VMMCALL.
    Hypercall,
    /// An instruction of the extension itself, or one that would harm Bouncer.
    Virtualization,
    /// INVD, which would throw away what Bouncer wrote.
    InvalidateCaches,
    /// XSETBV of the register in ECX.
    ExtendedControl,
    /// The processor did not enter the guest.
    Refused {
        /// The extension's own number for it.
        code: u64,
        /// Two words of detail.
        detail: [u64; 2],
    },
    /// The processor left the guest for a reason unknown here.
    Failed {
        /// The extension's own number for it.
        code: u64,
        /// Two words of detail.
        detail: [u64; 2],
    },
}

impl Exit {
    /// Under which reason the exit is counted.
    pub(crate) fn reason(&self) -> Reason {
        match self {
            Self::Cpuid => Reason::Cpuid,
            Self::ReadMsr => Reason::ReadMsr,
            Self::WriteMsr => Reason::WriteMsr,
            Self::Port(_) => Reason::Port,
            Self::Nested(_) => Reason::Nested,
            Self::Nmi => Reason::Nmi,
            Self::Settled(reason) => *reason,
            Self::Init => Reason::Init,
            Self::Shutdown => Reason::Shutdown,
            Self::Hypercall => Reason::Hypercall,
            Self::Virtualization => Reason::Virtualization,
            Self::ExtendedControl => Reason::Xsetbv,
            Self::InvalidateCaches | Self::Refused { .. } | Self::Failed { .. } => Reason::Other,
        }
    }
}

/// One access to an I/O port.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) struct PortAccess {
    pub(crate) port: u16,
    /// 1, 2 or 4.
    pub(crate) bytes: u8,
    pub(crate) direction: Direction,
    /// INS or OUTS: the data is in memory.
    pub(crate) is_string: bool,
    /// Length of the instruction.
    pub(crate) instruction_len: u8,
}

/// Which way data goes, seen from the guest.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) enum Direction {
    In,
    Out,
}

/// An access that the nested tables refuse.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) struct NestedFault {
    pub(crate) address: Gpa,
    pub(crate) kind: NestedKind,
}

/// What kind of access it was.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) enum NestedKind {
    Read,
    Write,
    Fetch,
    /// The processor read or wrote the guest's own page tables.
    PageWalk,
    /// The processor was delivering an event to the guest.
    Delivery,
}

/// Something to raise in the guest.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) enum Event {
    Nmi,
    InvalidOpcode,
    GeneralProtection,
    Stack,
    PageFault { address: u64, error: u32 },
}

/// The guest's registers, as far as emulation needs them.
pub(crate) struct State<'a> {
    /// General registers by number: rax, rcx, rdx, rbx, rsp, rbp, rsi, rdi, r8..r15.
    pub(crate) general: &'a mut [u64; 16],
    pub(crate) rip: &'a mut u64,
    pub(crate) rflags: &'a mut u64,
    pub(crate) cr0: u64,
    pub(crate) cr2: u64,
    pub(crate) cr3: u64,
    pub(crate) cr4: u64,
    pub(crate) efer: u64,
    pub(crate) privilege: u8,
    /// es, cs, ss, ds, fs, gs.
    pub(crate) segments: [SegmentRegister; 6],
}

/// What the processor or its firmware setting lacks.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) enum Missing {
    /// Neither VMX nor SVM.
    Virtualization,
    /// The firmware locked it.
    LockedByFirmware,
    /// No nested paging.
    NestedPaging,
    /// VMX without a guest in real mode.
    UnrestrictedGuest,
    /// VMX without one of its controls, or with one that cannot be turned off.
    Control(&'static str),
    Forced(&'static str),
    /// No no-execute pages or no long mode, without which Bouncer cannot protect itself.
    NoExecute,
}

impl fmt::Display for Missing {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Control(name) => {
                return write!(
                    f,
                    "this processor's VT-x has no control \"{name}\", without which Bouncer cannot keep \
                     the guest apart; choose a processor model that has it"
                );
            }
            Self::Forced(name) => {
                return write!(
                    f,
                    "this processor's VT-x cannot do without \"{name}\", which Bouncer has no answer to; \
                     choose a processor model that can"
                );
            }
            Self::UnrestrictedGuest => {
                "this processor's VT-x has no unrestricted guest: Bouncer cannot run a guest in real \
                 mode, in which its processors start, without it; choose a processor model that has it"
            }
            Self::Virtualization => {
                "this processor has no hardware virtualization (neither Intel VT-x nor AMD-V): \
                 Bouncer cannot run on it; in an emulator choose a processor model that has it"
            }
            Self::LockedByFirmware => {
                "the firmware has locked hardware virtualization off: \
                 turn on VT-x or SVM in the firmware's setup and start again"
            }
            Self::NestedPaging => {
                "this processor has no nested paging: Bouncer cannot keep the guest out of its \
                 own memory without it; choose a processor model that has it"
            }
            Self::NoExecute => {
                "this processor has no no-execute pages: Bouncer cannot protect its own code"
            }
        })
    }
}
