//! I/O commands: their bytes, their blocks, their PRPs.

extern crate std;

use std::vec::Vec;

use memory::{ByteRange, Gpa};
use proptest::prelude::*;

use super::super::fake::{BLOCK, Driver, blocks, command};
use crate::{Mediator, Notice};

const READ: u8 = 2;
const INVALID_FIELD: u16 = 0x02;
const DATA_TRANSFER_ERROR: u16 = 0x04;
const INVALID_NAMESPACE: u16 = 0x0b;
const PRP_OFFSET_INVALID: u16 = 0x13;

fn ask(driver: &mut Driver, prps: [u64; 2], count: u32) -> u16 {
    driver.ask(1, blocks(READ, prps, 0, count)).status
}

#[test]
fn blocks_of_a_namespace_that_the_guest_was_not_told_of_are_refused() {
    let mut driver = Driver::ready(1 << 20);
    for namespace in [0, 2, 5, u32::MAX] {
        for opcode in [1, 2, 5] {
            let mut words = blocks(opcode, [0x4_0000, 0], 0, 8);
            words[1] = namespace;
            assert_eq!(driver.ask(1, words).status, INVALID_NAMESPACE);
        }
    }
    // A flush of all namespaces is about no blocks.
    let flush = command(0, u32::MAX, [0, 0], &[]);
    assert_eq!(driver.ask(1, flush).status, 0);
}

/// MDTS: "aborted with a status code of Invalid Field in Command".
#[test]
fn a_request_longer_than_was_said_is_refused() {
    let mut driver = Driver::ready(1 << 20);
    let most = driver.nvme.longest_transfer() / BLOCK as u32;
    assert_eq!(
        ask(&mut driver, [0x4_0000, 0x1_0000], most + 1),
        INVALID_FIELD
    );
    assert_eq!(
        ask(&mut driver, [0x4_0000, 0x1_0000], 0x1_0000),
        INVALID_FIELD
    );
}

#[test]
fn commands_have_the_bytes_that_the_specification_gives_them() {
    let mut driver = Driver::ready(1 << 20);
    for (opcode, dwords, to, from) in [
        (0x00, [(10, 0), (12, 7)], 0, 0),
        (0x01, [(10, 0), (12, 7)], 4096, 0),
        (0x02, [(10, 0), (12, 7)], 0, 4096),
        (0x04, [(10, 0), (12, 7)], 0, 0),
        (0x05, [(10, 0), (12, 7)], 4096, 0),
        (0x08, [(10, 0), (12, 0xffff)], 0, 0),
        (0x09, [(10, 2), (12, 0)], 48, 0),
        (0x09, [(10, 0xff), (12, 0)], 4096, 0),
        (0x0c, [(10, 0), (12, 0xffff)], 0, 0),
        (0x0d, [(10, 0), (12, 0)], 16, 0),
        (0x0e, [(10, 15), (12, 0)], 0, 64),
        (0x11, [(10, 0), (12, 0)], 16, 0),
        (0x15, [(10, 0), (12, 0)], 8, 0),
    ] {
        let before = driver.nvme.counts();
        driver.fill(1, command(opcode, 1, [0x4_0000, 0], &dwords));
        driver.ring(1);
        driver.world.fetch();
        let request = driver.world.given.pop_front().expect("a request");
        assert_eq!(request.words[0] as u8, opcode);
        driver.world.complete(&request, 0, 0);
        driver.look();
        assert_eq!(driver.next(1).map(|answer| answer.status), Some(0));
        driver.seen(1);
        let after = driver.nvme.counts();
        let moved = (
            after.bytes_in - before.bytes_in,
            after.bytes_out - before.bytes_out,
        );
        assert_eq!(moved, (to, from), "{opcode:#x}");
    }
}

