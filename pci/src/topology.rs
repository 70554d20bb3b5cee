//! Who sits where: functions and bridges in a table of fixed size.
//!
//! Owns the tree of functions. A function is named by its place (the bridge above it and its
//! device and function number), which nobody can rewrite; its bus number is whatever the bridge
//! says today, so that renumbering a bus moves every requester id below it at once. How the tree
//! is found is `scan`'s business, which requester ids a function speaks with is `speaker`'s.
//! Refuses to know whom to trust.

mod function;
mod outcasts;
mod path;
mod scan;
mod speaker;
mod virtuals;

use core::fmt;

pub use function::{Function, Identity, Layout, Slot};
pub use outcasts::Outcasts;
pub use path::{Hop, MAX_HOPS, Path};
pub use speaker::{RequesterIds, Speaker};

use crate::spec::header::BusNumbers;
use crate::{Address, Bdf};

/// Root buses a machine may have.
pub const MAX_ROOTS: usize = 16;

/// A function of the table, for as long as it is present.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Debug, Hash)]
pub struct FunctionId(u16);

impl FunctionId {
    /// The index of the function: below the capacity of the table.
    pub const fn index(self) -> usize {
        self.0 as usize
    }
}

/// What a function hangs on.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Hash)]
pub enum Place {
    /// A bus without a bridge above it.
    Root {
        /// Its segment.
        segment: u16,
        /// Its number, which software cannot change.
        bus: u8,
    },
    /// The secondary bus of a bridge of the table.
    Behind(FunctionId),
}

/// The table has no room; what did not fit stays unknown and therefore out of reach.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Full {
    /// The first function that found no room.
    pub at: Address,
}

impl fmt::Display for Full {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(
            f,
            "{}: no room left in the table of functions; it and those after it stay hidden, build with a larger table",
            self.at
        )
    }
}

/// The functions of all segments, at most `N`.
#[derive(Clone, Debug)]
pub struct Topology<const N: usize> {
    // Slots are used again after removal, so a child may come before its parent.
    functions: heapless::Vec<Option<Function>, N>,
    roots: heapless::Vec<(u16, u8), MAX_ROOTS>,
}

impl<const N: usize> Default for Topology<N> {
    fn default() -> Self {
        Self::new()
    }
}

impl<const N: usize> Topology<N> {
    /// An empty table.
    pub const fn new() -> Self {
        Self {
            functions: heapless::Vec::new(),
            roots: heapless::Vec::new(),
        }
    }

    /// The function `id`, or `None` once it is gone.
    pub fn function(&self, id: FunctionId) -> Option<&Function> {
        self.functions.get(id.index())?.as_ref()
    }

    /// Every function present, in the order they were found.
    pub fn functions(&self) -> impl Iterator<Item = (FunctionId, &Function)> {
        let ids = (0..=u16::MAX).map(FunctionId);
        ids.zip(&self.functions)
            .filter_map(|(id, slot)| Some((id, slot.as_ref()?)))
    }

    /// The functions directly at `place`.
    pub fn at_place(&self, place: Place) -> impl Iterator<Item = (FunctionId, &Function)> {
        self.functions().filter(move |(_, f)| f.place == place)
    }

    /// Everything below `port`, however deep; `port` itself is not part of it.
    pub fn behind(&self, port: FunctionId) -> impl Iterator<Item = FunctionId> {
        self.functions()
            .map(|(id, _)| id)
            .filter(move |&id| self.bridges_above(id).any(|above| above == port))
    }

    /// The bridges above `id`, nearest first.
    pub fn bridges_above(&self, id: FunctionId) -> impl Iterator<Item = FunctionId> {
        let parent = |id| match self.function(id)?.place {
            Place::Root { .. } => None,
            Place::Behind(bridge) => Some(bridge),
        };
        core::iter::successors(parent(id), move |&id| parent(id)).take(MAX_HOPS)
    }

    /// The segment `id` belongs to.
    pub fn segment(&self, id: FunctionId) -> Option<u16> {
        let top = self.bridges_above(id).last().unwrap_or(id);
        match self.function(top)?.place {
            Place::Root { segment, .. } => Some(segment),
            Place::Behind(_) => None,
        }
    }

