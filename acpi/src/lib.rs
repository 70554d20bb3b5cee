//! ACPI tables read as allegations: what processors, interrupt controllers and sleep states
//! there are.
//!
//! Owns the way from the root pointer to a checked table, and the few tables a hypervisor must
//! understand. Every byte is fetched once into a copy, the copy is checked, and only the copy is
//! believed. Refuses to know AML, except for two names it searches for, and DMAR, which belongs
//! to whoever drives the remapping hardware; here it is found and checked like any other table.
//!
//! Sources: ACPI Specification 6.5; PCI Firmware Specification 3.3 for MCFG.
#![no_std]
#![forbid(unsafe_code)]

mod bytes;
mod error;
mod fadt;
mod hide;
mod madt;
mod mcfg;
mod rsdp;
mod signature;
mod sleep;
mod table;
mod tables;

#[cfg(test)]
mod q35;

pub use error::{AcpiError, Fault, Field};
pub use fadt::{AddressSpace, Fadt, PmTimer, Register, Reset};
pub use hide::{hide, replace};
pub use madt::{
    InterruptFlags, IoApic, LocalNmi, Madt, MadtEntry, NmiSource, Processor, SourceOverride,
};
pub use mcfg::{Ecam, Mcfg};
pub use rsdp::Rsdp;
pub use signature::Signature;
pub use sleep::{SleepStates, SleepType, find_sleep_states};
pub use table::{Content, HEADER_LEN, MAX_TABLE_LEN, Table};
pub use tables::{MAX_TABLES, Tables};
