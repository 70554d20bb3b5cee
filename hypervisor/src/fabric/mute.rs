//! What is done about mediated devices whose interrupts announce nothing: nobody's arrive for a second, and for
//! longer if that goes on.
//!
//! All of them are NMIs, and none says whose it is. Those that a device raises while its entries are
//! taken back are faults, which carry its name: they are told, counted, and answered as any storm is.
//! Meanwhile devices are looked at whenever the first processor leaves its guest, as it does for a fault.

use core::sync::atomic::{AtomicBool, Ordering};

use heapless::Vec;
use mediator::Mediator;
use pci::FunctionId;

use super::{Fabric, MAX_FUNCTIONS};
use crate::console::say;
use crate::cpu::timer::Clock;
use crate::limit::Few;

/// Interrupts for which nothing was completed that a device may raise meanwhile: those under way.
const UNDER_WAY: u32 = 256;
/// Milliseconds for which they stay away the first time.
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
                 while, so that they tell whose they are"
            );
            say!("@storm bdf=mediated action=mute");
        }
        let shortest = self.faults.ticks(WHILE);
        self.pause.begin(Clock::now(), shortest);
        // Each of those faults is to have the devices looked at.
        self.end_hush();
        for id in self.mediated() {
            if let Some(binding) = self.binding(id)
                && let Some(device) = binding.slot().lock().as_mut()
            {
                device.parts.completed_before_mute = device.engine.counts().completed;
            }
            self.silence_messages(id);
        }
    }

    /// Interrupts that an honest device may have raised since they were taken back, if they were: one for each
    /// request that it completed.
    pub(super) fn may_raise_while_mute(&self, speakers: &[FunctionId]) -> Option<u32> {
        let [id] = speakers else {
            return None;
        };
        let binding = self.binding(*id).filter(|_| are_mute())?;
        let held = binding.slot().lock();
        let device = held.as_ref()?;
        let completed = device.engine.counts().completed;
        let completed = completed.saturating_sub(device.parts.completed_before_mute);
        Some(
            u32::try_from(completed)
                .unwrap_or(u32::MAX)
                .saturating_add(UNDER_WAY),
        )
    }

    /// Gives them back when the time has come.
    pub(crate) fn unmute_in_time(&mut self) {
        if self.pause.is_over(Clock::now()) {
            self.unmute();
        }
    }

    /// Gives them back, but to whoever was cut off meanwhile. Returns whether they had been taken.
    pub(super) fn unmute(&mut self) -> bool {
        let were_mute = ARE_MUTE.swap(false, Ordering::AcqRel);
        if were_mute {
            for id in self.mediated() {
                if !self.is_quarantined(id) {
                    self.renew_messages(id);
                }
            }
        }
        were_mute
    }

    fn mediated(&self) -> Vec<FunctionId, MAX_FUNCTIONS> {
        let all = self.mediation.topology().functions().map(|(id, _)| id);
        all.filter(|id| self.binding(*id).is_some()).collect()
    }
}
