//! Our decoder against iced-x86: whatever we accept, it reads in the same way, and whatever we
//! promise to accept, we do.

use std::fmt;

use iced_x86::{Code, Decoder, DecoderOptions, Mnemonic, OpKind, Register as IcedRegister};
use instruction::{
    Base, Binary, Bit, Bits, Fill, Instruction, Intercepted, Memory, Operand, Operation, Segment,
    StringOperation, Unary, Width, decode,
};
use proptest::prelude::*;

const RIP: u64 = 0x7fff_f123_4560;
const ALL_BITS: [Bits; 3] = [Bits::Bits16, Bits::Bits32, Bits::Bits64];

#[test]
fn every_promised_form_is_accepted_and_read_as_iced_reads_it() {
    let prefixes: [&[u8]; 20] = [
        &[],
        &[0x66],
        &[0x67],
        &[0x66, 0x67],
        &[0xf0],
        &[0xf2],
        &[0xf3],
        &[0x66, 0xf3],
        &[0xf2, 0xf3],
        &[0x64],
        &[0x3e, 0x65],
        &[0x65, 0x2e],
        &[0x36],
        &[0x48],
        &[0x41],
        &[0x45, 0x44],
        &[0x4f],
        &[0x66, 0x48],
        &[0xf3, 0x4a],
        &[0x48, 0x66],
    ];
    let mut noise = Noise(1);
    let mut accepted = 0;
    for bits in ALL_BITS {
        for prefix in prefixes {
            for opcode in opcodes() {
                for round in 0..24u8 {
                    let mut bytes = prefix.to_vec();
                    bytes.extend_from_slice(&opcode);
                    // All registers in ModRM.reg, which chooses in groups.
                    bytes.push(noise.byte() & 0xc7 | (round & 7) << 3);
                    bytes.extend(std::iter::repeat_with(|| noise.byte()).take(13));
                    accepted += compare(&bytes, bits);
                }
            }
        }
    }
    assert!(accepted > 50_000, "only {accepted} were accepted at all");
}

#[test]
fn forms_chosen_by_a_whole_modrm_byte_are_read_as_iced_reads_them() {
    for bits in ALL_BITS {
        for prefix in [&[][..], &[0x66], &[0xf2], &[0xf3], &[0xf0], &[0x48]] {
            for opcode in opcodes() {
                for modrm in 0..=255 {
                    if opcode.len() == 2 || modrm >= 0xc0 {
                        let mut bytes = prefix.to_vec();
                        bytes.extend_from_slice(&opcode);
                        bytes.extend_from_slice(&[modrm, 0x95, 1, 2, 3, 4, 5, 6, 7, 8, 9, 10]);
                        compare(&bytes, bits);
                    }
                }
            }
        }
    }
}

#[test]
fn a_million_random_byte_strings_never_panic_and_are_read_as_iced_reads_them() {
    let mut noise = Noise(2);
    for round in 0..1_000_000u32 {
        let mut bytes = [0; 16];
        bytes.fill_with(|| noise.byte());
        let length = usize::from(noise.byte() % 17);
        let bits = ALL_BITS[round as usize % 3];
        if let Ok(ours) = decode(&bytes[..length], bits) {
            assert!(usize::from(ours.length()) <= length);
            compare(&bytes[..length], bits);
        }
    }
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(20_000))]

    #[test]
    fn whatever_is_accepted_iced_reads_in_the_same_way(
        bits in prop::sample::select(ALL_BITS.to_vec()),
        prefixes in prop::collection::vec(
            prop::sample::select(vec![
                0x26, 0x2e, 0x36, 0x3e, 0x64, 0x65, 0x66, 0x67, 0xf0, 0xf2, 0xf3, 0x41, 0x48, 0x4e,
            ]),
            0..14,
        ),
        opcode in prop::sample::select(opcodes()),
        rest in prop::collection::vec(any::<u8>(), 0..15),
    ) {
        let mut bytes = prefixes;
        bytes.extend(opcode);
        bytes.extend(rest);
        compare(&bytes, bits);
    }
}

/// Every opcode of one byte, and of the maps behind 0F and 0F 38.
fn opcodes() -> Vec<Vec<u8>> {
    let one = (0..=255).map(|opcode| vec![opcode]);
    let two = (0..=255).map(|opcode| vec![0x0f, opcode]);
    let three = (0xe8..=0xff).map(|opcode| vec![0x0f, 0x38, opcode]);
    one.chain(two).chain(three).collect()
}

