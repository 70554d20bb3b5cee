//! What two processors do to each other: INIT and start-up messages, from real mode to long mode, and
//! NMIs.

use iced_x86::IcedError;
use iced_x86::code_asm::*;

use crate::program::{Assembled, Program, REAL_MODE_CODE};

pub(crate) const CHECKS: &[&str] = &["start-up", "nmi-to-other", "init-again", "apic-off"];

const APIC_ICR: u32 = 0xfee0_0300;
const IA32_APIC_BASE: u32 = 0x1b;
/// At which start the other processor turns its local APIC off before it tells that it came.
const APIC_OFF_AT: u32 = 3;
const ASSERT: u32 = 1 << 14;
const LEVEL: u32 = 1 << 15;
const NMI: u32 = 4 << 8;
const INIT: u32 = 5 << 8;
const START_UP: u32 = 6 << 8;

/// Where in low memory the other processor finds its code, its tables and its stack, and leaves marks.
mod place {
    pub(super) const LONG: u32 = 0x8800;
    pub(super) const NMI: u32 = 0x8c00;
    pub(super) const GDT: u32 = 0x8e00;
    pub(super) const GDT_POINTER: u32 = 0x8e20;
    pub(super) const IDT_POINTER: u32 = 0x8e30;
    pub(super) const PAGE_TABLES: u32 = 0x8e40;
    pub(super) const IDT: u32 = 0x9000;
    pub(super) const STACK: u32 = 0x9f00;
    /// How often it came to long mode.
    pub(super) const ARRIVALS: u32 = 0x8ff4;
    /// How many NMIs it took.
    pub(super) const NMIS: u32 = 0x8ff8;
}

/// 64-bit code and data (Intel SDM volume 3, 3.4.5).
const DESCRIPTORS: [u64; 3] = [0, 0x00af_9b00_0000_ffff, 0x00cf_9300_0000_ffff];
const CODE: u32 = 0x08;
/// An interrupt gate that is present, and its selector.
const GATE: u32 = 0x8e00;

pub(crate) fn guest(guest: &mut Program) -> Assembled {
    guest.install(REAL_MODE_CODE, real_mode()?)?;
    guest.install(place::LONG, long_mode()?)?;
    guest.install(place::NMI, nmi()?)?;
    for (index, descriptor) in DESCRIPTORS.into_iter().enumerate() {
        let at = place::GDT + 8 * index as u32;
        guest.store(at, descriptor as u32)?;
        guest.store(at + 4, (descriptor >> 32) as u32)?;
    }
    guest.store(place::GDT_POINTER, place::GDT << 16 | 23)?;
    guest.store(place::GDT_POINTER + 4, 0)?;
    guest.store(place::IDT_POINTER, place::IDT << 16 | 0x2f)?;
    guest.store(place::IDT_POINTER + 4, 0)?;
    guest.store(place::IDT_POINTER + 8, 0)?;
    guest.store(place::IDT + 0x20, CODE << 16 | place::NMI)?;
    guest.store(place::IDT + 0x24, GATE)?;
    guest.store(place::IDT + 0x28, 0)?;
    guest.store(place::IDT + 0x2c, 0)?;
    guest.store(place::ARRIVALS, 0)?;
    guest.store(place::NMIS, 0)?;
    guest.code.mov(rax, cr3)?;
    guest.code.mov(dword_ptr(place::PAGE_TABLES), eax)?;

    start(guest)?;
    await_word(
        guest,
        place::ARRIVALS,
        1,
        "processor 1 does not come to long mode",
    )?;
    guest.next("nmi-to-other")?;
    for count in 1..=3 {
        send(guest, NMI | ASSERT)?;
        await_word(
            guest,
            place::NMIS,
            count,
            "processor 1 does not take an NMI",
        )?;
    }
    guest.next("init-again")?;
    start(guest)?;
    await_word(
        guest,
        place::ARRIVALS,
        2,
        "processor 1 does not start a second time",
    )?;
    send(guest, NMI | ASSERT)?;
    await_word(
        guest,
        place::NMIS,
        4,
        "processor 1 takes no NMI after its second start",
    )?;
    guest.next("apic-off")?;
    start(guest)?;
    await_word(
        guest,
        place::ARRIVALS,
        APIC_OFF_AT,
        "processor 1 does not start a third time",
    )?;
    start(guest)?;
    await_word(
        guest,
        place::ARRIVALS,
        APIC_OFF_AT + 1,
        "processor 1 cannot be called any more after it turned its local APIC off",
    )
}

