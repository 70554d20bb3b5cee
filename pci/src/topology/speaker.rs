//! Requester ids and those who speak with them.
//!
//! Owns both directions: the ids a function's requests may carry, aliases of bridges included,
//! and the one function behind an id. An id two functions could speak with belongs to nobody.
//!
//! Source of the alias rules: PCI Express to PCI/PCI-X Bridge 1.0, section 2.3 (a bridge replaces
//! the requester id of conventional devices by its secondary bus number, device 0, function 0).

use super::{Function, FunctionId, MAX_HOPS, Place, Topology};
use crate::spec::capability::PortType;
use crate::{Address, Bdf};

/// The requester ids one function's requests may carry.
pub type RequesterIds = heapless::Vec<Bdf, { MAX_HOPS + 1 }>;

/// Who speaks with a requester id.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Speaker {
    /// Nobody we know.
    Nobody,
    /// This function alone.
    Function(FunctionId),
    /// Everything behind this bridge, and the bridge itself.
    Behind(FunctionId),
    /// More than one function could: by twice the same bus number, or because one of them was
    /// renumbered and has not yet noticed. Nothing may be granted to such an id.
    Ambiguous,
}

impl<const N: usize> Topology<N> {
    /// Every requester id that requests of `id` may carry where they meet the remapping unit, its
    /// own first. Empty while its bus has no number.
    pub fn requester_ids(&self, id: FunctionId) -> RequesterIds {
        let mut ids = RequesterIds::new();
        if let Some(own) = self.address(id) {
            add(&mut ids, own.bdf);
        }
        for bridge in self.bridges_above(id) {
            if let Some(alias) = self.alias_of_bridge(bridge) {
                add(&mut ids, alias);
            }
        }
        ids
    }

    /// The requester id that stands for `id` and for all that share its fate: the alias of the
    /// bridge nearest to the root, else its own. Functions with equal answers are one group.
    pub fn alias(&self, id: FunctionId) -> Option<Bdf> {
        self.requester_ids(id).last().copied()
    }

    /// Who speaks with the requester id `at` today.
    pub fn speaker(&self, at: Address) -> Speaker {
        let mut speaker = Speaker::Nobody;
        for (id, function) in self.functions() {
            if self.segment(id) != Some(at.segment) {
                continue;
            }
            let is_alias = self.alias_of_bridge(id) == Some(at.bdf);
            let is_own = self.address(id).is_some_and(|own| own.bdf == at.bdf);
            let is_past = !is_own && self.past(function) == Some(at.bdf);
            if !(is_alias || is_own || is_past) {
                continue;
            }
            speaker = match (speaker, is_alias) {
                // A name of the past blocks it for others, and grants nothing by itself.
                _ if is_past && !is_alias => Speaker::Ambiguous,
                (Speaker::Nobody, true) => Speaker::Behind(id),
                (Speaker::Nobody, false) => Speaker::Function(id),
                // Function 0 of device 0 behind such a bridge shares the bridge's alias.
                (Speaker::Behind(bridge), false) if function.place == Place::Behind(bridge) => {
                    Speaker::Behind(bridge)
                }
                (Speaker::Function(other), true)
                    if self.function(other).map(|f| f.place) == Some(Place::Behind(id)) =>
                {
                    Speaker::Behind(id)
                }
                _ => Speaker::Ambiguous,
            };
        }
        speaker
    }

    /// Records that `id` has seen a configuration write and speaks with its present bus number.
    /// Returns the bus it left by that.
    pub(crate) fn capture(&mut self, id: FunctionId) -> Option<u8> {
        let now = self.bus(self.function(id)?.place)?;
        // Virtual functions have the bus number that their physical function captured: PCI Express
        // Base 6.0, section 9.2.1.2.
        let owner = self.function(id)?.virtual_of.map_or(id, |(owner, _)| owner);
        for function in self.functions.iter_mut().flatten() {
            if function.virtual_of.is_some_and(|(of, _)| of == owner) {
                function.captured = Some(now);
            }
        }
        let past = self.function_mut(owner)?.captured.replace(now)?;
        (past != now).then_some(past)
    }

    /// Records that a reset made `id` forget its bus number.
    pub(crate) fn uncapture(&mut self, id: FunctionId) {
        if let Some(function) = self.function_mut(id) {
            function.captured = None;
        }
    }

    fn past(&self, function: &Function) -> Option<Bdf> {
        Some(Bdf::from_parts(function.captured?, function.devfn))
    }

    /// What `bridge` puts in place of the requester ids of those behind it, if it does.
    fn alias_of_bridge(&self, bridge: FunctionId) -> Option<Bdf> {
        let function = self.function(bridge)?;
        let numbers = function.bridge?;
        match function.port {
            Some(PortType::EXPRESS_TO_PCI) => match numbers.secondary() {
                0 => None,
                secondary => Some(Bdf::from_parts(secondary, 0)),
            },
            // A conventional bridge, or one up to PCI Express from PCI, speaks for itself.
            None | Some(PortType::PCI_TO_EXPRESS) => self.address(bridge).map(|at| at.bdf),
            Some(_) => None,
        }
    }
}

fn add(ids: &mut RequesterIds, bdf: Bdf) {
    if !ids.contains(&bdf) {
        // One id per hop fits by construction.
        let _ = ids.push(bdf);
    }
}
