//! What one processor does for its guest: CPUID, registers, ports, memory that is trapped or hidden,
//! NMIs, single steps, control registers, and instructions that are not offered.

use iced_x86::code_asm::*;

use crate::exceptions::{self, Came, demand_exception, send_nmi};
use crate::program::{Assembled, Program};

pub(crate) const CHECKS: &[&str] = &[
    "cpuid",
    "registers",
    "memory-types",
    "supervisor-states",
    "ports",
    "trapped-memory",
    "hidden-memory",
    "reserved-memory",
    "nmi",
    "local-apic",
    "single-step",
    "control-registers",
    "not-offered",
    "extended-state",
];

const INVALID_OPCODE: u32 = 6;
const GENERAL_PROTECTION: u32 = 13;
const APIC_PRIORITY: u32 = 0xfee0_0080;
const IO_APIC: u32 = 0xfec0_0000;
/// Line status of the third serial port, which is Bouncer's.
const COM3_STATUS: u32 = 0x3ed;
const IA32_PAT: u32 = 0x277;
const IA32_FEATURE_CONTROL: u32 = 0x3a;
const IA32_VMX_BASIC: u32 = 0x480;
const IA32_EFER: u32 = 0xc000_0080;
const IA32_APIC_BASE: u32 = 0x1b;
const IA32_MTRR_PHYSBASE0: u32 = 0x200;
const IA32_MTRR_DEF_TYPE: u32 = 0x2ff;
const IA32_XSS: u32 = 0xda0;

pub(crate) fn guest(guest: &mut Program) -> Assembled {
    let came = exceptions::take(guest)?;
    cpuid(guest)?;
    guest.next("registers")?;
    registers(guest, came)?;
    guest.next("memory-types")?;
    memory_types(guest, came)?;
    guest.next("supervisor-states")?;
    supervisor_states(guest, came)?;
    guest.next("ports")?;
    ports(guest)?;
    guest.next("trapped-memory")?;
    trapped_memory(guest)?;
    guest.next("hidden-memory")?;
    hidden_memory(guest, came)?;
    guest.next("reserved-memory")?;
    reserved_memory(guest)?;
    guest.next("nmi")?;
    nmi(guest, came)?;
    guest.next("local-apic")?;
    local_apic(guest, came)?;
    guest.next("single-step")?;
    single_step(guest, came)?;
    guest.next("control-registers")?;
    control_registers(guest)?;
    guest.next("not-offered")?;
    not_offered(guest, came)?;
    guest.next("extended-state")?;
    extended_state(guest, came)
}

fn cpuid(guest: &mut Program) -> Assembled {
    guest.code.mov(eax, 1)?;
    guest.code.cpuid()?;
    // Neither VMX nor SMX, and a hypervisor: ECX bits 5, 6, 31.
    guest.code.and(ecx, 0x8000_0060_u32 as i32)?;
    guest.code.cmp(ecx, 0x8000_0000_u32 as i32)?;
    guest.demand_equal("leaf 1 shows virtualization or no hypervisor")?;
    guest.code.mov(eax, 0x4000_0000)?;
    guest.code.cpuid()?;
    guest.code.cmp(ebx, i32::from_le_bytes(*b"Boun"))?;
    guest.demand_equal("leaf 4000_0000h does not name Bouncer")
}

