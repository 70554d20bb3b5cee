//! Admin commands, one by one.

use super::super::fake::{Driver, Fake, blocks, command};
use crate::{Mediator, Notice};

const IDENTIFY: u8 = 0x06;
const INVALID_FIELD: u16 = 0x02;
const INTERNAL_ERROR: u16 = 0x06;

/// What the device was given last of the admin queue, and answers with `status`.
fn given(driver: &mut Driver, words: [u32; 16], status: u16) -> ([u32; 16], u16) {
    driver.fill(0, words);
    driver.ring(0);
    driver.world.fetch();
    let request = driver.world.given.pop_front().expect("a request");
    driver.world.complete(&request, status, 0);
    driver.look();
    let answer = driver.next(0).expect("an answer");
    driver.seen(0);
    (request.words, answer.status)
}

fn u16_at(data: &[u8], at: usize) -> u16 {
    u16::from_le_bytes([data[at], data[at + 1]])
}

#[test]
fn the_controller_is_shown_without_what_is_not_offered() {
    let mut driver = Driver::new(1 << 20);
    driver.enable();
    let answer = driver.admin(IDENTIFY, 0, 0x3000, &[(10, 1)]);
    assert_eq!(answer.status, 0);
    // The device says ones everywhere, but for MDTS: no limit.
    let data = driver.memory(0x3000, 4096);
    assert_eq!(data[77], 5, "MDTS: 32 pages, as the pools hold");
    assert_eq!(data[96..100], [0xff, 0x02, 0, 0], "CTRATT");
    assert_eq!(
        u16_at(&data, 256),
        0x031f,
        "OACS, with Doorbell Buffer Config"
    );
    assert_eq!(data[259], 3, "AERL");
    assert_eq!(data[264], 0, "AVSCC");
    assert!(data[272..280].iter().all(|byte| *byte == 0), "HMPRE, HMMIN");
    assert!(
        data[332..338].iter().all(|byte| *byte == 0),
        "HMMINDS, HMMAXD"
    );
    assert_eq!(data[512..514], [0x66, 0x44], "SQES, CQES");
    assert_eq!(data[516..520], 4_u32.to_le_bytes(), "NN");
    assert_eq!(u16_at(&data, 520), 0x00ff, "ONCS");
    assert_eq!(u16_at(&data, 522), 0, "FUSES");
    assert!(data[534..540].iter().all(|byte| *byte == 0), "OCFS, SGLS");
    assert!(
        data[3072..].iter().all(|byte| *byte == 0),
        "vendor specific"
    );
    // What is shown as it is.
    assert!(data[..72].iter().all(|byte| *byte == 0xff));
    assert!(data[768..1024].iter().all(|byte| *byte == 0xff), "SUBNQN");
    assert!(
        data[2048..3072].iter().all(|byte| *byte == 0xff),
        "power states"
    );
}

/// NN, as the guest is told it by a device that answers a request for its namespaces with `status` and `numbers`.
fn highest_number(status: u16, numbers: &[u32]) -> u32 {
    let mut driver = Driver::new(1 << 20);
    driver.enable();
    let before = driver.memory(0x3000, 4096);
    driver.fill(0, command(IDENTIFY, 7, [0x3000, 0], &[(10, 1)]));
    driver.ring(0);
    driver.world.fetch();
    let list = driver.world.given.pop_front().expect("a request");
    assert_eq!(
        (list.words[1], list.words[10]),
        (0, 2),
        "all of the active ones"
    );
    let mut data = [0; 4096];
    for (to, number) in data.as_chunks_mut().0.iter_mut().zip(numbers) {
        *to = number.to_le_bytes();
    }
    driver.world.give(&list.words, &data);
    driver.world.complete(&list, status, 0);
    driver.look();
    assert_eq!(driver.next(0), None, "the guest has not asked for that");
    assert!(driver.memory(0x3000, 4096) == before, "nor is shown it");
    driver.run();
    assert_eq!(driver.next(0).expect("an answer").status, 0);
    let data = driver.memory(0x3000, 4096);
    u32::from_le_bytes([data[516], data[517], data[518], data[519]])
}

