//! The flow of a request: from the guest's queue to the device's.
//!
//! Fetch once, understand, lend pages for exactly its bytes, copy in what the device reads, and
//! put it into the device's queue under an identifier of ours. What cannot go on stays where it
//! is, in the guest's queue, and nobody gets in front of it.

use memory::{Gpa, Hole};

use super::Nvme;
use super::lending::Short;
use super::plan::{Extent, Pass, Plan};
use super::requests::{Given, Loan};
use super::spec::{Command, ENTRY_BYTES, Status};
use crate::World;

/// Requests of one queue in a row, while others wait.
const ROUND: u32 = 16;

/// How one step went.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
enum Step {
    /// A request was fetched.
    Done,
    /// There was none.
    Empty,
    /// It waits for room in a ring of this queue.
    Stalled,
    /// It waits for what all queues share.
    Held,
}

impl Nvme<'_> {
    /// Fetches requests of all queues in turn, as many as `budget` says.
    pub(super) fn submit(&mut self, world: &mut impl World, budget: &mut u32) {
        let mut in_a_row = 0;
        while let Some(queue) = self.turns.first().filter(|_| *budget != 0) {
            let step = self.submit_next(world, queue);
            if step == Step::Held {
                return;
            }
            *budget -= 1;
            in_a_row += 1;
            let is_over = step != Step::Done || !self.turns.contains(queue);
            if is_over || in_a_row >= ROUND && self.turns.are_several() {
                self.turns.remove(queue);
                in_a_row = 0;
                if !is_over {
                    self.turns.join(queue);
                }
            }
            if step == Step::Stalled {
                self.marks.stalled |= 1 << queue;
            }
        }
    }

    /// One request of `queue`.
    fn submit_next(&mut self, world: &mut impl World, queue: usize) -> Step {
        match self.submission(queue) {
            None => return Step::Empty,
            Some(submission) if submission.is_empty() => return Step::Empty,
            Some(submission) if !submission.has_slot() => return Step::Stalled,
            Some(_) => {}
        }
        let completion = self.queues[queue].submission.completion;
        if !self.has_room(world, completion) {
            return Step::Stalled;
        }
        if !self.requests.has_room() {
            return self.hold(queue);
        }
        let mut command = Command::NEW;
        if self.fetch(world, queue, &mut command).is_err() {
            self.fail();
            return Step::Empty;
        }
        let plan = if queue == 0 {
            self.plan_admin(world, &mut command)
        } else {
            self.plan_io(world, &command)
        };
        match plan {
            Ok(Plan::Pass(pass)) => {
                let mut given = Given {
                    is_prompt: pass.is_prompt,
                    ..Given::of(queue, command.id(), pass.then)
                };
                match self.lend(world, &command, &pass, &mut given) {
                    Ok(()) => self.pass_on(world, &mut command, &pass, given),
                    Err(Short::Pages) => return self.hold(queue),
                    Err(Short::Refused(status)) => self.answer(world, queue, &command, status, 0),
                }
            }
            Ok(Plan::Answer(status, result)) => self.answer(world, queue, &command, status, result),
            Ok(Plan::Keep) => self.queues[queue].submission.advance(),
            Err(status) => self.answer(world, queue, &command, status, 0),
        }
        Step::Done
    }

    /// Copies the next request of `queue`, once. It stays there.
    fn fetch(
        &mut self,
        world: &impl World,
        queue: usize,
        command: &mut Command,
    ) -> Result<(), Hole> {
        let at = self.queues[queue].submission.next();
        self.counts.entry_bytes += u64::from(Command::BYTES);
        world.read(at, command.bytes_mut())
    }

    /// The next request of `queue` stays where it is.
    fn hold(&mut self, queue: usize) -> Step {
        let submission = &mut self.queues[queue].submission;
        if !core::mem::replace(&mut submission.is_held, true) {
            self.counts.held_back += 1;
        }
        Step::Held
    }

    /// Gives the request to the device, whose doorbell is rung later.
    fn pass_on(
        &mut self,
        world: &mut impl World,
        command: &mut Command,
        pass: &Pass,
        mut given: Given,
    ) {
        let pointers = match (&given.run, &self.mapping) {
            (Some(run), Some(mapping)) => mapping.list.pointers(run, 0),
            _ => match (&given.loan, pass.extent) {
                (Loan::ToDevice(lent), _) => self.lists.readable(lent),
                (Loan::FromDevice(lent), _) => self.lists.writable(lent),
                (Loan::Nothing, Extent::Ring(at)) => [at.raw(), 0],
                (Loan::Nothing, _) => [0, 0],
            },
        };
        let queue = given.submission;
        // Nothing of the guest's is lent for longer than the guest waits.
        if given.run.is_none() {
            given.through = self.choose(world, queue, command, pass);
        }
        given.completion = self.queues[given.through].submission.completion;
        let submission = &mut self.queues[queue].submission;
        submission.advance();
        submission.prompt += u32::from(pass.is_prompt);
        self.counts.requests += 1;
        self.put(world, given, command, pointers);
    }

    /// Puts a request into the device's queue, in which room was looked for.
    pub(super) fn put(
        &mut self,
        world: &mut impl World,
        given: Given,
        command: &mut Command,
        pointers: [u64; 2],
    ) {
        let (through, completion) = (given.through, given.completion);
        let id = self.requests.give(given);
        command.readdress(id, pointers);
        self.queues[through].submission.fill(world, command.bytes());
        self.queues[completion].completion.awaited += 1;
        self.marks.awaited |= 1 << completion;
        self.marks.unrung |= 1 << through;
        self.counts.entry_bytes += u64::from(Command::BYTES);
    }

    /// Answers a request without the device.
    fn answer(
        &mut self,
        world: &mut impl World,
        queue: usize,
        command: &Command,
        status: Status,
        result: u32,
    ) {
        self.queues[queue].submission.advance();
        self.counts.answered += 1;
        self.show(world, queue, command.id(), status, [result, 0]);
    }

    /// Shows the guest that its request `id` of `queue` is over.
    #[inline(always)]
    pub(super) fn show(
        &mut self,
        world: &mut impl World,
        queue: usize,
        id: u16,
        status: Status,
        result: [u32; 2],
    ) {
        let submission = &self.queues[queue].submission;
        let (head, index) = (submission.head, submission.completion);
        let completion = &mut self.queues[index].completion;
        let (at, phase) = completion.append();
        let word = |low: u32, high: u32| (u64::from(high) << 32 | u64::from(low)).to_le_bytes();
        // The phase tag is in the last double word, and it is what the guest waits for.
        let last = word((queue as u32) << 16 | head, status.last_dword(id, phase));
        let last_at = Gpa::new(at.raw() + 8);
        let shown = world
            .write(at, &word(result[0], result[1]))
            .and_then(|()| world.write(last_at, &last));
        if shown.is_err() {
            return self.fail();
        }
        self.marks.owed |= 1 << index;
        self.counts.entry_bytes += u64::from(ENTRY_BYTES);
    }
}
