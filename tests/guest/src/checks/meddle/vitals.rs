//! What must hold after every attack: Bouncer hidden, the remapping unit hidden, memory unharmed.
//!
//! Owns the looking. It is quick, so that it can follow every single attempt; a check of its own
//! looks at every byte.

use super::page::Page;
use super::stretch::Stretch;
use crate::bouncer;
use crate::verdict::{Shortfall, Verdict, ensure};

/// Where QEMU's q35 has the registers of its remapping unit: one page.
pub(super) const UNIT: u64 = 0xfed9_0000;
/// Its registers a guest would like most: capabilities, command, status, root table, invalidation
/// queue, fault event (VT-d 4.1, section 11.4).
pub(super) const UNIT_REGISTERS: [u64; 8] = [0x00, 0x08, 0x10, 0x18, 0x1c, 0x20, 0x90, 0x3c];

const SEED: u64 = 0x5eed;
const PAGE: u64 = 4096;

/// What is looked at.
#[derive(Debug)]
pub(super) struct Vitals {
    canary: Page,
    own: Option<Stretch>,
    unit: Stretch,
}

impl Vitals {
    /// Puts the canary out and maps what must stay hidden.
    pub(super) fn watch() -> Result<Self, Shortfall> {
        let own = bouncer::is_there().then(bouncer::own_memory);
        Ok(Self {
            canary: Page::of_noise(SEED)?,
            own: own
                .map(|own| Stretch::map(own.base, own.length))
                .transpose()?,
            unit: Stretch::map(UNIT, PAGE)?,
        })
    }

    /// Where the canary is.
    pub(super) fn canary(&self) -> u64 {
        self.canary.physical()
    }

    /// Demands that the machine is as it should be, after `what`.
    pub(super) fn hold(&self, what: &str) -> Verdict {
        ensure!(
            self.canary.holds(SEED),
            "{what}: the guest's memory has changed"
        );
        if let Some(own) = &self.own {
            let range = bouncer::own_memory();
            for at in [
                range.base,
                range.base + range.length / 2,
                range.base + range.length - 8,
            ] {
                let seen = own.load(at, 8);
                ensure!(
                    seen == u64::MAX,
                    "{what}: Bouncer's memory at {at:#x} reads {seen:#x}"
                );
            }
            ensure!(bouncer::is_there(), "{what}: Bouncer no longer answers");
        }
        Ok(())
    }

    /// Demands that the remapping unit is not there for the guest.
    pub(super) fn unit_is_hidden(&self, what: &str) -> Verdict {
        for offset in UNIT_REGISTERS {
            let seen = self.unit.dword(UNIT + offset);
            ensure!(
                seen == u32::MAX,
                "{what}: the remapping unit's register {offset:#x} reads {seen:#x}"
            );
        }
        Ok(())
    }
}