/// Panics unless both decoders agree; says 1 if both accept.
fn compare(bytes: &[u8], bits: Bits) -> u32 {
    let bitness = match bits {
        Bits::Bits16 => 16,
        Bits::Bits32 => 32,
        Bits::Bits64 => 64,
    };
    let rip = match bits {
        Bits::Bits64 => RIP,
        _ => RIP & 0xffff,
    };
    let theirs = Decoder::with_ip(bitness, bytes, rip, DecoderOptions::NONE).decode();
    match decode(bytes, bits) {
        Ok(ours) => {
            let context = &Context {
                bytes,
                ours: &ours,
                theirs: &theirs,
            };
            assert!(!theirs.is_invalid(), "accepted what is invalid: {context}");
            assert_eq!(
                usize::from(ours.length()),
                theirs.len(),
                "length of {context}"
            );
            assert_eq!(mnemonic(&ours), folded(theirs.mnemonic()), "{context}");
            assert_widths(&ours, &theirs, context);
            assert_operands(&ours, &theirs, context);
            1
        }
        Err(refusal) => {
            assert!(
                !is_promised(&theirs) || is_exchange_called_pause(bytes, &theirs),
                "{bytes:02x?} in {bits:?} is {:?}, and refused: {refusal}",
                theirs.code()
            );
            0
        }
    }
}

/// What a failed assertion needs; put into words only then.
struct Context<'a> {
    bytes: &'a [u8],
    ours: &'a Instruction,
    theirs: &'a iced_x86::Instruction,
}

impl fmt::Display for Context<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let code = self.theirs.code();
        write!(f, "{:02x?}: {:x?} is {code:?}", self.bytes, self.ours)
    }
}

/// F3 90 with REX.B exchanges RAX and R8 on the processors we tried; iced says PAUSE.
fn is_exchange_called_pause(bytes: &[u8], theirs: &iced_x86::Instruction) -> bool {
    theirs.mnemonic() == Mnemonic::Pause && bytes[theirs.len() - 2] & 0xf1 == 0x41
}

/// The forms that this crate says it knows: moves and arithmetic with an operand in memory, and
/// what is intercepted.
fn is_promised(theirs: &iced_x86::Instruction) -> bool {
    use Mnemonic::*;
    let has_segment_register = matches!(
        theirs.code(),
        Code::Mov_rm16_Sreg
            | Code::Mov_r32m16_Sreg
            | Code::Mov_r64m16_Sreg
            | Code::Mov_Sreg_rm16
            | Code::Mov_Sreg_r32m16
            | Code::Mov_Sreg_r64m16
    );
    let is_control_move = matches!(
        theirs.code(),
        Code::Mov_r32_cr
            | Code::Mov_r64_cr
            | Code::Mov_cr_r32
            | Code::Mov_cr_r64
            | Code::Mov_r32_dr
            | Code::Mov_r64_dr
            | Code::Mov_dr_r32
            | Code::Mov_dr_r64
    );
    // Two instructions share this mnemonic.
    let is_vector_move = matches!(
        theirs.code(),
        Code::Movsd_xmm_xmmm64 | Code::Movsd_xmmm64_xmm
    );
    match theirs.mnemonic() {
        Movsd if is_vector_move => false,
        Mov => (has_memory(theirs) && !has_segment_register) || is_control_move,
        Add | Or | Adc | Sbb | And | Sub | Xor | Cmp | Test | Not | Neg | Inc | Dec | Xchg
        | Cmpxchg | Xadd | Bt | Bts | Btr | Btc | Movzx | Movsx | Movsxd | Movnti | Movbe
        | Movsb | Movsw | Movsd | Movsq | Stosb | Stosw | Stosd | Stosq | Lodsb | Lodsw | Lodsd
        | Lodsq | Seta | Setae | Setb | Setbe | Sete | Setg | Setge | Setl | Setle | Setne
        | Setno | Setnp | Setns | Seto | Setp | Sets => has_memory(theirs),
        other => {
            let theirs = format!("{other:?}");
            INTERCEPTED.iter().any(|(_, name)| *name == theirs)
        }
    }
}

