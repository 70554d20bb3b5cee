//! Requests from beginning to end, and what they cost.

extern crate std;

use std::vec::Vec;

use super::super::fake::{BLOCK, BUFFERS, Driver, blocks, command};
use crate::Mediator;

#[test]
fn a_driver_enables_the_controller_and_finds_it_ready() {
    let mut driver = Driver::new(1 << 20);
    assert_eq!(driver.read(0x1c), 0);
    driver.enable();
    assert_eq!(driver.read(0x1c), 1);
    assert_eq!(driver.world.cc, 0x0046_0001);
    assert_eq!(driver.read(0x14), 0x0046_0001);
}

#[test]
fn blocks_are_written_and_read_back_at_any_dword_of_a_page() {
    let mut driver = Driver::ready(1 << 20);
    for offset in [0_u64, 4, 0x7c0, 0xe00, 0xffc] {
        let secret: Vec<u8> = (0..1536).map(|at| (at as u64 + offset) as u8).collect();
        let at = 0x8000 + offset;
        driver.set(at, &secret);
        let second = 0x9000;
        let written = driver.ask(1, blocks(1, [at, second], 10, 3));
        assert_eq!(written.status, 0);
        assert_eq!(driver.world.disk[10 * BLOCK..13 * BLOCK], secret);
        let to = 0xa000 + offset;
        driver.set(0xa000, &[0xee; 0x3000]);
        assert_eq!(driver.ask(1, blocks(2, [to, 0xb000], 10, 3)).status, 0);
        assert_eq!(driver.memory(to, 1536), secret);
        assert_eq!(
            driver.memory(0xa000, offset as usize),
            std::vec![0xee; offset as usize]
        );
        let end = to + 1536;
        assert_eq!(driver.memory(end, 16), [0xee; 16]);
    }
}

#[test]
fn a_long_request_has_its_list_walked_across_list_pages() {
    let mut driver = Driver::ready(4 << 20);
    // 128 KiB into every second page, the list beginning three entries before a page's end.
    let mut entries: Vec<u64> = (0..32).map(|page| 0x4_0000 + page * 0x2000).collect();
    let first = 0x3_0000;
    entries.truncate(31);
    let list = 0x1_0000_u64 + 4096 - 24;
    for (index, entry) in entries.iter().enumerate() {
        let at = match index {
            0 | 1 => list + index as u64 * 8,
            _ => 0x1_2000 + (index as u64 - 2) * 8,
        };
        driver.set(at, &entry.to_le_bytes());
    }
    driver.set(list + 16, &0x1_2000_u64.to_le_bytes());
    let answer = driver.ask(1, blocks(2, [first, list], 0, 256));
    assert_eq!(answer.status, 0);
    assert_eq!(driver.memory(first, 4096), driver.world.disk[..4096]);
    for (index, entry) in entries.iter().enumerate() {
        let at = (index + 1) * 4096;
        assert_eq!(
            driver.memory(*entry, 4096),
            driver.world.disk[at..at + 4096]
        );
        assert_eq!(driver.memory(entry + 0x1000, 4096), std::vec![0xee; 4096]);
    }
}

#[test]
fn a_guest_that_asks_for_more_than_there_is_waits_and_is_served() {
    let mut driver = Driver::ready(256 << 10);
    let bytes = driver.nvme.longest_transfer();
    let count = bytes / BLOCK as u32;
    let list: Vec<u8> = (1..64_u64)
        .flat_map(|page| (0x4_0000 + page * 4096).to_le_bytes())
        .collect();
    driver.set(0x1_0000, &list);
    let prp2 = if bytes > 8192 { 0x1_0000 } else { 0x4_1000 };
    let ids: Vec<u16> = (0..40)
        .map(|_| driver.fill(1, blocks(2, [0x4_0000, prp2], 0, count)))
        .collect();
    driver.ring(1);
    let mut seen = Vec::new();
    for _ in 0..100 {
        driver.run();
        while let Some(answer) = driver.next(1) {
            assert_eq!(answer.status, 0);
            seen.push(answer.id);
        }
        driver.seen(1);
    }
    assert_eq!(seen, ids);
    assert!(driver.nvme.counts().held_back > 0);
    assert_eq!(driver.nvme.in_flight(), 0);
}

#[test]
fn a_reset_with_requests_in_flight_takes_every_page_back_when_the_device_says_so() {
    let mut driver = Driver::ready(1 << 20);
    for _ in 0..8 {
        driver.fill(1, blocks(2, [0x4_0000, 0], 0, 8));
    }
    driver.ring(1);
    driver.world.fetch();
    assert_eq!(driver.nvme.in_flight(), 8);
    driver.write(0x14, 0);
    // It may still write: nothing is taken back.
    assert_eq!(driver.read(0x1c), 1);
    assert_eq!(driver.nvme.in_flight(), 8);
    driver.world.is_ready = false;
    assert_eq!(driver.read(0x1c), 0);
    assert_eq!(driver.nvme.in_flight(), 0);
    driver.nvme.check_conservation();
    driver.enable();
    driver.create(1, 64);
    // What the guest was told of its namespaces still holds.
    assert_eq!(driver.ask(1, blocks(2, [0x4_0000, 0], 0, 8)).status, 0);
}