#[test]
fn the_highest_number_of_a_namespace_is_that_of_the_last_there_is() {
    assert_eq!(highest_number(0, &[1]), 1);
    assert_eq!(highest_number(0, &[1, 3]), 3);
    assert_eq!(highest_number(0, &[]), 1, "never none");
    assert_eq!(
        highest_number(0, &[1, 900]),
        4,
        "no more than there is room for"
    );
    let does_not_tell = highest_number(INVALID_FIELD, &[1]);
    assert_eq!(does_not_tell, 4, "all there is room for");
}

#[test]
fn a_device_older_than_the_list_of_its_namespaces_is_not_asked_for_it() {
    for (version, asked) in [(0x0001_0000, 1), (0x0001_0100, 1), (0x0001_0200, 2)] {
        let mut world = Fake::new(1 << 20);
        world.version = version;
        let mut driver = Driver::of(world, 64);
        driver.enable();
        driver.fill(0, command(IDENTIFY, 0, [0x3000, 0], &[(10, 1)]));
        driver.ring(0);
        driver.world.fetch();
        let first = driver.world.given.front().expect("a request");
        assert_eq!(first.words[10], asked, "{version:#x}");
    }
}

#[test]
fn a_device_whose_ring_is_full_again_when_it_lists_its_namespaces_is_no_liar() {
    let list = command(IDENTIFY, 0, [0x3000, 0], &[(10, 2)]);
    let mut driver = Driver::of(Fake::new(1 << 20), 128);
    driver.enable();
    let identify = driver.fill(0, command(IDENTIFY, 0, [0x4000, 0], &[(10, 1)]));
    let other = driver.fill(0, list);
    driver.ring(0);
    driver.world.fetch();
    let mut given = core::mem::take(&mut driver.world.given).into_iter();
    let [first, second] = [given.next(), given.next()].map(|it| it.expect("a request"));
    // More than what the device's ring has room for, and the device fetches none of it.
    for _ in 0..3 {
        for _ in 0..21 {
            driver.fill(0, list);
        }
        driver.ring(0);
    }
    driver.world.complete(&second, 0, 0);
    driver.look();
    assert_eq!(driver.next(0).expect("an answer").id, other);
    driver.world.complete(&first, 0, 0);
    driver.look();
    let answer = driver.next(0).expect("an answer");
    assert_eq!((answer.id, answer.status), (identify, INTERNAL_ERROR));
    assert_eq!(driver.world.lie, None);
    driver.nvme.check_conservation();
}

#[test]
fn identify_data_goes_where_two_prps_say() {
    let mut driver = Driver::new(1 << 20);
    driver.enable();
    driver.set(0x3000, &[0xee; 0x4000]);
    let words = command(IDENTIFY, 0, [0x3ff0, 0x6000], &[(10, 1)]);
    assert_eq!(driver.ask(0, words).status, 0);
    assert_eq!(driver.memory(0x3fef, 2), [0xee, 0xff]);
    assert_eq!(driver.memory(0x4000, 16), [0xee; 16]);
    assert_eq!(driver.memory(0x6fe0, 16), [0; 16]);
    assert_eq!(driver.memory(0x6ff0, 16), [0xee; 16]);
}

#[test]
fn only_structures_of_the_nvm_command_set_are_identified() {
    let mut driver = Driver::new(1 << 20);
    driver.enable();
    for structure in 0..=0xff_u32 {
        let is_known = matches!(structure, 0..=8 | 0x10..=0x13 | 0x16..=0x19);
        let status = driver.admin(IDENTIFY, 1, 0x3000, &[(10, structure)]).status;
        assert_eq!(status == 0, is_known, "{structure:#x}");
    }
    // A namespace by the rules of the zoned command set.
    let zoned = driver.admin(IDENTIFY, 1, 0x3000, &[(10, 5), (11, 2 << 24)]);
    assert_eq!(zoned.status, INVALID_FIELD);
}

