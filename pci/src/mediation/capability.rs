//! Capabilities the guest may write to, each with what must follow.
//!
//! Owns the writes to message, power, reset, access control and virtual function registers. An
//! effect that makes something safe comes before the store that makes it happen; one that takes
//! notice comes after.

use super::decision::{Decision, Effect, Reason, Verdict};
use super::virtual_functions::Owner;
use super::{COMMAND, Mediation, Write, pass, replace};
use crate::config::ConfigSpace;
use crate::spec::capability::{DeviceControl, MsiControl, MsixControl, PowerControl};
use crate::spec::extended::{Acs, SriovControl};
use crate::spec::header::BusNumbers;
use crate::{Bdf, FunctionId};

impl<const N: usize> Mediation<N> {
    pub(super) fn write_msi_control(&mut self, write: Write) -> Decision {
        let function = write.id;
        let guarded = self.guarded_mut(function);
        let Some((_, msi)) = guarded.and_then(|g| g.msi.as_mut()) else {
            return Decision::new(Verdict::Drop(Reason::Unknown));
        };
        if write.high_lanes() == 0 {
            return Decision::new(Verdict::Drop(Reason::ReadOnly));
        }
        let was_on = msi.control.enable();
        let old = u32::from(msi.control.raw()) << 16;
        let new = write.register.merge(old, write.value);
        msi.control = MsiControl::new((new >> 16) as u16);
        let effect = Effect::MsiChanged {
            function,
            msi: *msi,
        };
        if msi.control.enable() {
            announced(write, effect)
        } else if was_on {
            noticed(write, effect)
        } else {
            pass(write)
        }
    }

    pub(super) fn write_msi_message(&mut self, write: Write) -> Decision {
        let Write { id, register, .. } = write;
        let Some((layout, msi)) = self.guarded_mut(id).and_then(|g| g.msi.as_mut()) else {
            return Decision::new(Verdict::Drop(Reason::Unknown));
        };
        let offset = register.dword_offset();
        let (low, high) = (msi.address as u32, (msi.address >> 32) as u32);
        if offset == layout.address() {
            // "Bits 1:0 are reserved": messages are double words.
            let low = register.merge(low, write.value) & !3;
            msi.address = u64::from(high) << 32 | u64::from(low);
        } else if Some(offset) == layout.upper_address() {
            let high = register.merge(high, write.value);
            msi.address = u64::from(high) << 32 | u64::from(low);
        } else {
            let mask = if msi.control.extended_data() {
                u32::MAX
            } else {
                0xffff
            };
            msi.data = register.merge(msi.data, write.value) & mask;
        }
        let mut decision = Decision::new(Verdict::Keep);
        if msi.control.enable() {
            decision.obey(Effect::MsiChanged {
                function: id,
                msi: *msi,
            });
        }
        decision
    }

    pub(super) fn write_msix_control(&mut self, write: Write) -> Decision {
        let function = write.id;
        let Some(guarded) = self.guarded_mut(function) else {
            return Decision::new(Verdict::Drop(Reason::Unknown));
        };
        if write.high_lanes() == 0 {
            return Decision::new(Verdict::Drop(Reason::ReadOnly));
        }
        let was_on = guarded.msix_control.enable();
        let old = u32::from(guarded.msix_control.raw()) << 16;
        let new = MsixControl::new((write.register.merge(old, write.value) >> 16) as u16);
        guarded.msix_control = new;
        let effect = Effect::MsixChanged {
            function,
            is_enabled: new.enable(),
            is_masked: new.function_mask(),
        };
        if new.enable() {
            announced(write, effect)
        } else if was_on {
            noticed(write, effect)
        } else {
            pass(write)
        }
    }

    /// A function that wakes from D3hot may have lost everything, or nothing: neither is assumed.
    /// The shadow stays, and what is missing is restored when the guest wants it.
    pub(super) fn write_power(&mut self, write: Write) -> Decision {
        let function = write.id;
        let Some(guarded) = self.guarded_mut(function) else {
            return Decision::new(Verdict::Drop(Reason::Unknown));
        };
        let mut decision = pass(write);
        if write.low_lanes() & 0xff == 0 {
            return decision;
        }
        let state = PowerControl::new(write.spread()).state();
        let wakes = guarded.power_state == 3 && state == 0;
        guarded.power_state = state;
        if wakes && !guarded.traits.keeps_state_in_d3 {
            decision.obey(Effect::Reset { function });
            if let Some(virtuals) = &mut guarded.virtuals {
                virtuals.reset();
            }
        }
        decision
    }

    /// Phantom functions stay off: their requester ids have no context entries.
    pub(super) fn write_device_control(&mut self, write: Write) -> Decision {
        let mut control = DeviceControl::new(write.spread() as u16);
        control.set_phantom_functions(false);
        let dword = write.spread() & 0xffff_0000 | u32::from(control.raw());
        let can_reset = self.guarded(write.id).is_some_and(|g| g.traits.can_reset);
        if control.reset() && can_reset {
            self.reset(write, replace(write, dword))
        } else {
            replace(write, dword)
        }
    }

    pub(super) fn write_advanced_features(&mut self, write: Write) -> Decision {
        // Bit 0 of the control byte initiates a function-level reset.
        if write.spread() & 1 != 0 {
            self.reset(write, pass(write))
        } else {
            pass(write)
        }
    }

