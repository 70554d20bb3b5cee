//! The pair of queues whose completions are not announced.

extern crate std;

use std::vec::Vec;

use super::super::fake::{Driver, Fake, blocks, command};

const QUEUE_COUNT: (usize, u32) = (10, 7);
/// What the pair is numbered where the device has room for all that the fake's storage has.
const PAIR: usize = 7;

/// A driver that asked for queues before it created one of 64 entries.
fn ready() -> Driver {
    let mut driver = Driver::new(4 << 20);
    driver.enable();
    let answer = driver.admin(0x09, 0, 0, &[QUEUE_COUNT, (11, 0x003f_003f)]);
    assert_eq!((answer.status, answer.result), (0, 0x0005_0005));
    driver.run();
    driver.run();
    driver.prepare();
    driver
}

/// Fills 32 reads and rings once.
fn fill_32(driver: &mut Driver) -> Vec<u16> {
    let fill = |driver: &mut Driver| driver.fill(1, blocks(2, [0x4_0000, 0], 0, 8));
    let ids = (0..32).map(|_| fill(driver)).collect();
    driver.ring(1);
    driver.world.fetch();
    ids
}

/// Completes what the device has of `queue`; looks only if that is announced.
fn complete_all_of(driver: &mut Driver, queue: usize) {
    let (its, others): (Vec<_>, Vec<_>) = driver
        .world
        .given
        .drain(..)
        .partition(|it| it.queue == queue);
    driver.world.given.extend(others);
    for request in its {
        driver.world.complete(&request, 0, 0);
    }
    if queue != PAIR {
        driver.look();
    }
}

fn count(driver: &Driver, queue: usize) -> usize {
    let of_it = |request: &&super::super::fake::Fetched| request.queue == queue;
    driver.world.given.iter().filter(of_it).count()
}

#[test]
fn many_at_once_are_mostly_unannounced_and_few_are_all_announced() {
    let mut driver = ready();
    for _ in 0..4 {
        driver.fill(1, blocks(2, [0x4_0000, 0], 0, 8));
    }
    driver.ring(1);
    driver.world.fetch();
    assert_eq!([count(&driver, 1), count(&driver, PAIR)], [4, 0]);
    driver.run();
    while driver.next(1).is_some() {}
    driver.seen(1);
    fill_32(&mut driver);
    assert_eq!([count(&driver, 1), count(&driver, PAIR)], [14, 18]);
}

#[test]
fn a_look_finds_what_was_not_announced() {
    let mut driver = ready();
    let ids = fill_32(&mut driver);
    complete_all_of(&mut driver, PAIR);
    complete_all_of(&mut driver, 1);
    let mut answered: Vec<_> = core::iter::from_fn(|| driver.next(1)).collect();
    assert!(answered.iter().all(|answer| answer.queue == 1));
    answered.sort_by_key(|answer| answer.id);
    let answered: Vec<_> = answered.iter().map(|answer| answer.id).collect();
    assert_eq!(answered, ids);
    driver.nvme.check_conservation();
}

#[test]
fn what_is_left_unannounced_is_asked_after_aloud_and_the_guest_sees_nothing_of_it() {
    let mut driver = ready();
    let ids = fill_32(&mut driver);
    complete_all_of(&mut driver, 1);
    while driver.next(1).is_some() {}
    driver.seen(1);
    driver.world.fetch();
    assert_eq!([count(&driver, 1), count(&driver, PAIR)], [1, 18]);
    let asked = driver.world.given.iter().find(|it| it.queue == 1).unwrap();
    assert_eq!((asked.words[0] & 0xff, asked.words[12]), (2, 0), "a block");
    // It is over before the others, which are asked after again.
    driver.run();
    let answered = core::iter::from_fn(|| driver.next(1)).count();
    assert_eq!(answered, ids.len() - 14);
    assert_eq!(driver.nvme.in_flight(), 0);
    driver.nvme.check_conservation();
}