#[test]
fn a_namespace_with_metadata_is_hidden_and_formats_with_metadata_are_not_listed() {
    let mut driver = Driver::new(1 << 20);
    driver.world.metadata = 8;
    driver.enable();
    assert_eq!(driver.admin(IDENTIFY, 1, 0x3000, &[(10, 0)]).status, 0);
    assert_eq!(driver.memory(0x3000, 4096), [0; 4096]);
    driver.create(1, 64);
    assert_eq!(driver.ask(1, blocks(2, [0x4_0000, 0], 0, 8)).status, 0x0b);
    let hidden = Notice::UnusableBlocks { namespace: 1 };
    assert_eq!(driver.world.notices, [hidden]);
    // Formatted to the other one.
    driver.world.format = 1;
    assert_eq!(driver.admin(0x80, 1, 0, &[(10, 1)]).status, 0);
    assert_eq!(driver.admin(IDENTIFY, 1, 0x3000, &[(10, 0)]).status, 0);
    assert_eq!(driver.memory(0x3000 + 128, 8), [0, 0, 0, 0, 0, 0, 12, 0]);
    assert_eq!(driver.ask(1, blocks(9, [0x4_0000, 0], 0, 1)).status, 0);
    assert_eq!(driver.nvme.counts().held_back, 0);
}

/// A driver that reads more bits of the format's number than another would count other blocks.
#[test]
fn every_reading_of_the_format_finds_the_same_blocks() {
    let mut driver = Driver::new(1 << 20);
    driver.enable();
    driver.world.format = 0x21;
    assert_eq!(driver.admin(IDENTIFY, 1, 0x3000, &[(10, 0)]).status, 0);
    assert_eq!(driver.memory(0x3000 + 26, 1), [1]);
    assert!(
        driver
            .memory(0x3000 + 192, 192)
            .iter()
            .all(|byte| *byte == 0)
    );
    // With so many formats that the upper bits count, it is not shown.
    driver.world.last_format = 40;
    assert_eq!(driver.admin(IDENTIFY, 2, 0x3000, &[(10, 0)]).status, 0);
    assert_eq!(driver.memory(0x3000, 4096), [0; 4096]);
}

/// Between what the device says now and what the driver still counts by, a request would have
/// other bytes than the driver means.
#[test]
fn blocks_that_change_without_a_format_are_not_believed() {
    let mut driver = Driver::ready(1 << 20);
    driver.world.format = 1;
    assert_eq!(driver.admin(IDENTIFY, 1, 0x3000, &[(10, 0)]).status, 0);
    assert_eq!(driver.memory(0x3000, 4096), [0; 4096]);
    assert_eq!(driver.ask(1, blocks(2, [0x4_0000, 0], 0, 8)).status, 0x0b);
    let told = Notice::OtherBlocks { namespace: 1 };
    assert_eq!(driver.world.notices, [told]);
    // A format that fails changes nothing; one that succeeds lets the guest learn again.
    given(&mut driver, command(0x80, 1, [0, 0], &[]), 0x10a);
    assert_eq!(driver.ask(1, blocks(2, [0x4_0000, 0], 0, 1)).status, 0x0b);
    assert_eq!(driver.admin(0x80, u32::MAX, 0, &[]).status, 0);
    assert_eq!(driver.admin(IDENTIFY, 1, 0x3000, &[(10, 0)]).status, 0);
    assert_eq!(driver.memory(0x3000 + 26, 1), [1]);
}

#[test]
fn a_namespace_beyond_the_storage_is_hidden_and_the_common_one_shown() {
    let mut driver = Driver::new(1 << 20);
    driver.enable();
    assert_eq!(driver.admin(IDENTIFY, 5, 0x3000, &[(10, 0)]).status, 0);
    assert_eq!(driver.memory(0x3000, 4096), [0; 4096]);
    let told = Notice::NoRoomForNamespace { namespace: 5 };
    assert_eq!(driver.world.notices, [told]);
    assert_eq!(
        driver.admin(IDENTIFY, u32::MAX, 0x3000, &[(10, 0)]).status,
        0
    );
    assert_ne!(driver.memory(0x3000, 4096), [0; 4096]);
}

