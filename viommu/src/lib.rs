//! The remapping unit that a guest sees, in front of the devices nobody trusts.
//!
//! Owns the registers of a VT-d unit as a state machine that denies by default ([`Unit`]), the
//! reading of the guest's tables ([`Translations`] for memory, [`Shadow`] where they are carried over into tables that
//! hardware walks, [`Unit::route`] for interrupts), and the table that tells the guest of the unit ([`Table`]). All that the guest wrote is an
//! allegation: each word is fetched once, checked, then used. Refuses to know where the registers
//! are, what a device is and how an interrupt is raised; the vocabulary is `vtd::spec`, and the
//! driver beside it is not read.
//!
//! Manual: *Intel Virtualization Technology for Directed I/O, Architecture Specification*,
//! Rev 4.1. Section numbers in this crate are that revision's.
#![no_std]
#![forbid(unsafe_code)]

mod capability;
mod event;
mod fault;
mod interrupt;
mod queue;
mod registers;
mod shadow;
mod table;
mod translate;
mod walk;

pub use capability::{Limits, Width};
pub use event::Message;
pub use interrupt::{Blocked, Entries, Request, handle_of};
pub use queue::{Scope, Work};
pub use registers::Unit;
pub use shadow::{Loans, Shadow};
pub use table::{Full, Governed, Table};
pub use translate::{Access, Mode, Refused, Translations};