/// INIT, then a start-up message twice, as the manual has it.
fn start(guest: &mut Program) -> Assembled {
    send(guest, INIT | ASSERT | LEVEL)?;
    guest.wait_briefly()?;
    send(guest, START_UP | REAL_MODE_CODE >> 12)?;
    guest.wait_briefly()?;
    send(guest, START_UP | REAL_MODE_CODE >> 12)
}

/// Sends `command` to the processor with APIC id 1.
fn send(guest: &mut Program, command: u32) -> Assembled {
    guest.store(APIC_ICR + 0x10, 1 << 24)?;
    guest.store(APIC_ICR, command)
}

/// Waits, not for ever, until the word at `place` is `value`.
fn await_word(guest: &mut Program, place: u32, value: u32, why: &str) -> Assembled {
    let code = &mut guest.code;
    let (mut again, mut there) = (code.create_label(), code.create_label());
    code.mov(ecx, 50_000_000)?;
    code.set_label(&mut again)?;
    code.cmp(dword_ptr(place), value)?;
    code.je(there)?;
    code.pause()?;
    code.dec(ecx)?;
    code.jne(again)?;
    code.set_label(&mut there)?;
    code.cmp(dword_ptr(place), value)?;
    guest.demand_equal(why)
}

/// From real mode straight to long mode, with numeric errors reported as at reset.
fn real_mode() -> Result<Vec<u8>, IcedError> {
    let mut code = CodeAssembler::new(16)?;
    code.cli()?;
    code.xor(ax, ax)?;
    code.mov(ds, ax)?;
    code.lgdt(fword_ptr(place::GDT_POINTER))?;
    code.mov(eax, cr4)?;
    code.or(eax, 1 << 5)?;
    code.mov(cr4, eax)?;
    code.mov(eax, dword_ptr(place::PAGE_TABLES))?;
    code.mov(cr3, eax)?;
    code.mov(ecx, 0xc000_0080_u32)?;
    code.rdmsr()?;
    code.or(eax, 1 << 8)?;
    code.wrmsr()?;
    code.mov(eax, cr0)?;
    code.or(eax, 0x8000_0001_u32)?;
    code.mov(cr0, eax)?;
    // A far jump: offset and selector.
    let [low, high, ..] = place::LONG.to_le_bytes();
    code.db(&[0xea, low, high, CODE as u8, 0])?;
    code.assemble(0)
}

fn long_mode() -> Result<Vec<u8>, IcedError> {
    let mut code = CodeAssembler::new(64)?;
    let mut forever = code.create_label();
    code.mov(eax, 0x10)?;
    code.mov(ss, eax)?;
    code.mov(esp, place::STACK)?;
    code.mov(ebx, place::IDT_POINTER)?;
    code.lidt(ptr(rbx))?;
    code.mov(ebx, place::ARRIVALS)?;
    // Numeric errors as 64-bit systems have them: a change that VMX operation has to be told.
    code.mov(rax, cr0)?;
    code.or(eax, 1 << 5)?;
    code.mov(cr0, rax)?;
    let mut arrives = code.create_label();
    code.cmp(dword_ptr(rbx), APIC_OFF_AT - 1)?;
    code.jne(arrives)?;
    code.mov(ecx, IA32_APIC_BASE)?;
    code.rdmsr()?;
    code.and(eax, !(1 << 11))?;
    code.wrmsr()?;
    code.set_label(&mut arrives)?;
    code.inc(dword_ptr(rbx))?;
    code.set_label(&mut forever)?;
    code.hlt()?;
    code.jmp(forever)?;
    code.assemble(0)
}

fn nmi() -> Result<Vec<u8>, IcedError> {
    let mut code = CodeAssembler::new(64)?;
    code.push(rbx)?;
    code.mov(ebx, place::NMIS)?;
    code.inc(dword_ptr(rbx))?;
    code.pop(rbx)?;
    code.iretq()?;
    code.assemble(0)
}
