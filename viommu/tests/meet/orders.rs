//! Orders that the manual forbids have no effect, and what a queue must not hold stops it.

use memory::Gpa;
use viommu::{Access, Mode, Width, Work};
use vtd::spec::registers::{Cap, Fsts, Gsts, offset};

use crate::stage::Board;

const TE: u32 = 1 << 31;
const SRTP: u32 = 1 << 30;
const QIE: u32 = 1 << 26;
const IRE: u32 = 1 << 25;
const SIRTP: u32 = 1 << 24;
const QUEUE: u64 = 0x20_0000;
const STATUS: u64 = 0x30_0000;

fn board() -> Board {
    let board = Board::new(Width::Narrow);
    board.memory.put(QUEUE);
    board.memory.put(STATUS);
    board
}

fn queueing() -> Board {
    let board = board();
    board.write64(offset::IQA, QUEUE);
    board.write32(offset::GCMD, QIE);
    assert!(Gsts(board.read32(offset::GSTS)).qies());
    board
}

/// Puts descriptors into the queue from `slot` on, and tells the unit of them.
fn submit(board: &Board, slot: u64, descriptors: &[[u64; 2]]) {
    for (index, words) in (slot..).zip(descriptors) {
        board.memory.store(QUEUE + index * 16, words[0]);
        board.memory.store(QUEUE + index * 16 + 8, words[1]);
    }
    board.write64(offset::IQT, (slot + descriptors.len() as u64) << 4);
}

fn wait(data: u64, at: u64) -> [u64; 2] {
    [data << 32 | 0x65, at]
}

fn status(board: &Board) -> u64 {
    let mut bytes = [0; 8];
    memory::GuestMemory::read(&board.memory, Gpa::new(STATUS), &mut bytes).unwrap();
    u64::from_le_bytes(bytes)
}

#[test]
fn who_comes_while_translation_is_switched_on_follows_the_new_rule_already() {
    let board = board();
    board.write64(offset::RTADDR, QUEUE);
    board.write32(offset::GCMD, SRTP);
    let mode = || board.unit.borrow().mode();
    assert_eq!(mode(), Mode::Physical);
    let mut budget = 1_000;
    board
        .unit
        .borrow_mut()
        .write(offset::GCMD, &TE.to_le_bytes());
    let tables = Mode::Tables(Gpa::new(QUEUE));
    assert_eq!(board.step(&mut budget), Some(Work::Switch(tables)));
    // Devices are being told; the guest is not yet.
    assert!(!Gsts(board.read32(offset::GSTS)).tes());
    assert_eq!(mode(), tables);
    assert_eq!(board.step(&mut budget), None);
    assert!(Gsts(board.read32(offset::GSTS)).tes());
    board.write32(offset::GCMD, 0);
    assert_eq!(mode(), Mode::Physical);
}

#[test]
fn a_command_out_of_order_has_no_effect() {
    let board = board();
    // Translation without a root, interrupts without a table.
    board.write32(offset::GCMD, TE);
    board.write32(offset::GCMD, IRE);
    assert_eq!(board.read32(offset::GSTS), 0);
    // Two at once.
    board.write32(offset::GCMD, SRTP | SIRTP);
    assert_eq!(board.read32(offset::GSTS), 0);
    // A root of scalable mode, wide destinations that there are not.
    board.write64(offset::RTADDR, 0x1400);
    board.write32(offset::GCMD, SRTP);
    board.write64(offset::IRTA, 0x1800);
    board.write32(offset::GCMD, SIRTP);
    assert_eq!(board.read32(offset::GSTS), 0);
    assert!(board.work.borrow().is_empty());
    // A queue of wide descriptors, or one that begins with its tail inside.
    board.write64(offset::IQA, QUEUE | 1 << 11);
    board.write32(offset::GCMD, QIE);
    board.write64(offset::IQA, QUEUE);
    board.write64(offset::IQT, 0x10);
    board.write32(offset::GCMD, QIE);
    assert_eq!(board.read32(offset::GSTS), 0);
}

#[test]
fn a_unit_for_interrupts_translates_no_addresses() {
    let board = Board::for_interrupts();
    assert_eq!(Cap(board.read64(offset::CAP)).sagaw(), 0);
    board.write64(offset::RTADDR, 0x50_0000);
    board.write32(offset::GCMD, SRTP);
    board.write32(offset::GCMD, TE);
    let status = Gsts(board.read32(offset::GSTS));
    assert!(status.rtps() && !status.tes());
}

#[test]
fn what_is_not_offered_is_not_there() {
    let board = board();
    for bit in [29, 28, 27, 22, 0] {
        board.write32(offset::GCMD, 1 << bit);
    }
    assert_eq!(board.read32(offset::GSTS), 0);
    // Protected memory, page requests, scalable mode's registers: all zeros, whatever is written.
    for at in (0x64..0x80)
        .chain(0xc0..0xf0)
        .chain(0x100..0x220)
        .step_by(4)
    {
        board.write32(at, u32::MAX);
        assert_eq!(board.read32(at), 0, "{at:#x}");
    }
}

