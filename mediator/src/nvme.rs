//! NVM Express: a controller whose queues are in pages of ours.
//!
//! The guest's driver sees registers, queues and doorbells of a plain controller and uses them as
//! ever. What it puts into a queue is fetched once (`submit`), understood command by command
//! (`admin`, `io`), given pages for exactly its bytes, and put under another identifier into
//! a queue that the device can reach. What the device says of it is fetched once and checked
//! (`completion`) before it goes into the guest's queue. Nothing ever waits for the device: every
//! wait is the guest's own.
//!
//! After the NVM Express base specification, revision 2.0, and the NVM command set, revision 1.0.

mod admin;
mod buffers;
mod completion;
mod creation;
mod doorbells;
mod enabling;
mod events;
#[cfg(test)]
mod fake;
mod features;
mod identify;
mod io;
mod lending;
mod limits;
mod lists;
mod mapping;
mod plan;
mod prp;
mod queues;
mod quiet;
mod registers;
mod requests;
mod spec;
mod submit;
#[cfg(test)]
mod tests;

use bounce::{Arena, FromDevice, Lent, Page, Part, Pool, ToDevice};
use memory::PAGE_SIZE;

use self::buffers::Buffers;
use self::events::Events;
use self::limits::Limits;
pub use self::limits::Unfit;
use self::lists::Lists;
use self::mapping::Mapping;
use self::queues::Turns;
use self::quiet::Quiet;
use self::registers::Registers;
use self::requests::{Loan, Requests};
use self::spec::offset;
use crate::{Counts, Looked, Mediator, World};

pub use self::io::Namespace;
pub use self::queues::QueuePair;
pub use self::requests::Request;

/// Requests that one call fetches, and completions that it shows, at most.
const BUDGET: u32 = 64;

/// Where everything is kept that is not small. Whoever hands it in fills it with the `NEW` of
/// each type, and its lengths are the limits that the guest sees.
#[derive(Debug)]
pub struct Storage<'a> {
    /// Requests that the device has at most.
    pub requests: &'a mut [Request],
    /// Queues: the admin queue and those that the guest may create. 64 at most are used.
    pub queues: &'a mut [QueuePair],
    /// Namespaces by their number, from 1 on.
    pub namespaces: &'a mut [Namespace],
    /// What is known of each page of the arena.
    pub pages: &'a mut [Page],
    /// Room to rewrite what the device says of itself.
    pub scratch: &'a mut [u8; PAGE_SIZE as usize],
}

impl Storage<'_> {
    /// Requests at least, so that events that the guest waits for do not take all of them.
    pub const LEAST_REQUESTS: usize = 16;
}

/// A mediated controller.
#[derive(Debug)]
pub struct Nvme<'a> {
    limits: Limits,
    registers: Registers,
    requests: Requests<'a>,
    queues: &'a mut [QueuePair],
    namespaces: &'a mut [Namespace],
    pools: Pools<'a>,
    lists: Lists,
    mapping: Option<Mapping<'a>>,
    scratch: &'a mut [u8; PAGE_SIZE as usize],
    buffers: Option<Buffers>,
    events: Events,
    turns: Turns,
    quiet: Quiet,
    marks: Marks,
    counts: Counts,
    refused: admin::Refused,
}

/// The pages of each part of the arena.
#[derive(Debug)]
struct Pools<'a> {
    queues_to: Pool<'a, ToDevice>,
    to: Pool<'a, ToDevice>,
    queues_from: Pool<'a, FromDevice>,
    from: Pool<'a, FromDevice>,
}

/// What is to be done for which queue: a bit for each.
#[derive(Clone, Copy, Default, Debug)]
struct Marks {
    /// Submission queues that wait for room in a ring of their own.
    stalled: u64,
    /// Submission queues whose doorbell is to be rung.
    unrung: u64,
    /// Submission queues whose guest does not ring by itself.
    unarmed: u64,
    /// Completion queues to which the device owes something.
    awaited: u64,
    /// Completion queues in which something waits for room in the guest's.
    full: u64,
    /// Completion queues of whose entries the guest was not told.
    owed: u64,
}

/// The queues in `marks`, each once, from the highest number down.
fn each(mut marks: u64) -> impl Iterator<Item = usize> {
    core::iter::from_fn(move || {
        let queue = marks.checked_ilog2()?;
        marks &= !(1 << queue);
        Some(queue as usize)
    })
}

impl<'a> Nvme<'a> {
    /// Takes over the controller behind `world`, whose pages are `arena`.
    ///
    /// # Errors
    /// If it is no controller that can be mediated, or the storage or the arena is too small.
    ///
    /// # Panics
    /// If there is not an element of [`Storage::pages`] for each page of the arena.
    pub fn new(storage: Storage<'a>, arena: Arena, world: &mut impl World) -> Result<Self, Unfit> {
        let mut pools = Pools::new(arena, storage.pages);
        let limits = Limits::new(&pools, storage.queues.len(), world)?;
        if storage.requests.len() < Storage::LEAST_REQUESTS {
            return Err(Unfit::Requests);
        }
        let lists =
            Lists::new(&mut pools.queues_to, &pools.to, &pools.from, world).ok_or(Unfit::Pages)?;
        let (queues, _) = storage
            .queues
            .split_at_mut(storage.queues.len().min(queues::MOST_QUEUES));
        queues.fill_with(|| QueuePair::NEW);
        storage.namespaces.fill(Namespace::NEW);
        let mut this = Self {
            limits,
            registers: Registers::NEW,
            requests: Requests::new(storage.requests),
            queues,
            namespaces: storage.namespaces,
            pools,
            lists,
            mapping: None,
            scratch: storage.scratch,
            buffers: None,
            events: Events::NEW,
            turns: Turns::NEW,
            quiet: Quiet::NONE,
            marks: Marks::default(),
            counts: Counts::default(),
            refused: admin::Refused::NEW,
        };
        // Whoever used it before us is not served any more.
        this.stop(world);
        Ok(this)
    }

