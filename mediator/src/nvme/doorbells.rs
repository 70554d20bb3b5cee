//! Doorbells, the guest's and the device's: sections 3.1.3.24 and 3.1.3.25.

use super::events::DoorbellError;
use super::queues::Life;
use super::{Nvme, each};
use crate::{Looked, World};

impl Nvme<'_> {
    /// The guest writes doorbell number `index`: that of a submission queue if it is even.
    pub(super) fn ring_from_guest(
        &mut self,
        world: &mut impl World,
        index: u32,
        value: u32,
    ) -> Looked {
        if !self.registers.is_on() {
            return Looked::Nothing;
        }
        let queue = index as usize / 2;
        let is_submission = index.is_multiple_of(2);
        if queue != 0 && self.buffers.is_some() {
            // The value in the buffer is at least as new.
            self.poll_queue(world, queue, is_submission);
        } else if is_submission {
            self.tail_from_guest(world, queue, value);
        } else {
            self.head_from_guest(world, queue, value);
        }
        if self.turns.is_empty() && self.marks.full == 0 {
            return Looked::Nothing;
        }
        let is_more = self.complete_full(world) | self.serve(world);
        if is_more { Looked::More } else { Looked::Done }
    }

    /// The guest filled its submission queue up to `tail`.
    pub(super) fn tail_from_guest(&mut self, world: &mut impl World, queue: usize, tail: u32) {
        let Some(submission) = self.submission(queue) else {
            return self.report(world, DoorbellError::Register);
        };
        if tail >= submission.entries {
            return self.report(world, DoorbellError::Value);
        }
        if submission.tail == tail {
            return;
        }
        submission.tail = tail;
        if self.marks.stalled >> queue & 1 == 0 {
            self.turns.join(queue);
        }
    }

    /// The guest saw its completion queue up to `head`.
    pub(super) fn head_from_guest(&mut self, world: &mut impl World, queue: usize, head: u32) {
        let Some(pair) = self.queues.get_mut(queue) else {
            return self.report(world, DoorbellError::Register);
        };
        let completion = &mut pair.completion;
        if !matches!(completion.life, Life::Live | Life::Deleting) {
            return self.report(world, DoorbellError::Register);
        }
        if !completion.may_be_seen_to(head) {
            return self.report(world, DoorbellError::Value);
        }
        completion.head = head;
        self.wake_users_of(queue);
    }

    /// Submission queues that waited for room in completion queue `queue` go on.
    fn wake_users_of(&mut self, queue: usize) {
        for stalled in each(self.marks.stalled) {
            if self.queues[stalled].submission.completion == queue {
                self.marks.stalled &= !(1 << stalled);
                self.turns.join(stalled);
            }
        }
    }

    /// Rings the device for everything that it was given.
    pub(super) fn ring(&mut self, world: &mut impl World) {
        for queue in each(core::mem::take(&mut self.marks.unrung)) {
            let tail = self.queues[queue].submission.filled();
            world.store_register(self.limits.submission_doorbell(queue), tail);
        }
    }

    /// The submission queue `queue`, if the guest may use it.
    pub(super) fn submission(&mut self, queue: usize) -> Option<&mut super::queues::Submission> {
        let submission = &mut self.queues.get_mut(queue)?.submission;
        (submission.life == Life::Live).then_some(submission)
    }
}