#[test]
fn the_guest_has_nothing_of_the_pair() {
    let mut driver = ready();
    let pair = PAIR as u32;
    driver.fill(0, command(0x0c, 0, [0, 0], &[]));
    driver.ring(0);
    driver.write(0x1000 + 8 * pair, 1);
    let event = driver.next(0).expect("an event");
    assert_eq!(event.result, 0x0001_0000, "an invalid doorbell");
    driver.seen(0);
    let base = driver.completions[2].base;
    for (opcode, size) in [(0x05, 63 << 16), (0x01, 63 << 16), (0x04, 0), (0x00, 0)] {
        let dwords = [(10, size | pair), (11, 1)];
        let answer = driver.admin(opcode, 0, base, &dwords);
        assert_eq!(answer.status, 0x0101, "an invalid queue identifier");
    }
    assert!(driver.world.lie.is_none());
}

/// "The command causes all commands submitted to the queue to be aborted": what the device would not
/// abort is over before.
#[test]
fn a_queue_ends_when_its_unannounced_requests_are_over() {
    let mut driver = ready();
    fill_32(&mut driver);
    driver.fill(0, command(0x00, 0, [0, 0], &[(10, 1)]));
    driver.ring(0);
    driver.world.fetch();
    assert_eq!(count(&driver, 0), 0, "the device was not told");
    complete_all_of(&mut driver, 1);
    driver.world.fetch();
    assert_eq!(driver.next(0), None);
    complete_all_of(&mut driver, PAIR);
    complete_all_of(&mut driver, 1);
    driver.world.fetch();
    assert_eq!(count(&driver, 0), 1);
    complete_all_of(&mut driver, 0);
    assert_eq!(driver.next(0).map(|answer| answer.status), Some(0));
    assert_eq!(core::iter::from_fn(|| driver.next(1)).count(), 32);
    driver.nvme.check_conservation();
}

#[test]
fn an_abort_names_the_queue_in_which_the_device_has_the_request() {
    let mut driver = ready();
    let ids = fill_32(&mut driver);
    let mut named = Vec::new();
    for id in ids {
        let words = command(0x08, 0, [0, 0], &[(10, u32::from(id) << 16 | 1)]);
        driver.fill(0, words);
        driver.ring(0);
        driver.world.fetch();
        let abort = driver.world.given.pop_back().unwrap();
        let (queue, id) = (abort.words[10] & 0xffff, abort.words[10] >> 16);
        let mut given = driver.world.given.iter();
        let found = given.find(|it| it.words[0] >> 16 == id && it.queue as u32 == queue);
        named.push(found.expect("a request that it has").queue);
        driver.world.complete(&abort, 0, 1);
        driver.look();
        driver.next(0).expect("an answer");
        driver.seen(0);
    }
    assert!(named.contains(&1) && named.contains(&PAIR));
}

#[test]
fn a_device_that_refuses_the_pair_is_served_without() {
    let mut driver = Driver::of(Fake::new(4 << 20), 64);
    driver.enable();
    driver.fill(
        0,
        command(0x09, 0, [0, 0], &[QUEUE_COUNT, (11, 0x003f_003f)]),
    );
    driver.ring(0);
    driver.run();
    driver.world.fetch();
    let refused = driver
        .world
        .given
        .pop_front()
        .expect("the pair's first queue");
    assert_eq!(
        (refused.words[0] & 0xff, refused.words[10] & 0xffff),
        (5, 7)
    );
    driver.world.complete(&refused, 0x101, 0);
    driver.look();
    driver.next(0).expect("an answer");
    driver.seen(0);
    driver.prepare();
    fill_32(&mut driver);
    assert_eq!([count(&driver, 1), count(&driver, PAIR)], [32, 0]);
    driver.run();
    assert_eq!(core::iter::from_fn(|| driver.next(1)).count(), 32);
}

#[test]
fn requests_of_a_queue_that_is_polled_are_all_announced_to_us() {
    let mut driver = ready();
    let ring = driver.completions[2].base;
    let size = 63 << 16 | 2;
    driver.completions[2].entries = 64;
    driver.submissions[2].entries = 64;
    assert_eq!(
        driver.admin(0x05, 0, ring, &[(10, size), (11, 1)]).status,
        0
    );
    let ring = driver.submissions[2].base;
    assert_eq!(
        driver
            .admin(0x01, 0, ring, &[(10, size), (11, 2 << 16 | 1)])
            .status,
        0
    );
    for _ in 0..32 {
        driver.fill(2, blocks(2, [0x4_0000, 0], 0, 8));
    }
    driver.ring(2);
    driver.world.fetch();
    assert_eq!([count(&driver, 2), count(&driver, PAIR)], [32, 0]);
}
