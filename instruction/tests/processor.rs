//! Our emulation against the processor this test runs on: same instruction, same registers, same
//! memory, and afterwards all of them must be the same again.
#![cfg(all(target_arch = "x86_64", unix))]
// UNSAFETY: instructions made of bytes at run time can only be run by jumping to them.
#![allow(unsafe_code)]

use instruction::{
    Access, Base, Binary, Bits, Fault, Instruction, Memory, Operand, Operation, Register, Segment,
    SegmentRegister, Vcpu, Width, decode, execute, spec::Rights,
};

const RANDOM_CASES: usize = 80_000;

/// What the flags of a user may be in these tests: status flags and direction.
const FLAGS: u64 = 0xcd5;
const PF: u64 = 1 << 2;
const AF: u64 = 1 << 4;
const SF: u64 = 1 << 7;
const OF: u64 = 1 << 11;

#[test]
fn the_processor_does_the_same_with_registers_flags_and_memory() {
    let mut processor = Processor::new();
    let mut noise = Noise(3);
    let mut compared = [0; 4];
    for _ in 0..RANDOM_CASES {
        let bytes = random_instruction(&mut noise);
        let Ok(instruction) = decode(&bytes, Bits::Bits64) else {
            continue;
        };
        if !is_safe(&instruction) {
            continue;
        }
        let mut before = State::random(&mut noise, processor.operands());
        let is_in_memory = aim(&instruction, &mut before, &mut noise);
        let Some(ours) = emulate(&instruction, &before) else {
            continue;
        };
        let length = usize::from(instruction.length());
        let theirs = processor.run(&bytes[..length], &before);
        assert_same(&instruction, &before, &ours, &theirs);
        compared[usize::from(is_in_memory)] += 1;
        compared[2] += usize::from(matches!(instruction.operation(), Operation::String(_)));
        compared[3] += usize::from(matches!(instruction.operation(), Operation::Bit(_)));
    }
    let [registers, memory, strings, bits] = compared;
    assert!(
        registers > 3000 && memory > 10_000 && strings > 500 && bits > 1000,
        "compared only {registers} in registers, {memory} in memory, {strings} strings, {bits} bits"
    );
}

/// The registers and the memory that an instruction sees.
#[derive(Clone, PartialEq, Eq)]
struct State {
    registers: [u64; 16],
    flags: u64,
    memory: Vec<u8>,
    /// Where `memory` is.
    base: u64,
}

impl State {
    fn random(noise: &mut Noise, base: u64) -> Self {
        let words = std::iter::repeat_with(|| noise.next()).take(Processor::OPERANDS / 8);
        let memory = words.flat_map(u64::to_le_bytes).collect();
        let mut registers = [0; 16];
        registers.fill_with(|| noise.operand());
        Self {
            registers,
            flags: noise.next() & FLAGS | 0x202,
            memory,
            base,
        }
    }
}

/// Prefixes, an opcode of the forms we know, and noise.
fn random_instruction(noise: &mut Noise) -> Vec<u8> {
    const ONE_BYTE: [u8; 26] = [
        0x63, 0x80, 0x81, 0x83, 0x84, 0x85, 0x86, 0x87, 0x88, 0x89, 0x8a, 0x8b, 0xa4, 0xa5, 0xaa,
        0xab, 0xac, 0xad, 0xc6, 0xc7, 0xf6, 0xf7, 0xfe, 0xff, 0xf6, 0xf7,
    ];
    const TWO_BYTES: [u8; 20] = [
        0x9a, 0xa3, 0xab, 0xb3, 0xbb, 0xba, 0xba, 0xb0, 0xb1, 0xb6, 0xb7, 0xbe, 0xbf, 0xc0, 0xc1,
        0xc3, 0x90, 0xb0, 0xb1, 0xc1,
    ];
    let mut bytes = Vec::new();
    if noise.one_in(4) {
        bytes.push(0x66);
    }
    if noise.one_in(6) {
        bytes.push(0x67);
    }
    match noise.next() % 8 {
        0 => bytes.push(0xf0),
        1 => bytes.push(0xf2),
        2 => bytes.push(0xf3),
        _ => {}
    }
    if noise.one_in(2) {
        bytes.push(0x40 | noise.next() as u8 & 15);
    }
    match noise.next() % 8 {
        0..3 => bytes.push((noise.next() as u8 & 0x38) | (noise.next() as u8 & 3)),
        3..5 => bytes.push(noise.pick(&ONE_BYTE)),
        5 => bytes.extend([0x0f, 0x90 | noise.next() as u8 & 15]),
        6 => bytes.extend([0x0f, noise.pick(&TWO_BYTES)]),
        _ if is_x86_feature_detected!("movbe") => {
            bytes.extend([0x0f, 0x38, 0xf0 | noise.next() as u8 & 1]);
        }
        _ => bytes.push(0x89),
    }
    bytes.extend(std::iter::repeat_with(|| noise.next() as u8).take(15));
    bytes
}

