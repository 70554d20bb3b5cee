//! Places whose function was cut off, for as long as nobody can have replaced it.
//!
//! Owns which places they are. A place is a path, which no renumbering changes: a virtual function that is switched
//! off and on, or a device that was reset, is found again under whatever number. Who has many functions to lose takes
//! nobody along but those behind the same bridge. Refuses to know why somebody was cut off.

use super::{FunctionId, Path, Topology};

/// Places that are told apart.
const MAX_OUTCASTS: usize = 32;

/// The places. Where one is a bridge's, all behind it are meant.
#[derive(Clone, Debug, Default)]
pub struct Outcasts {
    places: heapless::Vec<Path, MAX_OUTCASTS>,
    /// They are too many to be told apart.
    are_all: bool,
}

impl Outcasts {
    /// None.
    pub const fn new() -> Self {
        Self {
            places: heapless::Vec::new(),
            are_all: false,
        }
    }

    /// Notes the place of `id`, which was cut off and seems to leave, unless it is one where devices are plugged in
    /// and out.
    pub fn note<const N: usize>(&mut self, topology: &Topology<N>, id: FunctionId) {
        if topology.is_below_open_slot(id) || self.may_hold(topology, id) {
            return;
        }
        let Some(path) = topology.path(id) else {
            return;
        };
        let has_room = !self.places.is_full() || self.merge();
        self.are_all = !has_room || self.places.push(path).is_err();
    }

    /// Whether whoever is at the place of `id` may be somebody that was cut off.
    pub fn may_hold<const N: usize>(&self, topology: &Topology<N>, id: FunctionId) -> bool {
        let is_covered = |path| self.places.iter().any(|place| place.covers(&path));
        !topology.is_below_open_slot(id)
            && (self.are_all || topology.path(id).is_some_and(is_covered))
    }

    /// Makes room: the places behind one bridge, the lowest that has several, become that bridge's. Returns whether
    /// there is one.
    fn merge(&mut self) -> bool {
        let bridge_of = |place: &Path| {
            let mut bridge = place.clone();
            bridge.hops.pop();
            (!bridge.hops.is_empty()).then_some(bridge)
        };
        let is_of_several =
            |bridge: &Path| self.places.iter().filter(|p| bridge.covers(p)).count() > 1;
        let bridges = self.places.iter().filter_map(bridge_of);
        let lowest = bridges
            .filter(is_of_several)
            .max_by_key(|bridge| bridge.hops.len());
        let Some(bridge) = lowest else {
            return false;
        };
        self.places.retain(|place| !bridge.covers(place));
        self.places.push(bridge).is_ok()
    }
}