#[test]
fn reads_of_any_shape_and_writes_of_a_wrong_one_do_no_harm() {
    let board = board();
    let mut bytes = [0xff; 3];
    board.unit.borrow().read(offset::CAP + 1, &mut bytes);
    let cap = board.read64(offset::CAP).to_le_bytes();
    assert_eq!(bytes, cap[1..4]);
    board.write(offset::RTADDR, &[0xff]);
    board.write(offset::RTADDR + 2, &[0xff; 4]);
    board.write(offset::RTADDR + 4, &[0xff; 8]);
    assert_eq!(board.read64(offset::RTADDR), 0);
    board.unit.borrow().read(u32::MAX - 1, &mut [0; 8]);
}

#[test]
fn nothing_behind_a_wait_is_told_before_what_stands_before_it_is_done() {
    let board = queueing();
    board.memory.store(QUEUE, 0x12);
    let [low, high] = wait(7, STATUS);
    board.memory.store(QUEUE + 16, low);
    board.memory.store(QUEUE + 24, high);
    board
        .unit
        .borrow_mut()
        .write(offset::IQT, &0x20_u64.to_le_bytes());
    let mut budget = 10;
    assert!(matches!(board.step(&mut budget), Some(Work::Forget(_))));
    assert_eq!(status(&board), 0);
    assert_eq!(board.read64(offset::IQH), 0);
    assert_eq!(board.step(&mut budget), None);
    assert_eq!(status(&board), 7);
    assert_eq!(board.read64(offset::IQH), 0x20);
}

#[test]
fn a_bad_descriptor_stops_the_queue_until_the_guest_has_replaced_it() {
    for (bad, why) in [
        ([0x7, 0], 3),
        ([0x203, 0], 3),
        ([0x3, 0], 3),
        ([0x5 | 1 << 9, 0], 3),
        ([0x2, 0], 4),
        ([0x32, 63], 4),
        ([0x65 | 1 << 20, STATUS], 4),
        ([0x65, STATUS | 1], 4),
        ([0x14 | 31 << 27, 0], 4),
    ] {
        let board = queueing();
        submit(&board, 0, &[bad, wait(9, STATUS)]);
        assert!(Fsts(board.read32(offset::FSTS)).iqe(), "{bad:x?}");
        assert_eq!(board.read64(offset::IQERCD) & 0xf, why, "{bad:x?}");
        assert_eq!((board.read64(offset::IQH), status(&board)), (0, 0));
        let [low, high] = wait(8, STATUS + 4);
        board.memory.store(QUEUE, low);
        board.memory.store(QUEUE + 8, high);
        board.write32(offset::FSTS, 1 << 4);
        assert_eq!(status(&board), 8 << 32 | 9, "{bad:x?}");
    }
}

#[test]
fn a_queue_or_a_tail_that_is_nowhere_stops() {
    let board = board();
    board.write64(offset::IQA, 0xfed9_0000);
    board.write32(offset::GCMD, QIE);
    board.write64(offset::IQT, 0x10);
    assert_eq!(board.read64(offset::IQERCD) & 0xf, 2);
    let board = queueing();
    board.write64(offset::IQT, 256 << 4);
    assert_eq!(board.read64(offset::IQERCD) & 0xf, 1);
}

#[test]
fn a_status_that_is_nowhere_is_written_nowhere() {
    let board = queueing();
    submit(&board, 0, &[wait(1, 0xfee0_0000), wait(2, STATUS)]);
    assert_eq!(status(&board), 2);
}

#[test]
fn one_exit_reads_so_many_descriptors_and_no_more() {
    let board = queueing();
    for slot in 0..200 {
        let [low, high] = wait(slot, STATUS);
        board.memory.store(QUEUE + slot * 16, low);
        board.memory.store(QUEUE + slot * 16 + 8, high);
    }
    let tail = (200_u64 << 4).to_le_bytes();
    board.unit.borrow_mut().write(offset::IQT, &tail);
    let mut budget = 64;
    assert_eq!(board.step(&mut budget), None);
    assert!(board.unit.borrow().has_more());
    assert_eq!((status(&board), board.read64(offset::IQH)), (63, 64 << 4));
}

#[test]
fn commands_by_register_are_done_when_they_read_as_done() {
    let board = board();
    board.write64(offset::CCMD, 1 << 63 | 1 << 61);
    assert_eq!(
        board.read64(offset::CCMD) >> 59,
        0b00101,
        "global, and done"
    );
    board.write64(0xf8, 1 << 63 | 2 << 60 | 5 << 32);
    assert_eq!(board.read64(0xf8) >> 57, 0b0010010, "one domain, and done");
    assert_eq!(board.work.borrow().len(), 2);
    // Beside the queue nothing is done, which the granularity says.
    let board = queueing();
    board.write64(offset::CCMD, 1 << 63 | 1 << 61);
    assert_eq!(board.read64(offset::CCMD) >> 59 & 0b10011, 0);
    assert!(board.work.borrow().is_empty());
}

#[test]
fn masked_events_wait_and_are_sent_when_unmasked() {
    let board = board();
    assert_eq!(board.read32(offset::FECTL), 1 << 31);
    board.write64(offset::RTADDR, 0x50_0000);
    board.write32(offset::GCMD, SRTP);
    board.write32(offset::GCMD, TE);
    assert!(board.access(0x1000, Access::Read).is_err());
    assert_eq!(board.read32(offset::FECTL), 0b11 << 30);
    assert!(board.messages.borrow().is_empty());
    board.write32(offset::FEDATA, 0x61);
    board.write32(offset::FECTL, 0);
    assert_eq!(board.messages.borrow().len(), 1);
    assert_eq!(board.read32(offset::FECTL), 0);
}