fn registers(guest: &mut Program, came: Came) -> Assembled {
    demand_exception(
        guest,
        came,
        GENERAL_PROTECTION,
        "a VMX capability register can be read",
        |code| {
            code.mov(ecx, IA32_VMX_BASIC)?;
            code.rdmsr()
        },
    )?;
    // Where the register exists, it allows nothing; it may also fault.
    let mut after = guest.code.create_label();
    guest.code.xor(eax, eax)?;
    guest.code.lea(r15, ptr(after))?;
    guest.code.mov(ecx, IA32_FEATURE_CONTROL)?;
    guest.code.rdmsr()?;
    guest.code.set_label(&mut after)?;
    guest.code.test(eax, 6)?;
    guest.demand_equal("the feature control allows VMX")?;

    guest.code.mov(ecx, IA32_EFER)?;
    guest.code.rdmsr()?;
    guest.code.and(eax, 0x1500)?;
    guest.code.cmp(eax, 0x500)?;
    guest.demand_equal("EFER does not show long mode without SVME")?;
    // The bit for system calls is the guest's to set, by an exit.
    guest.code.mov(ecx, IA32_EFER)?;
    guest.code.rdmsr()?;
    guest.code.or(eax, 1)?;
    guest.code.wrmsr()?;
    guest.code.rdmsr()?;
    guest.code.and(eax, 0x501)?;
    guest.code.cmp(eax, 0x501)?;
    guest.demand_equal("EFER does not keep what was written")?;
    demand_exception(
        guest,
        came,
        GENERAL_PROTECTION,
        "EFER takes reserved bits",
        |code| {
            code.mov(ecx, IA32_EFER)?;
            code.mov(eax, 0x1502)?;
            code.xor(edx, edx)?;
            code.wrmsr()
        },
    )?;
    // The PAT is the guest's, without an exit.
    let code = &mut guest.code;
    code.mov(ecx, IA32_PAT)?;
    code.rdmsr()?;
    code.mov(esi, eax)?;
    code.mov(edi, edx)?;
    code.mov(edx, 0x0407_0506)?;
    code.wrmsr()?;
    code.mov(eax, 0x4000_0000)?;
    code.cpuid()?;
    code.mov(ecx, IA32_PAT)?;
    code.rdmsr()?;
    code.mov(ebx, edx)?;
    code.mov(eax, esi)?;
    code.mov(edx, edi)?;
    code.wrmsr()?;
    code.cmp(ebx, 0x0407_0506)?;
    guest.demand_equal("the PAT does not survive an exit")
}

/// The memory type range registers read as they were written, and take no type that there is not.
fn memory_types(guest: &mut Program, came: Came) -> Assembled {
    for (register, value) in [
        (IA32_MTRR_DEF_TYPE, 0),
        (IA32_MTRR_PHYSBASE0, 0xd000_0001_u32),
    ] {
        let code = &mut guest.code;
        code.mov(ecx, register)?;
        code.rdmsr()?;
        code.mov(esi, eax)?;
        code.mov(edi, edx)?;
        code.mov(eax, value)?;
        code.xor(edx, edx)?;
        code.wrmsr()?;
        code.mov(eax, 0x4000_0000)?;
        code.cpuid()?;
        code.mov(ecx, register)?;
        code.rdmsr()?;
        code.mov(ebx, eax)?;
        code.mov(eax, esi)?;
        code.mov(edx, edi)?;
        code.wrmsr()?;
        code.cmp(ebx, value as i32)?;
        guest.demand_equal("a memory type range register does not keep what was written")?;
    }
    demand_exception(
        guest,
        came,
        GENERAL_PROTECTION,
        "a memory type range register takes a type that there is not",
        |code| {
            code.mov(ecx, IA32_MTRR_DEF_TYPE)?;
            code.mov(eax, 0xc02)?;
            code.xor(edx, edx)?;
            code.wrmsr()
        },
    )
}

/// The state of the processor trace cannot be had: what it writes goes to physical addresses.
fn supervisor_states(guest: &mut Program, came: Came) -> Assembled {
    demand_exception(
        guest,
        came,
        GENERAL_PROTECTION,
        "IA32_XSS takes the processor trace",
        |code| {
            code.mov(ecx, IA32_XSS)?;
            code.mov(eax, 1 << 8)?;
            code.xor(edx, edx)?;
            code.wrmsr()
        },
    )?;
    let mut without = guest.code.create_label();
    let code = &mut guest.code;
    code.xor(eax, eax)?;
    code.cpuid()?;
    code.cmp(eax, 0xd)?;
    code.jb(without)?;
    code.mov(eax, 0xd)?;
    code.mov(ecx, 1)?;
    code.cpuid()?;
    code.and(ecx, !0x1800)?;
    code.or(ecx, edx)?;
    guest.demand_equal("CPUID shows more supervisor states than shadow stacks")?;
    let code = &mut guest.code;
    code.mov(eax, 0xd)?;
    code.mov(ecx, 8)?;
    code.cpuid()?;
    code.or(eax, ebx)?;
    code.or(eax, ecx)?;
    code.or(eax, edx)?;
    guest.demand_equal("CPUID shows the state of the processor trace")?;
    guest.code.set_label(&mut without)?;
    guest.code.nop()
}