const INTERCEPTED: [(Intercepted, &str); 37] = [
    (Intercepted::Clgi, "Clgi"),
    (Intercepted::Clts, "Clts"),
    (Intercepted::Cpuid, "Cpuid"),
    (Intercepted::Hlt, "Hlt"),
    (Intercepted::In, "In"),
    (Intercepted::Ins, "Insb"),
    (Intercepted::Ins, "Insw"),
    (Intercepted::Ins, "Insd"),
    (Intercepted::Invd, "Invd"),
    (Intercepted::Invlpg, "Invlpg"),
    (Intercepted::Invlpga, "Invlpga"),
    (Intercepted::Iret, "Iret"),
    (Intercepted::Iret, "Iretd"),
    (Intercepted::Iret, "Iretq"),
    (Intercepted::Lmsw, "Lmsw"),
    (Intercepted::Monitor, "Monitor"),
    (Intercepted::Mwait, "Mwait"),
    (Intercepted::Out, "Out"),
    (Intercepted::Outs, "Outsb"),
    (Intercepted::Outs, "Outsw"),
    (Intercepted::Outs, "Outsd"),
    (Intercepted::Pause, "Pause"),
    (Intercepted::Rdmsr, "Rdmsr"),
    (Intercepted::Rdtsc, "Rdtsc"),
    (Intercepted::Rdtscp, "Rdtscp"),
    (Intercepted::Skinit, "Skinit"),
    (Intercepted::Stgi, "Stgi"),
    (Intercepted::Vmcall, "Vmcall"),
    (Intercepted::Vmload, "Vmload"),
    (Intercepted::Vmmcall, "Vmmcall"),
    (Intercepted::Vmrun, "Vmrun"),
    (Intercepted::Vmsave, "Vmsave"),
    (Intercepted::Wbinvd, "Wbinvd"),
    (Intercepted::Wbnoinvd, "Wbnoinvd"),
    (Intercepted::Wrmsr, "Wrmsr"),
    (Intercepted::Xgetbv, "Xgetbv"),
    (Intercepted::Xsetbv, "Xsetbv"),
];

fn has_memory(theirs: &iced_x86::Instruction) -> bool {
    theirs.op_kinds().any(is_memory)
}

fn is_memory(kind: OpKind) -> bool {
    matches!(
        kind,
        OpKind::Memory
            | OpKind::MemorySegSI
            | OpKind::MemorySegESI
            | OpKind::MemorySegRSI
            | OpKind::MemoryESDI
            | OpKind::MemoryESEDI
            | OpKind::MemoryESRDI
    )
}

/// Our operation in iced's words.
fn mnemonic(ours: &Instruction) -> String {
    match ours.operation() {
        Operation::Move => "Mov".to_owned(),
        Operation::MoveSwapped => "Movbe".to_owned(),
        Operation::Extend {
            with: Fill::Zero, ..
        } => "Movzx".to_owned(),
        Operation::Extend {
            with: Fill::Sign, ..
        } => "Movsx".to_owned(),
        Operation::Binary(operation) => match operation {
            Binary::Add => "Add",
            Binary::Or => "Or",
            Binary::Adc => "Adc",
            Binary::Sbb => "Sbb",
            Binary::And => "And",
            Binary::Sub => "Sub",
            Binary::Xor => "Xor",
            Binary::Cmp => "Cmp",
            Binary::Test => "Test",
        }
        .to_owned(),
        Operation::Unary(operation) => match operation {
            Unary::Not => "Not",
            Unary::Neg => "Neg",
            Unary::Inc => "Inc",
            Unary::Dec => "Dec",
        }
        .to_owned(),
        Operation::Exchange => "Xchg".to_owned(),
        Operation::CompareExchange => "Cmpxchg".to_owned(),
        Operation::ExchangeAdd => "Xadd".to_owned(),
        Operation::Bit(operation) => match operation {
            Bit::Test => "Bt",
            Bit::Set => "Bts",
            Bit::Reset => "Btr",
            Bit::Complement => "Btc",
        }
        .to_owned(),
        Operation::Set(condition) => [
            "Seto", "Setno", "Setb", "Setae", "Sete", "Setne", "Setbe", "Seta", "Sets", "Setns",
            "Setp", "Setnp", "Setl", "Setge", "Setle", "Setg",
        ][usize::from(condition.number())]
        .to_owned(),
        Operation::String(operation) => {
            let name = match operation {
                StringOperation::Move => "Movs",
                StringOperation::Store => "Stos",
                StringOperation::Load => "Lods",
            };
            format!("{name}{}", suffix(ours.width()))
        }
        Operation::Intercepted(intercepted) => match intercepted {
            Intercepted::MoveControl | Intercepted::MoveDebug => "Mov".to_owned(),
            Intercepted::Ins => format!("Ins{}", suffix(ours.width())),
            Intercepted::Outs => format!("Outs{}", suffix(ours.width())),
            Intercepted::Iret => match ours.width() {
                Width::Qword => "Iretq".to_owned(),
                Width::Dword => "Iretd".to_owned(),
                _ => "Iret".to_owned(),
            },
            other => format!("{other:?}"),
        },
    }
}

