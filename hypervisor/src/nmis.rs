//! The NMIs that come: Bouncer's own calls, mediated devices' interrupts, faults, and the guest's.

use core::sync::atomic::{AtomicU64, Ordering};

use processor::icr::{self, Format};
use processor::nmi::Came;

use crate::backend::Backend;
use crate::cpu::area::Area;
use crate::cpu::instructions;
use crate::cpu::timer::Clock;
use crate::fabric::Looked;
use crate::machine::Machine;
use crate::mediated;
use crate::run::{Runner, call};
use crate::virtual_unit;

/// Milliseconds within which an NMI that was sent has arrived, also at a processor that is another
/// hypervisor's and does not run all the time.
const UNDER_WAY: u32 = 1000;

impl<B: Backend> Runner<B> {
    /// Sorts the NMIs that came: those of Bouncer's other processors are done with, one may announce
    /// that a mediated device has something to say, one faults of devices, any other is the guest's.
    /// Returns whether there was one of the guest's.
    pub(crate) fn sort_nmis(&mut self) -> bool {
        let count = self.area.take_nmis();
        if count == 0 {
            return false;
        }
        // The mark is taken with the NMI that it announces, not before: that NMI is still to come.
        let is_called = self.area.take_call();
        let is_device = mediated::look(self.machine, self.area);
        virtual_unit::go_on(self.machine, self.area);
        let is_fault = self.area.index() == 0 && self.take_faults();
        let came = Came {
            count,
            ours: u64::from(is_called) + u64::from(is_device) + u64::from(is_fault),
        };
        let (now, later) = (Clock::now(), soon());
        // A device that was looked at before its interrupt came has nothing more to say, whichever
        // processor the interrupt goes to. A performance counter says for itself that it was one.
        if came.count > came.ours && mediated::are_any() && !instructions::has_counter_overflowed()
        {
            if mediated::was_looked_at_since(now.wrapping_sub(under_way())) {
                self.area.ledger.allow_late(later);
            }
            if mediated::is_storm(came.count - came.ours)
                && let Some(fabric) = self.machine.fabric
            {
                fabric.lock().mute();
            }
        }
        self.area.ledger.is_guests(came, now, later)
    }

    /// Does what NMIs ask for that may have been missed: nobody sends them again. Should one come after
    /// all, it announces nothing. Orders are looked at before the guest is entered in any case.
    pub(crate) fn catch_up(&self) {
        self.area.take_call();
        self.allow_late_nmi();
        mediated::look(self.machine, self.area);
        virtual_unit::go_on(self.machine, self.area);
        if self.area.index() == 0 {
            self.take_faults();
        }
    }

    /// Looks at what the remapping units recorded. Returns whether there was something.
    fn take_faults(&self) -> bool {
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
        self.area.ledger.allow_late(soon());
    }
}

/// Notes that the guest, on the processor `sender`, is about to write `value` to its interrupt command
/// register, which may send NMIs.
pub(crate) fn note_command(machine: &Machine, sender: &Area, value: u64, format: Format) {
    let Some(targets) = icr::nmi_targets(value, format) else {
        return;
    };
    let until = soon();
    for area in &machine.areas {
        if targets.includes(area.apic_id(), sender.apic_id()) {
            area.ledger.expect(until);
        }
    }
}

/// Ticks of the time-stamp counter in which an NMI that was sent has arrived; beside the fabric's lock,
/// because it is asked for with each.
static UNDER_WAY_TICKS: AtomicU64 = AtomicU64::new(0);

/// Notes how fast time goes by.
pub(crate) fn note_clock(clock: Clock) {
    UNDER_WAY_TICKS.store(clock.ticks(UNDER_WAY), Ordering::Relaxed);
}

fn under_way() -> u64 {
    UNDER_WAY_TICKS.load(Ordering::Relaxed)
}

/// The moment by which what is under way now has arrived.
fn soon() -> u64 {
    Clock::now().wrapping_add(under_way())
}
