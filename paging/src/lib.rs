//! One radix table for every format hardware walks.
//!
//! Owns the walk and the order of the stores: whoever walks a table between any two of them
//! gets, for each address, the old answer or the new one. Knows no format's bits (they are a
//! [`Format`], a page of code elsewhere) and no hardware; pages come from [`memory::Frames`],
//! and go back there once [`memory::Flush`] has made the caches forget them.
#![no_std]
#![forbid(unsafe_code)]

#[cfg(any(test, feature = "rehearsal"))]
extern crate std;

mod change;
mod draft;
mod format;
mod geometry;
mod goal;
mod refused;
#[cfg(any(test, feature = "rehearsal"))]
pub mod rehearsal;
mod table;
mod walk;

pub use change::{Change, Retired, StaleRange};
pub use draft::Draft;
pub use format::{Entry, Format};
pub use geometry::{Geometry, Level, PageSize};
pub use refused::Refused;
pub use table::Table;
pub use walk::{Leaf, walk};

#[cfg(test)]
mod sample;