    /// The bus `place` has today, or `None` behind a bridge that has no number yet.
    pub fn bus(&self, place: Place) -> Option<u8> {
        match place {
            Place::Root { bus, .. } => Some(bus),
            Place::Behind(bridge) => match self.function(bridge)?.bridge?.secondary() {
                0 => None,
                secondary => Some(secondary),
            },
        }
    }

    /// Where `id` is addressed today, or `None` while its bus has no number. Whether requests are
    /// routed there, and to nobody else, is for [`Topology::find`] to say.
    pub fn address(&self, id: FunctionId) -> Option<Address> {
        let function = self.function(id)?;
        let bus = self.bus(function.place)?;
        let bdf = Bdf::from_parts(bus, function.devfn);
        Some(Address::new(self.segment(id)?, bdf))
    }

    /// The bus a configuration request for `bus` of `segment` reaches today.
    ///
    /// `None` if no bridge passes it on, or more than one would: bridges answer to every number
    /// from secondary to subordinate, and nothing but good manners keeps siblings apart.
    pub fn place_of_bus(&self, segment: u16, bus: u8) -> Option<Place> {
        if self.roots.contains(&(segment, bus)) {
            return Some(Place::Root { segment, bus });
        }
        let on_a_root =
            |f: &Function| matches!(f.place, Place::Root { segment: s, .. } if s == segment);
        let mut next = self.only_route(bus, on_a_root)?;
        for _ in 0..MAX_HOPS {
            let place = Place::Behind(next);
            if self.bus(place)? == bus {
                return Some(place);
            }
            next = self.only_route(bus, |f| f.place == place)?;
        }
        None
    }

    /// The function that answers to `at` today.
    pub fn find(&self, at: Address) -> Option<FunctionId> {
        let place = self.place_of_bus(at.segment, at.bdf.bus())?;
        let mut found = self
            .at_place(place)
            .filter(|(_, f)| f.devfn == at.bdf.devfn());
        found.next().map(|(id, _)| id)
    }

    /// Records what software wrote into the bus numbers of `bridge`.
    pub fn renumber(&mut self, bridge: FunctionId, numbers: BusNumbers) {
        if let Some(function) = self.function_mut(bridge)
            && function.bridge.is_some()
        {
            function.bridge = Some(numbers);
        }
    }

    /// Records that firmware declared what is below `port` reachable from outside the case.
    pub fn declare_external(&mut self, port: FunctionId) {
        if let Some(function) = self.function_mut(port) {
            function.slot.is_external = true;
        }
    }

    /// Whether `id` is below a slot that devices come and go in, or that is outside the case.
    pub fn is_below_open_slot(&self, id: FunctionId) -> bool {
        self.bridges_above(id).any(|above| {
            self.function(above)
                .is_some_and(|f| f.slot.is_hot_plug || f.slot.is_external)
        })
    }

    /// Forgets `id` and all that is behind it.
    pub fn forget(&mut self, id: FunctionId) {
        let mut next = Some(id);
        // Each round empties one slot, so there are at most as many as slots.
        while let Some(id) = next {
            if let Some(slot) = self.functions.get_mut(id.index()) {
                *slot = None;
            }
            let mut orphans = self.functions().filter(|(_, f)| self.is_orphan(f));
            next = orphans.next().map(|(id, _)| id);
        }
    }

    fn is_orphan(&self, function: &Function) -> bool {
        let owner = function.virtual_of.map(|(owner, _)| owner);
        let above = match function.place {
            Place::Root { .. } => None,
            Place::Behind(bridge) => Some(bridge),
        };
        let mut needed = owner.into_iter().chain(above);
        needed.any(|id| self.function(id).is_none())
    }

    fn only_route(&self, bus: u8, level: impl Fn(&Function) -> bool) -> Option<FunctionId> {
        let mut routes = self
            .functions()
            .filter(|(_, f)| level(f) && f.routes(bus))
            .map(|(id, _)| id);
        let route = routes.next()?;
        routes.next().is_none().then_some(route)
    }

    fn function_mut(&mut self, id: FunctionId) -> Option<&mut Function> {
        self.functions.get_mut(id.index())?.as_mut()
    }
}

#[cfg(test)]
mod tests;
