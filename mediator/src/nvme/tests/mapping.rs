//! Whole pages that the device reaches in place.

extern crate std;

use std::vec::Vec;

use memory::{ByteRange, Gpa};

use super::super::fake::{Driver, blocks, command};
use crate::{Mediator, Reach};

const LIST: u64 = 0x1_0000;
const FIRST: u64 = 0x8_0e00;

/// A driver that asked for 41 blocks, the first in the end of a page, the others in five whole
/// pages here and there.
fn asked(opcode: u8) -> Driver {
    let mut driver = Driver::ready(1 << 20);
    driver.map();
    let entries: Vec<u8> = (0..8_u64)
        .flat_map(|page| (0x9_0000 + page * 0x2000).to_le_bytes())
        .collect();
    driver.set(LIST, &entries);
    driver.fill(1, blocks(opcode, [FIRST, LIST], 0, 41));
    driver.ring(1);
    driver
}

#[test]
fn only_whole_pages_of_the_guests_are_within_reach_and_only_one_way() {
    let driver = asked(2);
    let guests: Vec<u64> = driver
        .world
        .mapped
        .values()
        .filter_map(|reach| match reach {
            Reach::WriteGuest(page) => Some(page.raw()),
            Reach::WriteOwn(own) => {
                assert!(driver.world.arena().writable().contains(*own));
                None
            }
            reach => panic!("{reach:?}"),
        })
        .collect();
    assert_eq!(guests, [0x9_0000, 0x9_2000, 0x9_4000, 0x9_6000, 0x9_8000]);
    assert_eq!(driver.world.mapped.len(), 6);
    let driver = asked(1);
    let is_read = |reach: &Reach| matches!(reach, Reach::ReadGuest(_) | Reach::ReadOwn(_));
    assert!(driver.world.mapped.values().all(is_read));
}

#[test]
fn whole_pages_are_not_copied_and_gone_before_the_completion_is_shown() {
    let mut driver = asked(2);
    let before = driver.nvme.counts().bytes_out;
    driver.run();
    assert_eq!(driver.next(1).map(|answer| answer.status), Some(0));
    assert_eq!(driver.nvme.counts().bytes_out - before, 512);
    assert!(driver.world.mapped.is_empty());
    assert_eq!(driver.memory(FIRST, 512), driver.world.disk[..512]);
    assert_eq!(
        driver.memory(0x9_8000, 4096),
        driver.world.disk[512 + 4 * 4096..][..4096]
    );
}

#[test]
fn few_whole_pages_are_copied() {
    let mut driver = Driver::ready(1 << 20);
    driver.map();
    driver.fill(1, blocks(2, [0x8_0000, 0x9_0000], 0, 16));
    driver.ring(1);
    assert!(driver.world.mapped.is_empty());
    driver.run();
    assert_eq!(driver.next(1).map(|answer| answer.status), Some(0));
}

#[test]
fn a_page_that_is_not_the_guests_is_not_mapped() {
    for at in [0x9_0000, 0x9_6fff, FIRST] {
        for opcode in [1, 2] {
            let mut driver = Driver::ready(1 << 20);
            driver.map();
            let entries = [0x9_0000_u64, 0x9_2000, 0x9_4000, 0x9_6000, 0x9_8000];
            driver.set(LIST, entries.map(u64::to_le_bytes).as_flattened());
            driver.world.hole = ByteRange::new(Gpa::new(at), 1);
            let answer = driver.ask(1, blocks(opcode, [FIRST, LIST], 0, 41));
            assert_eq!(answer.status, 0x04);
            assert!(driver.world.mapped.is_empty());
            assert_eq!(driver.nvme.lent_pages(), 0);
        }
    }
}

#[test]
fn a_reset_ends_the_reach_when_the_device_is_disabled() {
    let mut driver = asked(2);
    driver.write(0x14, 0);
    assert!(!driver.world.mapped.is_empty());
    driver.world.is_ready = false;
    assert_eq!(driver.read(0x1c), 0);
    assert!(driver.world.mapped.is_empty());
    driver.nvme.check_conservation();
}

#[test]
fn a_deleted_queue_ends_the_reach_before_the_guest_hears_of_it() {
    let mut driver = asked(2);
    driver.world.fetch();
    driver.world.given.clear();
    let answer = driver.ask(0, command(0x00, 0, [0, 0], &[(10, 1)]));
    assert_eq!(answer.status, 0);
    assert!(driver.world.mapped.is_empty());
    assert_eq!(driver.nvme.in_flight(), 1);
}

#[test]
fn a_lie_ends_the_reach() {
    let mut driver = asked(2);
    driver.world.post(1, [0, 0, 1 << 16 | 1, 0x77]);
    driver.look();
    assert!(driver.world.lie.is_some());
    assert!(driver.world.mapped.is_empty());
}

#[test]
fn a_window_that_is_full_holds_requests_back() {
    let mut driver = Driver::ready(16 << 20);
    driver.map();
    // 16 runs of 16 pages fit in 256 pages.
    let list: Vec<u8> = (1..16_u64)
        .flat_map(|page| (0x8_0000 + page * 4096).to_le_bytes())
        .collect();
    driver.set(LIST, &list);
    for _ in 0..40 {
        driver.fill(1, blocks(2, [0x8_0000, LIST], 0, 128));
    }
    driver.ring(1);
    assert_eq!(driver.nvme.in_flight(), 16);
    let mut done = 0;
    for _ in 0..10 {
        driver.run();
        while driver.next(1).is_some() {
            done += 1;
        }
        driver.seen(1);
    }
    assert_eq!((done, driver.nvme.counts().held_back > 0), (40, true));
    assert!(driver.world.mapped.is_empty());
}
