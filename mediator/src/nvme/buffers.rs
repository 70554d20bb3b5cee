//! Doorbells in memory: the Doorbell Buffer Config command, section 5.8, and section B.5.
//!
//! Offered whatever the device has, because it is between the guest and us alone: a guest that
//! rings here need not exit. It rings the real doorbell only when its store passes the event
//! index that it finds.

use core::sync::atomic::{Ordering, fence};

use memory::{ByteRange, Gpa, Hole, PAGE_SIZE};

use super::queues::Life;
use super::{Nvme, each};
use crate::World;

/// Requests that the guest may fill at most without ringing.
const MOST_UNRUNG: u32 = 16;

/// The two pages of the guest.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) struct Buffers {
    doorbells: Gpa,
    events: Gpa,
}

impl Buffers {
    /// `None` unless both are pages of the guest's memory.
    pub(super) fn new(world: &impl World, doorbells: Gpa, events: Gpa) -> Option<Self> {
        let is_page = |at: Gpa| {
            at.page_offset() == 0
                && ByteRange::new(at, PAGE_SIZE).is_some_and(|page| world.is_memory(page))
        };
        (is_page(doorbells) && is_page(events)).then_some(Self { doorbells, events })
    }

    /// What the guest says of `doorbell`.
    fn load(self, world: &impl World, doorbell: Doorbell) -> Result<u32, Hole> {
        world.read_u32(Gpa::new(self.doorbells.raw() + doorbell.offset()))
    }

    /// Wants the guest to ring when it passes `value`.
    fn want(self, world: &impl World, doorbell: Doorbell, value: u32) -> Result<(), Hole> {
        let at = Gpa::new(self.events.raw() + doorbell.offset());
        world.write(at, &value.to_le_bytes())
    }
}

#[derive(Clone, Copy, PartialEq, Eq, Debug)]
enum Doorbell {
    Submission(usize),
    Completion(usize),
}

impl Doorbell {
    /// As the doorbells of the registers lie, with the stride that the guest is shown.
    fn offset(self) -> u64 {
        match self {
            Self::Submission(queue) => 8 * queue as u64,
            Self::Completion(queue) => 8 * queue as u64 + 4,
        }
    }
}

impl Nvme<'_> {
    /// The guest rings in `buffers` from now on.
    pub(super) fn use_buffers(&mut self, buffers: Buffers) {
        self.buffers = Some(buffers);
        for queue in 1..self.queues.len() {
            if self.queues[queue].submission.life == Life::Live {
                self.marks.unarmed |= 1 << queue;
            }
        }
    }

    /// Looks where the guest does not ring by itself.
    pub(super) fn poll_buffers(&mut self, world: &mut impl World) {
        if self.buffers.is_some() {
            for queue in each(self.marks.unarmed) {
                self.poll_queue(world, queue, true);
            }
        }
    }

    /// Looks at one doorbell in memory.
    pub(super) fn poll_queue(&mut self, world: &mut impl World, queue: usize, is_submission: bool) {
        let Some(buffers) = self.buffers else { return };
        if queue >= self.queues.len() {
            return self.report(world, super::events::DoorbellError::Register);
        }
        let doorbell = if is_submission {
            Doorbell::Submission(queue)
        } else {
            Doorbell::Completion(queue)
        };
        let Ok(value) = buffers.load(world, doorbell) else {
            return self.fail();
        };
        if is_submission {
            self.marks.unarmed |= 1 << queue;
            self.tail_from_guest(world, queue, value);
        } else {
            self.head_from_guest(world, queue, value);
        }
    }

    /// Lets the guest ring again where nothing makes us look. Whether there is more to serve:
    /// what came meanwhile.
    pub(super) fn rearm_buffers(&mut self, world: &mut impl World) -> bool {
        let Some(buffers) = self.buffers else {
            return false;
        };
        let mut armed = 0;
        for queue in each(self.marks.unarmed) {
            let submission = &self.queues[queue].submission;
            if submission.life != Life::Live {
                self.marks.unarmed &= !(1 << queue);
                continue;
            }
            let waits = self.turns.contains(queue) || self.marks.stalled >> queue & 1 != 0;
            if waits {
                continue;
            }
            // Reads and writes that the device has are soon over, and then we look: until then the
            // guest need not ring for each. Requests that may take seconds do not count.
            let is_announced = world.is_announced();
            let prompt = if is_announced { submission.prompt } else { 0 };
            let unrung = (prompt / 2).clamp(1, MOST_UNRUNG) - 1;
            let wanted = submission.ahead(unrung);
            let doorbell = Doorbell::Submission(queue);
            if buffers.want(world, doorbell, wanted).is_err() {
                self.fail();
                return false;
            }
            if prompt < 2 {
                armed |= 1 << queue;
            }
        }
        if armed == 0 {
            return false;
        }
        // Either the guest sees our event index, or we see its tail.
        fence(Ordering::SeqCst);
        self.marks.unarmed &= !armed;
        let mut came = false;
        for queue in each(armed) {
            match buffers.load(world, Doorbell::Submission(queue)) {
                Ok(tail) if tail == self.queues[queue].submission.tail => {}
                Ok(tail) => {
                    self.marks.unarmed |= 1 << queue;
                    self.tail_from_guest(world, queue, tail);
                    came |= self.turns.contains(queue);
                }
                Err(_) => {
                    self.fail();
                    return false;
                }
            }
        }
        came
    }

    /// Whether completion queue `queue` has room, as the guest last said or says now. If not,
    /// the guest rings when it has.
    #[inline(always)]
    pub(super) fn has_room(&mut self, world: &mut impl World, queue: usize) -> bool {
        self.queues[queue].completion.has_room() || self.finds_room(world, queue)
    }

    /// Looks for room where the guest may have said so.
    #[cold]
    fn finds_room(&mut self, world: &mut impl World, queue: usize) -> bool {
        let Some(buffers) = self.buffers.filter(|_| queue != 0) else {
            return false;
        };
        let doorbell = Doorbell::Completion(queue);
        let head = self.queues[queue].completion.head;
        let mut found = buffers.load(world, doorbell);
        if found == Ok(head) {
            if buffers.want(world, doorbell, head).is_err() {
                self.fail();
                return false;
            }
            fence(Ordering::SeqCst);
            found = buffers.load(world, doorbell);
        }
        match found {
            Ok(value) if value != head => self.head_from_guest(world, queue, value),
            Ok(_) => {}
            Err(_) => self.fail(),
        }
        self.queues[queue].completion.has_room()
    }
}
