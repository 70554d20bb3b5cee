//! Intel's virtualization extension in values: which controls a processor allows, how an event is
//! put into a VMCS, and what VM entry demands of a guest's state.
//!
//! Owns the encodings and the decisions. Executes no instruction and reads no register: values of
//! capability MSRs and of VMCS fields are passed in. Nested tables are `ept`'s.
//!
//! Manual: "SDM" is the Intel 64 and IA-32 Architectures Software Developer's Manual, order number
//! 325462, revision 084 (June 2024).
#![no_std]
#![forbid(unsafe_code)]

#[cfg(test)]
extern crate std;

mod capability;
mod controls;
pub mod debug;
mod event;
mod flushes;
mod guest;
mod instruction_error;
pub mod spec;

pub use capability::{Capabilities, FeatureControl, Lacking, Nested, Scope};
pub use controls::Controls;
pub use event::{Event, NmiChance, nmi_chance};
pub use flushes::Flushes;
pub use guest::{Fixed, Violation, first_violation};
pub use instruction_error::instruction_error;