#[test]
fn what_is_not_known_to_the_byte_is_refused_and_told_once() {
    let mut driver = Driver::ready(1 << 20);
    // Copy, I/O management, vendor specific.
    for opcode in [0x19, 0x12, 0x1d, 0x80, 0xff, 0x80] {
        assert_eq!(
            driver.ask(1, command(opcode, 1, [0x4_0000, 0], &[])).status,
            0x01
        );
    }
    assert_eq!(driver.world.notices.len(), 5);
    let told = Notice::RefusedCommand {
        is_admin: false,
        opcode: 0x19,
    };
    assert_eq!(driver.world.notices[0], told);
}

/// Section 4.1.1: PRP entries have a page offset of 0, but the first, which is dword aligned.
#[test]
fn prps_that_no_entry_may_be_are_refused() {
    let mut driver = Driver::ready(1 << 20);
    driver.set(0x1_0000, &[0; 4096]);
    for prps in [[0x4_0001, 0], [0x4_0002, 0], [0x4_0003, 0]] {
        assert_eq!(ask(&mut driver, prps, 1), PRP_OFFSET_INVALID);
    }
    assert_eq!(
        ask(&mut driver, [0x4_0000, 0x5_0008], 16),
        PRP_OFFSET_INVALID
    );
    for list in [0x1_0001, 0x1_0004, 0x1_0007] {
        assert_eq!(ask(&mut driver, [0x4_0000, list], 24), PRP_OFFSET_INVALID);
    }
    driver.set(0x1_0000, &0x5_0000_u64.to_le_bytes());
    driver.set(0x1_0008, &0x5_1010_u64.to_le_bytes());
    assert_eq!(
        ask(&mut driver, [0x4_0000, 0x1_0000], 24),
        PRP_OFFSET_INVALID
    );
    // A second entry that is not needed is not looked at.
    assert_eq!(ask(&mut driver, [0x4_0000, 0x123], 8), 0);
    driver.nvme.check_conservation();
    assert_eq!(driver.nvme.lent_pages(), 0);
}

#[test]
fn prps_to_what_is_not_the_guests_memory_are_refused_both_ways() {
    let mut driver = Driver::ready(1 << 20);
    let outside = !0xfff;
    for opcode in [1, 2, 5] {
        for prps in [
            [outside, 0],
            [0x40_0000, 0],
            [0x4_0000, 0x8000_0000_0000],
            [outside, outside],
        ] {
            let status = driver.ask(1, blocks(opcode, prps, 0, 16)).status;
            assert_eq!(status, DATA_TRANSFER_ERROR, "{prps:x?}");
        }
        // Lists that are nowhere, or begin in the last bytes of all.
        for list in [outside, 0x40_0000, u64::MAX - 7] {
            let status = driver
                .ask(1, blocks(opcode, [0x4_0000, list], 0, 24))
                .status;
            assert_eq!(status, DATA_TRANSFER_ERROR, "{list:x}");
        }
    }
    driver.world.hole = ByteRange::new(Gpa::new(0x4_0fff), 1);
    assert_eq!(ask(&mut driver, [0x4_0000, 0], 8), DATA_TRANSFER_ERROR);
    assert_eq!(ask(&mut driver, [0x4_0000, 0], 7), 0);
    driver.nvme.check_conservation();
    assert_eq!(driver.nvme.lent_pages(), 0);
}

/// A list that points to itself is walked no further than the request has pages.
#[test]
fn a_list_that_loops_is_walked_once() {
    let mut driver = Driver::ready(4 << 20);
    let list = 0x1_0ff8_u64;
    driver.set(list, &0x1_0000_u64.to_le_bytes());
    driver.set(0x1_0000, &0x5_0000_u64.to_le_bytes().repeat(511));
    let before = driver.nvme.counts().entry_bytes;
    assert_eq!(ask(&mut driver, [0x4_0000, list], 256), 0);
    // The pointer, 31 entries; two queue entries each way.
    let entries = driver.nvme.counts().entry_bytes - before;
    assert_eq!(entries, 8 + 31 * 8 + 2 * 64 + 2 * 16);
}

