use core::ops::Range;
use std::vec;
use std::vec::Vec;

use kit::SparseMemory;
use memory::GuestMemory;
use proptest::prelude::*;

use super::*;
use crate::rehearsal::{Sides, Touch, most};
use crate::{Arena, Page, Part};

const PAGE: u64 = PAGE_SIZE;

/// Where the guest has memory in these tests: from 1 MiB on, and the last pages of all.
const RAM: u64 = 0x10_0000;
const RAM_PAGES: u64 = 32;
const LAST_PAGE: u64 = u64::MAX - PAGE + 1;

/// What each byte of the guest's memory is at first: never zero, and told by its address.
fn original(at: u64) -> u8 {
    (at ^ at >> 8 ^ at >> 12) as u8 | 1
}

fn sides() -> Sides {
    let mut guest = SparseMemory::new();
    for page in (0..RAM_PAGES)
        .map(|page| RAM + page * PAGE)
        .chain([LAST_PAGE])
    {
        let bytes: Vec<_> = (page..=page + (PAGE - 1)).map(original).collect();
        guest = guest.holding(Gpa::new(page), &bytes);
    }
    Sides::new(Arena::new(64 * PAGE).unwrap(), guest)
}

fn pool<'a, D>(sides: &Sides, part: Part, pages: &'a mut Vec<Page>) -> Pool<'a, D> {
    let part = sides.arena().part(part);
    pages.resize((part.len() / PAGE) as usize, Page::NEW);
    Pool::new(part, pages)
}

/// Lends the bytes at `offset` of the guest's first of `origins` and on through them.
fn lend<D: Direction>(pool: &mut Pool<'_, D>, origins: &[u64], offset: u16, bytes: u32) -> Lent<D> {
    let lent = pool.lend(offset, bytes).expect("room");
    for (index, origin) in (0..lent.pages()).zip(origins) {
        pool.belongs_to(&lent, index, Gpa::new(*origin));
    }
    lent
}

/// The request's bytes, page by page: where each piece is in the guest's memory, and which
/// bytes of the request it has.
fn pieces(origins: &[u64], offset: u16, bytes: u32) -> Vec<(u64, Range<usize>)> {
    let (start, end) = (usize::from(offset), usize::from(offset) + bytes as usize);
    let whole = origins.iter().zip(0..).map(|(origin, index)| {
        let page = index * PAGE as usize..(index + 1) * PAGE as usize;
        let piece = page.start.max(start)..page.end.min(end);
        let at = origin + piece.start as u64 % PAGE;
        (
            at,
            piece.start.wrapping_sub(start)..piece.end.wrapping_sub(start),
        )
    });
    whole
        .filter(|(_, piece)| !piece.is_empty() && piece.end <= bytes as usize)
        .collect()
}

fn guest_pages() -> impl Iterator<Item = u64> {
    (0..RAM_PAGES)
        .map(|page| RAM + page * PAGE)
        .chain([LAST_PAGE])
}

fn guest_bytes(memory: &SparseMemory, at: u64, len: usize) -> Vec<u8> {
    let mut bytes = vec![0; len];
    memory.read(Gpa::new(at), &mut bytes).unwrap();
    bytes
}

/// The guest has what `expected` has, everywhere.
fn expect_memory(sides: &Sides, expected: &SparseMemory) {
    for page in guest_pages() {
        let [found, expected] =
            [sides.guest(), expected].map(|memory| guest_bytes(memory, page, PAGE as usize));
        assert!(
            found == expected,
            "the page at {page:#x} is not as it should be"
        );
    }
}

/// Pages of a request: next to each other, apart, the same twice, and the last there is.
fn origins() -> impl Strategy<Value = Vec<u64>> {
    let page = prop_oneof![
        8 => (0..RAM_PAGES).prop_map(|page| RAM + page * PAGE),
        1 => Just(LAST_PAGE),
    ];
    let apart = prop::collection::vec(page, 6);
    let together = (0..RAM_PAGES - 6)
        .prop_map(|first| (first..first + 6).map(|page| RAM + page * PAGE).collect());
    prop_oneof![apart, together]
}

