//! Which vectors arrive, and whose they are.

use vtd::spec::fault::Reason;

use crate::machine::{DEVICE, OTHER};
use crate::stage::{Stage, VICTIM, to_the_processor};

#[test]
fn a_device_raises_the_vector_it_was_given() {
    let Some(mut stage) = Stage::set("vector") else {
        return;
    };
    let mut table = stage.remap_interrupts();
    let message = stage.issue_and_route(&mut table, 0x41);
    stage.machine.program_message(DEVICE, message);
    assert!(!stage.machine.has_arrived(0x41));
    stage.machine.raise(DEVICE);
    assert!(stage.machine.has_arrived(0x41));
}

/// A message that uses another device's entry arrives nowhere.
#[test]
fn a_device_cannot_use_another_devices_interrupt() {
    let Some(mut stage) = Stage::set("another") else {
        return;
    };
    let mut table = stage.remap_interrupts();
    let message = stage.issue_and_route(&mut table, 0x42);
    stage.machine.program_message(OTHER, message);
    stage.machine.raise(OTHER);
    assert!(!stage.machine.has_arrived(0x42));
    // QEMU before 10 drops it without a record.
    for fault in stage.faults() {
        assert_eq!(fault.reason, Reason::INTERRUPT_WRONG_SOURCE);
        assert_eq!(fault.source, OTHER);
    }
}

/// Nor does one that uses an entry that is issued but not routed, or silenced, or retired.
#[test]
fn an_interrupt_without_a_route_arrives_nowhere() {
    let Some(mut stage) = Stage::set("no-route") else {
        return;
    };
    let mut table = stage.remap_interrupts();
    let block = table.issue(&mut stage.frames, DEVICE, 1, 8).unwrap();
    stage
        .machine
        .program_message(DEVICE, block.message(0).unwrap());
    stage.machine.raise(DEVICE);

    let due = table
        .route(&mut stage.frames, &block, 0, to_the_processor(0x43))
        .unwrap();
    due.settle(&mut stage.units[0].invalidator(&mut stage.frames))
        .unwrap();
    assert!(!stage.machine.has_arrived(0x43));
    let due = table.silence(&mut stage.frames, &block, 0).unwrap();
    due.settle(&mut stage.units[0].invalidator(&mut stage.frames))
        .unwrap();
    stage.machine.raise(DEVICE);
    let (retired, due) = table.retire(&mut stage.frames, block);
    let proof = due
        .settle(&mut stage.units[0].invalidator(&mut stage.frames))
        .unwrap();
    stage.machine.raise(DEVICE);
    table.release(&mut stage.frames, retired, &proof);
    stage.machine.raise(DEVICE);
    assert!(!stage.machine.has_arrived(0x43));
    for fault in stage.faults() {
        assert_eq!(fault.reason, Reason::INTERRUPT_NOT_PRESENT);
    }
}

/// A fault is announced by the unit itself, past its own interrupt remapping.
#[test]
fn a_fault_raises_the_vector_it_is_announced_by() {
    let Some(mut stage) = Stage::set("announced") else {
        return;
    };
    let _table = stage.remap_interrupts();
    stage.units[0].announce_faults(to_the_processor(0x51));
    assert!(!stage.machine.has_arrived(0x51));
    stage.machine.device_tries_to_read(DEVICE, VICTIM);
    assert!(stage.machine.has_arrived(0x51));
}
