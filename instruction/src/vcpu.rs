//! The processor an instruction is emulated on.
//!
//! Owns the seam to registers and memory. Knows nothing of VMCS, VMCB or nested tables.

use crate::{
    fault::Fault,
    instruction::{Register, Segment},
    linear::Access,
    spec::Rights,
};

/// A segment register with the part that software cannot see.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct SegmentRegister {
    /// What is added to offsets.
    pub base: u64,
    /// The last valid offset in bytes, granularity applied.
    pub limit: u32,
    /// What may be done; [`Rights::REAL`] in real-address and virtual-8086 mode.
    pub rights: Rights,
}

/// The registers and the memory of one virtual processor.
///
/// The implementer translates linear addresses (`linear::span`) and routes the bytes to memory
/// or to whatever stands in for it.
pub trait Vcpu {
    /// All 64 bits of a general register.
    fn register(&self, register: Register) -> u64;

    /// Replaces all 64 bits of a general register.
    fn load_register(&mut self, register: Register, value: u64);

    /// Where the instruction starts, relative to CS.
    fn rip(&self) -> u64;

    /// Moves on to `rip`.
    fn load_rip(&mut self, rip: u64);

    /// RFLAGS.
    fn rflags(&self) -> u64;

    /// Replaces RFLAGS; only status flags and RF differ from what [`Vcpu::rflags`] said.
    fn load_rflags(&mut self, rflags: u64);

    /// A segment register. In 64-bit mode only the bases of FS and GS are looked at.
    fn segment(&self, segment: Segment) -> SegmentRegister;

    /// Fetches an operand of 1, 2, 4 or 8 bytes, once. With [`Access::Write`] the operand will be
    /// written right after and must be checked for that already: the processor does so, too, and
    /// reports such a fault as one of a write. The bytes do not wrap.
    fn read(&mut self, linear: u64, access: Access, to: &mut [u8]) -> Result<(), Fault>;

    /// Stores an operand of 1, 2, 4 or 8 bytes. On `Err` nothing was stored, even where the
    /// bytes cross pages. The bytes do not wrap.
    fn write(&mut self, linear: u64, from: &[u8]) -> Result<(), Fault>;
}