#[test]
fn numbers_of_queues_are_cut_to_what_there_is_room_for() {
    let mut driver = Driver::ready(1 << 20);
    let most = driver.nvme.most_queues() - 1;
    let answer = driver.admin(0x09, 0, 0, &[(10, 7), (11, 99 << 16 | 98)]);
    assert_eq!((answer.status, answer.result), (0, most << 16 | most));
    let answer = driver.admin(0x09, 0, 0, &[(10, 7), (11, 1 << 16 | 2)]);
    assert_eq!(answer.result, 1 << 16 | 2);
    for wrong in [0xffff, 0xffff_0000] {
        let answer = driver.admin(0x09, 0, 0, &[(10, 7), (11, wrong)]);
        assert_eq!(answer.status, INVALID_FIELD);
    }
}

#[test]
fn features_have_the_data_that_the_specification_gives_them() {
    let mut driver = Driver::ready(1 << 20);
    for (feature, dword, bytes) in [
        (0x02, 0, 0),
        (0x03, 0, 4096),
        (0x0c, 0, 256),
        (0x0e, 0, 8),
        (0x16, 0, 512),
        (0x81, 0, 8),
        (0x81, 1, 16),
    ] {
        let before = driver.nvme.counts();
        for opcode in [0x09, 0x0a] {
            let words = command(opcode, 0, [0x3000, 0], &[(10, feature), (11, dword)]);
            assert_eq!(given(&mut driver, words, 0).1, 0);
        }
        let after = driver.nvme.counts();
        assert_eq!(after.bytes_in - before.bytes_in, bytes, "{feature:#x}");
        assert_eq!(after.bytes_out - before.bytes_out, bytes, "{feature:#x}");
        // "Supported capabilities": no data.
        let words = command(0x0a, 0, [0x3000, 0], &[(10, feature | 3 << 8), (11, dword)]);
        given(&mut driver, words, 0);
        assert_eq!(driver.nvme.counts().bytes_out, after.bytes_out);
    }
    // The host memory buffer, I/O command sets, vendor specific.
    for feature in [0x0d, 0x19, 0xc0, 0xff, 0x00] {
        for opcode in [0x09, 0x0a] {
            let answer = driver.admin(opcode, 0, 0x3000, &[(10, feature)]);
            assert_eq!(answer.status, INVALID_FIELD, "{feature:#x}");
        }
    }
}

#[test]
fn lengths_in_commands_are_the_bytes_that_are_lent() {
    let mut driver = Driver::ready(1 << 20);
    for (opcode, dwords, to, from) in [
        // Get Log Page: 128 double words; an upper half that is too much comes below.
        (0x02, [(10, 127 << 16 | 2), (11, 0)], 0, 512),
        // Firmware Image Download: 1024 double words.
        (0x11, [(10, 1023), (11, 7)], 4096, 0),
        // Security Send and Receive: 100 and no bytes.
        (0x81, [(10, 0), (11, 100)], 100, 0),
        (0x82, [(10, 0), (11, 100)], 0, 100),
        (0x82, [(10, 0), (11, 0)], 0, 0),
        // Namespace management, create and delete; attachment.
        (0x0d, [(10, 0), (11, 0)], 4096, 0),
        (0x0d, [(10, 1), (11, 0)], 0, 0),
        (0x15, [(10, 0), (11, 0)], 4096, 0),
        // Get LBA Status: double words in dword 12, which is 0.
        (0x86, [(10, 0), (11, 0)], 0, 4),
        // Firmware Commit, Device Self-test, Keep Alive, Format, Sanitize.
        (0x10, [(10, 0), (11, 0)], 0, 0),
        (0x14, [(10, 0), (11, 0)], 0, 0),
        (0x18, [(10, 0), (11, 0)], 0, 0),
        (0x80, [(10, 0), (11, 0)], 0, 0),
        (0x84, [(10, 0), (11, 0)], 0, 0),
    ] {
        let before = driver.nvme.counts();
        let words = command(opcode, 3, [0x3000, 0x4000], &dwords);
        let (given, status) = given(&mut driver, words, 0);
        assert_eq!((given[0] as u8, given[1], status), (opcode, 3, 0));
        assert_eq!(given[10..], words[10..], "what is asked is asked");
        let after = driver.nvme.counts();
        let moved = (
            after.bytes_in - before.bytes_in,
            after.bytes_out - before.bytes_out,
        );
        assert_eq!(moved, (to, from), "{opcode:#x}");
        assert_eq!(driver.nvme.lent_pages(), 0);
    }
    for (opcode, dwords) in [
        (0x02, [(10, 0xffff << 16), (11, 0xffff)]),
        (0x02, [(10, 0), (11, 1)]),
        (0x11, [(10, u32::MAX), (11, 0)]),
        (0x82, [(10, 0), (11, u32::MAX)]),
        (0x86, [(12, u32::MAX), (11, 0)]),
        (0x0d, [(10, 2), (11, 0)]),
    ] {
        let status = driver.admin(opcode, 0, 0x3000, &dwords).status;
        assert_eq!(status, INVALID_FIELD, "{opcode:#x}");
    }
}