/// Leaves out what would need the stack pointer, the segments of threads, or our own code.
fn is_safe(instruction: &Instruction) -> bool {
    if let Operation::Intercepted(_) = instruction.operation() {
        return false;
    }
    let uses_stack = |register| register == Register::RSP;
    [instruction.destination(), instruction.source()]
        .into_iter()
        .all(|operand| match operand {
            Operand::Register(register) => !uses_stack(register),
            Operand::Memory(memory) => {
                let is_flat = !matches!(memory.segment, Segment::Fs | Segment::Gs);
                let base = match memory.base {
                    Base::Register(register) => !uses_stack(register),
                    Base::None => false,
                    Base::NextInstruction => false,
                };
                is_flat && base
            }
            _ => true,
        })
}

/// Chooses registers so that operands lie in memory we own; says whether there are any.
fn aim(instruction: &Instruction, state: &mut State, noise: &mut Noise) -> bool {
    // Bit offsets and counters that stay in reach.
    if let (Operation::Bit(_), Operand::Register(offset)) =
        (instruction.operation(), instruction.source())
    {
        let near = (noise.next() % 4096) as i64 - 2048;
        let far = noise.next() & !instruction.width().mask();
        state.registers[offset.number()] = near as u64 & instruction.width().mask() | far;
    }
    if instruction.is_repeated() {
        state.registers[Register::RCX.number()] = noise.next() % 9;
    }
    let mut is_in_memory = false;
    for operand in [instruction.destination(), instruction.source()] {
        if let Operand::Memory(memory) = operand {
            is_in_memory = true;
            aim_at_memory(instruction, &memory, state, noise);
        }
    }
    is_in_memory
}

fn aim_at_memory(instruction: &Instruction, memory: &Memory, state: &mut State, noise: &mut Noise) {
    let middle = Processor::OPERANDS as u64 / 2;
    let target = state.base + middle + noise.next() % 64;
    let index = memory.index.map_or(0, |index| {
        state.registers[index.register.number()] << index.shift
    });
    if let Base::Register(base) = memory.base {
        let value = target.wrapping_sub(index).wrapping_sub(memory.displacement);
        let above = !instruction.address_width().mask();
        let register = &mut state.registers[base.number()];
        *register = value & !above | *register & above;
    }
}

/// The state after our emulation, or nothing if it leaves the memory that is there.
fn emulate(instruction: &Instruction, before: &State) -> Option<State> {
    let mut vcpu = Emulated {
        state: before.clone(),
        rip: 0,
    };
    while vcpu.rip == 0 {
        execute(instruction, &mut vcpu).ok()?;
    }
    assert_eq!(vcpu.rip, u64::from(instruction.length()));
    Some(vcpu.state)
}

fn assert_same(instruction: &Instruction, before: &State, ours: &State, theirs: &State) {
    let undefined = match instruction.operation() {
        Operation::Binary(Binary::And | Binary::Or | Binary::Xor | Binary::Test) => AF,
        Operation::Bit(_) => PF | AF | SF | OF,
        _ => 0,
    };
    let context = format!("{instruction:x?} on {:x?}", before.registers);
    assert_eq!(ours.registers, theirs.registers, "registers of {context}");
    assert_eq!(
        ours.flags & FLAGS & !undefined,
        theirs.flags & FLAGS & !undefined,
        "flags of {context}"
    );
    assert!(ours.memory == theirs.memory, "memory of {context}");
}