fn ports(guest: &mut Program) -> Assembled {
    let code = &mut guest.code;
    code.mov(eax, 0x1234_5678)?;
    code.mov(edx, COM3_STATUS)?;
    code.in_(al, dx)?;
    code.cmp(eax, 0x1234_56ff)?;
    guest
        .demand_equal("a byte of Bouncer's port is not all ones, or the rest of EAX has changed")?;
    let code = &mut guest.code;
    code.mov(edx, COM3_STATUS - 1)?;
    code.in_(eax, dx)?;
    code.cmp(eax, -1)?;
    guest.demand_equal("a word of Bouncer's port is not all ones")?;
    let code = &mut guest.code;
    code.mov(edx, COM3_STATUS - 5)?;
    code.mov(al, 0x21)?;
    code.out(dx, al)?;
    code.nop()
}

fn trapped_memory(guest: &mut Program) -> Assembled {
    // The local APIC's task priority: stores are emulated, loads are not.
    for (value, how) in [(0x20_u32, "MOV"), (0x30, "OR"), (0x10, "STOS")] {
        let code = &mut guest.code;
        code.mov(ebx, APIC_PRIORITY)?;
        match how {
            "MOV" => code.mov(dword_ptr(rbx), value)?,
            "OR" => code.or(dword_ptr(rbx), value)?,
            _ => {
                code.mov(edi, APIC_PRIORITY)?;
                code.mov(eax, value)?;
                code.cld()?;
                code.stosd()?;
            }
        }
        code.mov(eax, dword_ptr(rbx))?;
        code.cmp(eax, value)?;
        guest.demand_equal(&format!("the local APIC does not keep a store by {how}"))?;
    }
    guest.store(APIC_PRIORITY, 0)?;
    // The I/O APIC's register select.
    for register in [0x10_u32, 0x1] {
        guest.store(IO_APIC, register)?;
        guest.code.mov(eax, dword_ptr(rbx))?;
        guest.code.and(eax, 0xff)?;
        guest.code.cmp(eax, register)?;
        guest.demand_equal("the I/O APIC does not keep a store")?;
    }
    Ok(())
}