fn suffix(width: Width) -> &'static str {
    match width {
        Width::Byte => "b",
        Width::Word => "w",
        Width::Dword => "d",
        Width::Qword => "q",
    }
}

/// Mnemonics that we do not tell apart.
fn folded(theirs: Mnemonic) -> String {
    match theirs {
        Mnemonic::Movnti => "Mov".to_owned(),
        Mnemonic::Movsxd => "Movsx".to_owned(),
        other => format!("{other:?}"),
    }
}

fn assert_widths(ours: &Instruction, theirs: &iced_x86::Instruction, context: &Context<'_>) {
    let memory = match ours.operation() {
        // iced has no size for an address that is not accessed.
        Operation::Intercepted(Intercepted::Invlpg) => return,
        Operation::Extend { from, .. } => from,
        _ => ours.width(),
    };
    let bytes = theirs.memory_size().size();
    if has_memory(theirs) {
        assert_eq!(memory.bytes(), bytes, "memory size of {context}");
    }
    if let (Operand::Register(_) | Operand::HighByte(_), OpKind::Register) =
        (ours.destination(), theirs.op0_kind())
    {
        let is_port = matches!(
            ours.operation(),
            Operation::Intercepted(Intercepted::Out | Intercepted::Outs)
        );
        // LMSW reads a word of whatever register is written there.
        let is_lmsw = ours.operation() == Operation::Intercepted(Intercepted::Lmsw);
        if !is_port && !is_lmsw {
            let register = theirs.op0_register().size();
            assert_eq!(ours.width().bytes(), register, "register size of {context}");
        }
    }
}

fn assert_operands(ours: &Instruction, theirs: &iced_x86::Instruction, context: &Context<'_>) {
    let has_implicit_operands = matches!(
        ours.operation(),
        Operation::Intercepted(
            Intercepted::Vmrun
                | Intercepted::Vmload
                | Intercepted::Vmsave
                | Intercepted::Skinit
                | Intercepted::Invlpga
        )
    );
    if has_implicit_operands {
        return;
    }
    for (number, operand) in [ours.destination(), ours.source()].into_iter().enumerate() {
        let number = number as u32;
        if number >= theirs.op_count() {
            assert_eq!(operand, Operand::None, "operand {number} of {context}");
            continue;
        }
        let kind = theirs.op_kind(number);
        match operand {
            Operand::None => panic!("no operand {number} in {context}"),
            Operand::Register(register) => {
                assert_eq!(kind, OpKind::Register, "operand {number} of {context}");
                let register_of_theirs = theirs.op_register(number);
                assert!(
                    !is_high_byte(register_of_theirs),
                    "operand {number} of {context}"
                );
                assert_eq!(
                    register.number(),
                    register_of_theirs.full_register().number(),
                    "operand {number} of {context}"
                );
            }
            Operand::HighByte(register) => {
                assert_eq!(kind, OpKind::Register, "operand {number} of {context}");
                let register_of_theirs = theirs.op_register(number);
                assert!(
                    is_high_byte(register_of_theirs),
                    "operand {number} of {context}"
                );
                assert_eq!(
                    register.number(),
                    register_of_theirs.full_register().number(),
                    "operand {number} of {context}"
                );
            }
            Operand::Control(control) => assert_eq!(
                theirs.op_register(number),
                IcedRegister::CR0 + u32::from(control),
                "operand {number} of {context}"
            ),
            Operand::Debug(debug) => assert_eq!(
                theirs.op_register(number),
                IcedRegister::DR0 + u32::from(debug),
                "operand {number} of {context}"
            ),
            Operand::Immediate(value) => {
                let mask = match ours.operation() {
                    // A bit offset and a port are bytes, however wide the operation.
                    Operation::Bit(_) | Operation::Intercepted(_) => 0xff,
                    _ => ours.width().mask(),
                };
                assert_eq!(
                    value & mask,
                    theirs.immediate(number) & mask,
                    "operand {number} of {context}"
                );
            }
            Operand::Memory(memory) => {
                assert!(is_memory(kind), "operand {number} of {context}");
                assert_memory(ours, &memory, theirs, kind, context);
            }
        }
    }
}

