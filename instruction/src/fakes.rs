//! A guest's memory and a processor, for tests.

use std::{cell::RefCell, collections::HashMap, vec::Vec};

use memory::{ByteRange, Gpa, GuestMemory, Hole};

use crate::{
    fault::Fault,
    instruction::{Bits, Register, Segment},
    linear::Access,
    spec::Rights,
    vcpu::{SegmentRegister, Vcpu},
};

/// Memory that exists where a byte was put, and remembers what was read.
#[derive(Default)]
pub(crate) struct Sparse {
    bytes: HashMap<u64, u8>,
    pub(crate) reads: RefCell<Vec<(u64, usize)>>,
}

impl Sparse {
    pub(crate) fn put(&mut self, at: u64, bytes: &[u8]) {
        for (at, byte) in (at..).zip(bytes) {
            self.bytes.insert(at, *byte);
        }
    }
}

impl GuestMemory for Sparse {
    fn read(&self, at: Gpa, to: &mut [u8]) -> Result<(), Hole> {
        self.reads.borrow_mut().push((at.raw(), to.len()));
        for (at, byte) in (at.raw()..).zip(to) {
            *byte = *self.bytes.get(&at).ok_or_else(|| hole(at))?;
        }
        Ok(())
    }

    fn write(&self, at: Gpa, _: &[u8]) -> Result<(), Hole> {
        Err(hole(at.raw()))
    }
}

fn hole(at: u64) -> Hole {
    Hole(ByteRange::inclusive(Gpa::new(at), Gpa::new(at)).expect("one byte"))
}

/// What a processor did with memory.
#[derive(Clone, PartialEq, Eq, Debug)]
pub(crate) enum Touch {
    Read(u64, Access, usize),
    Wrote(u64, Vec<u8>),
}

/// A processor whose memory reads as a fixed pattern, and faults where it is told to.
#[derive(Clone, PartialEq, Eq, Debug)]
pub(crate) struct Processor {
    pub(crate) registers: [u64; 16],
    pub(crate) rip: u64,
    pub(crate) rflags: u64,
    pub(crate) segments: [SegmentRegister; 6],
    pub(crate) pattern: u64,
    pub(crate) touched: Vec<Touch>,
    /// Reads fault.
    pub(crate) read_fault: Option<Fault>,
    /// Writes fault.
    pub(crate) write_fault: Option<Fault>,
}

impl Processor {
    /// Registers all different, flat segments.
    pub(crate) fn new(bits: Bits) -> Self {
        let limit = match bits {
            Bits::Bits16 => 0xffff,
            Bits::Bits32 | Bits::Bits64 => u32::MAX,
        };
        let flat = SegmentRegister {
            base: 0,
            limit,
            rights: Rights(0x93),
        };
        let mut registers = [0; 16];
        for (register, number) in registers.iter_mut().zip(1u64..) {
            *register = number * 0x0101_0101_0000_0101;
        }
        Self {
            registers,
            rip: 0x1000,
            rflags: 2,
            segments: [flat; 6],
            pattern: 0x8877_6655_4433_2211,
            touched: Vec::new(),
            read_fault: None,
            write_fault: None,
        }
    }

    pub(crate) fn with(mut self, register: Register, value: u64) -> Self {
        self.registers[register.number()] = value;
        self
    }

    pub(crate) fn with_segment(mut self, segment: Segment, register: SegmentRegister) -> Self {
        self.segments[segment as usize] = register;
        self
    }
}

impl Vcpu for Processor {
    fn register(&self, register: Register) -> u64 {
        self.registers[register.number()]
    }

    fn load_register(&mut self, register: Register, value: u64) {
        self.registers[register.number()] = value;
    }

    fn rip(&self) -> u64 {
        self.rip
    }

    fn load_rip(&mut self, rip: u64) {
        self.rip = rip;
    }

    fn rflags(&self) -> u64 {
        self.rflags
    }

    fn load_rflags(&mut self, rflags: u64) {
        self.rflags = rflags;
    }

    fn segment(&self, segment: Segment) -> SegmentRegister {
        self.segments[segment as usize]
    }

    fn read(&mut self, linear: u64, access: Access, to: &mut [u8]) -> Result<(), Fault> {
        if let Some(fault) = self.read_fault {
            return Err(fault);
        }
        self.touched.push(Touch::Read(linear, access, to.len()));
        to.copy_from_slice(&self.pattern.to_le_bytes()[..to.len()]);
        Ok(())
    }

    fn write(&mut self, linear: u64, from: &[u8]) -> Result<(), Fault> {
        if let Some(fault) = self.write_fault {
            return Err(fault);
        }
        self.touched.push(Touch::Wrote(linear, from.to_vec()));
        Ok(())
    }
}