#[test]
fn on_an_error_nothing_is_handed_out() {
    let mut driver = Driver::ready(1 << 20);
    driver.set(0x4_0000, &[0xee; 4096]);
    driver.fill(1, blocks(READ, [0x4_0000, 0], 0, 8));
    driver.ring(1);
    driver.world.fetch();
    let request = driver.world.given.pop_front().expect("a request");
    driver.world.give(&request.words, &[0x55; 4096]);
    driver.world.complete(&request, 0x281, 0);
    driver.look();
    assert_eq!(driver.next(1).map(|answer| answer.status), Some(0x281));
    assert_eq!(driver.memory(0x4_0000, 4096), [0xee; 4096]);
    assert_eq!(driver.nvme.counts().bytes_out, 4096, "of Identify");
}

/// A device that says it wrote and did not, hands out zeros: nothing of a request before.
#[test]
fn a_device_that_writes_nothing_hands_out_nothing_of_others() {
    let mut driver = Driver::ready(256 << 10);
    for _ in 0..64 {
        assert_eq!(ask(&mut driver, [0x5_0000, 0], 8), 0);
    }
    for _ in 0..64 {
        driver.set(0x4_0000, &[0xee; 4096]);
        driver.fill(1, blocks(READ, [0x4_0000, 0], 0, 8));
        driver.ring(1);
        driver.world.fetch();
        let request = driver.world.given.pop_front().expect("a request");
        driver.world.complete(&request, 0, 0);
        driver.look();
        assert!(driver.next(1).is_some());
        driver.seen(1);
        assert_eq!(driver.memory(0x4_0000, 4096), [0; 4096]);
    }
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(64))]

    #[test]
    fn any_request_moves_its_bytes_and_no_others(
        opcode in 1_u8..3,
        offset in 0_u64..1024,
        first in 0_u32..1000,
        count in 1_u32..64,
        list_offset in 0_u64..512,
        mix in any::<u64>(),
        is_mapping: bool,
    ) {
        let mut driver = Driver::ready(1 << 20);
        if is_mapping {
            driver.map();
        }
        let (offset, bytes) = (offset * 4, count as usize * BLOCK);
        let pages = (offset as usize + bytes).div_ceil(4096);
        // Pages here and there, each once.
        let at: Vec<u64> = (0..pages as u64)
            .map(|page| 0x8_0000 + ((page.wrapping_mul(5) ^ mix) % 64) * 0x2000 + page / 64 * 0x1000)
            .collect();
        let mut seen = at.clone();
        seen.sort_unstable();
        seen.dedup();
        prop_assume!(seen.len() == pages);
        let mut list = 0x1_0000 + list_offset * 8;
        let prps = [at[0] + offset, match pages { 1 => mix, 2 => at[1], _ => list }];
        if pages > 2 {
            for (index, entry) in at[1..].iter().enumerate() {
                if list % 4096 == 4088 && index + 2 < pages {
                    driver.set(list, &0x1_4000_u64.to_le_bytes());
                    list = 0x1_4000;
                }
                driver.set(list, &entry.to_le_bytes());
                list += 8;
            }
        }
        let all = driver.memory(0x8_0000, 0x8_0000);
        let disk = driver.world.disk.clone();
        prop_assert_eq!(driver.ask(1, blocks(opcode, prps, first, count)).status, 0);
        let (mut rest, mut start) = (bytes, offset as usize);
        let (mut expected, mut on_disk) = (all.clone(), disk.clone());
        let mut block = first as usize * BLOCK;
        for page in at {
            let len = rest.min(4096 - start);
            let from = page as usize - 0x8_0000 + start;
            if opcode == READ {
                expected[from..from + len].copy_from_slice(&disk[block..block + len]);
            } else {
                on_disk[block..block + len].copy_from_slice(&all[from..from + len]);
            }
            (rest, start, block) = (rest - len, 0, block + len);
        }
        prop_assert!(driver.memory(0x8_0000, 0x8_0000) == expected);
        prop_assert!(driver.world.disk == on_disk);
        prop_assert_eq!(driver.nvme.lent_pages(), 0);
        prop_assert!(driver.world.mapped.is_empty());
    }
}