fn offset_and_bytes() -> impl Strategy<Value = (u16, u32)> {
    (prop_oneof![Just(0_u16), 0_u16..4096], 1_u32..5 * 4096)
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(128))]

    #[test]
    fn the_device_gets_the_bytes_of_the_request_and_no_other(
        origins in origins(),
        (offset, bytes) in offset_and_bytes(),
    ) {
        let mut sides = sides();
        let mut pages = Vec::new();
        let mut pool = pool(&sides, Part::ToDevice, &mut pages);
        let lent = lend(&mut pool, &origins, offset, bytes);
        prop_assert_eq!(lent.at().page_offset(), u64::from(offset));
        pool.fill(&lent, &mut sides).unwrap();

        // All of what the device can read is the request's bytes, and zeros.
        let readable = sides.arena().readable();
        let mut expected = vec![0; readable.len() as usize];
        let start = (lent.at().raw() - readable.start().raw()) as usize;
        for (at, piece) in pieces(&origins, offset, bytes) {
            let guests = guest_bytes(sides.guest(), at, piece.len());
            expected[start + piece.start..start + piece.end].copy_from_slice(&guests);
        }
        let mut seen = vec![0; readable.len() as usize];
        sides.device_reads(readable.start(), &mut seen).unwrap();
        prop_assert!(seen == expected);

        let touches = sides.touches();
        let fetched = touches.iter().filter_map(Touch::fetched);
        prop_assert_eq!(fetched.map(|range| range.len()).sum::<u64>(), u64::from(bytes));
        prop_assert!(touches.iter().all(|touch| matches!(touch, Touch::CopiedIn(..))));
        let times = |page| origins.iter().filter(|other| *other == page).count();
        let most_often = origins.iter().map(times).max().unwrap_or(0);
        prop_assert!(most(touches.iter().filter_map(Touch::fetched)) <= most_often, "fetched once");
    }

    #[test]
    fn the_guest_gets_the_bytes_of_the_request_and_no_other(
        origins in origins(),
        (offset, bytes) in offset_and_bytes(),
        done in 0_u32..6 * 4096,
    ) {
        let mut sides = sides();
        let expected = sides.guest().clone();
        let mut pages = Vec::new();
        let mut pool = pool(&sides, Part::FromDevice, &mut pages);
        let lent = lend(&mut pool, &origins, offset, bytes);
        sides.device_scribbles(0xee);
        let written: Vec<_> = (0..bytes).map(|at| (at % 251) as u8).collect();
        sides.device_writes(lent.at(), &written).unwrap();
        sides.device_is_restless(true);
        let returned = lent.returned();
        pool.hand_out(&returned, done, &mut sides).unwrap();

        // Where the request has a page twice, the later bytes win.
        let done = done.min(bytes);
        for (at, piece) in pieces(&origins, offset, done) {
            expected.write(Gpa::new(at), &written[piece]).unwrap();
        }
        expect_memory(&sides, &expected);
        let touches = sides.touches();
        let handed = touches.iter().filter_map(Touch::written);
        prop_assert_eq!(handed.map(|range| range.len()).sum::<u64>(), u64::from(done));
        prop_assert!(most(touches.iter().filter_map(Touch::loaded)) <= 1, "fetched once");

        pool.take_back(returned, &mut sides);
        prop_assert_eq!(pool.free_pages(), pool.pages());
    }

    #[test]
    fn neighbouring_pages_are_one_extent_and_the_extents_are_the_request(
        origins in origins(),
        (offset, bytes) in offset_and_bytes(),
    ) {
        let sides = sides();
        let mut pages = Vec::new();
        let mut pool: Pool<'_, ToDevice> = pool(&sides, Part::ToDevice, &mut pages);
        let lent = lend(&mut pool, &origins, offset, bytes);
        let extents: Vec<_> = pool.extents(&lent, bytes).collect();
        // Cut at each page, the extents are the request's pieces.
        let mut cut = Vec::new();
        for (range, _) in &extents {
            let (mut at, last) = (range.start().raw(), range.last().raw());
            loop {
                let end = last.min(at | (PAGE - 1));
                cut.push((at, (end - at) as usize + 1));
                if end == last { break }
                at = end + 1;
            }
        }
        let asked = pieces(&origins, offset, bytes).into_iter().map(|(at, piece)| (at, piece.len()));
        prop_assert!(asked.eq(cut));
        let mut at = lent.at().raw();
        for (range, own) in &extents {
            prop_assert_eq!(own.raw(), at);
            prop_assert_eq!(own.page_offset(), range.start().page_offset());
            at += range.len();
        }
        for pair in extents.windows(2) {
            prop_assert_ne!(pair[0].0.last().checked_add(1), Some(pair[1].0.start()));
        }
        prop_assert!(pool.is_memory(&lent, &sides));
        prop_assert_eq!(pool.extents(&lent, 0).count(), 0);
        prop_assert!(pool.extents(&lent, u32::MAX).eq(extents));
    }

    #[test]
    fn a_hole_anywhere_in_a_request_is_told_and_nothing_outside_the_request_is_written(
        mut origins in origins(),
        (offset, bytes) in offset_and_bytes(),
        place in any::<prop::sample::Index>(),
    ) {
        let mut sides = sides();
        let expected = sides.guest().clone();
        let mut pages = Vec::new();
        let mut pool = pool(&sides, Part::FromDevice, &mut pages);
        let count = (usize::from(offset) + bytes as usize).div_ceil(PAGE as usize);
        let bad = place.index(count);
        origins[bad] = 0xdead_0000;
        let lent = lend(&mut pool, &origins, offset, bytes);
        prop_assert!(!pool.is_memory(&lent, &sides));
        let returned = lent.returned();
        let Hole(hole) = pool.hand_out(&returned, bytes, &mut sides).unwrap_err();
        prop_assert_eq!(hole.start().raw() & !(PAGE - 1), 0xdead_0000);
        for (at, piece) in pieces(&origins, offset, bytes) {
            if !(0xdead_0000..LAST_PAGE).contains(&at) {
                let now = guest_bytes(sides.guest(), at, piece.len());
                expected.write(Gpa::new(at), &now).unwrap();
            }
        }
        expect_memory(&sides, &expected);
        pool.take_back(returned, &mut sides);
    }

    #[test]
    fn what_is_taken_back_is_scrubbed_to_the_byte(
        (offset, bytes) in offset_and_bytes(),
    ) {
        let mut sides = sides();
        let mut pages = Vec::new();
        let mut pool: Pool<'_, FromDevice> = pool(&sides, Part::FromDevice, &mut pages);
        let lent = pool.lend(offset, bytes).unwrap();
        let range = lent.range();
        sides.device_scribbles(0xee);
        pool.take_back(lent.returned(), &mut sides);
        prop_assert_eq!(sides.touches(), [Touch::Scrubbed(range)]);
        let left = sides.peek(sides.arena().writable());
        prop_assert_eq!(left.iter().filter(|byte| **byte == 0).count(), bytes as usize);
        prop_assert!(sides.peek(range).iter().all(|byte| *byte == 0));
    }
}

