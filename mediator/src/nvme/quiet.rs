//! Requests whose completion is not announced: a pair of queues of ours that raises no interrupt.
//!
//! Each announcement is an exit. Where a queue has many reads and writes with the device, some go through
//! this pair instead, and are found when one that is announced completes. None waits for ever: as
//! long as a queue has requests here, it has one that is announced. If no other is left, the device
//! is asked for a block more, into a page of ours that nobody reads.

use bounce::{FromDevice, Lent};
use memory::{Gpa, PAGE_SIZE};

use super::completion::Then;
use super::plan::Pass;
use super::queues::{Completion, Life, OwnRing, Ring, Submission};
use super::requests::Given;
use super::spec::{Command, admin, io};
use super::{Nvme, each, io as blocks};
use crate::World;

/// Of so many requests that a queue has, one more may go unannounced between two that are.
const SHARE: u32 = 4;
/// Of so many in a row at most, one is announced.
const MOST: u32 = 8;
/// Entries of each ring.
const ENTRIES: u32 = 64;
/// "Physically Contiguous": dword 11, bit 0 of both commands that create queues.
const CONTIGUOUS: u32 = 1 << 0;

/// The pair, if there is one.
#[derive(Debug)]
pub(super) struct Quiet {
    /// Its number, which the guest does not get.
    number: Option<usize>,
    /// Where the block goes that is only asked for to be announced.
    page: Option<Lent<FromDevice>>,
    /// Queues of the guest's that have requests here: a bit for each.
    users: u64,
}

impl Quiet {
    pub(super) const NONE: Self = Self {
        number: None,
        page: None,
        users: 0,
    };

    /// Pages that it has besides its rings.
    pub(super) fn pages(&self) -> u32 {
        self.page.as_ref().map_or(0, Lent::pages)
    }
}