#[test]
fn a_device_that_completes_what_it_was_not_given_is_cut_off() {
    let mut driver = Driver::ready(1 << 20);
    driver.fill(1, blocks(2, [0x4_0000, 0], 0, 8));
    driver.ring(1);
    driver.world.fetch();
    driver.world.post(1, [0, 0, 1 << 16 | 1, 0x77]);
    driver.look();
    assert!(driver.world.lie.is_some());
    assert_eq!(driver.read(0x1c), 2);
    assert_eq!(driver.nvme.in_flight(), 0);
    assert_eq!(driver.next(1), None);
    driver.nvme.check_conservation();
}

#[test]
fn a_guest_with_doorbells_in_memory_rings_the_less_the_more_is_on_its_way() {
    let mut driver = Driver::ready(1 << 20);
    driver.set(BUFFERS[0], &[0; 0x2000]);
    let words = command(0x7c, 0, BUFFERS, &[]);
    assert_eq!(driver.ask(0, words).status, 0);
    let before = driver.nvme.counts();
    let rings: Vec<bool> = (0..7)
        .map(|_| {
            driver.fill(1, blocks(2, [0x4_0000, 0], 0, 8));
            driver.ring_in_memory(1)
        })
        .collect();
    assert_eq!(rings, [true, true, true, true, false, true, false]);
    driver.run();
    driver.run();
    assert_eq!(driver.nvme.counts().completed, before.completed + 7);
    driver.fill(1, blocks(2, [0x4_0000, 0], 0, 8));
    assert!(driver.ring_in_memory(1), "the queue is idle again");
}

#[test]
fn a_guest_without_interrupts_finds_what_is_complete_when_it_touches_a_register() {
    let mut driver = Driver::ready(1 << 20);
    driver.world.is_mute = true;
    driver.set(BUFFERS[0], &[0; 0x2000]);
    driver.fill(0, command(0x7c, 0, BUFFERS, &[]));
    driver.ring(0);
    driver.read(0x1c);
    driver.next(0).expect("an answer");
    for _ in 0..20 {
        driver.fill(1, blocks(2, [0x4_0000, 0], 0, 8));
        assert!(driver.ring_in_memory(1), "nobody would look otherwise");
    }
    driver.world.run();
    assert_eq!(driver.next(1), None);
    driver.read(0x1c);
    assert_eq!(core::iter::from_fn(|| driver.next(1)).count(), 20);
}

#[test]
fn a_guest_without_interrupts_finds_in_its_memory_what_is_complete_soon_after_it_rang() {
    let mut driver = Driver::ready(1 << 20);
    driver.world.is_mute = true;
    driver.world.patience = 3;
    driver.fill(1, blocks(2, [0x4_0000, 0], 0, 8));
    driver.ring(1);
    assert_eq!(driver.next(1).map(|answer| answer.status), Some(0));
    // What takes longer than an access may is found at the next one.
    driver.fill(1, blocks(2, [0x4_0000, 0], 0, 8));
    driver.ring(1);
    assert_eq!(driver.next(1), None);
    driver.world.run();
    driver.read(0x1c);
    assert!(driver.next(1).is_some());
}

#[test]
fn nobody_waits_for_the_device_of_a_guest_with_interrupts_nor_for_an_event() {
    let mut driver = Driver::ready(1 << 20);
    driver.world.patience = 3;
    driver.fill(1, blocks(2, [0x4_0000, 0], 0, 8));
    driver.ring(1);
    assert_eq!(driver.world.patience, 3);
    driver.run();
    driver.world.is_mute = true;
    driver.fill(0, command(0x0c, 0, [0, 0], &[]));
    driver.ring(0);
    assert_eq!(driver.world.patience, 3);
}

/// What a request costs: its instructions are counted by
/// `valgrind --tool=callgrind TEST-BINARY --ignored requests_of_depth_NN`, less those of `Fake`.
fn requests_of_depth(depth: u32, opcode: u8) {
    let mut driver = Driver::ready(16 << 20);
    for _ in 0..2048 / depth {
        for _ in 0..depth {
            driver.fill(1, blocks(opcode, [0x4_0000, 0], 0, 8));
        }
        driver.ring(1);
        driver.world.run();
        let _ = driver.nvme.look(&mut driver.world);
        while driver.next(1).is_some() {}
        driver.seen(1);
    }
    assert_eq!(driver.nvme.in_flight(), 0);
}

#[test]
#[ignore = "for counting: valgrind --tool=callgrind TEST-BINARY --ignored requests_of_depth_1_are"]
fn requests_of_depth_1_are_counted() {
    requests_of_depth(1, 2);
}

#[test]
#[ignore = "for counting: valgrind --tool=callgrind TEST-BINARY --ignored requests_of_depth_32_are"]
fn requests_of_depth_32_are_counted() {
    requests_of_depth(32, 2);
}
