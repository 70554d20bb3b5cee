//! Bridges: bus numbers, windows, and resets of all that is below.
//!
//! Owns what follows when the guest renumbers a bus: the contexts of the number given up are
//! brought up to date before the bridge learns its new number, those of the new number after.

use super::decision::{Decision, Effect, Reason, Verdict};
use super::{Mediation, Write, pass};
use crate::FunctionId;
use crate::spec::capability::{LinkControl, SlotControl};
use crate::spec::header::{BridgeControl, BusNumbers};
use crate::topology::Function;

impl<const N: usize> Mediation<N> {
    pub(super) fn write_bus_numbers(&mut self, write: Write) -> Decision {
        let Write {
            id, at, register, ..
        } = write;
        let Some(old) = self.topology.function(id).and_then(|f| f.bridge) else {
            return Decision::new(Verdict::Drop(Reason::Unknown));
        };
        let new = BusNumbers::new(register.merge(old.raw(), write.value));
        self.topology.renumber(id, new);
        let is_changed = old.secondary() != new.secondary();
        let follow = |bus| Effect::ContextsFollow {
            segment: at.segment,
            bus,
        };
        let mut decision = Decision::new(Verdict::Pass);
        if is_changed && old.secondary() != 0 {
            decision.obey(follow(old.secondary()));
        }
        decision.store(at, register, write.value);
        if is_changed && new.secondary() != 0 {
            decision.obey(follow(new.secondary()));
        }
        decision
    }

    pub(super) fn write_window(&mut self, write: Write) -> Decision {
        let keepouts = &self.keepouts;
        let slot = self.guarded.get_mut(write.id.index());
        let windows = slot
            .and_then(Option::as_mut)
            .and_then(|g| g.windows.as_mut());
        let Some(windows) = windows else {
            return Decision::new(Verdict::Drop(Reason::Unknown));
        };
        windows.write(write.register, write.value);
        let mut decision = Decision::new(Verdict::Pass);
        if let Err(reason) = windows.apply(keepouts, write.at, &mut decision) {
            decision.verdict = Verdict::Withhold(reason);
        }
        decision
    }

    pub(super) fn write_bridge_control(&mut self, write: Write) -> Decision {
        let mut decision = pass(write);
        let control = BridgeControl::new((write.spread() >> 16) as u16);
        if control.secondary_reset() {
            self.reset_behind(write.id, &mut decision);
        }
        decision
    }

    pub(super) fn write_link_control(&mut self, write: Write) -> Decision {
        let mut decision = pass(write);
        let control = LinkControl::new(write.spread() as u16);
        let has_link = self
            .topology
            .function(write.id)
            .is_some_and(Function::has_link_below);
        if control.disable() && has_link {
            self.reset_behind(write.id, &mut decision);
        }
        decision
    }

    pub(super) fn write_slot_control(&mut self, write: Write) -> Decision {
        let mut decision = pass(write);
        let has_switch = self
            .guarded(write.id)
            .is_some_and(|g| g.traits.has_power_controller);
        if SlotControl::new(write.spread() as u16).power_off() && has_switch {
            self.reset_behind(write.id, &mut decision);
        }
        decision
    }

    pub(super) fn reset_behind(&mut self, bridge: FunctionId, decision: &mut Decision) {
        // The tree is walked by place, which a reset does not change.
        for index in 0..N {
            let below = self.topology.behind(bridge).find(|id| id.index() == index);
            let Some(id) = below else {
                continue;
            };
            self.topology.renumber(id, BusNumbers::default());
            self.topology.uncapture(id);
            if let Some(guarded) = self.guarded_mut(id) {
                guarded.reset();
            }
        }
        decision.obey(Effect::ResetBehind { bridge });
    }
}
