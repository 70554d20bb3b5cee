//! Where the guest of these plays has what.

use memory::{ByteRange, Gpa, PAGE_SIZE};

/// What all memory is filled with that no request is about.
pub(crate) const CANARY: u8 = 0xa5;

/// Where memory begins.
const START: u64 = 0x10_0000;

/// Queue pairs that a driver uses, the admin queues among them.
pub(crate) const PAIRS: usize = 4;
/// Requests that a driver has under way at most.
pub(crate) const SLOTS: usize = 24;
/// Pages of each request's bytes at most.
pub(crate) const SLOT_PAGES: u64 = 9;
/// Pages of each request's lists.
const LIST_PAGES: u64 = 2;
/// Pages with which a hostile guest does as it likes.
const WILD_PAGES: u64 = 12;

const RINGS: u64 = START;
const DOORBELLS: u64 = RINGS + 2 * PAIRS as u64 * PAGE_SIZE;
const SLOTS_START: u64 = DOORBELLS + 2 * PAGE_SIZE;
const WILD: u64 = SLOTS_START + SLOTS as u64 * (SLOT_PAGES + LIST_PAGES) * PAGE_SIZE;
/// Behind a hole, so that nothing that is named runs on into it.
const UNTOUCHED: u64 = WILD + (WILD_PAGES + 1) * PAGE_SIZE;
const UNTOUCHED_PAGES: u64 = 4;

fn pages(start: u64, count: u64) -> ByteRange<Gpa> {
    ByteRange::new(Gpa::new(start), count * PAGE_SIZE).expect("pages do not wrap")
}

/// All memory there is.
pub(crate) fn memory() -> [ByteRange<Gpa>; 2] {
    [
        pages(START, (WILD - START) / PAGE_SIZE + WILD_PAGES),
        untouched(),
    ]
}

/// What nobody names.
pub(crate) fn untouched() -> ByteRange<Gpa> {
    pages(UNTOUCHED, UNTOUCHED_PAGES)
}

/// Every ring, one page each.
pub(crate) fn rings() -> ByteRange<Gpa> {
    pages(RINGS, 2 * PAIRS as u64)
}

pub(crate) fn submission_ring(queue: usize) -> u64 {
    RINGS + 2 * queue as u64 * PAGE_SIZE
}

pub(crate) fn completion_ring(queue: usize) -> u64 {
    RINGS + (2 * queue as u64 + 1) * PAGE_SIZE
}

/// Doorbells and event indices.
pub(crate) fn doorbells() -> [u64; 2] {
    [DOORBELLS, DOORBELLS + PAGE_SIZE]
}

/// The pages for a request's bytes.
pub(crate) fn slot(index: usize) -> u64 {
    SLOTS_START + index as u64 * (SLOT_PAGES + LIST_PAGES) * PAGE_SIZE
}

/// Its two list pages.
pub(crate) fn lists(index: usize) -> [u64; 2] {
    let first = slot(index) + SLOT_PAGES * PAGE_SIZE;
    [first, first + PAGE_SIZE]
}

/// What a hostile guest may name.
pub(crate) fn wild() -> ByteRange<Gpa> {
    pages(WILD, WILD_PAGES)
}
