//! What a device is asked: one device interface each, understood to the byte.
//!
//! A mediator stands between the guest's driver and an untrusted device of one kind. It answers
//! the registers that the driver sees, reads the driver's requests where the driver put them,
//! each field once, lends the device exactly the bytes of each request, and checks what the
//! device claims against what it was asked before the driver sees it. The device is given queues
//! in pages of ours and never sees the driver's.
//!
//! Refuses to know where registers are mapped, how interrupts travel, which pages there are and
//! who is trusted: all that is behind [`World`].
#![no_std]
#![forbid(unsafe_code)]

#[cfg(any(test, feature = "rehearsal"))]
extern crate std;

mod counts;
pub mod edu;
mod notice;
pub mod nvme;
#[cfg(any(test, feature = "rehearsal"))]
pub mod rehearsal;
mod world;

pub use counts::Counts;
pub use notice::{Lie, Notice};
pub use world::{Looked, Mediator, Reach, World};
