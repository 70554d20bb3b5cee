//! Who is speaking, and what a guest may do to configuration space.
//!
//! Owns requester ids and their aliases, the topology behind them, and the one model of guest
//! accesses to configuration space. Knows neither the policy (it is told who is trusted) nor the
//! tables of the remapping hardware (it says which contexts must follow).
//!
//! Manuals: PCI Local Bus 3.0; PCI-to-PCI Bridge Architecture 1.2; PCI Firmware 3.3; PCI Bus
//! Power Management 1.2; PCI Express Base 6.0.
#![no_std]
#![forbid(unsafe_code)]

pub mod access;
pub mod bars;
pub mod bdf;
pub mod capabilities;
pub mod config;
pub mod mediation;
pub mod msix;
pub mod ports;
#[cfg(test)]
mod simulated;
pub mod spec;
pub mod topology;

pub use access::{Ecam, Latch, Piece, Pieces};
pub use bdf::{Address, Bdf};
pub use config::{ConfigSpace, Register, Width};
pub use mediation::{Decision, Effect, Mediation, Trust};
pub use ports::Ports;
pub use topology::{FunctionId, Topology};
