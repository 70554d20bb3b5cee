//! The queues: the guest's rings, the device's rings in our pages, and whose turn it is.
//!
//! Owns the places of both rings of each queue and how far each party got. A ring of the device
//! need not be as long as the guest's: what does not fit yet waits in the guest's.

mod turns;

use bounce::{FromDevice, Lent, Pool, ToDevice};
use memory::{Gpa, Iova, PAGE_SIZE};

use super::spec::{Command, ENTRY_BYTES};
use crate::World;
pub(super) use turns::{MOST as MOST_QUEUES, Turns};

/// The submission queue and the completion queue of one number.
#[derive(Debug)]
pub struct QueuePair {
    pub(super) submission: Submission,
    pub(super) completion: Completion,
}

impl QueuePair {
    /// Neither queue is there.
    pub const NEW: Self = Self {
        submission: Submission::NEW,
        completion: Completion::NEW,
    };
}

/// How far a queue is from being usable.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) enum Life {
    Absent,
    /// The device was asked to create it.
    Creating,
    Live,
    /// The device's and ours: the guest knows nothing of it.
    Own,
    /// The device was asked to delete it.
    Deleting,
}

/// A submission queue.
#[derive(Debug)]
pub(super) struct Submission {
    pub(super) life: Life,
    /// Where the guest's ring is.
    pub(super) base: Gpa,
    /// Entries of the guest's ring.
    pub(super) entries: u32,
    /// The next entry of the guest's to fetch.
    pub(super) head: u32,
    /// The first entry that the guest did not fill, as it last said.
    pub(super) tail: u32,
    /// Which completion queue it uses.
    pub(super) completion: usize,
    /// The device's ring.
    pub(super) ring: Option<Lent<ToDevice>>,
    at: Iova,
    slots: u32,
    /// The next entry of the device's ring to fill.
    filled: u32,
    /// The next one that the device fetches, as it last said.
    fetched: u32,
    /// Reads and writes that the device has: they are soon over, and we hear of it.
    pub(super) prompt: u32,
    /// Those of them whose completion is not announced.
    pub(super) quiet: u32,
    /// How many such were given in a row.
    pub(super) in_a_row: u32,
    /// A block of such a request.
    pub(super) block: Option<Command>,
    /// The guest's command that deletes the queue, once those are over.
    pub(super) end: Option<Command>,
    /// Whether its next request was counted as waiting.
    pub(super) is_held: bool,
}

impl Submission {
    const NEW: Self = Self {
        life: Life::Absent,
        base: Gpa::new(0),
        entries: 0,
        head: 0,
        tail: 0,
        completion: 0,
        ring: None,
        at: Iova::new(0),
        slots: 0,
        filled: 0,
        fetched: 0,
        prompt: 0,
        quiet: 0,
        in_a_row: 0,
        block: None,
        end: None,
        is_held: false,
    };

    /// A queue that the device does not know yet.
    pub(super) fn new(guest: Ring, completion: usize, own: OwnRing<ToDevice>) -> Self {
        Self {
            life: Life::Creating,
            base: guest.base,
            entries: guest.entries,
            completion,
            at: own.lent.at(),
            slots: own.slots,
            ring: Some(own.lent),
            ..Self::NEW
        }
    }

    pub(super) fn is_empty(&self) -> bool {
        self.head == self.tail
    }

    /// `count` entries behind the last that the guest filled.
    pub(super) fn ahead(&self, count: u32) -> u32 {
        (self.tail + count) % self.entries
    }

    /// Where the guest's next entry is.
    pub(super) fn next(&self) -> Gpa {
        Gpa::new(self.base.raw() + u64::from(self.head * Command::BYTES))
    }

    /// The guest's next entry is done with.
    pub(super) fn advance(&mut self) {
        self.head = following(self.head, self.entries);
        self.is_held = false;
    }

    /// Whether the device's ring takes another entry.
    pub(super) fn has_slot(&self) -> bool {
        following(self.filled, self.slots) != self.fetched
    }

    /// Appends an entry to the device's ring.
    pub(super) fn fill(&mut self, world: &mut impl World, entry: &[u8; 64]) {
        let at = Iova::new(self.at.raw() + u64::from(self.filled * Command::BYTES));
        world.store(at, entry);
        self.filled = following(self.filled, self.slots);
    }

    /// Where the device's ring is.
    pub(super) fn at(&self) -> Iova {
        self.at
    }

    /// Entries of the device's ring.
    pub(super) fn slots(&self) -> u32 {
        self.slots
    }

    /// What the device's doorbell is to say.
    pub(super) fn filled(&self) -> u32 {
        self.filled
    }

    /// The device says that it fetched up to `head`. `false` if that is further than it was
    /// given, or backwards.
    pub(super) fn fetched_to(&mut self, head: u16) -> bool {
        let head = u32::from(head);
        if head >= self.slots {
            return false;
        }
        let ahead = distance(self.fetched, head, self.slots);
        let is_possible = ahead <= distance(self.fetched, self.filled, self.slots);
        if is_possible {
            self.fetched = head;
        }
        is_possible
    }
}

