//! Creating and deleting queues: sections 5.4 to 5.7.

use bounce::Lent;

use super::Nvme;
use super::completion::Then;
use super::enabling::guest_ring;
use super::plan::{Extent, Plan};
use super::queues::{Completion, Life, OwnRing, QueuePair, Ring, Submission};
use super::spec::{Command, ENTRY_BYTES, Status};
use crate::World;

/// "Physically Contiguous": dword 11, bit 0.
const CONTIGUOUS: u32 = 1 << 0;
/// "Interrupts Enabled": dword 11, bit 1.
const INTERRUPTS: u32 = 1 << 1;

impl Nvme<'_> {
    pub(super) fn plan_create_completion(
        &mut self,
        world: &mut impl World,
        command: &mut Command,
    ) -> Result<Plan, Status> {
        let queue = self.new_queue(command, |pair| pair.completion.life)?;
        let ring = self.new_ring(world, command, ENTRY_BYTES)?;
        let (wants_interrupts, vector) = (
            command.dword(11) & INTERRUPTS != 0,
            (command.dword(11) >> 16) as u16,
        );
        if wants_interrupts && u32::from(vector) >= world.vectors() {
            return Err(Status::INVALID_INTERRUPT_VECTOR);
        }
        let entries = self.limits.completion_ring(Some(ring.entries));
        let pages = self.limits.completion_pages;
        let own = OwnRing::lend(&mut self.pools.queues_from, world, entries, pages)
            .ok_or(Status::INVALID_QUEUE_SIZE)?;
        let vector = wants_interrupts.then_some(vector);
        let (at, slots) = (own.lent.at(), own.slots);
        self.queues[queue].completion = Completion::new(ring, vector, own);
        // The device always interrupts: we look on the guest's behalf, even if it polls.
        let flags = u32::from(vector.unwrap_or(0)) << 16 | INTERRUPTS | CONTIGUOUS;
        command.set_dword(10, (slots - 1) << 16 | queue as u32);
        command.set_dword(11, flags);
        let then = Then::CreateCompletion(queue);
        Ok(Plan::pass_then(Extent::Ring(at), then))
    }

    pub(super) fn plan_create_submission(
        &mut self,
        world: &mut impl World,
        command: &mut Command,
    ) -> Result<Plan, Status> {
        let queue = self.new_queue(command, |pair| pair.submission.life)?;
        let completion = (command.dword(11) >> 16) as usize;
        if completion == 0 || completion > self.limits.queues as usize {
            return Err(Status::INVALID_QUEUE_IDENTIFIER);
        }
        if self.queues[completion].completion.life != Life::Live {
            return Err(Status::COMPLETION_QUEUE_INVALID);
        }
        let ring = self.new_ring(world, command, Command::BYTES)?;
        let entries = self.limits.submission_ring(Some(ring.entries));
        let pages = self.limits.submission_pages;
        let own = OwnRing::lend(&mut self.pools.queues_to, world, entries, pages)
            .ok_or(Status::INVALID_QUEUE_SIZE)?;
        let (at, slots) = (own.lent.at(), own.slots);
        self.queues[queue].submission = Submission::new(ring, completion, own);
        command.set_dword(10, (slots - 1) << 16 | queue as u32);
        let then = Then::CreateSubmission(queue);
        Ok(Plan::pass_then(Extent::Ring(at), then))
    }

    /// The number of a queue that is not there yet.
    fn new_queue(
        &self,
        command: &Command,
        life: impl Fn(&QueuePair) -> Life,
    ) -> Result<usize, Status> {
        let queue = (command.dword(10) & 0xffff) as usize;
        let is_new = queue != 0
            && queue <= self.limits.queues as usize
            && life(&self.queues[queue]) == Life::Absent;
        is_new
            .then_some(queue)
            .ok_or(Status::INVALID_QUEUE_IDENTIFIER)
    }

    /// The guest's ring of a queue to be created. It is in one piece, as CAP.CQR demands, and
    /// begins at a page.
    fn new_ring(&self, world: &impl World, command: &Command, bytes: u32) -> Result<Ring, Status> {
        let entries = (command.dword(10) >> 16) + 1;
        if entries < 2 || entries > self.limits.entries {
            return Err(Status::INVALID_QUEUE_SIZE);
        }
        if command.dword(11) & CONTIGUOUS == 0 {
            return Err(Status::INVALID_FIELD);
        }
        if command.prp1().page_offset() != 0 {
            return Err(Status::PRP_OFFSET_INVALID);
        }
        guest_ring(world, (command.prp1(), entries), bytes).ok_or(Status::INVALID_FIELD)
    }

    pub(super) fn plan_delete_submission(&mut self, command: &Command) -> Result<Plan, Status> {
        let queue = (command.dword(10) & 0xffff) as usize;
        let submission = self
            .submission(queue)
            .filter(|_| queue != 0)
            .ok_or(Status::INVALID_QUEUE_IDENTIFIER)?;
        submission.life = Life::Deleting;
        // What went another way the device does not abort with the queue: it is over first.
        let waits = submission.quiet != 0;
        submission.end = Some(*command).filter(|_| waits);
        self.turns.remove(queue);
        if waits {
            return Ok(Plan::Keep);
        }
        let then = Then::DeleteSubmission(queue);
        Ok(Plan::pass_then(Extent::Nothing, then))
    }

    /// "If there are any associated Submission Queues present, the command fails": section 5.6.
    pub(super) fn plan_delete_completion(&mut self, command: &Command) -> Result<Plan, Status> {
        let queue = (command.dword(10) & 0xffff) as usize;
        let is_there = |pair: &&mut QueuePair| pair.completion.life == Life::Live;
        if queue == 0 || self.queues.get_mut(queue).filter(is_there).is_none() {
            return Err(Status::INVALID_QUEUE_IDENTIFIER);
        }
        let is_user = |pair: &QueuePair| {
            pair.submission.life != Life::Absent && pair.submission.completion == queue
        };
        if self.queues.iter().any(is_user) {
            return Err(Status::INVALID_QUEUE_DELETION);
        }
        self.queues[queue].completion.life = Life::Deleting;
        let then = Then::DeleteCompletion(queue);
        Ok(Plan::pass_then(Extent::Nothing, then))
    }

    pub(super) fn submission_created(
        &mut self,
        world: &mut impl World,
        queue: usize,
        is_success: bool,
    ) {
        if is_success {
            self.queues[queue].submission.life = Life::Live;
            self.marks.unarmed |= 1 << queue;
        } else {
            self.drop_submission(world, queue);
        }
    }

    pub(super) fn completion_created(
        &mut self,
        world: &mut impl World,
        queue: usize,
        is_success: bool,
    ) {
        if is_success {
            self.queues[queue].completion.life = Life::Live;
        } else {
            self.drop_completion(world, queue);
        }
    }

    /// "The command causes all commands submitted to the queue to be aborted": some of them the
    /// device never completes, and it is done with all of them before it says that the queue is
    /// gone. What they were lent is taken back. Their identifiers wait for their completion
    /// queue's end: completions from before may be in it.
    pub(super) fn submission_deleted(
        &mut self,
        world: &mut impl World,
        queue: usize,
        is_success: bool,
    ) {
        if is_success {
            let mut from = 0;
            while let Some((loan, run)) = self.requests.orphan_next(&mut from, queue) {
                self.release(world, loan, run);
            }
            self.drop_submission(world, queue);
        } else {
            let submission = &mut self.queues[queue].submission;
            submission.life = Life::Live;
            if !submission.is_empty() {
                self.turns.join(queue);
            }
        }
    }

    pub(super) fn completion_deleted(
        &mut self,
        world: &mut impl World,
        queue: usize,
        is_success: bool,
    ) {
        if is_success {
            let mut from = 0;
            while let Some(given) = self
                .requests
                .end_next(&mut from, |given| given.completion == queue)
            {
                self.release(world, given.loan, given.run);
            }
            self.drop_completion(world, queue);
        } else {
            self.queues[queue].completion.life = Life::Live;
        }
    }

    pub(super) fn drop_submission(&mut self, world: &mut impl World, queue: usize) {
        let new = QueuePair::NEW.submission;
        let old = core::mem::replace(&mut self.queues[queue].submission, new);
        if let Some(ring) = old.ring.map(Lent::returned) {
            self.pools.queues_to.take_back(ring, world);
        }
        self.turns.remove(queue);
        let rest = !(1 << queue);
        self.marks.stalled &= rest;
        self.marks.unrung &= rest;
        self.marks.unarmed &= rest;
    }

    pub(super) fn drop_completion(&mut self, world: &mut impl World, queue: usize) {
        let new = QueuePair::NEW.completion;
        let old = core::mem::replace(&mut self.queues[queue].completion, new);
        if let Some(ring) = old.ring.map(Lent::returned) {
            self.pools.queues_from.take_back(ring, world);
        }
        let rest = !(1 << queue);
        self.marks.awaited &= rest;
        self.marks.full &= rest;
        self.marks.owed &= rest;
    }
}