fn hidden_memory(guest: &mut Program, came: Came) -> Assembled {
    sweep(guest)?;
    type Form = fn(&mut CodeAssembler) -> Assembled;
    // RBX points at hidden memory. Each leaves in RAX what it saw of it, filled up with ones.
    let forms: [(&str, Form); 14] = [
        ("MOV of a byte", |code| {
            code.mov(rax, -1_i64 as u64)?;
            code.mov(al, byte_ptr(rbx))
        }),
        ("MOVZX", |code| {
            code.movzx(eax, word_ptr(rbx + 1))?;
            code.or(rax, -0x1_0000)
        }),
        ("MOVSX", |code| code.movsx(rax, byte_ptr(rbx + 3))),
        ("a store of a byte", |code| {
            code.mov(byte_ptr(rbx), 0x5a)?;
            code.mov(rax, qword_ptr(rbx))
        }),
        ("a store across words", |code| {
            code.mov(rax, 0x1122_3344_5566_7788_u64)?;
            code.mov(qword_ptr(rbx + 5), rax)?;
            code.mov(rax, qword_ptr(rbx + 5))
        }),
        ("XCHG", |code| {
            code.mov(eax, 0x600d)?;
            code.xchg(qword_ptr(rbx), rax)?;
            code.and(rax, qword_ptr(rbx))
        }),
        ("LOCK XADD", |code| {
            code.mov(eax, 0x600d)?;
            code.lock().xadd(qword_ptr(rbx), rax)?;
            code.and(rax, qword_ptr(rbx))
        }),
        ("LOCK CMPXCHG", |code| {
            code.mov(rax, -1_i64 as u64)?;
            code.mov(ecx, 0x600d)?;
            code.lock().cmpxchg(qword_ptr(rbx), rcx)?;
            code.and(rax, qword_ptr(rbx))
        }),
        ("AND", |code| {
            code.and(qword_ptr(rbx), 0)?;
            code.mov(rax, qword_ptr(rbx))
        }),
        ("INC", |code| {
            code.inc(dword_ptr(rbx))?;
            code.mov(rax, qword_ptr(rbx))
        }),
        ("NOT", |code| {
            code.not(qword_ptr(rbx))?;
            code.mov(rax, qword_ptr(rbx))
        }),
        ("STOS", |code| {
            code.mov(rdi, rbx)?;
            code.mov(eax, 0x600d)?;
            code.mov(ecx, 4)?;
            code.cld()?;
            code.rep().stosq()?;
            code.mov(rax, qword_ptr(rbx + 24))
        }),
        ("MOVS from it", |code| {
            code.mov(rsi, rbx)?;
            code.lea(rdi, ptr(rsp - 64))?;
            code.mov(qword_ptr(rdi + 8), 0)?;
            code.mov(ecx, 16)?;
            code.cld()?;
            code.rep().movsb()?;
            code.mov(rax, qword_ptr(rsp - 56))
        }),
        ("MOVS to it", |code| {
            code.mov(rdi, rbx)?;
            code.lea(rsi, ptr(rsp - 64))?;
            code.mov(qword_ptr(rsi), 0x600d)?;
            code.cld()?;
            code.movsq()?;
            code.mov(rax, qword_ptr(rbx))
        }),
    ];
    for is_end in [false, true] {
        for (name, form) in forms {
            hidden_range(&mut guest.code, is_end)?;
            form(&mut guest.code)?;
            guest.code.cmp(rax, -1)?;
            guest.demand_equal(&format!("Bouncer's memory is not all ones to {name}"))?;
        }
        hidden_range(&mut guest.code, is_end)?;
        demand_exception(
            guest,
            came,
            INVALID_OPCODE,
            "Bouncer's memory can be executed",
            |code| code.jmp(rbx),
        )?;
    }
    Ok(())
}

/// RBX: where Bouncer's memory begins, or the last 64 bytes of it; RDX: where it ends.
fn hidden_range(code: &mut CodeAssembler, is_end: bool) -> Assembled {
    code.mov(eax, 0x4000_0002)?;
    code.cpuid()?;
    code.shl(rbx, 32)?;
    code.or(rbx, rax)?;
    code.shl(rdx, 32)?;
    code.or(rdx, rcx)?;
    code.add(rdx, rbx)?;
    if is_end {
        code.lea(rbx, ptr(rdx - 64))?;
    }
    Ok(())
}

/// One load and one store of every page, at a place in it that moves from page to page.
fn sweep(guest: &mut Program) -> Assembled {
    const STEP: i32 = 0x1000 + 8;
    let code = &mut guest.code;
    let (mut again, mut ends) = (code.create_label(), code.create_label());
    hidden_range(code, false)?;
    code.set_label(&mut again)?;
    code.mov(qword_ptr(rbx), 0x600d)?;
    code.mov(rax, qword_ptr(rbx))?;
    code.cmp(rax, -1)?;
    code.jne(ends)?;
    code.add(rbx, STEP)?;
    code.cmp(rbx, rdx)?;
    code.jb(again)?;
    code.set_label(&mut ends)?;
    code.cmp(rax, -1)?;
    guest.demand_equal("a page of Bouncer's memory does not read as ones, or keeps a store")
}

