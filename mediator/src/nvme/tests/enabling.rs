//! Registers, enabling, reset, and the end.

use memory::{ByteRange, Gpa};

use super::super::fake::{Driver, Fake, blocks, storage};
use super::super::{Nvme, Unfit};
use crate::Mediator;

const FATAL: u32 = 2;

fn hole(driver: &mut Driver, at: u64) {
    driver.world.hole = ByteRange::new(Gpa::new(at), 1);
}

#[test]
fn what_is_not_offered_is_not_shown() {
    let mut driver = Driver::new(16 << 20);
    let low = driver.read(0x00);
    let high = driver.read(0x04);
    // 1024 entries, contiguous queues required, the device's timeout.
    assert_eq!(low, 1023 | 1 << 16 | 20 << 24);
    // The NVM command set; stride 0, pages of 4 KiB, nothing else.
    assert_eq!(high, 1 << 5);
    // CMBLOC, CMBSZ, BPINFO, CRTO, PMRCAP.
    for offset in [0x38, 0x3c, 0x40, 0x68, 0xe00] {
        assert_eq!(driver.read(offset), 0);
    }
}

/// "Host software shall access registers in their native width or aligned 32-bit accesses."
#[test]
fn registers_are_read_in_aligned_words_of_4_and_8_bytes() {
    let mut driver = Driver::new(1 << 20);
    let mut both = [0; 8];
    driver.nvme.read(&mut driver.world, 0, &mut both);
    let halves = [driver.read(0), driver.read(4)].map(u32::to_le_bytes);
    assert_eq!(both, *halves.as_flattened());
    for (offset, len) in [(0, 1), (0, 2), (2, 4), (4, 8), (1, 1), (0, 3)] {
        let mut bytes = [0; 8];
        driver
            .nvme
            .read(&mut driver.world, offset, &mut bytes[..len]);
        assert!(bytes[..len].iter().all(|byte| *byte == 0xff));
    }
}

#[test]
fn an_odd_write_changes_nothing_and_a_wide_one_both_halves() {
    let mut driver = Driver::new(1 << 20);
    let at = 0x1_2345_6000_u64;
    let world = &mut driver.world;
    let _ = driver.nvme.write(world, 0x28, &at.to_le_bytes());
    let _ = driver.nvme.write(world, 0x2a, &[0xff; 2]);
    let _ = driver.nvme.write(world, 0x29, &[0xff; 4]);
    let _ = driver.nvme.write(world, 0x28, &[]);
    assert_eq!((driver.read(0x28), driver.read(0x2c)), (0x2345_6000, 1));
}

/// "Host software shall not modify [the admin queue registers] while CC.EN is set."
#[test]
fn admin_queues_stay_where_they_are_while_enabled() {
    let mut driver = Driver::new(1 << 20);
    driver.enable();
    let before = [0x24, 0x28, 0x30].map(|offset| driver.read(offset));
    for offset in [0x24, 0x28, 0x30] {
        driver.write(offset, 0x7000);
    }
    assert_eq!(before, [0x24, 0x28, 0x30].map(|offset| driver.read(offset)));
}

#[test]
fn admin_queues_that_are_not_memory_leave_the_controller_fatal_and_the_device_disabled() {
    for at in [0x20_0000, 0x20_07ff, 0x21_0000] {
        let mut driver = Driver::new(1 << 20);
        hole(&mut driver, at);
        driver.enable();
        assert_eq!(driver.read(0x1c), FATAL, "{at:#x}");
        assert_eq!(driver.world.cc & 1, 0);
        driver.nvme.check_conservation();
        // The guest mends it.
        driver.world.hole = None;
        driver.write(0x14, 0);
        assert_eq!(driver.read(0x1c), 0);
        driver.enable();
        assert_eq!(driver.read(0x1c), 1);
    }
}

#[test]
fn what_is_asked_of_cc_and_is_not_there_leaves_the_controller_fatal() {
    // Pages of 8 KiB; another command set; weighted arbitration; entries of other sizes.
    for wrong in [1 << 7, 1 << 4, 1 << 11, 2 << 11, 1 << 16, 1 << 20] {
        let mut driver = Driver::new(1 << 20);
        driver.enable();
        driver.write(0x14, 0);
        driver.world.is_ready = false;
        assert_eq!(driver.read(0x1c), 0);
        driver.write(0x14, 0x0046_0001 ^ wrong);
        assert_eq!(driver.read(0x1c), FATAL, "{wrong:#x}");
        assert_eq!(driver.world.cc & 1, 0);
    }
}

#[test]
fn a_shutdown_is_passed_on() {
    let mut driver = Driver::ready(1 << 20);
    driver.write(0x14, 0x0046_4001);
    assert_eq!(driver.world.cc, 0x0046_4001);
    assert_eq!(driver.read(0x14), 0x0046_4001);
}

#[test]
fn a_controller_that_somebody_used_before_is_stopped_first() {
    let mut world = Fake::new(1 << 20);
    world.cc = 0x0046_0001;
    world.is_ready = true;
    let mut driver = Driver::of(world, 64);
    assert_eq!(driver.world.cc & 1, 0);
    // Enabled before it said that it is disabled.
    driver.enable();
    assert_eq!(driver.read(0x1c), FATAL | 1);
    driver.write(0x14, 0);
    driver.world.is_ready = false;
    driver.enable();
    assert_eq!(driver.read(0x1c), 1);
}

#[test]
fn a_device_that_was_cut_off_is_fatal_for_good() {
    let mut driver = Driver::ready(1 << 20);
    driver.fill(1, blocks(2, [0x4_0000, 0], 0, 8));
    driver.ring(1);
    driver.world.post(1, [0, 0, 1 << 16, 0x3fff]);
    driver.look();
    assert!(driver.world.lie.is_some());
    let before = driver.world.cc;
    driver.nvme.forget(&mut driver.world);
    driver.write(0x14, 0);
    driver.enable();
    assert_eq!(driver.read(0x1c), FATAL);
    assert_eq!(driver.world.cc, before);
}

#[test]
fn a_device_that_is_gone_reads_as_ones() {
    let mut driver = Driver::ready(1 << 20);
    driver.world.is_gone = true;
    assert_eq!(driver.read(0x1c), u32::MAX);
}

#[test]
fn forgetting_takes_everything_back_at_once() {
    let mut driver = Driver::ready(1 << 20);
    for _ in 0..8 {
        driver.fill(1, blocks(1, [0x4_0000, 0], 0, 8));
    }
    driver.ring(1);
    driver.nvme.forget(&mut driver.world);
    assert_eq!(driver.nvme.in_flight(), 0);
    assert_eq!(driver.nvme.lent_pages(), 0);
    driver.nvme.check_conservation();
    assert_eq!(driver.read(0x1c), 0);
    assert_eq!(driver.read(0x14), 0);
}

#[test]
fn a_storage_of_too_few_requests_is_refused() {
    let mut world = Fake::new(1 << 20);
    let arena = world.arena();
    let storage = storage(&world, 15);
    let error = Nvme::new(storage, arena, &mut world).err();
    assert_eq!(error, Some(Unfit::Requests));
}