/// A completion queue.
#[derive(Debug)]
pub(super) struct Completion {
    pub(super) life: Life,
    /// Where the guest's ring is.
    pub(super) base: Gpa,
    /// Entries of the guest's ring.
    pub(super) entries: u32,
    /// The next entry of the guest's ring to fill.
    tail: u32,
    /// The next entry that the guest has not seen, as it last said.
    pub(super) head: u32,
    /// The phase of what is filled now.
    phase: bool,
    /// The vector the guest wants; none for a queue that it polls.
    pub(super) vector: Option<u16>,
    /// The device's ring.
    pub(super) ring: Option<Lent<FromDevice>>,
    at: Iova,
    slots: u32,
    /// The next entry of the device's ring.
    next: u32,
    /// The phase by which it is known to be filled.
    expected: bool,
    /// Requests whose completion comes here.
    pub(super) awaited: u32,
}

impl Completion {
    const NEW: Self = Self {
        life: Life::Absent,
        base: Gpa::new(0),
        entries: 0,
        tail: 0,
        head: 0,
        phase: true,
        vector: None,
        ring: None,
        at: Iova::new(0),
        slots: 0,
        next: 0,
        expected: true,
        awaited: 0,
    };

    /// A queue that the device does not know yet.
    pub(super) fn new(guest: Ring, vector: Option<u16>, own: OwnRing<FromDevice>) -> Self {
        Self {
            life: Life::Creating,
            base: guest.base,
            entries: guest.entries,
            vector,
            at: own.lent.at(),
            slots: own.slots,
            ring: Some(own.lent),
            ..Self::NEW
        }
    }

    /// Whether the guest's ring takes another entry.
    pub(super) fn has_room(&self) -> bool {
        following(self.tail, self.entries) != self.head
    }

    /// Where the guest's next entry goes, and in which phase.
    pub(super) fn append(&mut self) -> (Gpa, bool) {
        let at = Gpa::new(self.base.raw() + u64::from(self.tail * ENTRY_BYTES));
        let phase = self.phase;
        self.tail = following(self.tail, self.entries);
        self.phase ^= self.tail == 0;
        (at, phase)
    }

    /// Whether the guest may say that it saw everything up to `head`.
    pub(super) fn may_be_seen_to(&self, head: u32) -> bool {
        head < self.entries
            && distance(self.head, head, self.entries)
                <= distance(self.head, self.tail, self.entries)
    }

    /// Where the device's next entry is, and the phase that says it is there.
    pub(super) fn next(&self) -> (Iova, bool) {
        let at = Iova::new(self.at.raw() + u64::from(self.next * ENTRY_BYTES));
        (at, self.expected)
    }

    /// Entries of the device's ring.
    pub(super) fn slots(&self) -> u32 {
        self.slots
    }

    /// The device's next entry is done with.
    pub(super) fn advance(&mut self) {
        self.next = following(self.next, self.slots);
        self.expected ^= self.next == 0;
    }

    /// What the device's doorbell is to say.
    pub(super) fn seen(&self) -> u32 {
        self.next
    }
}

/// A ring of the guest's.
#[derive(Clone, Copy, Debug)]
pub(super) struct Ring {
    pub(super) base: Gpa,
    pub(super) entries: u32,
}

/// A ring of ours for the device.
#[derive(Debug)]
pub(super) struct OwnRing<D> {
    pub(super) lent: Lent<D>,
    pub(super) slots: u32,
}

impl<D> OwnRing<D> {
    /// Lends the device a ring for up to `entries` entries of `bytes` bytes, of at most `pages`
    /// pages, all zeros. A shorter one if need be; `None` if there is not even a page.
    pub(super) fn lend(
        pool: &mut Pool<'_, D>,
        world: &mut impl World,
        (entries, bytes): (u32, u32),
        pages: u32,
    ) -> Option<Self> {
        let page = PAGE_SIZE as u32;
        let mut wanted = (entries * bytes).div_ceil(page).min(pages).max(1);
        let lent = loop {
            match pool.lend(0, wanted * page) {
                Some(lent) => break lent,
                None if wanted > 1 => wanted /= 2,
                None => return None,
            }
        };
        world.scrub(lent.range());
        let slots = (lent.bytes() / bytes).min(entries);
        Some(Self { lent, slots })
    }
}

/// The index after `index` in a ring.
fn following(index: u32, entries: u32) -> u32 {
    let next = index + 1;
    if next >= entries { 0 } else { next }
}

/// How many steps forward `to` is from `from` in a ring.
fn distance(from: u32, to: u32, entries: u32) -> u32 {
    if to >= from {
        to - from
    } else {
        to + entries - from
    }
}
