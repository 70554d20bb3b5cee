//! Whole-machine tests: stock kernels under Bouncer, in an emulator, judged from outside.
//!
//! Owns how a test sets its scene and what it may conclude from the outcome; the tests
//! themselves are in `tests/`, one file for each promise. Refuses to know how a machine is
//! driven ([`qemu`] does) and what a check does inside the guest (the `guest` crate does).
//!
//! `cargo xtask test` prepares everything and runs them. A test fails by silence, by a missed
//! deadline and by an ending other than the one it demands; what this machine lacks is skipped
//! by name, on standard error, even when the test runner keeps quiet.
#![forbid(unsafe_code)]

pub mod attacker;
pub mod audit;
pub mod echo;
pub mod event_log;
pub mod heist;
pub mod judge;
pub mod loud;
pub mod policies;
pub mod rom;
pub mod scene;
pub mod sweeper;
pub mod tpm;
pub mod trace;

pub use attacker::Attacker;
pub use echo::Echo;
pub use rom::Flaw;
pub use scene::Scene;
pub use sweeper::Sweeper;
pub use tpm::Tpm;
pub use trace::Trace;
