//! What a device reaches that nobody gave anything, whatever it tries while the guest runs: nothing.
//!
//! The device is driven from outside, past Bouncer; the policy trusts everything else, so that the
//! guest works while it is under attack.

mod bridge;
mod flood;
mod interrupts;
mod memory;
mod renumbering;
mod stage;
mod storms;
mod sweep;
