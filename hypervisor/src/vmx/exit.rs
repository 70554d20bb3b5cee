//! Why the guest stopped, as the run loop knows it.

// UNSAFETY: writes the guest's state into the VMCS.
#![expect(unsafe_code)]

use memory::Gpa;
use processor::Reason as Counted;
use vmx::debug;
use vmx::spec::exit::{ControlRegister, Port, Reason, Violation};
use vmx::spec::field::Field;

use super::enable::set;
use super::instructions::{self, read};
use super::{DEBUG_VECTOR, Processor};
use crate::backend::{Direction, Exit, NestedFault, NestedKind, PortAccess};
use crate::console::say;

/// Whether the last exit told the length of the instruction that caused it (28.2.5).
pub(super) fn tells_instruction_len() -> bool {
    let (reason, _) = Reason::of_field(read(Field::EXIT_REASON));
    !matches!(
        reason,
        Reason::EPT_VIOLATION | Reason::EXCEPTION_OR_NMI | Reason::NMI_WINDOW | Reason::INIT
    )
}

impl Processor {
    pub(super) fn exit(&mut self) -> Exit {
        let (reason, is_refused) = Reason::of_field(read(Field::EXIT_REASON));
        let qualification = read(Field::QUALIFICATION);
        if is_refused {
            return self.refused(reason, qualification);
        }
        match reason {
            Reason::EXCEPTION_OR_NMI => self.exception_or_nmi(qualification),
            Reason::TRIPLE_FAULT => Exit::Shutdown,
            Reason::INIT => Exit::Init,
            Reason::NMI_WINDOW => {
                self.open_nmi_window(false);
                Exit::Settled(Counted::NmiWindow)
            }
            Reason::CPUID => Exit::Cpuid,
            Reason::INVD => Exit::InvalidateCaches,
            Reason::VMCALL => Exit::Hypercall,
            reason if reason.is_extension() => Exit::Virtualization,
            // Of a state that is not offered.
            Reason::XSAVES | Reason::XRSTORS => Exit::Virtualization,
            Reason::CONTROL_REGISTER => self.control_register(ControlRegister::new(qualification)),
            Reason::PORT => Exit::Port(port_access(Port::new(qualification))),
            Reason::RDMSR => Exit::ReadMsr,
            Reason::WRMSR => Exit::WriteMsr,
            Reason::EPT_VIOLATION => self.refused_access(Violation::new(qualification)),
            Reason::XSETBV => Exit::ExtendedControl,
            _ => {
                say!(
                    "processor {}: the guest was left for {}",
                    self.area.index(),
                    reason.name()
                );
                Exit::Failed {
                    code: reason.0.into(),
                    detail: [qualification, read(Field::GUEST_PHYSICAL_ADDRESS)],
                }
            }
        }
    }

    /// VMLAUNCH or VMRESUME itself failed: the guest did not run.
    pub(super) fn instruction_failed(&self) -> Exit {
        let error = read(Field::INSTRUCTION_ERROR);
        say!(
            "processor {}: VM entry failed, VM-instruction error {error}: {}",
            self.area.index(),
            vmx::instruction_error(error)
        );
        Exit::Refused {
            code: error,
            detail: [0; 2],
        }
    }

    /// VM entry found the guest's state wrong, and says which of its checks failed only in so far as
    /// they can be made again.
    fn refused(&self, reason: Reason, qualification: u64) -> Exit {
        let index = self.area.index();
        say!("processor {index}: {}", reason.name());
        match vmx::first_violation(&read, &self.fixed) {
            Some(violation) => say!("processor {index}: {violation}"),
            None => say!("processor {index}: no check that Bouncer knows fails"),
        }
        Exit::Refused {
            code: read(Field::EXIT_REASON),
            detail: [qualification, 0],
        }
    }

    fn exception_or_nmi(&mut self, qualification: u64) -> Exit {
        let event = vmx::Event::told(
            read(Field::EXIT_EVENT) as u32,
            read(Field::EXIT_ERROR_CODE) as u32,
            read(Field::EXIT_INSTRUCTION_LEN) as u32,
        );
        let Some(event) = event else {
            return Exit::Settled(Counted::Other);
        };
        if event.is_nmi() {
            instructions::take_nmi();
            return Exit::Nmi;
        }
        if event.vector() == DEBUG_VECTOR {
            // A debug exception that leaves the guest changes none of these registers (28.1).
            let status = debug::status(instructions::debug_status(), qualification);
            instructions::write_debug_status(status);
            // SAFETY: the guest's own state.
            unsafe {
                set(Field::DR7, debug::control(read(Field::DR7)));
                set(Field::DEBUGCTL, debug::recording(read(Field::DEBUGCTL)));
            }
        }
        self.event = Some(event);
        Exit::Settled(Counted::Exception)
    }

    /// A write that touches what Bouncer keeps of CR0 or CR4.
    fn control_register(&mut self, access: ControlRegister) -> Exit {
        let value = self.general[usize::from(access.register())];
        let (mask, shadow) = (read(Field::CR0_MASK), read(Field::CR0_SHADOW));
        match (access.number(), access.access()) {
            // The guest shall see the bits as it set them. With the shadow changed so, the processor
            // itself carries the instruction out, with all that a change of mode brings along.
            (0, 0) if (value ^ shadow) & mask != 0 => {
                // SAFETY: the shadow is what the guest sees.
                unsafe { set(Field::CR0_SHADOW, shadow & !mask | value & mask) };
                Exit::Settled(Counted::Other)
            }
            // Extensions that CPUID does not show: the bits are reserved.
            (4, 0) => {
                self.event = Some(vmx::Event::exception(13, Some(0)));
                Exit::Settled(Counted::Virtualization)
            }
            _ => Exit::Failed {
                code: Reason::CONTROL_REGISTER.0.into(),
                detail: [read(Field::QUALIFICATION), value],
            },
        }
    }

    fn refused_access(&mut self, told: Violation) -> Exit {
        // The IRET that could not be carried out has let NMIs in already (28.2.1).
        if told.unblocked_nmi() && self.event.is_none() {
            self.block_nmis(true);
        }
        let kind = match (told.fetch(), told.write()) {
            _ if self.event.is_some() => NestedKind::Delivery,
            _ if !(told.has_linear() && told.is_translated()) => NestedKind::PageWalk,
            (true, _) => NestedKind::Fetch,
            (_, true) => NestedKind::Write,
            _ => NestedKind::Read,
        };
        Exit::Nested(NestedFault {
            address: Gpa::new(read(Field::GUEST_PHYSICAL_ADDRESS)),
            kind,
        })
    }
}

fn port_access(told: Port) -> PortAccess {
    PortAccess {
        port: told.port(),
        bytes: told.bytes(),
        direction: if told.is_in() {
            Direction::In
        } else {
            Direction::Out
        },
        is_string: told.is_string(),
        instruction_len: read(Field::EXIT_INSTRUCTION_LEN).min(15) as u8,
    }
}
