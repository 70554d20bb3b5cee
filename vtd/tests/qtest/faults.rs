//! Every reason the emulated unit gives is read as the one that was brought about.
//!
//! Tables and registers are spoilt from the bus, past the driver, one word at a time.

use vtd::domain::Access;
use vtd::invalidate::Scope;
use vtd::remap::Message;
use vtd::spec::fault::Reason;

use crate::machine::DEVICE;
use crate::stage::{LENT, Stage};

/// Where this machine has no memory, within the unit's width.
const NOWHERE: u64 = 0x10_0000_0000;

/// Registers of section 11.4.
const COMMAND: u32 = 0x18;
const STATUS: u32 = 0x1c;
const ROOT_TABLE: u32 = 0x20;
const INTERRUPT_TABLE: u32 = 0xb8;

/// "Set Root Table Pointer" and "Set Interrupt Remap Table Pointer".
const SET_ROOT_TABLE: u32 = 1 << 30;
const SET_INTERRUPT_TABLE: u32 = 1 << 24;
/// What of the status is written back as a command: the one-shot bits are not.
const LASTING: u32 = 0x96ff_ffff;

/// Chapter 7: each condition of an untranslated request has a reason of its own.
#[test]
fn each_refusal_of_a_transfer_is_given_its_reason() {
    let Some(mut stage) = Stage::set("reasons") else {
        return;
    };
    stage.attach(DEVICE);
    stage.lend(Access::ReadWrite);
    let root = stage.machine.unit_word(ROOT_TABLE) & !0xfff;
    let context =
        (stage.machine.word(root) & !0xfff) + u64::from(DEVICE.requester_id() & 0xff) * 16;
    let top = stage.machine.word(context) & !0xfff;
    let top_entry = top + (LENT >> 30) * 8;
    let middle = stage.machine.word(top_entry) & !0xfff;
    let leaf = stage.machine.word(middle) & !0xfff;

    let spoilt = [
        (root, 0, Reason::ROOT_NOT_PRESENT),
        (root, root | 1 << 3 | 1, Reason::ROOT_RESERVED),
        (root, NOWHERE | 1, Reason::CONTEXT_UNREACHABLE),
        (context, 0, Reason::CONTEXT_NOT_PRESENT),
        (context, top | 1 << 5 | 1, Reason::CONTEXT_RESERVED),
        (context, top | 0b11 << 2 | 1, Reason::CONTEXT_INVALID),
        (top_entry, NOWHERE | 0b11, Reason::TABLE_UNREACHABLE),
        (leaf, 1 << 11 | 0b11, Reason::ENTRY_RESERVED),
        (leaf, 0b01, Reason::WRITE_DENIED),
    ];
    for (at, word, reason) in spoilt {
        let whole = stage.machine.word(at);
        stage.machine.store(at, word);
        stage.forget(&Scope::Everything);
        assert!(!stage.writes(LENT), "{reason}");
        let told: Vec<_> = stage.faults().iter().map(|fault| fault.reason).collect();
        assert_eq!(told, [reason]);
        stage.machine.store(at, whole);
    }
    stage.forget(&Scope::Everything);
    assert!(stage.writes(LENT), "whole again");

    assert!(!stage.writes(1 << 40));
    assert_eq!(stage.only_fault().reason, Reason::BEYOND_WIDTH);

    stage.point(ROOT_TABLE, NOWHERE, SET_ROOT_TABLE);
    stage.forget(&Scope::Everything);
    assert!(!stage.writes(LENT));
    assert_eq!(stage.only_fault().reason, Reason::ROOT_UNREACHABLE);
}

/// Chapter 7: so has each condition of an interrupt request. QEMU before 10 records none of them.
#[test]
fn each_refusal_of_an_interrupt_is_given_its_reason() {
    let Some(mut stage) = Stage::set("interrupt-reasons") else {
        return;
    };
    let mut table = stage.remap_interrupts();
    let message = stage.issue_and_route(&mut table, 0x44);
    let handle = message.address >> 5 & 0x7fff;
    let base = stage.machine.unit_word(INTERRUPT_TABLE);
    let entry = (base & !0xfff) + handle * 16;

    let mut told = 0;
    let whole = stage.machine.word(entry);
    for (word, reason) in [
        (0, Reason::INTERRUPT_NOT_PRESENT),
        (whole | 1 << 24, Reason::INTERRUPT_ENTRY_RESERVED),
    ] {
        stage.machine.store(entry, word);
        told += stage.refuses(message, reason);
    }
    stage.machine.store(entry, whole);

    // The table has 256 entries: section 10.4.30, "S".
    let beyond = Message {
        address: 0xfee0_0000 | 300 << 5 | 1 << 4 | 1 << 3,
        ..message
    };
    told += stage.refuses(beyond, Reason::INTERRUPT_BEYOND_TABLE);

    let size = base & 0xf;
    stage.point(INTERRUPT_TABLE, NOWHERE | size, SET_INTERRUPT_TABLE);
    told += stage.refuses(message, Reason::INTERRUPT_TABLE_UNREACHABLE);
    assert!(told == 0 || told == 4, "{told} of 4 are recorded");
}

impl Stage {
    /// Gives the unit another table, past the driver.
    fn point(&mut self, register: u32, to: u64, command: u32) {
        self.machine.poke_unit(register, to);
        let lasting = self.machine.unit_word(STATUS) as u32 & LASTING;
        self.machine.command_unit(COMMAND, lasting | command);
    }

    /// The device's `message` arrives nowhere, for `reason`; how many records say so.
    fn refuses(&mut self, message: Message, reason: Reason) -> usize {
        self.forget(&Scope::Everything);
        self.machine.program_message(DEVICE, message);
        self.machine.raise(DEVICE);
        assert!(!self.machine.has_arrived(0x44), "{reason}");
        let faults = self.faults();
        for fault in &faults {
            assert_eq!(fault.reason, reason);
            assert_eq!(fault.source, DEVICE);
        }
        faults.len()
    }
}