#[test]
fn what_one_request_left_is_not_handed_out_by_the_next() {
    let mut sides = sides();
    let mut pages = Vec::new();
    let mut pool = pool(&sides, Part::FromDevice, &mut pages);
    let first = lend(&mut pool, &[RAM], 0, 4096);
    let place = first.at();
    sides.device_writes(place, &[0x5e; 4096]).unwrap();
    pool.take_back(first.returned(), &mut sides);
    // The device claims that all was read, and wrote nothing.
    let second = lend(&mut pool, &[RAM + PAGE], 0, 4096);
    assert_eq!(second.at(), place);
    pool.hand_out(&second.returned(), 4096, &mut sides).unwrap();
    assert_eq!(guest_bytes(sides.guest(), RAM + PAGE, 4096), [0; 4096]);
}

#[test]
fn what_the_device_writes_after_its_bytes_were_handed_out_stays_with_it() {
    let mut sides = sides();
    let expected = sides.guest().clone();
    let mut pages = Vec::new();
    let mut pool = pool(&sides, Part::FromDevice, &mut pages);
    let lent = lend(&mut pool, &[RAM], 0x7c0, 64);
    sides.device_writes(lent.at(), &[7; 64]).unwrap();
    let returned = lent.returned();
    pool.hand_out(&returned, 64, &mut sides).unwrap();
    sides.device_scribbles(0xee);
    expected.write(Gpa::new(RAM + 0x7c0), &[7; 64]).unwrap();
    expect_memory(&sides, &expected);
    pool.take_back(returned, &mut sides);
}

#[test]
fn a_page_lent_twice_at_once_is_two_loans() {
    let mut sides = sides();
    let mut pages = Vec::new();
    let mut pool = pool(&sides, Part::FromDevice, &mut pages);
    let halves = [
        lend(&mut pool, &[RAM], 0, 2048),
        lend(&mut pool, &[RAM], 2048, 2048),
    ];
    for (lent, byte) in halves.iter().zip([1, 2]) {
        sides.device_writes(lent.at(), &[byte; 2048]).unwrap();
    }
    for lent in halves {
        let returned = lent.returned();
        pool.hand_out(&returned, 2048, &mut sides).unwrap();
        pool.take_back(returned, &mut sides);
    }
    let page = guest_bytes(sides.guest(), RAM, 4096);
    assert!(page[..2048] == [1; 2048] && page[2048..] == [2; 2048]);
}

#[test]
#[should_panic(expected = "the pages of a loan belong to somebody")]
fn a_loan_does_not_inherit_the_pages_of_the_one_before() {
    let mut sides = sides();
    let mut pages = Vec::new();
    let mut pool = pool(&sides, Part::FromDevice, &mut pages);
    let first = lend(&mut pool, &[RAM, RAM + PAGE], 0, 8192);
    pool.take_back(first.returned(), &mut sides);
    let second = lend(&mut pool, &[RAM], 0, 8192);
    let _ = pool.hand_out(&second.returned(), 8192, &mut sides);
}

#[test]
#[should_panic(expected = "a loan is its own pool's")]
fn a_loan_is_not_given_back_to_another_pool() {
    let mut sides = sides();
    let (mut queues, mut data) = (Vec::new(), Vec::new());
    let mut queues: Pool<'_, ToDevice> = pool(&sides, Part::QueuesToDevice, &mut queues);
    let mut data: Pool<'_, ToDevice> = pool(&sides, Part::ToDevice, &mut data);
    let lent = queues.lend(0, 64).unwrap();
    data.take_back(lent.returned(), &mut sides);
}

#[test]
#[should_panic(expected = "a page of the loan")]
fn a_page_past_the_loan_belongs_to_nobody() {
    let sides = sides();
    let mut pages = Vec::new();
    let mut pool: Pool<'_, ToDevice> = pool(&sides, Part::ToDevice, &mut pages);
    let lent = pool.lend(4095, 2).unwrap();
    pool.belongs_to(&lent, 2, Gpa::new(RAM));
}
