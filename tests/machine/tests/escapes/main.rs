//! Ways out of the guest that somebody has gone before: each is a kernel of a few instructions
//! that goes it and notices when it has arrived.

#[allow(dead_code, reason = "what other small guests use")]
mod program;

use iced_x86::code_asm::*;
use machine::Scene;
use machine::judge::held;
use program::{Assembled, Program, REAL_MODE_CODE, SMI_CODE, mark_and_halt, mark_and_resume};
use qemu::Payload;

const APIC: u32 = 0xfee0_0000;
const APIC_ID: u32 = APIC + 0x20;
const APIC_SPURIOUS: u32 = APIC + 0xf0;
/// The interrupt request register of vectors 40h to 5Fh.
const APIC_REQUESTS: u32 = APIC + 0x220;
const ICR_LOW: u32 = APIC + 0x300;
const ICR_HIGH: u32 = APIC + 0x310;
const IO_APIC: u32 = 0xfec0_0000;
const IO_APIC_WINDOW: u32 = IO_APIC + 0x10;

/// Delivery modes (Intel SDM volume 3, 11.6.1), where an ICR, a message and an I/O APIC's entry
/// have them.
const SMI: u32 = 2 << 8;
const INIT: u32 = 5 << 8;
const START_UP: u32 = 6 << 8;
/// Level assert, as commands but "INIT level de-assert" are to have it.
const ASSERT: u32 = 1 << 14;
const LEVEL: u32 = 1 << 15;

#[test]
fn an_smi_through_the_interrupt_command_register_is_dropped() {
    const WHY: &str = "processor 1 has entered system management";
    const OTHERS: u32 = 3 << 18;
    fails_to(2, "smi-by-icr", |guest| {
        guest.install(SMI_CODE, mark_and_resume()?)?;
        guest.store(ICR_HIGH, 1 << 24)?;
        for command in [SMI | ASSERT, SMI | ASSERT | OTHERS] {
            guest.store(ICR_LOW, command)?;
            guest.wait()?;
            guest.demand_no_mark(WHY)?;
        }

        // The same by the register of x2APIC, where there is one (CPUID.1:ECX[21]).
        let code = &mut guest.code;
        let mut without = code.create_label();
        code.mov(eax, 1)?;
        code.cpuid()?;
        code.bt(ecx, 21)?;
        code.jae(without)?;
        code.mov(ecx, 0x1b)?;
        code.rdmsr()?;
        code.or(eax, 1 << 10)?;
        code.wrmsr()?;
        code.mov(ecx, 0x830)?;
        code.mov(edx, 1)?;
        code.mov(eax, SMI | ASSERT)?;
        code.wrmsr()?;
        guest.wait()?;
        guest.demand_no_mark(WHY)?;
        guest.code.set_label(&mut without)?;
        guest.code.nop()
    });
}

#[test]
fn a_store_at_the_start_of_the_apics_page_sends_nothing() {
    // QEMU takes what is stored there for a message to the processor that the address names.
    fails_to(1, "init-by-page", |guest| {
        catch_reset(guest)?;
        guest.store(APIC, INIT)?;
        guest.wait()?;
        guest.code.mov(ebx, APIC)?;
        guest.code.mov(eax, INIT)?;
        guest.code.mov(qword_ptr(rbx), rax)?;
        guest.wait()
    });
}

#[test]
fn the_message_window_behind_the_apics_page_is_not_there() {
    const TO_PROCESSOR_1: u32 = APIC + 0x1000;
    const TO_ALL: u32 = APIC + 0xf_f000;
    fails_to(2, "message", |guest| {
        catch_reset(guest)?;
        guest.install(SMI_CODE, mark_and_resume()?)?;
        for to in [TO_PROCESSOR_1, TO_ALL] {
            guest.store(to, SMI)?;
            guest.wait()?;
            guest.demand_no_mark("processor 1 has entered system management")?;
            guest.store(to, INIT)?;
            guest.wait()?;
        }

        // An INIT would have thrown the other processor out of Bouncer: it would not start.
        guest.install(REAL_MODE_CODE, mark_and_halt()?)?;
        guest.store(ICR_HIGH, 1 << 24)?;
        guest.store(ICR_LOW, INIT | ASSERT | LEVEL)?;
        guest.store(ICR_LOW, START_UP | REAL_MODE_CODE >> 12)?;
        guest.wait()?;
        guest.demand_mark("processor 1 does not start")
    });
}

