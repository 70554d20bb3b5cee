//! The way from a root bus down to a function: the name operators write in a policy.
//!
//! Owns the path as a value and its text, `0000:00:1d.0/00.0`. A path names hops by device and
//! function, never by a bus number software could rewrite.

use core::fmt;

use super::{FunctionId, Place, Topology};

/// Bridges on a path at most, and one for the function itself.
pub const MAX_HOPS: usize = 32;

/// One step down: a device and function on the bus reached so far.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Hash)]
pub struct Hop(pub u8);

impl Hop {
    /// The device, 0..32.
    pub const fn device(self) -> u8 {
        self.0 >> 3
    }

    /// The function, 0..8.
    pub const fn function(self) -> u8 {
        self.0 & 7
    }
}

impl fmt::Display for Hop {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:02x}.{:x}", self.device(), self.function())
    }
}

/// The place of a function, from the root bus down.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Path {
    /// The segment.
    pub segment: u16,
    /// The root bus.
    pub bus: u8,
    /// The hops; the last one is the function itself.
    pub hops: heapless::Vec<Hop, MAX_HOPS>,
}

impl Path {
    /// Whether `other` is this place or one below it.
    pub fn covers(&self, other: &Self) -> bool {
        self.segment == other.segment && self.bus == other.bus && other.hops.starts_with(&self.hops)
    }
}

impl fmt::Display for Path {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:04x}:{:02x}", self.segment, self.bus)?;
        for (depth, hop) in self.hops.iter().enumerate() {
            let separator = if depth == 0 { ':' } else { '/' };
            write!(f, "{separator}{hop}")?;
        }
        Ok(())
    }
}

impl<const N: usize> Topology<N> {
    /// The path of `id`, or `None` if it is gone or deeper than [`MAX_HOPS`].
    pub fn path(&self, id: FunctionId) -> Option<Path> {
        let top = self.bridges_above(id).last().unwrap_or(id);
        let Place::Root { segment, bus } = self.function(top)?.place else {
            return None;
        };
        let mut hops = heapless::Vec::new();
        hops.push(Hop(self.function(id)?.devfn)).ok()?;
        for above in self.bridges_above(id) {
            hops.push(Hop(self.function(above)?.devfn)).ok()?;
        }
        hops.reverse();
        Some(Path { segment, bus, hops })
    }

    /// The function at `path` today.
    pub fn follow(&self, path: &Path) -> Option<FunctionId> {
        let mut place = Place::Root {
            segment: path.segment,
            bus: path.bus,
        };
        let mut reached = None;
        for hop in &path.hops {
            let mut here = self.at_place(place).filter(|(_, f)| f.devfn == hop.0);
            let (id, _) = here.next()?;
            place = Place::Behind(id);
            reached = Some(id);
        }
        reached
    }
}
