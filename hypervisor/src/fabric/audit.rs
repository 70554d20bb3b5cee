//! `enforcement = "audit"`: what would have been refused is named, counted, and let through.
//!
//! A transfer that is let through leaves no trace in the remapping unit. What can be seen of a device
//! that is to reach nothing is that somebody makes it a bus master.

use pci::spec::header::{self, Command};
use pci::{Address, Register};
use policy::Treatment;

use super::Fabric;
use crate::console::say;

impl Fabric {
    /// Looks at a write of the guest: names what would have been refused, the first time.
    pub(super) fn record(&mut self, at: Address, register: Register, value: u32) {
        let is_command = register.dword_offset() == header::COMMAND && register.offset() & 2 == 0;
        let masters = register.spread(value) & u32::from(Command::BUS_MASTER) != 0;
        if !is_command || !masters {
            return;
        }
        let id = self.mediation.topology().find(at);
        let standing = id.and_then(|id| self.standings.get_mut(id.index())?.as_mut());
        let Some(standing) = standing.filter(|s| s.treatment == Treatment::Recorded) else {
            return;
        };
        standing.recorded = standing.recorded.saturating_add(1);
        if standing.recorded == 1 {
            say!(
                "device {at}: untrusted, may read and write all of the guest's memory from now on; with \
                 enforcement = \"on\" it could not"
            );
            say!("@audit bdf={at} would-refuse=bus-mastering");
        }
    }

    /// Prints how often each device would have been refused.
    pub(super) fn report_audit(&self) {
        for (id, _) in self.mediation.topology().functions() {
            let recorded = self.standings[id.index()].map_or(0, |standing| standing.recorded);
            if let Some(at) = self.mediation.topology().address(id)
                && recorded != 0
            {
                say!("@audited bdf={at} would-refuse=bus-mastering count={recorded}");
            }
        }
    }
}