#[test]
fn an_io_apic_entry_cannot_raise_init_or_smi() {
    fails_to(2, "io-apic", |guest| {
        catch_reset(guest)?;
        guest.install(SMI_CODE, mark_and_resume()?)?;
        // The timer's pin works: an ordinary vector arrives.
        guest.store(APIC_SPURIOUS, 0x1ff)?;
        route_timer(guest, 0, 0x40)?;
        for (port, value) in [(0x43, 0x34), (0x40, 0), (0x40, 0)] {
            guest.output(port, value)?;
        }
        guest.wait()?;
        guest.code.mov(ebx, APIC_REQUESTS)?;
        guest.code.mov(eax, dword_ptr(rbx))?;
        guest.code.cmp(eax, 1)?;
        guest.demand_equal("the timer does not tick, so nothing is shown")?;

        route_timer(guest, 1, SMI)?;
        guest.wait()?;
        guest.demand_no_mark("processor 1 has entered system management")?;
        route_timer(guest, 0, INIT)?;
        guest.wait()
    });
}

#[test]
fn the_a20_gate_stays_open() {
    const PORT_92: u32 = 0x92;
    const KEYBOARD: u32 = 0x60;
    const KEYBOARD_COMMAND: u32 = 0x64;
    // Written to the controller's output port: address line 20 low, no reset. As a command: the same.
    const GATE_LOW: u32 = 0xdd;
    const WRITE_OUTPUT: u32 = 0xd1;
    let ways: [(&str, &[(u32, u32)]); 3] = [
        ("port 92h", &[(PORT_92, 0)]),
        (
            "the keyboard controller's output port",
            &[(KEYBOARD_COMMAND, WRITE_OUTPUT), (KEYBOARD, GATE_LOW)],
        ),
        (
            "a keyboard controller's command",
            &[(KEYBOARD_COMMAND, GATE_LOW)],
        ),
    ];
    fails_to(1, "a20", |guest| {
        for (way, outputs) in ways {
            for &(port, value) in outputs {
                guest.output(port, value)?;
            }
            // Two addresses that differ in bit 20 only.
            guest.store(0x60_0000, 1)?;
            guest.store(0x70_0000, 2)?;
            guest.code.cmp(dword_ptr(0x60_0000), 1)?;
            guest.demand_equal(&format!("{way} has closed the gate"))?;
        }
        Ok(())
    });
}

#[test]
fn an_access_across_the_apics_page_harms_nobody() {
    fails_to(1, "across-apic", |guest| {
        for border in [APIC, APIC + 0x1000, IO_APIC] {
            guest.code.mov(edi, border)?;
            access_across(guest)?;
        }
        guest.code.mov(ebx, APIC_ID)?;
        guest.code.cmp(dword_ptr(rbx), 0)?;
        guest.demand_equal("the APIC has another ID than before")?;
        bouncer_lives(guest)
    });
}

#[test]
fn an_access_across_the_border_of_bouncers_memory_harms_nobody() {
    fails_to(1, "across-own", |guest| {
        for (first_of_guest, first_of_own) in [(-4, 0), (0, -4)] {
            own_memory(guest)?;
            let code = &mut guest.code;
            // RDI: the border at the beginning, then the one at the end.
            if first_of_guest == 0 {
                code.mov(rdi, rsi)?;
            }
            code.mov(eax, 0x1234_5678)?;
            code.mov(dword_ptr(rdi + first_of_guest), eax)?;
            access_across(guest)?;
            guest.code.mov(qword_ptr(rdi - 4), 0)?;
            guest.code.cmp(dword_ptr(rdi + first_of_guest), 0)?;
            guest.demand_equal("the guest's half of a store is lost")?;
            guest.code.cmp(dword_ptr(rdi + first_of_own), -1)?;
            guest.demand_equal("Bouncer's half of a load shows other than ones")?;
        }
        bouncer_lives(guest)
    });
}