#[test]
fn what_is_not_known_to_the_byte_is_refused_and_told_once() {
    let mut driver = Driver::ready(1 << 20);
    let before = driver.nvme.counts().requests;
    // Directives, virtualization, management interface, lockdown, vendor specific.
    for opcode in [
        0x19, 0x1a, 0x1c, 0x1d, 0x1e, 0x20, 0x24, 0x7f, 0xc0, 0xff, 0xc0,
    ] {
        assert_eq!(driver.admin(opcode, 1, 0x3000, &[]).status, 0x01);
    }
    assert_eq!(driver.world.notices.len(), 10);
    assert_eq!(driver.nvme.counts().requests, before);
}

#[test]
fn fused_commands_and_sgls_are_refused() {
    let mut driver = Driver::ready(1 << 20);
    for form in [1 << 8, 2 << 8, 1 << 14, 2 << 14] {
        for queue in [0, 1] {
            let mut words = blocks(2, [0x4_0000, 0], 0, 8);
            words[0] |= form;
            assert_eq!(driver.ask(queue, words).status, INVALID_FIELD);
        }
    }
}

#[test]
fn what_the_device_is_told_names_nothing_of_the_guests() {
    let mut driver = Driver::ready(1 << 20);
    let mut words = command(0x02, 1, [0x3000, 0x4000], &[(10, 0xffff << 16)]);
    words[10] = 127 << 16;
    // Reserved double words and the metadata pointer.
    words[2..6].copy_from_slice(&[0x11, 0x22, 0x33, 0x44]);
    let (given, _) = given(&mut driver, words, 0);
    assert_eq!(given[2..6], [0; 4]);
    let arena = driver.world.arena();
    let at = u64::from(given[6]) | u64::from(given[7]) << 32;
    assert!(arena.writable().contains(memory::Iova::new(at)));
    assert_eq!(given[8..10], [0, 0]);
    assert_ne!(given[0] >> 16, 0x0102, "the identifier is ours");
}

/// Section 5.1: "The Abort command is used to abort a specific command": by the identifier that
/// the device knows it by. Bit 0 of the answer: "the command was not aborted".
#[test]
fn an_abort_names_what_the_device_knows() {
    let mut driver = Driver::ready(1 << 20);
    let id = driver.fill(1, blocks(2, [0x4_0000, 0], 0, 8));
    driver.ring(1);
    driver.world.fetch();
    let request = driver.world.given.pop_front().expect("a request");
    let words = command(0x08, 0, [0, 0], &[(10, u32::from(id) << 16 | 1)]);
    let (given, status) = given(&mut driver, words, 0);
    assert_eq!(status, 0);
    assert_eq!(given[10], request.words[0] >> 16 << 16 | 1);
    for (queue, id) in [(1, id + 9), (2, id), (0xffff, id)] {
        let answer = driver.admin(0x08, 0, 0, &[(10, u32::from(id) << 16 | queue)]);
        assert_eq!((answer.status, answer.result), (0, 1));
    }
}
