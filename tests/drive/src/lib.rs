//! A simulated NVMe controller and its driver, each honest or hostile, with the mediator between.
//!
//! Owns both parties and what must hold after every act of theirs: see [`Play`]. Its second
//! reading of the protocol shares no line with the mediator's.
#![forbid(unsafe_code)]

mod controller;
mod dice;
mod driver;
mod hostile;
mod lies;
mod memory_map;
mod play;

pub use play::{Parties, Play, Tally};