#[test]
fn the_guest_cannot_rename_its_apic() {
    fails_to(1, "apic-id", |guest| {
        guest.code.mov(ebx, APIC_ID)?;
        guest.code.mov(ecx, dword_ptr(rbx))?;
        guest.code.mov(dword_ptr(rbx), 5 << 24)?;
        guest.code.cmp(dword_ptr(rbx), ecx)?;
        guest.demand_equal("the APIC has the ID that the guest gave it")
    });
}

/// Plays `attack` under Bouncer on so many processors, and demands that the guest lives to say that
/// it failed.
fn fails_to(processors: u32, attack: &'static str, steps: impl FnOnce(&mut Program) -> Assembled) {
    let scene = Scene::bouncer(&format!("escape-{attack}")).processors(processors);
    let kernel = Program::kernel(attack, steps).expect("the attack can be assembled");
    let file = scene.file("kernel");
    std::fs::write(&file, kernel).expect("the scratch directory can be written");
    let payload = Payload::Linux {
        kernel: file,
        initrd: None,
    };
    held(attack, &scene.payload(payload).play(), &[attack]);
}

/// Arranges that the firmware, should it find itself started again by an INIT, gives the processor
/// to code of the attack: shutdown code 0Ah in the clock's memory, a far pointer at 40:67.
fn catch_reset(guest: &mut Program) -> Assembled {
    let caught = guest.real_mode_failure("the guest has a processor outside Bouncer")?;
    guest.install(REAL_MODE_CODE, caught)?;
    guest.output(0x70, 0x8f)?;
    guest.output(0x71, 0x0a)?;
    guest.store(0x467, REAL_MODE_CODE << 12)
}

/// Has the I/O APIC's second pin, the timer's, deliver `what` to the processor `to`.
fn route_timer(guest: &mut Program, to: u32, what: u32) -> Assembled {
    for (register, value) in [(0x15, to << 24), (0x14, what)] {
        guest.store(IO_APIC, register)?;
        guest.store(IO_APIC_WINDOW, value)?;
    }
    Ok(())
}

/// RDI and RSI: where Bouncer's memory begins and ends (CPUID leaf 4000_0002h).
fn own_memory(guest: &mut Program) -> Assembled {
    guest.code.mov(eax, 0x4000_0002)?;
    guest.code.cpuid()?;
    guest.code.mov(edi, eax)?;
    guest.code.lea(esi, ptr(rax + rcx))
}

/// Loads and stores 2, 4 and 8 bytes across the border at RDI, in every way they can lie.
fn access_across(guest: &mut Program) -> Assembled {
    let code = &mut guest.code;
    for before in 1..8 {
        if before < 2 {
            code.mov(ax, word_ptr(rdi - before))?;
            code.mov(word_ptr(rdi - before), ax)?;
        }
        if before < 4 {
            code.mov(eax, dword_ptr(rdi - before))?;
            code.mov(dword_ptr(rdi - before), eax)?;
        }
        code.mov(rax, qword_ptr(rdi - before))?;
        code.mov(qword_ptr(rdi - before), rax)?;
    }
    Ok(())
}

/// Bouncer still answers: "Boun" in EBX.
fn bouncer_lives(guest: &mut Program) -> Assembled {
    guest.code.mov(eax, 0x4000_0000)?;
    guest.code.cpuid()?;
    guest.code.cmp(ebx, i32::from_le_bytes(*b"Boun"))?;
    guest.demand_equal("CPUID does not name Bouncer")
}