struct Emulated {
    state: State,
    rip: u64,
}

impl Emulated {
    /// The bytes at `linear`, as an index into the memory.
    fn reach(&self, linear: u64, length: usize) -> Result<std::ops::Range<usize>, Fault> {
        let start = linear.wrapping_sub(self.state.base);
        let start = usize::try_from(start).map_err(|_| Fault::GeneralProtection)?;
        match start.checked_add(length) {
            Some(end) if end <= self.state.memory.len() => Ok(start..end),
            _ => Err(Fault::GeneralProtection),
        }
    }
}

impl Vcpu for Emulated {
    fn register(&self, register: Register) -> u64 {
        self.state.registers[register.number()]
    }

    fn load_register(&mut self, register: Register, value: u64) {
        self.state.registers[register.number()] = value;
    }

    fn rip(&self) -> u64 {
        self.rip
    }

    fn load_rip(&mut self, rip: u64) {
        self.rip = rip;
    }

    fn rflags(&self) -> u64 {
        self.state.flags
    }

    fn load_rflags(&mut self, rflags: u64) {
        self.state.flags = rflags;
    }

    fn segment(&self, _: Segment) -> SegmentRegister {
        SegmentRegister {
            base: 0,
            limit: u32::MAX,
            rights: Rights::REAL,
        }
    }

    fn read(&mut self, linear: u64, _: Access, to: &mut [u8]) -> Result<(), Fault> {
        let range = self.reach(linear, to.len())?;
        to.copy_from_slice(&self.state.memory[range]);
        Ok(())
    }

    fn write(&mut self, linear: u64, from: &[u8]) -> Result<(), Fault> {
        let range = self.reach(linear, from.len())?;
        self.state.memory[range].copy_from_slice(from);
        Ok(())
    }
}

/// The real processor: a page of code, a page of registers, and operands behind them.
struct Processor {
    pages: *mut u8,
}

impl Processor {
    const PAGE: usize = 4096;
    const OPERANDS: usize = 1024;
    const SIZE: usize = 2 * Self::PAGE + Self::OPERANDS;
    /// In the page of registers: values to load, values found, flags to load, flags found.
    const IN: usize = Self::PAGE;
    const OUT: usize = Self::PAGE + 128;
    const FLAGS_IN: usize = Self::PAGE + 256;
    const FLAGS_OUT: usize = Self::PAGE + 264;

    /// Maps the pages in the lower 2 GiB, where 32-bit addresses reach them, too.
    fn new() -> Self {
        // SAFETY: a fresh anonymous mapping at an address of the kernel's choice touches nothing.
        let pages = unsafe {
            libc::mmap(
                std::ptr::null_mut(),
                Self::SIZE,
                libc::PROT_READ | libc::PROT_WRITE | libc::PROT_EXEC,
                libc::MAP_PRIVATE | libc::MAP_ANONYMOUS | libc::MAP_32BIT,
                -1,
                0,
            )
        };
        assert_ne!(
            pages,
            libc::MAP_FAILED,
            "no memory that is both writable and executable: {}",
            std::io::Error::last_os_error()
        );
        Self {
            pages: pages.cast(),
        }
    }

    /// Where operands are.
    fn operands(&self) -> u64 {
        self.pages as u64 + 2 * Self::PAGE as u64
    }

    /// Runs one instruction and says what it left behind.
    fn run(&mut self, instruction: &[u8], before: &State) -> State {
        let registers = before.registers.iter().flat_map(|r| r.to_le_bytes());
        self.write(Self::IN, &registers.collect::<Vec<_>>());
        self.write(Self::FLAGS_IN, &before.flags.to_le_bytes());
        self.write(2 * Self::PAGE, &before.memory);
        self.write(0, &Self::program(instruction));
        // SAFETY: 1. the page is executable and starts with a complete function (`program`) that
        // follows the C convention; 2. between its prologue and its epilogue there is one
        // instruction that neither jumps nor names RSP (`is_safe`); 3. its operands lie in our
        // pages, or `emulate` would have refused them.
        unsafe {
            let function: extern "sysv64" fn() = std::mem::transmute(self.pages);
            function();
        }
        let mut registers = before.registers;
        for (number, register) in registers.iter_mut().enumerate() {
            if number != Register::RSP.number() {
                *register = self.read_u64(Self::OUT + 8 * number);
            }
        }
        State {
            registers,
            flags: self.read_u64(Self::FLAGS_OUT),
            memory: self.read(2 * Self::PAGE, Self::OPERANDS),
            base: before.base,
        }
    }

