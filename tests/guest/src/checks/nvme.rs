//! What an NVMe drive must do for its guest, whoever stands between the two.
//!
//! Owns the checks of a drive at full function: files, verified random load, buffers inside pages, administration,
//! the driver leaving and coming back, resets, sleep, polling, two drives at once, interrupts that move; and the load that is measured.
//! Knows nothing of Bouncer but its counters: each check demands the same of a bare machine.

mod admin;
mod affinity;
mod buffers;
mod drive;
mod files;
mod idleness;
mod interrupts;
mod load;
mod measure;
mod passthrough;
mod polled;
mod program;
mod reset;
mod subpage;
mod two;
mod verify;

pub(super) use admin::run as admin;
pub(super) use affinity::run as affinity;
pub(super) use files::run as files;
pub(super) use measure::run as measure;
pub(super) use polled::run as polled;
pub(super) use reset::{rebind, reset, suspend};
pub(super) use subpage::run as subpage;
pub(super) use two::run as two;
pub(super) use verify::run as fio;
