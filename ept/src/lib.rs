//! What the guest may touch: nested page tables (EPT and NPT) and the plan of the guest's memory.
//!
//! Owns three formats of [`paging::Format`] (both nested ones, and the hypervisor's own tables,
//! which share their bits with NPT), the memory types of physical ranges, and the plan: one to
//! one, our own pages left out, some pages trapped. Reads no register: values of MTRRs and
//! widths of addresses are passed in. Walks and stores are `paging`'s.
//!
//! Manuals: "SDM" is the Intel 64 and IA-32 Architectures Software Developer's Manual, order
//! number 325462, revision 084 (June 2024); "APM" is the AMD64 Architecture Programmer's Manual,
//! volume 2, publication 24593, revision 3.42 (March 2024).
#![no_std]
#![forbid(unsafe_code)]

#[cfg(test)]
extern crate std;

mod access;
mod entry;
mod eptp;
mod host;
mod long_mode;
mod machine;
mod memory_type;
mod mtrr;
mod nested;
mod npt;
mod pat;
mod plan;
pub mod spec;

pub use access::Access;
pub use entry::{Ept, EptAttributes};
pub use eptp::Eptp;
pub use host::{HostAttributes, HostPaging};
pub use machine::map_machine;
pub use memory_type::MemoryType;
pub use mtrr::{FIXED_MTRRS, MtrrError, Mtrrs, Run, VariableMtrr};
pub use nested::{GuestMap, MapError, Nested};
pub use npt::{Npt, NptAttributes};
pub use pat::PatIndex;
pub use plan::{Plan, PlanError, Trap, TrapKind};

/// How many levels a table of 48- or 57-bit addresses has.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Depth {
    /// Four levels, 48 bits.
    Four,
    /// Five levels, 57 bits.
    Five,
}

impl Depth {
    /// Bits of the addresses that this many levels resolve.
    pub const fn width(self) -> u32 {
        match self {
            Self::Four => 48,
            Self::Five => 57,
        }
    }
}
