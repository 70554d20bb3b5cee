//! Enabling, disabling, and the end of everything that the device was given.

use bounce::{Lent, Window};
use memory::{ByteRange, PAGE_SIZE};

use super::queues::{Completion, Life, OwnRing, QueuePair, Ring, Submission, Turns};
use super::registers::Power;
use super::requests::Loan;
use super::spec::{Capabilities, Command, Configuration, ENTRY_BYTES, csts, offset};
use super::{Marks, Nvme, each};
use crate::{Lie, Notice, World};

impl Nvme<'_> {
    /// The guest writes CC; section 3.1.3.5.
    pub(super) fn configure(&mut self, world: &mut impl World, wanted: Configuration) {
        let before = core::mem::replace(&mut self.registers.configuration, wanted);
        if self.registers.is_cut_off {
            return;
        }
        match (before.is_enabled(), wanted.is_enabled()) {
            (false, true) => self.registers.is_fatal = !self.start(world),
            (true, false) => {
                self.stop(world);
                self.registers.is_fatal = false;
            }
            // Shutdown, in most cases.
            (true, true) if self.registers.power == Power::On => {
                world.store_register(offset::CC, wanted.for_device());
            }
            _ => {
                let value = Configuration(wanted.for_device());
                world.store_register(offset::CC, value.without_enable());
            }
        }
    }

    /// Enables the device with admin queues of ours. `false` if the guest's are nowhere, or it
    /// wants what is not there: section 3.5.1 leaves such a controller fatal.
    fn start(&mut self, world: &mut impl World) -> bool {
        if self.registers.power == Power::Stopping {
            if world.load_register(offset::CSTS) & csts::READY != 0 {
                return false;
            }
            self.settle(world);
        }
        let wanted = self.registers.configuration;
        let arbitrations = self.limits.capabilities & Capabilities::ARBITRATION;
        let is_possible = match wanted.arbitration() {
            0 => true,
            1 => arbitrations & 1 << 17 != 0,
            _ => false,
        };
        if !wanted.is_plain() || !is_possible {
            return false;
        }
        let [submission, completion] = self.registers.admin_queues();
        let (Some(submission), Some(completion)) = (
            guest_ring(world, submission, Command::BYTES),
            guest_ring(world, completion, ENTRY_BYTES),
        ) else {
            return false;
        };
        let pools = &mut self.pools;
        let own = OwnRing::lend(
            &mut pools.queues_to,
            world,
            self.limits.submission_ring(None),
            1,
        );
        let Some(own_submission) = own else {
            return false;
        };
        let own = OwnRing::lend(
            &mut pools.queues_from,
            world,
            self.limits.completion_ring(None),
            1,
        );
        let Some(own_completion) = own else {
            let returned = own_submission.lent.returned();
            pools.queues_to.take_back(returned, world);
            return false;
        };
        let attributes = (own_completion.slots - 1) << 16 | (own_submission.slots - 1);
        store_quad(world, offset::ASQ, own_submission.lent.at().raw());
        store_quad(world, offset::ACQ, own_completion.lent.at().raw());
        world.store_register(offset::AQA, attributes);
        let pair = &mut self.queues[0];
        pair.submission = Submission::new(submission, 0, own_submission);
        pair.completion = Completion::new(completion, Some(0), own_completion);
        pair.submission.life = Life::Live;
        pair.completion.life = Life::Live;
        self.registers.power = Power::On;
        world.store_register(offset::CC, wanted.for_device());
        true
    }

    /// Disables the device. What it was given stays its own until it says that it is disabled.
    pub(super) fn stop(&mut self, world: &mut impl World) {
        let value = self.registers.configuration.for_device();
        world.store_register(offset::CC, Configuration(value).without_enable());
        self.registers.power = Power::Stopping;
        self.quiet();
    }

    /// Nothing is the guest's turn any more.
    fn quiet(&mut self) {
        self.buffers = None;
        self.turns = Turns::NEW;
        self.marks = Marks::default();
        self.events.clear();
    }

    /// The device is disabled, reset or cut off: everything is over and taken back.
    pub(super) fn settle(&mut self, world: &mut impl World) {
        self.quiet();
        let mut from = 0;
        while let Some(given) = self.requests.end_next(&mut from, |_| true) {
            self.release(world, given.loan, given.run);
        }
        for pair in self.queues.iter_mut() {
            let QueuePair {
                submission,
                completion,
            } = core::mem::replace(pair, QueuePair::NEW);
            if let Some(ring) = submission.ring {
                self.pools.queues_to.take_back(ring.returned(), world);
            }
            if let Some(ring) = completion.ring {
                self.pools.queues_from.take_back(ring.returned(), world);
            }
        }
        self.drop_quiet(world);
        self.registers.power = Power::Off;
    }

    /// Takes back everything that a request was lent that is over.
    pub(super) fn release(
        &mut self,
        world: &mut impl World,
        loan: Loan,
        run: Option<Lent<Window>>,
    ) {
        self.close_run(world, run);
        match loan {
            Loan::Nothing => {}
            Loan::ToDevice(lent) => self.pools.to.take_back(lent.returned(), world),
            Loan::FromDevice(lent) => self.pools.from.take_back(lent.returned(), world),
        }
    }

    /// The device reaches no page of the guest's any more that it reached for a request.
    pub(super) fn close_run(&mut self, world: &mut impl World, run: Option<Lent<Window>>) {
        if let (Some(run), Some(mapping)) = (run, &mut self.mapping) {
            mapping.close(world, run);
        }
    }

    /// The guest did what leaves a controller fatal: it is served no more until it resets.
    pub(super) fn fail(&mut self) {
        self.registers.is_fatal = true;
        self.turns = Turns::NEW;
    }

    /// The device lied: it is nothing to us any more, and fatal to the guest.
    pub(super) fn quarantine(&mut self, world: &mut impl World, lie: Lie) {
        self.registers.is_cut_off = true;
        self.registers.is_fatal = true;
        world.tell(Notice::Lied(lie));
        world.cut_off(lie);
        self.settle(world);
    }

    /// The guest wants to be told of what is owed to it: raises what is not masked.
    pub(super) fn raise(&mut self, world: &mut impl World) {
        for queue in each(self.marks.owed) {
            let Some(vector) = self.queues[queue].completion.vector else {
                self.marks.owed &= !(1 << queue);
                continue;
            };
            let is_masked = vector < 32 && self.registers.mask >> vector & 1 != 0;
            if !is_masked && world.raise(vector) {
                self.marks.owed &= !(1 << queue);
                self.counts.interrupts += 1;
            }
        }
    }
}

/// The guest's ring, if all of it is in pages of its memory.
pub(super) fn guest_ring(
    world: &impl World,
    (base, entries): (memory::Gpa, u32),
    bytes: u32,
) -> Option<Ring> {
    let range = ByteRange::new(base, u64::from(entries * bytes))?;
    let is_usable = entries >= 2 && base.raw().is_multiple_of(PAGE_SIZE) && world.is_memory(range);
    is_usable.then_some(Ring { base, entries })
}

fn store_quad(world: &mut impl World, offset: u32, value: u64) {
    world.store_register(offset, value as u32);
    world.store_register(offset + 4, (value >> 32) as u32);
}