    /// Loads flags and all registers but RSP, runs the instruction, stores them again.
    fn program(instruction: &[u8]) -> Vec<u8> {
        let general = || (0..16u8).filter(|number| *number != 4);
        let mut code = vec![0x53, 0x55, 0x41, 0x54, 0x41, 0x55, 0x41, 0x56, 0x41, 0x57];
        relative(&mut code, &[0xff, 0x35], Self::FLAGS_IN);
        code.push(0x9d);
        for number in general() {
            let opcode = [0x48 | (number >> 3) << 2, 0x8b, (number & 7) << 3 | 5];
            relative(&mut code, &opcode, Self::IN + 8 * usize::from(number));
        }
        code.extend_from_slice(instruction);
        for number in general() {
            let opcode = [0x48 | (number >> 3) << 2, 0x89, (number & 7) << 3 | 5];
            relative(&mut code, &opcode, Self::OUT + 8 * usize::from(number));
        }
        code.push(0x9c);
        relative(&mut code, &[0x8f, 0x05], Self::FLAGS_OUT);
        code.extend_from_slice(&[
            0xfc, 0x41, 0x5f, 0x41, 0x5e, 0x41, 0x5d, 0x41, 0x5c, 0x5d, 0x5b, 0xc3,
        ]);
        code
    }

    fn write(&mut self, at: usize, bytes: &[u8]) {
        assert!(at + bytes.len() <= Self::SIZE);
        // SAFETY: the bytes lie in our mapping, which nobody else knows and no reference names.
        unsafe { std::ptr::copy_nonoverlapping(bytes.as_ptr(), self.pages.add(at), bytes.len()) }
    }

    fn read(&self, at: usize, length: usize) -> Vec<u8> {
        assert!(at + length <= Self::SIZE);
        let mut bytes = vec![0; length];
        // SAFETY: as for `write`.
        unsafe { std::ptr::copy_nonoverlapping(self.pages.add(at), bytes.as_mut_ptr(), length) }
        bytes
    }

    fn read_u64(&self, at: usize) -> u64 {
        u64::from_le_bytes(self.read(at, 8).try_into().expect("eight bytes"))
    }
}

impl Drop for Processor {
    fn drop(&mut self) {
        // SAFETY: this is our own mapping, and nothing of it is used any more.
        unsafe { libc::munmap(self.pages.cast(), Self::SIZE) };
    }
}

/// Appends an instruction whose operand is at `target` relative to the start of the code.
fn relative(code: &mut Vec<u8>, opcode: &[u8], target: usize) {
    code.extend_from_slice(opcode);
    let next = code.len() + 4;
    code.extend_from_slice(&((target - next) as u32).to_le_bytes());
}

/// A repeatable stream of numbers (xorshift).
struct Noise(u64);

impl Noise {
    fn next(&mut self) -> u64 {
        self.0 ^= self.0 << 13;
        self.0 ^= self.0 >> 7;
        self.0 ^= self.0 << 17;
        self.0 >> 8 ^ self.0 << 40
    }

    fn one_in(&mut self, count: u64) -> bool {
        self.next().is_multiple_of(count)
    }

    fn pick(&mut self, from: &[u8]) -> u8 {
        from[self.next() as usize % from.len()]
    }

    /// A number on whose edges flags change, or any.
    fn operand(&mut self) -> u64 {
        let edges = [
            0,
            1,
            2,
            0x7f,
            0x80,
            0xff,
            0x7fff,
            0x8000,
            0x7fff_ffff,
            0x8000_0000,
            !0,
        ];
        if self.one_in(3) {
            let width =
                [Width::Byte, Width::Word, Width::Dword, Width::Qword][self.next() as usize % 4];
            let edge = edges[self.next() as usize % edges.len()];
            edge & width.mask() | self.next() & !width.mask()
        } else {
            self.next()
        }
    }
}
