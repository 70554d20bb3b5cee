//! Creating and deleting queues, and doorbells.

extern crate std;

use std::collections::VecDeque;
use std::vec::Vec;

use memory::{ByteRange, Gpa};
use proptest::prelude::*;

use super::super::fake::{Driver, blocks, command};
use super::super::queues::Turns;
use crate::Mediator;

const CREATE_SUBMISSION: u8 = 0x01;
const CREATE_COMPLETION: u8 = 0x05;
const DELETE_SUBMISSION: u8 = 0x00;
const DELETE_COMPLETION: u8 = 0x04;

fn queue(driver: &mut Driver, opcode: u8, number: u32, entries: u32, flags: u32) -> u16 {
    let dwords = [(10, (entries - 1) << 16 | number), (11, flags)];
    driver.admin(opcode, 0, 0x28_0000, &dwords).status
}

#[test]
fn a_queue_is_refused_as_the_specification_names_it() {
    let mut driver = Driver::ready(1 << 20);
    let mut ask =
        |opcode, number, entries, flags| queue(&mut driver, opcode, number, entries, flags);
    // "Invalid Queue Identifier": 0, one that is there, one above those that there may be.
    for number in [0, 1, 8, 0xffff] {
        assert_eq!(ask(CREATE_COMPLETION, number, 64, 3), 0x101);
        assert_eq!(ask(CREATE_SUBMISSION, number, 64, 1 << 16 | 1), 0x101);
    }
    // "Invalid Queue Size": one entry, more than CAP.MQES says.
    for entries in [1, 1025, 0x1_0000] {
        assert_eq!(ask(CREATE_COMPLETION, 2, entries, 3), 0x102);
        assert_eq!(ask(CREATE_SUBMISSION, 2, entries, 1 << 16 | 1), 0x102);
    }
    // CAP.CQR: not contiguous.
    assert_eq!(ask(CREATE_COMPLETION, 2, 64, 2), 0x002);
    assert_eq!(ask(CREATE_SUBMISSION, 2, 64, 1 << 16), 0x002);
    // "Invalid Interrupt Vector".
    assert_eq!(ask(CREATE_COMPLETION, 2, 64, 0x0800_0003), 0x108);
    // "Completion Queue Invalid": not there; and an identifier that there cannot be.
    assert_eq!(ask(CREATE_SUBMISSION, 2, 64, 2 << 16 | 1), 0x100);
    assert_eq!(ask(CREATE_SUBMISSION, 2, 64, 1), 0x101);
    assert_eq!(ask(CREATE_SUBMISSION, 2, 64, 8 << 16 | 1), 0x101);
    // None of it took a page, and none reached the device.
    assert!(!driver.world.completions[2].is_there);
    driver.nvme.check_conservation();
}

#[test]
fn a_queue_in_no_memory_or_within_a_page_is_refused() {
    let mut driver = Driver::ready(1 << 20);
    driver.world.hole = ByteRange::new(Gpa::new(0x28_03ff), 1);
    assert_eq!(queue(&mut driver, CREATE_COMPLETION, 2, 64, 3), 0x002);
    let words = command(
        CREATE_COMPLETION,
        0,
        [0x28_0010, 0],
        &[(10, 63 << 16 | 2), (11, 3)],
    );
    assert_eq!(driver.ask(0, words).status, 0x013);
}

#[test]
fn the_device_is_told_of_rings_of_ours_and_always_interrupts() {
    let mut driver = Driver::ready(1 << 20);
    // The guest polls this one.
    assert_eq!(queue(&mut driver, CREATE_COMPLETION, 2, 64, 1), 0);
    assert_eq!(queue(&mut driver, CREATE_SUBMISSION, 2, 64, 2 << 16 | 1), 0);
    let arena = driver.world.arena();
    let completion = driver.world.completions[2];
    let submission = driver.world.submissions[2];
    assert!(
        arena
            .writable()
            .contains(memory::Iova::new(completion.base))
    );
    assert!(
        arena
            .readable()
            .contains(memory::Iova::new(submission.base))
    );
    assert_eq!(completion.completion, 0, "vector 0");
}