    /// From now on the guest is not offered doorbells in memory.
    pub fn withhold_buffers(&mut self) {
        self.limits.has_buffers = false;
    }

    /// Bytes of one request at most.
    pub fn longest_transfer(&self) -> u32 {
        self.limits.transfer
    }

    /// Queues that the guest may create, of each kind.
    pub fn most_queues(&self) -> u32 {
        self.limits.queues
    }

    /// Requests that the device has now.
    pub fn in_flight(&self) -> u32 {
        self.requests.given_count()
    }

    /// Pages that requests have now, and that came back to nobody if there are no requests.
    pub fn lent_pages(&self) -> u32 {
        let Pools { to, from, .. } = &self.pools;
        to.pages() - to.free_pages() + from.pages() - from.free_pages()
    }

    /// Asserts that no page is lost: every page is free, or belongs to a queue that there is, a
    /// request that the device has, or the lists.
    ///
    /// # Panics
    /// If one is lost.
    pub fn check_conservation(&self) {
        let mut to = self.pools.to.free_pages();
        let mut from = self.pools.from.free_pages();
        for given in self.requests.iter() {
            match &given.loan {
                Loan::Nothing => {}
                Loan::ToDevice(lent) => to += lent.pages(),
                Loan::FromDevice(lent) => from += lent.pages(),
            }
        }
        let mut queues_to = self.pools.queues_to.free_pages() + self.lists.pages();
        if let Some(mapping) = &self.mapping {
            queues_to += mapping.list.pages();
            let runs = self.requests.iter().filter_map(|given| given.run.as_ref());
            let lent: u32 = runs.map(Lent::pages).sum();
            let all = mapping.pool.pages();
            assert_eq!(mapping.pool.free_pages() + lent, all, "its window");
        }
        let mut queues_from = self.pools.queues_from.free_pages() + self.quiet.pages();
        for pair in self.queues.iter() {
            queues_to += pair.submission.ring.as_ref().map_or(0, Lent::pages);
            queues_from += pair.completion.ring.as_ref().map_or(0, Lent::pages);
        }
        assert_eq!(to, self.pools.to.pages(), "pages the device reads");
        assert_eq!(from, self.pools.from.pages(), "pages the device writes");
        assert_eq!(queues_to, self.pools.queues_to.pages(), "queues it reads");
        let all = self.pools.queues_from.pages();
        assert_eq!(queues_from, all, "queues it writes");
    }

    /// Whether the device has a request other than for an event, which may never come.
    fn is_soon_answered(&self) -> bool {
        self.requests.given_count() > self.events.asked()
    }

    /// Fetches, gives, rings and tells, as far as one call goes.
    fn serve(&mut self, world: &mut impl World) -> bool {
        let mut budget = BUDGET;
        while self.registers.is_on() {
            self.poll_buffers(world);
            self.submit(world, &mut budget);
            self.keep_heard(world);
            self.ring(world);
            self.raise(world);
            // Whoever submits from here on rings, or was seen.
            if !self.rearm_buffers(world) || budget == 0 {
                return budget == 0 && !self.turns.is_empty();
            }
        }
        false
    }
}

impl<'a> Pools<'a> {
    fn new(arena: Arena, pages: &'a mut [Page]) -> Self {
        let count = |part| (arena.part(part).len() / PAGE_SIZE) as usize;
        let (queues_to, pages) = pages.split_at_mut(count(Part::QueuesToDevice));
        let (to, pages) = pages.split_at_mut(count(Part::ToDevice));
        let (queues_from, from) = pages.split_at_mut(count(Part::QueuesFromDevice));
        Self {
            queues_to: Pool::new(arena.part(Part::QueuesToDevice), queues_to),
            to: Pool::new(arena.part(Part::ToDevice), to),
            queues_from: Pool::new(arena.part(Part::QueuesFromDevice), queues_from),
            from: Pool::new(arena.part(Part::FromDevice), from),
        }
    }
}

impl Mediator for Nvme<'_> {
    fn read(&mut self, world: &mut impl World, offset: u32, to: &mut [u8]) {
        if !world.is_announced() {
            let _ = self.look(world);
        }
        self.read_registers(world, offset, to);
    }

    fn write(&mut self, world: &mut impl World, offset: u32, from: &[u8]) -> Looked {
        let looked = self.write_registers(world, offset, from);
        if world.is_announced() || looked == Looked::More {
            return looked;
        }
        let mut looked = match self.look(world) {
            Looked::Nothing => looked,
            more => more,
        };
        // A guest that has no interrupt looks at its own memory, where nothing appears by itself.
        while offset >= offset::DOORBELLS
            && looked != Looked::More
            && self.is_soon_answered()
            && world.linger()
        {
            match self.look(world) {
                Looked::Nothing => {}
                more => looked = more,
            }
        }
        looked
    }

    fn look(&mut self, world: &mut impl World) -> Looked {
        if !self.registers.is_on() {
            return Looked::Nothing;
        }
        let before = self.counts;
        let is_more = self.complete(world) | self.serve(world);
        if is_more {
            Looked::More
        } else if self.counts == before {
            Looked::Nothing
        } else {
            Looked::Done
        }
    }

    fn unmasked(&mut self, world: &mut impl World, vector: u16) {
        let _ = vector;
        self.raise(world);
    }

    fn forget(&mut self, world: &mut impl World) {
        self.settle(world);
        self.registers.reset();
    }

    fn counts(&self) -> Counts {
        self.counts
    }
}
