//! What the device claims, checked; and how the guest hears of it.

extern crate std;

use std::vec::Vec;

use super::super::fake::{Driver, Fetched, blocks};
use crate::{Lie, Looked, Mediator};

/// A driver that has asked for `count` reads, and what the device fetched.
fn asked(count: u32) -> (Driver, Vec<Fetched>) {
    let mut driver = Driver::ready(1 << 20);
    for _ in 0..count {
        driver.fill(1, blocks(2, [0x4_0000, 0], 0, 8));
    }
    driver.ring(1);
    driver.world.fetch();
    let given = driver.world.given.drain(..).collect();
    (driver, given)
}

#[test]
fn a_claim_about_another_queue_is_a_lie() {
    let (mut driver, given) = asked(1);
    let id = given[0].words[0] >> 16;
    driver.world.post(1, [0, 0, 1, id]);
    driver.look();
    let lie = Lie::WrongQueue {
        id: id as u16,
        queue: 0,
    };
    assert_eq!(driver.world.lie, Some(lie));
    // In a queue where it does not complete.
    let (mut driver, given) = asked(1);
    driver.fill(0, super::super::fake::command(0x0c, 0, [0, 0], &[]));
    driver.ring(0);
    driver
        .world
        .post(0, [0, 0, 1 << 16 | 1, given[0].words[0] >> 16]);
    driver.look();
    assert!(matches!(driver.world.lie, Some(Lie::WrongQueue { .. })));
    assert_eq!(driver.next(1), None);
}

#[test]
fn a_head_that_was_never_filled_is_a_lie() {
    for head in [4, 63, 64, 0xffff] {
        let (mut driver, given) = asked(3);
        driver
            .world
            .post(1, [0, 0, 1 << 16 | head, given[0].words[0] >> 16]);
        driver.look();
        let lie = Lie::ImpossibleHead {
            queue: 1,
            head: head as u16,
        };
        assert_eq!(driver.world.lie, Some(lie));
    }
    // Backwards.
    let (mut driver, given) = asked(3);
    driver
        .world
        .post(1, [0, 0, 1 << 16 | 3, given[0].words[0] >> 16]);
    driver
        .world
        .post(1, [0, 0, 1 << 16 | 2, given[1].words[0] >> 16]);
    driver.look();
    assert!(matches!(
        driver.world.lie,
        Some(Lie::ImpossibleHead { head: 2, .. })
    ));
}

#[test]
fn a_completion_that_is_repeated_is_a_lie() {
    let (mut driver, given) = asked(2);
    driver.world.complete(&given[0], 0, 0);
    driver.world.complete(&given[0], 0, 0);
    driver.look();
    assert!(matches!(driver.world.lie, Some(Lie::UnknownRequest { .. })));
    assert_eq!(driver.nvme.counts().completed, 3 + 1);
    driver.nvme.check_conservation();
}

#[test]
fn an_entry_of_the_old_phase_is_none() {
    let (mut driver, given) = asked(1);
    let words = [0, 0, 1 << 16 | 1, given[0].words[0] >> 16];
    driver.world.completions[1].phase = false;
    driver.world.post(1, words);
    driver.look();
    assert_eq!((driver.looked, driver.next(1)), (Looked::Nothing, None));
    assert_eq!(driver.world.lie, None);
}

#[test]
fn requests_may_be_completed_in_any_order_and_say_our_head() {
    let (mut driver, given) = asked(5);
    for request in given.iter().rev() {
        driver.world.complete(request, 0, 0);
    }
    driver.look();
    let ids: Vec<u16> = core::iter::from_fn(|| driver.next(1))
        .map(|answer| {
            assert_eq!((answer.queue, answer.head), (1, 5));
            answer.id
        })
        .collect();
    assert_eq!(ids.len(), 5);
    assert!(ids.is_sorted_by(|one, other| one > other));
}

#[test]
fn one_interrupt_tells_of_a_batch() {
    let (mut driver, given) = asked(5);
    driver.world.raised.clear();
    for request in &given {
        driver.world.complete(request, 0, 0);
    }
    driver.look();
    assert_eq!(driver.world.raised, [1]);
    driver.look();
    assert_eq!(driver.world.raised, [1]);
}

#[test]
fn a_masked_interrupt_is_owed_until_it_is_unmasked() {
    let (mut driver, given) = asked(1);
    driver.world.raised.clear();
    driver.world.is_masked = true;
    driver.world.complete(&given[0], 0, 0);
    driver.look();
    driver.look();
    assert_eq!(driver.world.raised, []);
    driver.world.is_masked = false;
    driver.nvme.unmasked(&mut driver.world, 1);
    driver.nvme.unmasked(&mut driver.world, 1);
    assert_eq!(driver.world.raised, [1]);
}

#[test]
fn the_interrupt_mask_registers_mask() {
    let (mut driver, given) = asked(1);
    driver.world.raised.clear();
    driver.write(0x0c, 1 << 1);
    assert_eq!(driver.read(0x0c), 2);
    driver.world.complete(&given[0], 0, 0);
    driver.look();
    assert_eq!(driver.world.raised, []);
    driver.write(0x10, 1 << 1);
    assert_eq!(
        (driver.read(0x10), driver.world.raised.as_slice()),
        (0, &[1][..])
    );
}

#[test]
fn what_does_not_fit_the_guests_queue_waits_in_ours() {
    let mut driver = Driver::ready(1 << 20);
    driver.create(2, 4);
    let mut ids = Vec::new();
    let mut seen = Vec::new();
    for _ in 0..3 {
        ids.push(driver.fill(2, blocks(2, [0x4_0000, 0], 0, 8)));
    }
    driver.ring(2);
    driver.world.run();
    // The guest does not look: three entries fill its queue, and it asks for three more.
    driver.look();
    for _ in 0..3 {
        ids.push(driver.fill(2, blocks(2, [0x4_0000, 0], 0, 8)));
    }
    driver.ring(2);
    driver.run();
    driver.run();
    for _ in 0..10 {
        while let Some(answer) = driver.next(2) {
            seen.push(answer.id);
        }
        driver.seen(2);
        driver.world.run();
        driver.look();
    }
    assert_eq!(seen, ids);
    assert_eq!(driver.nvme.in_flight(), 0);
}

#[test]
fn a_flood_is_served_in_pieces() {
    let mut driver = Driver::of(super::super::fake::Fake::new(16 << 20), 512);
    driver.enable();
    driver.prepare();
    driver.create(2, 512);
    for _ in 0..200 {
        driver.fill(2, blocks(2, [0x4_0000, 0], 0, 8));
    }
    driver.ring(2);
    assert_eq!((driver.looked, driver.nvme.in_flight()), (Looked::More, 64));
    while driver.looked == Looked::More {
        driver.look();
    }
    assert_eq!(driver.nvme.in_flight(), 200);
    driver.run();
    assert_eq!(
        (driver.looked, driver.nvme.in_flight()),
        (Looked::More, 136)
    );
    while driver.looked == Looked::More {
        driver.look();
    }
    assert_eq!(driver.nvme.in_flight(), 0);
}
