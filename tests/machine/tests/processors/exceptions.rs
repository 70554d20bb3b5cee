//! How a small guest takes exceptions and NMIs: an interrupt table, a stack, and what came.

use iced_x86::code_asm::*;

use crate::program::{Assembled, Program};

/// The loader's code segment (Linux, Documentation/arch/x86/boot.rst, "64-bit boot protocol").
const BOOT_CS: u32 = 0x10;
/// An interrupt gate that is present.
const GATE: u32 = 0x8e00;
const VECTORS: usize = 32;
const STACK: usize = 0x1000;
const APIC_ICR: u32 = 0xfee0_0300;
/// The command that sends an NMI to the processor with APIC id 0.
const NMI_TO_FIRST: u32 = 4 << 8 | 1 << 14;

/// Words in the guest's memory that tell what came.
#[derive(Clone, Copy)]
pub(crate) struct Came {
    /// The last exception's vector.
    pub(crate) vector: CodeLabel,
    /// Where the last debug exception interrupted, 8 bytes.
    pub(crate) stepped_to: CodeLabel,
    /// How many NMIs.
    pub(crate) nmis: CodeLabel,
    /// How many NMIs came within the handler of another.
    pub(crate) nested: CodeLabel,
    depth: CodeLabel,
}

/// Takes exceptions from now on: a fault is noted and goes on at the address in R15; a debug exception
/// is noted and ends the stepping; the first NMI's handler sends another and waits for it.
pub(crate) fn take(guest: &mut Program) -> Result<Came, iced_x86::IcedError> {
    let came = Came {
        vector: guest.room(8),
        stepped_to: guest.room(8),
        nmis: guest.room(8),
        nested: guest.room(8),
        depth: guest.room(8),
    };
    let (table, stack, pointer) = (guest.room(16 * VECTORS), guest.room(STACK), guest.room(16));
    let code = &mut guest.code;
    let mut over = code.create_label();
    code.jmp(over)?;
    let mut entries = Vec::new();
    for vector in 0..VECTORS {
        let mut entry = code.create_label();
        code.set_label(&mut entry)?;
        match vector {
            1 => debug(code, came)?,
            2 => nmi(code, came)?,
            _ => fault(code, came, vector)?,
        }
        entries.push(entry);
    }
    code.set_label(&mut over)?;
    code.lea(rsp, ptr(stack) + STACK as i32)?;
    code.lea(rbx, ptr(table))?;
    for (vector, entry) in entries.into_iter().enumerate() {
        let at = 16 * vector as i32;
        code.lea(rax, ptr(entry))?;
        code.mov(word_ptr(rbx + at), ax)?;
        code.mov(word_ptr(rbx + at + 2), BOOT_CS)?;
        code.mov(word_ptr(rbx + at + 4), GATE)?;
        code.shr(rax, 16)?;
        code.mov(word_ptr(rbx + at + 6), ax)?;
        code.shr(rax, 16)?;
        code.mov(dword_ptr(rbx + at + 8), eax)?;
    }
    code.mov(word_ptr(pointer), (16 * VECTORS - 1) as u32)?;
    code.lea(rax, ptr(pointer))?;
    code.mov(qword_ptr(rax + 2), rbx)?;
    code.lidt(ptr(rax))?;
    Ok(came)
}

/// Does what `attempt` assembles and demands exception `vector` of it.
pub(crate) fn demand_exception(
    guest: &mut Program,
    came: Came,
    vector: u32,
    why: &str,
    attempt: impl FnOnce(&mut CodeAssembler) -> Assembled,
) -> Assembled {
    let code = &mut guest.code;
    let mut after = code.create_label();
    code.lea(r15, ptr(after))?;
    code.mov(dword_ptr(came.vector), u32::MAX)?;
    attempt(code)?;
    code.nop()?;
    code.set_label(&mut after)?;
    code.mov(eax, dword_ptr(came.vector))?;
    code.cmp(eax, vector)?;
    guest.demand_equal(why)
}

fn fault(code: &mut CodeAssembler, came: Came, vector: usize) -> Assembled {
    // Intel SDM volume 3, table 6-1.
    if matches!(vector, 8 | 10..=14 | 17 | 21 | 29 | 30) {
        code.lea(rsp, ptr(rsp + 8))?;
    }
    code.mov(dword_ptr(came.vector), vector as u32)?;
    code.mov(qword_ptr(rsp), r15)?;
    code.iretq()
}

fn debug(code: &mut CodeAssembler, came: Came) -> Assembled {
    code.push(rax)?;
    code.mov(dword_ptr(came.vector), 1)?;
    code.mov(rax, qword_ptr(rsp + 8))?;
    code.mov(qword_ptr(came.stepped_to), rax)?;
    code.and(dword_ptr(rsp + 24), !0x100)?;
    code.pop(rax)?;
    code.iretq()
}

fn nmi(code: &mut CodeAssembler, came: Came) -> Assembled {
    let (mut is_outermost, mut waits, mut ends) = (
        code.create_label(),
        code.create_label(),
        code.create_label(),
    );
    code.push(rax)?;
    code.push(rcx)?;
    code.inc(dword_ptr(came.depth))?;
    code.cmp(dword_ptr(came.depth), 1)?;
    code.je(is_outermost)?;
    code.inc(dword_ptr(came.nested))?;
    code.set_label(&mut is_outermost)?;
    code.inc(dword_ptr(came.nmis))?;
    code.cmp(dword_ptr(came.nmis), 1)?;
    code.jne(ends)?;
    send_nmi(code)?;
    code.mov(ecx, 100_000)?;
    code.set_label(&mut waits)?;
    code.dec(ecx)?;
    code.jne(waits)?;
    code.set_label(&mut ends)?;
    code.dec(dword_ptr(came.depth))?;
    code.pop(rcx)?;
    code.pop(rax)?;
    code.iretq()
}

/// Sends an NMI to the processor with APIC id 0.
pub(crate) fn send_nmi(code: &mut CodeAssembler) -> Assembled {
    code.mov(eax, APIC_ICR)?;
    code.mov(dword_ptr(rax + 0x10), 0)?;
    code.mov(dword_ptr(rax), NMI_TO_FIRST)
}
