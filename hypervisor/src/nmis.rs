//! The NMIs that come: Bouncer's own calls, faults of devices, and the guest's.

use processor::icr::{self, Format};
use processor::nmi::Came;

use crate::backend::Backend;
use crate::cpu::area::Area;
use crate::cpu::timer::Clock;
use crate::fabric::Looked;
use crate::machine::Machine;
use crate::run::{Runner, call};

/// Milliseconds within which an NMI that was sent has arrived.
const UNDER_WAY: u32 = 10;

impl<B: Backend> Runner<B> {
    /// Sorts the NMIs that came: those of Bouncer's other processors are done with, one may announce
    /// faults of devices, any other is the guest's. Returns whether there was one of the guest's.
    pub(crate) fn sort_nmis(&mut self) -> bool {
        let count = self.area.take_nmis();
        if count == 0 {
            return false;
        }
        // The mark is taken with the NMI that it announces, not before: that NMI is still to come.
        let is_called = self.area.take_call();
        let is_fault = self.area.index() == 0 && self.take_faults();
        let came = Came {
            count,
            ours: u64::from(is_called) + u64::from(is_fault),
        };
        let (now, later) = (Clock::now(), soon(self.machine));
        self.area.ledger.is_guests(came, now, later)
    }

    /// Looks at what the remapping units recorded. Returns whether there was something.
    fn take_faults(&mut self) -> bool {
        let Some(fabric) = self.machine.fabric else {
            return false;
        };
        let looked = fabric.lock().take_faults();
        match looked {
            Looked::Nothing => return false,
            Looked::Done => {}
            // What was recorded after the first look may have been announced by itself.
            Looked::Again => self.allow_late_nmi(),
            Looked::More => {
                self.allow_late_nmi();
                // The guest runs on for a moment, and then there is another look.
                call(self.area);
            }
        }
        true
    }

    /// Faults were found whose announcement may still arrive.
    pub(crate) fn allow_late_nmi(&self) {
        self.area.ledger.allow_late(soon(self.machine));
    }
}

/// Notes that the guest, on the processor `sender`, is about to write `value` to its interrupt command
/// register, which may send NMIs.
pub(crate) fn note_command(machine: &Machine, sender: &Area, value: u64, format: Format) {
    let Some(targets) = icr::nmi_targets(value, format) else {
        return;
    };
    let until = soon(machine);
    for area in &machine.areas {
        if targets.includes(area.apic_id(), sender.apic_id()) {
            area.ledger.expect(until);
        }
    }
}

/// The moment by which what is under way now has arrived.
fn soon(machine: &Machine) -> u64 {
    let ticks = machine
        .fabric
        .map_or(0, |fabric| fabric.lock().ticks(UNDER_WAY));
    Clock::now().wrapping_add(ticks)
}
