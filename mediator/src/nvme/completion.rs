//! The flow of a completion: from the device's queue to the guest's.
//!
//! Fetch once, the phase first; check it against what the device was asked; hand out exactly the
//! bytes of the request; take the pages back; show the guest, under its own identifier.

use memory::Iova;

use super::queues::Life;
use super::requests::Loan;
use super::spec::{ENTRY_BYTES, Entry, Status};
use super::{BUDGET, Nvme, each};
use crate::{Lie, World};

/// What is to be done when a request is answered, besides showing it.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) enum Then {
    /// Nothing.
    Show,
    /// It is an event.
    Event,
    /// The device is asked what it says of itself, too.
    LastNamespace,
    /// That is rewritten.
    Controller {
        /// Its last namespace.
        last: u32,
    },
    /// What it says of a namespace is rewritten, and believed if the guest will believe it.
    Namespace {
        /// Which, or none if nothing is to be learnt.
        learnt: Option<u32>,
    },
    /// The number of queues is cut to what there is room for.
    QueueCount,
    /// So it is, and one pair may be ours from now on.
    Queues,
    /// The pair of queues of ours has its completion queue.
    QuietCompletion,
    /// It has its submission queue.
    QuietSubmission,
    /// Nothing: it was asked to be heard of.
    Heard,
    /// A namespace, or all, may have another format now.
    Unlearn(u32),
    /// The submission queue is there.
    CreateSubmission(usize),
    /// The completion queue is there.
    CreateCompletion(usize),
    /// The submission queue is gone.
    DeleteSubmission(usize),
    /// The completion queue is gone.
    DeleteCompletion(usize),
}

