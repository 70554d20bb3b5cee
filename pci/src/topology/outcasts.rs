//! Places whose function was cut off, for as long as nobody can have replaced it.
//!
//! Owns which places they are. A place is a path, which no renumbering changes: a virtual function that is switched
//! off and on, or a device that was reset, is found again under whatever number. Refuses to know why somebody was
//! cut off.

use super::{FunctionId, Path, Topology};

/// Places that are told apart.
const MAX_OUTCASTS: usize = 32;

/// The places.
#[derive(Clone, Debug, Default)]
pub struct Outcasts(heapless::Vec<Path, MAX_OUTCASTS>);

impl Outcasts {
    /// None.
    pub const fn new() -> Self {
        Self(heapless::Vec::new())
    }

    /// Notes the place of `id`, which was cut off and seems to leave, unless it is one where devices are plugged in
    /// and out.
    pub fn note<const N: usize>(&mut self, topology: &Topology<N>, id: FunctionId) {
        if !topology.is_below_open_slot(id)
            && let Some(path) = topology.path(id)
            && !self.0.contains(&path)
        {
            // Without room for it, all such places count.
            let _ = self.0.push(path);
        }
    }

    /// Whether whoever is at the place of `id` may be somebody that was cut off.
    pub fn may_hold<const N: usize>(&self, topology: &Topology<N>, id: FunctionId) -> bool {
        let is_known = topology.path(id).is_some_and(|path| self.0.contains(&path));
        is_known || (self.0.is_full() && !topology.is_below_open_slot(id))
    }
}
