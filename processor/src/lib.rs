//! What the guest sees of its processors: CPUID, MSRs, start-up, counters.
//!
//! Owns the answers to what a processor itself forces the hypervisor to answer. Refuses to know
//! which backend (VMX or SVM) asks, and touches no hardware: real values come in as arguments.
//! Manuals: Intel SDM order number 325462-084 (SDM) and AMD64 APM publication 24593 revision
//! 3.42 (APM).
#![no_std]
#![forbid(unsafe_code)]

pub mod cpuid;
mod exits;
pub mod icr;
pub mod ioapic;
pub mod legacy;
pub mod lvt;
pub mod msr;
pub mod mtrr;
pub mod nmi;
pub mod physical;
pub mod power;
mod startup;

pub use exits::{Counters, Reason};
pub use startup::{Mailbox, Order};
