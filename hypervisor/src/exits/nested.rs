//! Accesses that the nested tables refuse.

use instruction::{Access, Fault, Found};
use memory::ByteRange;

use crate::backend::{Backend, Event, NestedFault, NestedKind};
use crate::console::say;
use crate::emulation::{self, Failure};
use crate::exits::end;
use crate::hidden;
use crate::limit::Once;
use crate::run::Runner;

/// Instructions that could not be emulated, by their first bytes.
static UNKNOWN: Once<u64, 8> = Once::new();

/// Answers a refused access.
pub(crate) fn answer<B: Backend>(runner: &mut Runner<B>, fault: NestedFault) {
    match fault.kind {
        NestedKind::Read => emulate(runner, fault, Access::Read),
        NestedKind::Write => emulate(runner, fault, Access::Write),
        // What an absent page would give: all ones, which are no instruction.
        NestedKind::Fetch => {
            let rip = *runner.cpu.state().rip;
            if let Some(byte) = ByteRange::new(fault.address, 1) {
                hidden::report(runner.area, byte, Access::Fetch, rip);
            }
            runner.cpu.inject(Event::InvalidOpcode);
        }
        NestedKind::PageWalk | NestedKind::Delivery => {
            say!(
                "guest processor {}: its page tables or its stack for interrupts lie at {}, which is \
                 not the guest's; nothing can be delivered to it any more",
                runner.area.index(),
                fault.address,
            );
            end::triple_fault(runner)
        }
    }
}

fn emulate<B: Backend>(runner: &mut Runner<B>, fault: NestedFault, access: Access) {
    let at = fault.address;
    match emulation::emulate(runner, Found { at, access }) {
        Ok(()) => runner.cpu.end_instruction(),
        Err(Failure::Fault(reason)) => raise(runner, fault, reason),
        Err(Failure::Undecodable(why)) => {
            let rip = *runner.cpu.state().rip;
            if UNKNOWN.is_new(rip) {
                say!(
                    "guest processor {}: instruction at {rip:#x} that accesses {at} cannot be \
                     emulated ({why}); it gets a general-protection fault",
                    runner.area.index(),
                );
            }
            runner.cpu.inject(Event::GeneralProtection);
        }
    }
}

fn raise<B: Backend>(runner: &mut Runner<B>, fault: NestedFault, reason: Fault) {
    match reason {
        Fault::Page(page) => {
            runner.cpu.inject(Event::PageFault {
                address: page.linear,
                error: page.code.0,
            });
        }
        Fault::Stack => runner.cpu.inject(Event::Stack),
        Fault::GeneralProtection => runner.cpu.inject(Event::GeneralProtection),
        // The guest changed the instruction meanwhile: the processor tries again.
        Fault::NotEmulated => {}
        Fault::Hole(_) => {
            if UNKNOWN.is_new(*runner.cpu.state().rip) {
                say!(
                    "guest processor {}: access to {}: {reason}",
                    runner.area.index(),
                    fault.address
                );
            }
            runner.cpu.inject(Event::GeneralProtection);
        }
    }
}
