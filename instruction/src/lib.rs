//! Fetch, decode and emulate the instructions a guest uses on trapped memory.
//!
//! Owns the walk of the guest's page tables, the decoder, and what each instruction does to
//! registers, flags and memory. Refuses to know how a processor is virtualised, what stands
//! behind trapped memory, and every instruction that never touches it. Its neighbours are
//! `memory`, from which it reads the guest's tables and code, and `hypervisor`, which is the
//! [`Vcpu`].
//!
//! Everything here comes from the guest: no function panics or loops without bound, whatever the
//! bytes, the tables and the registers are, and each of them is fetched once.
//!
//! What is *not* emulated, so that nobody looks for it: single steps (RFLAGS.TF), interrupt
//! shadows and alignment checks are the caller's; linear address masking must be hidden from the
//! guest; protection keys and shadow stacks are left to the processor, so that a string moved from
//! trapped memory into a page whose key forbids it is stored all the same; accessed and dirty
//! bits are left alone (see [`linear`]); a LOCK prefix is accepted but other processors can come
//! between the read and the write.
//!
//! Manuals: *SDM* is the Intel 64 and IA-32 Architectures Software Developer's Manual, order
//! number 325462, revision 084 (June 2024). *APM* is the AMD64 Architecture Programmer's Manual,
//! volume 2 (24593, revision 3.42) and volume 3 (24594, revision 3.36), March 2024.
//!
//! # Example
//!
//! A guest writes to a doorbell: the exit says that memory was touched, the rest is here.
//!
//! ```
//! use instruction::{
//!     Access, Bits, Fault, Register, Segment, SegmentRegister, Vcpu, decode, execute,
//! };
//!
//! /// A processor whose whole memory is one doorbell.
//! #[derive(Default)]
//! struct Processor {
//!     registers: [u64; 16],
//!     rip: u64,
//!     rflags: u64,
//!     rung: Option<(u64, Vec<u8>)>,
//! }
//!
//! impl Vcpu for Processor {
//!     fn register(&self, register: Register) -> u64 {
//!         self.registers[register.number()]
//!     }
//!     fn load_register(&mut self, register: Register, value: u64) {
//!         self.registers[register.number()] = value;
//!     }
//!     fn rip(&self) -> u64 {
//!         self.rip
//!     }
//!     fn load_rip(&mut self, rip: u64) {
//!         self.rip = rip;
//!     }
//!     fn rflags(&self) -> u64 {
//!         self.rflags
//!     }
//!     fn load_rflags(&mut self, rflags: u64) {
//!         self.rflags = rflags;
//!     }
//!     fn segment(&self, _: Segment) -> SegmentRegister {
//!         SegmentRegister { base: 0, limit: u32::MAX, rights: instruction::spec::Rights::REAL }
//!     }
//!     fn read(&mut self, _: u64, _: Access, to: &mut [u8]) -> Result<(), Fault> {
//!         to.fill(0);
//!         Ok(())
//!     }
//!     fn write(&mut self, linear: u64, from: &[u8]) -> Result<(), Fault> {
//!         self.rung = Some((linear, from.to_vec()));
//!         Ok(())
//!     }
//! }
//!
//! let mut processor = Processor { rip: 0x1000, ..Processor::default() };
//! processor.registers[Register::RAX.number()] = 7;
//! processor.registers[Register::RBX.number()] = 0xfee0_0000;
//!
//! let doorbell = decode(&[0x89, 0x43, 0x08], Bits::Bits64)?; // mov [rbx + 8], eax
//! execute(&doorbell, &mut processor).expect("the doorbell never faults");
//!
//! assert_eq!(processor.rung, Some((0xfee0_0008, vec![7, 0, 0, 0])));
//! assert_eq!(processor.rip, 0x1003);
//! # Ok::<(), instruction::Undecodable>(())
//! ```
#![no_std]
#![forbid(unsafe_code)]

mod address;
mod arithmetic;
mod bytes;
mod decode;
mod execute;
mod fault;
mod fetch;
mod instruction;
pub mod linear;
mod memo;
mod operation;
pub mod spec;
mod vcpu;

pub use bytes::{Bytes, LONGEST};
pub use decode::{Refused, Undecodable, decode};
pub use execute::{advance, execute};
pub use fault::{ErrorCode, Fault, PageFault};
pub use fetch::fetch;
pub use instruction::{Base, Bits, Index, Instruction, Memory, Operand, Register, Segment, Width};
pub use linear::{Access, Found, Paging, Privilege};
pub use memo::Memo;
pub use operation::{Binary, Bit, Condition, Fill, Intercepted, Operation, StringOperation, Unary};
pub use vcpu::{SegmentRegister, Vcpu};

#[cfg(test)]
extern crate std;
#[cfg(test)]
mod fakes;