/// Code in memory that firmware keeps for itself, where Bouncer reads nothing, goes on behind an instruction
/// that exits.
fn reserved_memory(guest: &mut Program) -> Assembled {
    /// In the last KiB below 640 KiB, which the BIOS reserves.
    const RESERVED: u32 = 0x9_ff00;
    const CPUID_AND_RET: i32 = 0x00c3_a20f;
    let code = &mut guest.code;
    code.mov(edi, RESERVED)?;
    code.mov(dword_ptr(rdi), CPUID_AND_RET)?;
    code.mov(eax, 0x4000_0000)?;
    code.call(rdi)?;
    code.cmp(ebx, i32::from_le_bytes(*b"Boun"))?;
    guest.demand_equal("CPUID in reserved memory does not name Bouncer")
}

/// One NMI, and another sent from within its handler: both come, and not at once.
fn nmi(guest: &mut Program, came: Came) -> Assembled {
    send_nmi(&mut guest.code)?;
    guest.wait_briefly()?;
    guest.code.cmp(dword_ptr(came.nmis), 2)?;
    guest.demand_equal("two NMIs were sent and another number came")?;
    guest.code.cmp(dword_ptr(came.nested), 0)?;
    guest.demand_equal("an NMI came within the handler of another")
}

/// A guest that turns its local APIC off reads that it is, and has it back: what comes by it meanwhile is
/// Bouncer's own.
fn local_apic(guest: &mut Program, came: Came) -> Assembled {
    const ENABLE: i32 = 1 << 11;
    const X2APIC: i32 = 1 << 10;
    let code = &mut guest.code;
    code.mov(ecx, IA32_APIC_BASE)?;
    code.rdmsr()?;
    code.and(eax, !ENABLE)?;
    code.wrmsr()?;
    code.rdmsr()?;
    code.test(eax, ENABLE)?;
    guest.demand_equal("IA32_APIC_BASE does not show that the local APIC is off")?;
    guest.code.mov(eax, 1)?;
    guest.code.cpuid()?;
    guest.code.test(edx, 1 << 9)?;
    guest.demand_equal("CPUID shows a local APIC that is off")?;
    demand_exception(
        guest,
        came,
        GENERAL_PROTECTION,
        "a local APIC that is off goes to x2APIC mode",
        |code| {
            code.mov(ecx, IA32_APIC_BASE)?;
            code.rdmsr()?;
            code.or(eax, ENABLE | X2APIC)?;
            code.wrmsr()
        },
    )?;
    let code = &mut guest.code;
    code.mov(ecx, IA32_APIC_BASE)?;
    code.rdmsr()?;
    code.or(eax, ENABLE)?;
    code.wrmsr()?;
    code.rdmsr()?;
    code.and(eax, ENABLE)?;
    code.cmp(eax, ENABLE)?;
    guest.demand_equal("IA32_APIC_BASE does not show that the local APIC is on again")?;
    send_nmi(&mut guest.code)?;
    guest.wait_briefly()?;
    guest.code.cmp(dword_ptr(came.nmis), 3)?;
    guest.demand_equal("an NMI does not come by a local APIC that was off")
}

/// A step over an instruction that is carried out by Bouncer ends behind it, as any.
fn single_step(guest: &mut Program, came: Came) -> Assembled {
    for is_memory in [false, true] {
        let code = &mut guest.code;
        let mut after = code.create_label();
        code.mov(dword_ptr(came.vector), 0)?;
        code.mov(ebx, APIC_PRIORITY)?;
        code.xor(eax, eax)?;
        code.pushfq()?;
        code.or(dword_ptr(rsp), 0x100)?;
        code.popfq()?;
        if is_memory {
            code.mov(dword_ptr(rbx), eax)?;
        } else {
            code.cpuid()?;
        }
        code.set_label(&mut after)?;
        code.nop()?;
        code.nop()?;
        code.lea(rax, ptr(after))?;
        code.cmp(dword_ptr(came.vector), 1)?;
        guest.demand_equal("no debug exception came of a single step")?;
        guest.code.cmp(rax, qword_ptr(came.stepped_to))?;
        guest.demand_equal("a single step did not end behind the instruction")?;
    }
    Ok(())
}

