//! The emulated machine: how it is built, booted, watched and judged.
//!
//! Owns QEMU's command line, the boot images a machine starts from, the running session with its three serial
//! ports, and the report of what happened. Refuses to know where kernels and emulators come from: `xtask` fetches
//! and builds them and leaves a [`Bench`] behind; whole-machine tests read it.
//!
//! # A whole machine, from files to verdict
//!
//! ```no_run
//! use std::time::Duration;
//! use qemu::{Bench, Boot, Initramfs, Iso, Machine, Payload, Session};
//!
//! # fn main() -> Result<(), qemu::Error> {
//! // What `cargo xtask` prepared: emulators, kernels, the guest's init, Bouncer itself.
//! let bench = Bench::load()?;
//! let kernel = bench.kernel()?;
//! let directory = bench.scratch("nvme_reads_back")?;
//!
//! // The guest: its init, the kernel modules it loads (with what they need), the checks it runs.
//! let initrd = Initramfs::new(&bench.guest_init)
//!     .modules(kernel, ["nvme", "ext4"])
//!     .checks(["nvme_reads_back"])
//!     .write(&directory.join("initrd"))?;
//!
//! // The disc: Bouncer in front of the kernel, or `Iso::native(..)` for the same guest without it.
//! let iso = Iso::bouncer(bench.bouncer()?, Payload::linux(&kernel.image, &initrd))
//!     .append("console=ttyS0 intel_iommu=on")
//!     .policy("version = 1\n")
//!     .write(&directory.join("boot.iso"))?;
//!
//! // The machine, and its whole life.
//! let machine = Machine::new(bench.emulator()?.clone(), Boot::Iso(iso)).drive(directory.join("disk.img"));
//! let outcome = Session::start(&machine)?.run_to_end(Duration::from_secs(120));
//! assert!(outcome.verdict().is_success(), "{outcome}");
//! assert_eq!(outcome.report.guest.checks["nvme_reads_back"], qemu::CheckResult::Pass);
//! # Ok(())
//! # }
//! ```
//!
//! # While it runs
//!
//! [`Session::wait_for`] blocks until a line appears on a port; then [`Session::qmp`] and [`Session::qtest`] (the
//! latter when [`Machine::qtest`] is [`Qtest::Harness`]) reach memory, MMIO and ports past CPU and guest, and
//! [`Session::run_to_end`] takes over again. Every wait is bounded. QEMU dies with the session and with the process
//! that owns it.
#![forbid(unsafe_code)]

mod accelerator;
mod bench;
mod bochs;
mod channel;
mod emulator;
mod error;
mod heard;
mod image;
mod machine;
mod outcome;
mod process;
pub mod protocol;
mod qmp;
mod qtest;
mod report;
mod session;
mod sockets;
mod symbols;
mod terminal;
mod verdict;
mod wait;

pub use accelerator::{Accelerator, Extension, Host, NoKvm};
pub use bench::{BENCH, Bench, Bouncer, Firmware, Kernel, SecureBoot};
pub use bochs::Bochs;
pub use channel::{Line, Port};
pub use emulator::{Emulator, Version};
pub use error::Error;
pub use heard::Watch;
pub use image::{
    Esp, Initramfs, Iso, Payload, Signer, external_port_table, trusting_both, unified,
};
pub use machine::{Boot, Clock, DrivePace, Iommu, Machine, Qtest, Wiring};
pub use outcome::Outcome;
pub use qmp::Qmp;
pub use qtest::{QtestBus, Store, Width};
pub use report::{CheckResult, Device, Ended, Guest, Report, Seconds};
pub use session::Session;
pub use symbols::Symbols;
pub use terminal::{RawTerminal, type_into};
pub use verdict::Verdict;