fn assert_memory(
    ours: &Instruction,
    memory: &Memory,
    theirs: &iced_x86::Instruction,
    kind: OpKind,
    context: &Context<'_>,
) {
    let mask = ours.address_width().mask();
    match kind {
        OpKind::Memory => {
            assert_segment(ours, memory.segment, theirs.memory_segment(), context);
            let base = theirs.memory_base();
            match memory.base {
                Base::None => assert_eq!(base, IcedRegister::None, "base of {context}"),
                Base::NextInstruction => {
                    assert!(base.is_ip(), "base of {context}");
                    let target = memory.displacement.wrapping_add(theirs.next_ip()) & mask;
                    assert_eq!(target, theirs.memory_displacement64() & mask, "{context}");
                }
                Base::Register(register) => {
                    assert_eq!(
                        base.size(),
                        ours.address_width().bytes(),
                        "base of {context}"
                    );
                    assert_eq!(register.number(), base.number(), "base of {context}");
                }
            }
            let index = theirs.memory_index();
            match memory.index {
                None => assert_eq!(index, IcedRegister::None, "index of {context}"),
                Some(ours) => {
                    assert_eq!(ours.register.number(), index.number(), "index of {context}");
                    assert_eq!(
                        1 << ours.shift,
                        theirs.memory_index_scale(),
                        "scale of {context}"
                    );
                }
            }
            if memory.base != Base::NextInstruction {
                let theirs = theirs.memory_displacement64();
                assert_eq!(memory.displacement & mask, theirs & mask, "{context}");
            }
        }
        OpKind::MemorySegSI | OpKind::MemorySegESI | OpKind::MemorySegRSI => {
            assert_segment(ours, memory.segment, theirs.memory_segment(), context);
            assert_string(ours, memory, 6, context);
        }
        _ => {
            assert_eq!(memory.segment, Segment::Es, "segment of {context}");
            assert_string(ours, memory, 7, context);
        }
    }
    let width = match kind {
        OpKind::MemorySegSI | OpKind::MemoryESDI => Some(2),
        OpKind::MemorySegESI | OpKind::MemoryESEDI => Some(4),
        OpKind::MemorySegRSI | OpKind::MemoryESRDI => Some(8),
        _ => None,
    };
    if let Some(width) = width {
        assert_eq!(
            ours.address_width().bytes(),
            width,
            "address size of {context}"
        );
        assert_eq!(
            ours.is_repeated(),
            theirs.has_rep_prefix() || theirs.has_repne_prefix(),
            "repetition of {context}"
        );
    }
}

fn assert_string(ours: &Instruction, memory: &Memory, register: usize, context: &Context<'_>) {
    let Base::Register(base) = memory.base else {
        panic!("no base in {context}");
    };
    assert_eq!(base.number(), register, "base of {context}");
    assert_eq!(
        (memory.index, memory.displacement),
        (None, 0),
        "{ours:?} of {context}"
    );
}

/// In 64-bit mode iced keeps a null prefix for display: only FS and GS count.
fn assert_segment(
    ours: &Instruction,
    segment: Segment,
    theirs: IcedRegister,
    context: &Context<'_>,
) {
    let theirs = match theirs {
        IcedRegister::ES => Segment::Es,
        IcedRegister::CS => Segment::Cs,
        IcedRegister::SS => Segment::Ss,
        IcedRegister::DS => Segment::Ds,
        IcedRegister::FS => Segment::Fs,
        IcedRegister::GS => Segment::Gs,
        other => panic!("segment {other:?} of {context}"),
    };
    let has_base = |segment| matches!(segment, Segment::Fs | Segment::Gs);
    if ours.bits() != Bits::Bits64 || has_base(segment) || has_base(theirs) {
        assert_eq!(segment, theirs, "segment of {context}");
    }
}

fn is_high_byte(register: IcedRegister) -> bool {
    matches!(
        register,
        IcedRegister::AH | IcedRegister::CH | IcedRegister::DH | IcedRegister::BH
    )
}

/// A repeatable stream of bytes (xorshift).
struct Noise(u64);

impl Noise {
    fn byte(&mut self) -> u8 {
        self.0 ^= self.0 << 13;
        self.0 ^= self.0 >> 7;
        self.0 ^= self.0 << 17;
        (self.0 >> 32) as u8
    }
}
