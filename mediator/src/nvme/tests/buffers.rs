//! Doorbells in memory.

use memory::{ByteRange, Gpa};

use super::super::fake::{BUFFERS, Driver, blocks, command};
use crate::Mediator;

const CONFIG: u8 = 0x7c;

fn ready() -> Driver {
    let mut driver = Driver::ready(1 << 20);
    driver.set(BUFFERS[0], &[0; 0x2000]);
    let answer = driver.ask(0, command(CONFIG, 0, BUFFERS, &[]));
    assert_eq!(answer.status, 0);
    driver
}

/// Section 5.8: PRP1 and PRP2 are pages, each with an offset of 0.
#[test]
fn buffers_that_are_no_pages_of_the_guests_are_refused() {
    let mut driver = Driver::ready(1 << 20);
    for buffers in [[0x5004, 0x6000], [0x5000, 0x6800], [!0xfff, 0x6000]] {
        let answer = driver.ask(0, command(CONFIG, 0, buffers, &[]));
        assert_eq!(answer.status, 0x02);
    }
    driver.world.hole = ByteRange::new(Gpa::new(0x6fff), 1);
    let answer = driver.ask(0, command(CONFIG, 0, BUFFERS, &[]));
    assert_eq!(answer.status, 0x02);
    // The doorbells of the registers still work.
    assert_eq!(driver.ask(1, blocks(2, [0x4_0000, 0], 0, 8)).status, 0);
}

#[test]
fn buffers_that_are_withheld_are_neither_offered_nor_taken() {
    let mut driver = Driver::ready(1 << 20);
    driver.nvme.withhold_buffers();
    assert_eq!(driver.admin(0x06, 0, 0x3000, &[(10, 1)]).status, 0);
    assert_eq!(driver.memory(0x3000 + 256, 2)[1] & 1, 0, "OACS, bit 8");
    let answer = driver.ask(0, command(CONFIG, 0, BUFFERS, &[]));
    assert_eq!(answer.status, 0x01, "an invalid opcode");
}

#[test]
fn the_device_is_not_told_of_the_buffers() {
    let mut driver = Driver::ready(1 << 20);
    let before = driver.nvme.counts().requests;
    driver.ask(0, command(CONFIG, 0, BUFFERS, &[]));
    assert_eq!(driver.nvme.counts().requests, before);
}

#[test]
fn at_depth_32_hardly_a_request_rings() {
    let mut driver = ready();
    let (mut rings, mut done) = (0_u32, 0_u32);
    for _ in 0..32 {
        driver.fill(1, blocks(2, [0x4_0000, 0], 0, 8));
        driver.ring_in_memory(1);
    }
    while done < 1000 {
        driver.world.fetch();
        // The device completes a few at a time.
        for _ in 0..8 {
            if let Some(request) = driver.world.given.pop_front() {
                driver.world.complete(&request, 0, 0);
            }
        }
        driver.look();
        while driver.next(1).is_some() {
            done += 1;
            let at = 4 + 8;
            let seen = driver.completions[1].at.to_le_bytes();
            driver.set(BUFFERS[0] + at, &seen);
            driver.fill(1, blocks(2, [0x4_0000, 0], 0, 8));
            rings += u32::from(driver.ring_in_memory(1));
        }
    }
    assert!(rings <= done / 20, "{rings} of {done} rang");
    assert_eq!(driver.nvme.counts().completed, 3 + u64::from(done));
}

#[test]
fn a_tail_in_memory_that_is_out_of_range_is_an_event() {
    let mut driver = ready();
    driver.fill(0, command(0x0c, 0, [0, 0], &[]));
    driver.ring(0);
    driver.set(BUFFERS[0] + 8, &64_u32.to_le_bytes());
    driver.write(0x1008, 1);
    let answer = driver.next(0).expect("an event");
    assert_eq!(answer.result, 0x0001_0100);
    assert_eq!(driver.nvme.in_flight(), 1, "the request for events");
}

#[test]
fn a_guest_that_takes_room_away_late_is_waited_for_and_rings() {
    let mut driver = ready();
    driver.create(2, 4);
    for _ in 0..3 {
        driver.fill(2, blocks(2, [0x4_0000, 0], 0, 8));
    }
    driver.ring_in_memory(2);
    driver.run();
    driver.fill(2, blocks(2, [0x4_0000, 0], 0, 8));
    driver.ring_in_memory(2);
    driver.run();
    assert_eq!(driver.nvme.counts().completed, 5 + 3);
    // It wants to hear of the head: its event index is where the head is.
    assert_eq!(driver.memory(BUFFERS[1] + 4 + 16, 4), [0; 4]);
    while driver.next(2).is_some() {}
    let seen = driver.completions[2].at;
    driver.set(BUFFERS[0] + 4 + 16, &seen.to_le_bytes());
    driver.write(0x1004 + 16, seen);
    driver.run();
    driver.run();
    assert!(driver.next(2).is_some());
    assert_eq!(driver.nvme.in_flight(), 0);
}

#[test]
fn buffers_that_vanish_leave_the_controller_fatal() {
    let mut driver = ready();
    driver.world.hole = ByteRange::new(Gpa::new(BUFFERS[0]), 8192);
    driver.write(0x1008, 1);
    assert_eq!(driver.read(0x1c), 3);
    driver.write(0x14, 0);
    driver.world.is_ready = false;
    assert_eq!(driver.read(0x1c), 0);
}