    pub(super) fn write_acs(&mut self, space: &impl ConfigSpace, write: Write) -> Decision {
        if write.high_lanes() == 0 {
            return Decision::new(Verdict::Drop(Reason::ReadOnly));
        }
        let forced = self.guarded(write.id).map_or(Acs::default(), |g| g.acs);
        let old = space.read_u32(write.at, write.register.dword_offset());
        let new = write.register.merge(old, write.value);
        let control = enforced(Acs::new((new >> 16) as u16), forced);
        replace(write, new & 0xffff | u32::from(control.raw()) << 16)
    }

    pub(super) fn write_virtual_control(
        &mut self,
        space: &impl ConfigSpace,
        write: Write,
    ) -> Decision {
        let function = write.id;
        let mut copy = self.guarded(function).cloned();
        let Some(guarded) = &mut copy else {
            return Decision::new(Verdict::Drop(Reason::Unknown));
        };
        let Some(mut virtuals) = guarded.virtuals.take() else {
            return Decision::new(Verdict::Drop(Reason::Unknown));
        };
        if write.low_lanes() == 0 {
            return pass(write);
        }
        let old = u32::from(virtuals.written().raw());
        let written = SriovControl::new(write.register.merge(old, write.value) as u16);
        let owner = Owner {
            function,
            at: write.at,
        };
        let admit = |range| self.admit(function, guarded, range);
        let (before, after) = match virtuals.control(space, owner, written, admit) {
            Ok(effects) => effects,
            Err(reason) => return Decision::new(Verdict::Drop(reason)),
        };
        if let Some(appear) = before {
            let device = virtuals.device(space, write.at);
            if let Err(reason) = self.expect_virtuals(appear, device) {
                return Decision::new(Verdict::Drop(reason));
            }
        }
        if let Some(guarded) = self.guarded_mut(function) {
            guarded.virtuals = Some(virtuals);
        }
        let mut decision = Decision::new(Verdict::Pass);
        before.into_iter().for_each(|effect| decision.obey(effect));
        decision.store(write.at, write.register, write.value);
        after.into_iter().for_each(|effect| decision.obey(effect));
        decision
    }

    pub(super) fn write_virtual_resource(&mut self, write: Write) -> Decision {
        let guarded = self.guarded_mut(write.id);
        let Some(virtuals) = guarded.and_then(|g| g.virtuals.as_mut()) else {
            return Decision::new(Verdict::Drop(Reason::Unknown));
        };
        match virtuals.write(write.register, write.value) {
            Ok(()) => pass(write),
            Err(reason) => Decision::new(Verdict::Drop(reason)),
        }
    }

    /// Forgets what the function held, and switches it off before `trigger` resets it: some do
    /// not keep the promise.
    fn reset(&mut self, write: Write, trigger: Decision) -> Decision {
        let function = write.id;
        if let Some(guarded) = self.guarded_mut(function) {
            guarded.reset();
        }
        let mut decision = Decision::new(trigger.verdict);
        decision.store(write.at, COMMAND, 0);
        decision.append(&trigger);
        decision.obey(Effect::Reset { function });
        if self
            .topology
            .function(function)
            .is_some_and(|f| f.bridge.is_some())
        {
            self.topology.renumber(function, BusNumbers::default());
            self.reset_behind(function, &mut decision);
        }
        decision
    }

    /// Gives those who are about to appear their places in the topology: all of them, or none.
    fn expect_virtuals(&mut self, appear: Effect, device: u16) -> Result<(), Reason> {
        let Effect::VirtualFunctionsAppear {
            function,
            first,
            stride,
            count,
        } = appear
        else {
            return Ok(());
        };
        for number in 0..count {
            let id = first.requester_id() + number * stride;
            let devfn = Bdf::from_requester_id(id).devfn();
            let added = self.topology.add_virtual(function, number, devfn, device);
            if !matches!(added, Ok(Some(_))) {
                self.forget_virtuals(function);
                return Err(match added {
                    Err(_) => Reason::NoRoom,
                    Ok(_) => Reason::VirtualNumbers,
                });
            }
        }
        Ok(())
    }

    fn forget_virtuals(&mut self, owner: FunctionId) {
        // Each round forgets one, and there are no more than the table has.
        for _ in 0..N {
            let Some(id) = self.topology.virtuals(owner).next() else {
                return;
            };
            self.forget(id);
        }
    }
}

/// Access control as a function must have it: what isolates is on; what lets requests go from
/// peer to peer, by a vector or because they claim to be translated, is off.
pub(super) fn enforced(wanted: Acs, forced: Acs) -> Acs {
    let mut acs = Acs::new(wanted.raw() | forced.raw());
    acs.set_egress_control(false);
    acs.set_direct_translated(false);
    acs
}

/// Obeys `effect` before the store: it makes safe what the store switches on.
fn announced(write: Write, effect: Effect) -> Decision {
    let mut decision = Decision::new(Verdict::Pass);
    decision.obey(effect);
    decision.append(&pass(write));
    decision
}

/// Obeys `effect` after the store: it takes notice of what the store switched off.
fn noticed(write: Write, effect: Effect) -> Decision {
    let mut decision = pass(write);
    decision.obey(effect);
    decision
}