impl Nvme<'_> {
    /// Shows the guest what the device completed, as far as one call goes. Whether there may be
    /// more.
    pub(super) fn complete(&mut self, world: &mut impl World) -> bool {
        self.complete_in(world, self.marks.awaited)
    }

    /// The same of queues in which something waited for room.
    pub(super) fn complete_full(&mut self, world: &mut impl World) -> bool {
        let full = core::mem::take(&mut self.marks.full);
        self.complete_in(world, full)
    }

    fn complete_in(&mut self, world: &mut impl World, queues: u64) -> bool {
        let mut budget = BUDGET;
        // The admin queue comes last: an answer there may say that there is no more elsewhere.
        for queue in each(queues) {
            let before = budget;
            while budget != 0 {
                match self.complete_next(world, queue) {
                    Ok(true) => budget -= 1,
                    Ok(false) => break,
                    Err(lie) => {
                        self.quarantine(world, lie);
                        return false;
                    }
                }
            }
            let completion = &self.queues[queue].completion;
            if budget != before && completion.ring.is_some() {
                let seen = completion.seen();
                world.store_register(self.limits.completion_doorbell(queue), seen);
            }
        }
        budget == 0
    }

    /// The next completion in `queue`. Whether there was one that could be shown.
    fn complete_next(&mut self, world: &mut impl World, queue: usize) -> Result<bool, Lie> {
        let Some(entry) = self.fetch_entry(world, queue) else {
            return Ok(false);
        };
        if !self.has_room_for(world, queue, &entry) {
            self.marks.full |= 1 << queue;
            return Ok(false);
        }
        self.check(queue, &entry)?;
        let id = entry.id();
        let given = self.requests.end(id).ok_or(Lie::UnknownRequest { id })?;
        self.queues[queue].completion.advance();
        // Nobody waits for what was asked through a queue that is gone, and its memory may be
        // somebody else's by now.
        if given.is_orphan {
            self.release(world, given.loan, given.run);
            return Ok(true);
        }
        let mut said = Status::new(entry.status());
        if given.then == Then::LastNamespace {
            if self.queues[given.through].submission.has_slot() {
                self.ask_for_controller(world, given, said);
                return Ok(true);
            }
            // What came after it took the room that it had made.
            said = Status::INTERNAL_ERROR;
        }
        // Before anything is shown, the device reaches nothing of the guest's any more.
        self.close_run(world, given.run);
        let status = self.hand_out(world, given.loan, given.then, said);
        let shown = match given.then {
            Then::Show => Some(entry.result()),
            then => self.follow(world, then, status, entry.result()),
        };
        if let Some(result) = shown {
            self.show(world, given.submission, given.id, status, result);
            self.counts.completed += 1;
        }
        Ok(true)
    }

    /// Copies the device's next entry in `queue`, if there is one. It stays there.
    fn fetch_entry(&mut self, world: &impl World, queue: usize) -> Option<Entry> {
        let completion = &self.queues[queue].completion;
        completion.ring.as_ref()?;
        let (at, expected) = completion.next();
        let last = world.load_u64(Iova::new(at.raw() + 8));
        if Entry::phase_of(last) != expected {
            return None;
        }
        let result = world.load_u64(at);
        self.counts.entry_bytes += u64::from(ENTRY_BYTES);
        Some(Entry::new(last, result))
    }

    /// Whether the guest's queue has room for what is in the device's `queue`.
    fn has_room_for(&mut self, world: &mut impl World, queue: usize, entry: &Entry) -> bool {
        if self.queues[queue].completion.life != Life::Own {
            return self.has_room(world, queue);
        }
        let Some(given) = self.requests.find(entry.id()) else {
            // It is a lie, and nobody is shown it.
            return true;
        };
        let shown = self.queues[given.submission].submission.completion;
        self.has_room(world, shown)
    }

    /// Whether the request that `entry` says is over is one that the device has, of a queue that
    /// completes here, and it can have fetched what it says it fetched. If so, it is awaited no more.
    fn check(&mut self, queue: usize, entry: &Entry) -> Result<(), Lie> {
        let id = entry.id();
        let given = self.requests.find(id).ok_or(Lie::UnknownRequest { id })?;
        let (submission, through) = (given.submission, given.through);
        let (is_prompt, is_orphan) = (given.is_prompt, given.is_orphan);
        if given.completion != queue || through != usize::from(entry.queue()) {
            return Err(Lie::WrongQueue {
                id,
                queue: entry.queue(),
            });
        }
        if !is_orphan {
            let is_quiet = through != submission;
            if !self.queues[through].submission.fetched_to(entry.head()) {
                return Err(Lie::ImpossibleHead {
                    queue: entry.queue(),
                    head: entry.head(),
                });
            }
            let its = &mut self.queues[submission].submission;
            its.prompt -= u32::from(is_prompt);
            its.quiet -= u32::from(is_quiet);
            self.wake(submission);
        }
        let completion = &mut self.queues[queue].completion;
        completion.awaited -= 1;
        if completion.awaited == 0 {
            self.marks.awaited &= !(1 << queue);
        }
        Ok(())
    }

    /// A submission queue that waited for room in a ring of its own, or for a request, goes on.
    fn wake(&mut self, queue: usize) {
        if self.marks.stalled >> queue & 1 != 0 {
            self.marks.stalled &= !(1 << queue);
            self.turns.join(queue);
        }
    }

    /// Ends the loan. If the device says that it did what it was asked, what it wrote is copied
    /// to the guest first: the bytes of the request and no more.
    fn hand_out(
        &mut self,
        world: &mut impl World,
        loan: Loan,
        then: Then,
        mut status: Status,
    ) -> Status {
        let Loan::FromDevice(lent) = loan else {
            self.release(world, loan, None);
            return status;
        };
        let bytes = lent.bytes();
        let returned = lent.returned();
        if status.is_success() {
            let done = match then {
                Then::Controller { last } => self.hand_out_controller(world, &returned, last),
                Then::Namespace { learnt } => self.hand_out_namespace(world, &returned, learnt),
                _ => self.pools.from.hand_out(&returned, bytes, world),
            };
            match done {
                Ok(()) => self.counts.bytes_out += u64::from(bytes),
                Err(_) => status = Status::DATA_TRANSFER_ERROR,
            }
        }
        self.pools.from.take_back(returned, world);
        status
    }

    /// What follows from an answer that is not only to be shown, and the result that the guest is
    /// shown then, if it is shown one.
    // Apart from what every read and write runs through.
    #[inline(never)]
    fn follow(
        &mut self,
        world: &mut impl World,
        then: Then,
        status: Status,
        mut result: [u32; 2],
    ) -> Option<[u32; 2]> {
        let is_success = status.is_success();
        match then {
            Then::Show => {}
            Then::LastNamespace | Then::Controller { .. } | Then::Namespace { .. } => {}
            Then::Heard => return None,
            Then::Event => {
                self.event_from_device(world, status, result[0]);
                self.counts.completed += 1;
                return None;
            }
            Then::QueueCount => result[0] = self.shown_queue_count(result[0]),
            Then::Queues => {
                if is_success {
                    let count = (result[0] >> 16).min(result[0] & 0xffff) + 1;
                    self.open_quiet(world, count);
                }
                result[0] = self.shown_queue_count(result[0]);
            }
            Then::QuietCompletion => {
                self.quiet_completion_created(world, is_success);
                return None;
            }
            Then::QuietSubmission => {
                self.quiet_submission_created(is_success);
                return None;
            }
            Then::Unlearn(namespace) if is_success => self.unlearn(namespace),
            Then::Unlearn(_) => {}
            Then::CreateSubmission(queue) => self.submission_created(world, queue, is_success),
            Then::CreateCompletion(queue) => self.completion_created(world, queue, is_success),
            Then::DeleteSubmission(queue) => self.submission_deleted(world, queue, is_success),
            Then::DeleteCompletion(queue) => self.completion_deleted(world, queue, is_success),
        }
        Some(result)
    }
}