/// "If there are any associated Submission Queues present, then the command fails."
#[test]
fn queues_are_deleted_in_order_only() {
    let mut driver = Driver::ready(1 << 20);
    let mut ask = |opcode, number| driver.admin(opcode, 0, 0, &[(10, number)]).status;
    assert_eq!(ask(DELETE_COMPLETION, 1), 0x10c);
    for opcode in [DELETE_COMPLETION, DELETE_SUBMISSION] {
        for number in [0, 2, 8, 0xffff] {
            assert_eq!(ask(opcode, number), 0x101);
        }
    }
    assert_eq!(ask(DELETE_SUBMISSION, 1), 0);
    assert_eq!(ask(DELETE_SUBMISSION, 1), 0x101);
    assert_eq!(ask(DELETE_COMPLETION, 1), 0);
    driver.create(1, 64);
    assert_eq!(driver.ask(1, blocks(2, [0x4_0000, 0], 0, 8)).status, 0);
}

/// "The command causes all commands submitted to the indicated Submission Queue that are still in
/// progress to be aborted": the device need not complete them one by one.
#[test]
fn a_queue_deleted_with_requests_in_flight_leaves_no_page_behind() {
    let mut driver = Driver::ready(1 << 20);
    for _ in 0..6 {
        driver.fill(1, blocks(2, [0x4_0000, 0], 0, 8));
    }
    driver.ring(1);
    driver.world.fetch();
    // Two are completed before, one after; three never.
    let given: Vec<_> = driver.world.given.drain(..).collect();
    driver.world.complete(&given[0], 0, 0);
    driver.world.complete(&given[1], 0, 0);
    let words = command(DELETE_SUBMISSION, 0, [0, 0], &[(10, 1)]);
    driver.fill(0, words);
    driver.ring(0);
    let late = driver.world.submissions[1];
    driver.run();
    assert_eq!(driver.next(0).map(|answer| answer.status), Some(0));
    driver.seen(0);
    assert_eq!(driver.nvme.in_flight(), 4);
    // What the four were lent is there for others, as long as their completion queue lives.
    assert_eq!(driver.nvme.lent_pages(), 0);
    driver.world.submissions[1] = late;
    driver.world.complete(&given[2], 7, 0);
    driver.world.submissions[1].is_there = false;
    driver.look();
    assert!(driver.next(1).is_some() && driver.next(1).is_some());
    assert_eq!(driver.next(1), None, "nobody waits for the third");
    assert_eq!(driver.world.lie, None);
    assert_eq!(driver.admin(DELETE_COMPLETION, 0, 0, &[(10, 1)]).status, 0);
    assert_eq!(driver.nvme.in_flight(), 0);
    driver.nvme.check_conservation();
}

/// The guest was told that they were aborted, and may have given their memory to somebody else.
#[test]
fn what_a_device_completes_of_a_deleted_queue_is_not_handed_out() {
    let mut driver = Driver::ready(1 << 20);
    driver.fill(1, blocks(2, [0x4_0000, 0], 0, 8));
    driver.ring(1);
    driver.world.fetch();
    let given = driver.world.given.pop_front().expect("a request");
    driver.fill(0, command(DELETE_SUBMISSION, 0, [0, 0], &[(10, 1)]));
    driver.ring(0);
    let late = driver.world.submissions[1];
    driver.run();
    assert_eq!(driver.next(0).map(|answer| answer.status), Some(0));
    driver.set(0x4_0000, &[0xee; 4096]);
    driver.world.give(&given.words, &[7; 4096]);
    driver.world.submissions[1] = late;
    driver.world.complete(&given, 0, 0);
    driver.look();
    assert!(driver.memory(0x4_0000, 4096) == [0xee; 4096]);
    assert_eq!((driver.next(1), driver.nvme.in_flight()), (None, 0));
    driver.nvme.check_conservation();
}

/// "Invalid Doorbell Write Value" and "Write to Invalid Doorbell Register": error events 1 and 0,
/// with the error log page.
#[test]
fn a_doorbell_out_of_range_is_an_event_and_nothing_else() {
    let mut driver = Driver::ready(1 << 20);
    let wait = |driver: &mut Driver| {
        driver.fill(0, command(0x0c, 0, [0, 0], &[]));
        driver.ring(0);
        driver.run();
    };
    for (offset, value, event) in [
        (0x1008, 64, 0x0001_0100),
        (0x1008, u32::MAX, 0x0001_0100),
        (0x100c, 1, 0x0001_0100),
        (0x100c, 64, 0x0001_0100),
        (0x1010, 0, 0x0001_0000),
        (0x11fc, 0, 0x0001_0000),
        (0x5000, 0, 0x0001_0000),
    ] {
        let before = driver.nvme.counts();
        wait(&mut driver);
        driver.write(offset, value);
        let answer = driver.next(0).expect("an event");
        assert_eq!((answer.status, answer.result), (0, event), "{offset:#x}");
        driver.seen(0);
        assert!(driver.nvme.counts().requests <= before.requests + 1);
    }
    assert_eq!(driver.ask(1, blocks(2, [0x4_0000, 0], 0, 8)).status, 0);
}

