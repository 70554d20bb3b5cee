//! The Linux/x86 64-bit boot protocol: a kernel file turned into a plan to start it.
//!
//! Owns what a bootable kernel is, where it and its few start-up pages go, and every byte of
//! those pages. Copies nothing itself: a loader obeys the [`Plan`]. EFI runtime services are
//! not handed on; the kernel finds ACPI by the zero page instead.

mod bzimage;
mod error;
mod launch;
mod plan;
#[cfg(test)]
pub(crate) mod sample;
mod screen;
mod zero_page;

pub use bzimage::BzImage;
pub use error::{HeaderField, LinuxError};
pub use launch::LAUNCH_LEN;
pub use plan::{Inputs, Plan};
pub use screen::Screen;