/// CR4's bits of extensions that CPUID does not show, and the instruction that turns one on.
pub(crate) fn reserved_bits(guest: &mut Program) -> Assembled {
    let came = exceptions::take(guest)?;
    for bit in [13, 14] {
        demand_exception(
            guest,
            came,
            GENERAL_PROTECTION,
            "CR4 takes VMXE or SMXE",
            |code| {
                code.mov(rax, cr4)?;
                code.or(rax, 1 << bit)?;
                code.mov(cr4, rax)
            },
        )?;
    }
    demand_exception(
        guest,
        came,
        INVALID_OPCODE,
        "VMXON does not fault",
        |code| {
            code.lea(rax, ptr(rsp - 64))?;
            code.vmxon(qword_ptr(rax))
        },
    )
}

fn control_registers(guest: &mut Program) -> Assembled {
    guest.code.mov(rax, cr4)?;
    guest.code.test(eax, 1 << 13 | 1 << 14)?;
    guest.demand_equal("CR4 shows VMXE or SMXE")?;
    // Numeric errors: a bit that VMX operation fixes, and the guest may clear all the same.
    for value in [0, 1 << 5] {
        let code = &mut guest.code;
        code.mov(rax, cr0)?;
        code.and(eax, !(1 << 5))?;
        code.or(eax, value)?;
        code.mov(cr0, rax)?;
        code.mov(rbx, cr0)?;
        code.cmp(rax, rbx)?;
        guest.demand_equal("CR0.NE is not as it was set")?;
    }
    Ok(())
}

/// Instructions that leave the guest end in the fault of a processor without them. Those of the other
/// vendor's extension fault by themselves, and so do VMXOFF and VMLAUNCH where VMX is not turned on: of
/// these it shows no more than that Bouncer does not make them work.
fn not_offered(guest: &mut Program, came: Came) -> Assembled {
    type Attempt = fn(&mut CodeAssembler) -> Assembled;
    let attempts: [(&str, Attempt); 6] = [
        ("VMCALL", |code| code.vmcall()),
        ("VMMCALL", |code| code.vmmcall()),
        ("VMXOFF", |code| code.vmxoff()),
        ("VMLAUNCH", |code| code.vmlaunch()),
        // An address that is no page's would be a fault of its own.
        ("VMRUN", |code| {
            code.xor(eax, eax)?;
            code.vmrun()
        }),
        ("STGI", |code| code.stgi()),
    ];
    for (instruction, attempt) in attempts {
        let why = format!("{instruction} does not fault");
        demand_exception(guest, came, INVALID_OPCODE, &why, attempt)?;
    }
    // INVD does not lose what was written before.
    let code = &mut guest.code;
    code.mov(dword_ptr(rsp - 8), 0x600d)?;
    code.invd()?;
    code.cmp(dword_ptr(rsp - 8), 0x600d)?;
    guest.demand_equal("INVD has lost a store")
}

fn extended_state(guest: &mut Program, came: Came) -> Assembled {
    let mut without = guest.code.create_label();
    let code = &mut guest.code;
    code.mov(eax, 1)?;
    code.cpuid()?;
    code.bt(ecx, 26)?;
    code.jae(without)?;
    code.mov(rax, cr4)?;
    code.or(eax, 1 << 18)?;
    code.mov(cr4, rax)?;
    code.mov(eax, 1)?;
    code.cpuid()?;
    code.and(ecx, 1 << 27)?;
    code.cmp(ecx, 1 << 27)?;
    guest.demand_equal("CPUID does not reflect CR4.OSXSAVE")?;
    let code = &mut guest.code;
    code.xor(ecx, ecx)?;
    code.mov(eax, 3)?;
    code.xor(edx, edx)?;
    code.xsetbv()?;
    code.xor(eax, eax)?;
    code.xgetbv()?;
    code.cmp(eax, 3)?;
    guest.demand_equal("XCR0 does not keep what was written")?;
    demand_exception(
        guest,
        came,
        GENERAL_PROTECTION,
        "XCR0 takes a state without x87",
        |code| {
            code.xor(ecx, ecx)?;
            code.xor(eax, eax)?;
            code.xsetbv()
        },
    )?;
    guest.code.set_label(&mut without)?;
    guest.code.nop()
}