#[test]
fn events_wait_for_requests_and_requests_for_events() {
    let mut driver = Driver::ready(1 << 20);
    // Nobody waits: it is kept, once.
    driver.write(0x1008, 64);
    driver.write(0x1008, 65);
    let kept = driver.admin(0x0c, 0, 0, &[]);
    assert_eq!(kept.result, 0x0001_0100);
    // Four may wait, and the device is asked as often.
    let ids: Vec<u16> = (0..5)
        .map(|_| driver.fill(0, command(0x0c, 0, [0, 0], &[])))
        .collect();
    driver.ring(0);
    driver.run();
    // "Asynchronous Event Request Limit Exceeded."
    let answer = driver.next(0).expect("a refusal");
    assert_eq!((answer.id, answer.status), (ids[4], 0x105));
    assert_eq!(driver.world.events.len(), 4);
    // Events of the device answer who waits longest.
    let request = driver.world.events.pop_front().expect("a request");
    driver.world.complete(&request, 0, 0x0002_0001);
    driver.look();
    let answer = driver.next(0).expect("an event");
    assert_eq!((answer.id, answer.result), (ids[0], 0x0002_0001));
    // One of ours takes a request of the guest's, and the device has one more than wait.
    driver.write(0x1008, 64);
    assert_eq!(driver.next(0).map(|answer| answer.id), Some(ids[1]));
    driver.seen(0);
    for id in &ids[2..4] {
        let request = driver.world.events.pop_front().expect("a request");
        driver.world.complete(&request, 0, 3);
        driver.look();
        assert_eq!(driver.next(0).map(|answer| answer.id), Some(*id));
    }
    let request = driver.world.events.pop_front().expect("a request");
    driver.world.complete(&request, 0, 4);
    driver.look();
    assert_eq!(driver.next(0), None);
    driver.seen(0);
    assert_eq!(driver.admin(0x0c, 0, 0, &[]).result, 4);
}

#[test]
fn no_queue_starves_another() {
    let mut driver = Driver::ready(1 << 20);
    driver.create(2, 64);
    for _ in 0..60 {
        driver.fill(1, blocks(2, [0x4_0000, 0], 0, 8));
        driver.fill(2, blocks(2, [0x4_0000, 0], 0, 8));
    }
    driver.ring(1);
    driver.ring(2);
    driver.world.fetch();
    let of_second = driver.world.given.iter().filter(|given| given.queue == 2);
    assert!(of_second.count() > 0 || driver.world.given.len() >= 60);
    for _ in 0..8 {
        driver.run();
        for queue in [1, 2] {
            while driver.next(queue).is_some() {}
            driver.seen(queue);
        }
    }
    assert_eq!(driver.nvme.in_flight(), 0);
    assert_eq!(driver.nvme.counts().completed, 120 + 5);
}

proptest! {
    #[test]
    fn turns_come_in_the_order_of_joining_with_the_admin_queue_first(
        steps in prop::collection::vec((0_usize..64, 0..3), 0..200),
    ) {
        let mut turns = Turns::NEW;
        let mut expected = VecDeque::new();
        for (queue, step) in steps {
            match step {
                0 => {
                    turns.remove(queue);
                    expected.retain(|waiting| *waiting != queue);
                }
                _ if expected.contains(&queue) => turns.join(queue),
                _ => {
                    turns.join(queue);
                    if queue == 0 {
                        expected.push_front(queue);
                    } else {
                        expected.push_back(queue);
                    }
                }
            }
            prop_assert_eq!(turns.first(), expected.front().copied());
            prop_assert_eq!(turns.are_several(), expected.len() > 1);
            prop_assert_eq!(turns.is_empty(), expected.is_empty());
        }
        while let Some(queue) = expected.pop_front() {
            prop_assert_eq!(turns.first(), Some(queue));
            turns.remove(queue);
        }
    }
}
