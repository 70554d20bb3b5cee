//! What is done about mediated devices whose interrupts announce nothing: nobody's arrive for a second.
//!
//! All of them are NMIs, and none says whose it is. Those that a device raises while its entries are
//! taken back are faults, which carry its name: they are told, counted, and answered as any storm is.
//! Meanwhile devices are looked at whenever the first processor leaves its guest.

use core::sync::atomic::{AtomicBool, Ordering};

use heapless::Vec;
use pci::FunctionId;

use super::{Fabric, MAX_FUNCTIONS};
use crate::console::say;
use crate::cpu::timer::Clock;
use crate::limit::Few;

/// Milliseconds for which they stay away.
const WHILE: u32 = 1_000;
/// Storms that are told.
const TOLD: u32 = 8;
static STORMS: Few<(), 1> = Few::new();

/// Whether they stay away now. Beside the lock, for a look at every exit.
static ARE_MUTE: AtomicBool = AtomicBool::new(false);

/// Whether mediated devices' interrupts stay away for a while.
pub(crate) fn are_mute() -> bool {
    ARE_MUTE.load(Ordering::Acquire)
}

impl Fabric {
    /// Takes all interrupts of mediated devices back for a while.
    pub(crate) fn mute(&mut self) {
        if ARE_MUTE.swap(true, Ordering::AcqRel) {
            return;
        }
        if STORMS.is_one((), TOLD) {
            say!(
                "interrupts   mediated devices raise more than they complete: theirs are faults for a \
                 second, so that they tell whose they are"
            );
            say!("@storm bdf=mediated action=mute");
        }
        self.muted_at = Clock::now();
        for id in self.mediated() {
            self.silence_messages(id);
        }
    }

    /// Gives them back when the time has come, but to whoever was cut off meanwhile.
    pub(crate) fn unmute_in_time(&mut self) {
        let since = Clock::now().wrapping_sub(self.muted_at);
        if since <= self.faults.ticks(WHILE) || !ARE_MUTE.swap(false, Ordering::AcqRel) {
            return;
        }
        for id in self.mediated() {
            if !self.is_quarantined(id) {
                self.renew_messages(id);
            }
        }
    }

    fn mediated(&self) -> Vec<FunctionId, MAX_FUNCTIONS> {
        let all = self.mediation.topology().functions().map(|(id, _)| id);
        all.filter(|id| self.binding(*id).is_some()).collect()
    }
}