impl Nvme<'_> {
    /// The device has `count` queues of each kind for us: the last is the pair's, if the guest has
    /// enough without it.
    pub(super) fn open_quiet(&mut self, world: &mut impl World, count: u32) {
        if !self.limits.has_quiet || count < 2 || self.quiet.number.is_some() {
            return;
        }
        let number = count.min(self.limits.queues + 1) as usize;
        let is_first = self.queues[1..].iter().all(|pair| {
            pair.submission.life == Life::Absent && pair.completion.life == Life::Absent
        });
        if !is_first || self.lend_quiet(world, number).is_none() {
            return;
        }
        self.quiet.number = Some(number);
        let completion = &self.queues[number].completion;
        let [at, slots] = [completion.next().0.raw(), completion.slots().into()];
        let then = Then::QuietCompletion;
        self.ask(
            world,
            admin::CREATE_COMPLETION_QUEUE,
            (at, slots),
            CONTIGUOUS,
            then,
        );
    }

    /// Queues of each kind that the guest may create, counted from 0.
    pub(super) fn last_queue(&self) -> u32 {
        let before = self.quiet.number.map(|number| number as u32 - 1);
        before.map_or(self.limits.queues, |before| before.min(self.limits.queues)) - 1
    }

    fn lend_quiet(&mut self, world: &mut impl World, number: usize) -> Option<()> {
        if !self.queues[0].submission.has_slot() || !self.requests.has_room() {
            return None;
        }
        let entries = Some(ENTRIES);
        let (pools, limits) = (&mut self.pools, &self.limits);
        let own = limits.submission_ring(entries);
        let submission = OwnRing::lend(&mut pools.queues_to, world, own, limits.submission_pages)?;
        let own = limits.completion_ring(entries);
        let completion = OwnRing::lend(&mut pools.queues_from, world, own, limits.completion_pages);
        let page = pools.queues_from.lend(0, PAGE_SIZE as u32);
        let nowhere = Ring {
            base: Gpa::new(0),
            entries: 0,
        };
        self.quiet.page = page;
        let is_whole = self.quiet.page.is_some() && completion.is_some();
        let pair = &mut self.queues[number];
        pair.submission = Submission::new(nowhere, number, submission);
        if let Some(completion) = completion {
            pair.completion = Completion::new(nowhere, None, completion);
        }
        if !is_whole {
            self.close_quiet(world, number);
        }
        is_whole.then_some(())
    }

    /// The device has the pair's completion queue, or will not.
    pub(super) fn quiet_completion_created(&mut self, world: &mut impl World, is_success: bool) {
        let Some(number) = self.quiet.number else {
            return;
        };
        let has_room = self.queues[0].submission.has_slot() && self.requests.has_room();
        if !is_success || !has_room {
            // A completion queue that nothing uses is the device's until it is reset.
            return;
        }
        self.queues[number].completion.life = Life::Own;
        let submission = &self.queues[number].submission;
        let place = (submission.at().raw(), submission.slots().into());
        let uses = (number as u32) << 16 | CONTIGUOUS;
        let then = Then::QuietSubmission;
        self.ask(world, admin::CREATE_SUBMISSION_QUEUE, place, uses, then);
    }

    /// The device has the pair's submission queue, or will not.
    pub(super) fn quiet_submission_created(&mut self, is_success: bool) {
        if let Some(number) = self.quiet.number.filter(|_| is_success) {
            self.queues[number].submission.life = Life::Own;
        }
    }

    /// Asks the device for a queue of the pair, `(at, slots)`.
    fn ask(
        &mut self,
        world: &mut impl World,
        opcode: u8,
        (at, slots): (u64, u64),
        dword11: u32,
        then: Then,
    ) {
        let Some(number) = self.quiet.number else {
            return;
        };
        let mut command = Command::of(opcode, 0);
        command.set_dword(10, (slots as u32 - 1) << 16 | number as u32);
        command.set_dword(11, dword11);
        let given = Given::of(0, 0, then);
        self.put(world, given, &mut command, [at, 0]);
    }

    /// The queue through which a request of `queue` goes to the device, one that nothing of the guest's
    /// is lent for in place.
    pub(super) fn choose(
        &mut self,
        world: &impl World,
        queue: usize,
        command: &Command,
        pass: &Pass,
    ) -> usize {
        let Some(quiet) = self.quiet.number.filter(|_| pass.is_prompt) else {
            return queue;
        };
        let place = blocks::place(command.namespace());
        let namespace = place.and_then(|place| self.namespaces.get(place));
        let pair = &self.queues[quiet].submission;
        let is_ready = pair.life == Life::Own && pair.has_slot() && self.requests.is_half_free();
        let its = &self.queues[queue].submission;
        let is_heard = self.queues[its.completion].completion.vector.is_some();
        // The block that may be asked for has to fit its page.
        let fits = namespace.is_some_and(|namespace| namespace.has_blocks_of(PAGE_SIZE as u32));
        let in_a_row = (its.prompt / SHARE).min(MOST);
        let is_quiet = is_ready
            && is_heard
            && world.is_announced()
            && fits
            && its.prompt > its.quiet
            && its.in_a_row + 1 < in_a_row;
        let its = &mut self.queues[queue].submission;
        if !is_quiet {
            its.in_a_row = 0;
            return queue;
        }
        its.in_a_row += 1;
        its.quiet += 1;
        its.block = Some(command.of_one_block(io::READ));
        self.quiet.users |= 1 << queue;
        quiet
    }

    /// Sees to it that every queue that has unannounced requests has one that is announced, and that a
    /// queue whose end waited for them ends. What cannot be given now is given with the next look:
    /// what takes its room is announced.
    pub(super) fn keep_heard(&mut self, world: &mut impl World) {
        for queue in each(self.quiet.users) {
            let its = &self.queues[queue].submission;
            if its.quiet != 0 {
                self.ask_for_block(world, queue);
            } else if its.end.is_none() || self.ask_for_end(world, queue) {
                self.quiet.users &= !(1 << queue);
            }
        }
    }

    fn ask_for_block(&mut self, world: &mut impl World, queue: usize) {
        let has_room = self.requests.has_room();
        let its = &mut self.queues[queue].submission;
        let page = self.quiet.page.as_ref().map(|page| page.at().raw());
        let (Some(mut block), Some(page)) = (its.block, page) else {
            return;
        };
        if its.prompt > its.quiet || !its.has_slot() || !has_room {
            return;
        }
        its.prompt += 1;
        let given = Given {
            completion: its.completion,
            is_prompt: true,
            ..Given::of(queue, 0, Then::Heard)
        };
        self.put(world, given, &mut block, [page, 0]);
    }

    /// Returns whether the device was told.
    fn ask_for_end(&mut self, world: &mut impl World, queue: usize) -> bool {
        if !self.queues[0].submission.has_slot() || !self.requests.has_room() {
            return false;
        }
        if let Some(mut end) = self.queues[queue].submission.end.take() {
            let given = Given::of(0, end.id(), Then::DeleteSubmission(queue));
            self.counts.requests += 1;
            self.put(world, given, &mut end, [0, 0]);
        }
        true
    }

    /// Everything is over: what the pair had besides its rings is taken back.
    pub(super) fn drop_quiet(&mut self, world: &mut impl World) {
        let quiet = core::mem::replace(&mut self.quiet, Quiet::NONE);
        if let Some(page) = quiet.page {
            self.pools.queues_from.take_back(page.returned(), world);
        }
    }

    /// The device never heard of the pair.
    fn close_quiet(&mut self, world: &mut impl World, number: usize) {
        self.drop_quiet(world);
        self.drop_submission(world, number);
        self.drop_completion(world, number);
    }
}
