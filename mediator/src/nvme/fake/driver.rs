//! The driver, which knows nothing of a mediator.

extern crate std;

use std::vec::Vec;

use bounce::Page;

use super::{Fake, window};
use crate::nvme::{Namespace, Nvme, QueuePair, Request, Storage};
use crate::{Looked, Mediator};

/// One queue of the driver's.
#[derive(Clone, Copy, Debug)]
pub(crate) struct DriverQueue {
    pub(crate) base: u64,
    pub(crate) entries: u32,
    pub(crate) at: u32,
    pub(crate) phase: bool,
}

/// A completion as the driver finds it.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) struct Answer {
    pub(crate) result: u32,
    pub(crate) head: u16,
    pub(crate) queue: u16,
    pub(crate) id: u16,
    /// Without Do Not Retry.
    pub(crate) status: u16,
}

/// A driver, and the mediator it knows nothing of.
pub(crate) struct Driver {
    pub(crate) world: Fake,
    pub(crate) nvme: Nvme<'static>,
    pub(crate) submissions: Vec<DriverQueue>,
    pub(crate) completions: Vec<DriverQueue>,
    pub(crate) looked: Looked,
    next_id: u16,
}

/// Where the driver has its rings: 64 KiB for each.
const RINGS: u64 = 0x20_0000;
/// Where it has its doorbells and the event indices.
pub(crate) const BUFFERS: [u64; 2] = [0x5000, 0x6000];
/// Entries of its admin queues.
const ADMIN: u32 = 32;

impl Driver {
    /// A driver of a machine whose device has `bytes` bytes of pages.
    pub(crate) fn new(bytes: u64) -> Self {
        Self::of(Fake::new(bytes), 64)
    }

    pub(crate) fn of(mut world: Fake, requests: usize) -> Self {
        let storage = storage(&world, requests);
        let nvme = Nvme::new(storage, world.arena, &mut world).expect("a fit controller");
        let queue = |index: u64, entries| DriverQueue {
            base: RINGS + index * 0x1_0000,
            entries,
            at: 0,
            phase: true,
        };
        Self {
            world,
            nvme,
            submissions: (0..8).map(|index| queue(2 * index, ADMIN)).collect(),
            completions: (0..8).map(|index| queue(2 * index + 1, ADMIN)).collect(),
            looked: Looked::Nothing,
            next_id: 0x100,
        }
    }

    /// A driver that has enabled the controller, knows namespace 1, and has one queue pair of 64
    /// entries.
    pub(crate) fn ready(bytes: u64) -> Self {
        let mut this = Self::new(bytes);
        this.enable();
        this.prepare();
        this
    }

    /// From now on whole pages are mapped.
    pub(crate) fn map(&mut self) {
        let pages = (0..window().len() / 4096).map(|_| Page::NEW);
        let pages = pages.collect::<Vec<_>>().leak();
        let is_mapping = self.nvme.map_whole_pages(window(), pages, &mut self.world);
        assert!(is_mapping);
    }

    pub(crate) fn prepare(&mut self) {
        assert_eq!(self.admin(0x06, 1, 0x3000, &[(10, 0)]).status, 0);
        self.create(1, 64);
    }

    pub(crate) fn read(&mut self, offset: u32) -> u32 {
        let mut bytes = [0; 4];
        self.nvme.read(&mut self.world, offset, &mut bytes);
        u32::from_le_bytes(bytes)
    }

    pub(crate) fn write(&mut self, offset: u32, value: u32) {
        self.looked = self
            .nvme
            .write(&mut self.world, offset, &value.to_le_bytes());
    }

    pub(crate) fn enable(&mut self) {
        for queue in self.submissions.iter_mut().chain(&mut self.completions) {
            (queue.at, queue.phase) = (0, true);
            let at = queue.base as usize;
            self.world.guest.borrow_mut()[at..at + 0x1_0000].fill(0);
        }
        self.write(0x24, (ADMIN - 1) << 16 | (ADMIN - 1));
        self.write(0x28, self.submissions[0].base as u32);
        self.write(0x2c, 0);
        self.write(0x30, self.completions[0].base as u32);
        self.write(0x34, 0);
        self.write(0x14, 0x0046_0001);
    }

    /// Fills the next entry of `queue`; the doorbell is not rung.
    pub(crate) fn fill(&mut self, queue: usize, mut words: [u32; 16]) -> u16 {
        self.next_id += 1;
        words[0] |= u32::from(self.next_id) << 16;
        let to = &mut self.submissions[queue];
        let at = to.base as usize + to.at as usize * 64;
        for (index, word) in words.iter().enumerate() {
            self.world.guest.borrow_mut()[at + index * 4..][..4]
                .copy_from_slice(&word.to_le_bytes());
        }
        to.at = (to.at + 1) % to.entries;
        self.next_id
    }

    /// Rings for what was filled.
    pub(crate) fn ring(&mut self, queue: usize) {
        self.write(0x1000 + 8 * queue as u32, self.submissions[queue].at);
    }

    /// Rings in memory for what was filled, and for real if the event index asks for it. Whether
    /// it did.
    pub(crate) fn ring_in_memory(&mut self, queue: usize) -> bool {
        let at = 8 * queue as u64;
        let new = self.submissions[queue].at;
        let word = |bytes: Vec<u8>| u32::from_le_bytes(bytes.try_into().expect("4 bytes"));
        let old = word(self.memory(BUFFERS[0] + at, 4));
        self.set(BUFFERS[0] + at, &new.to_le_bytes());
        let event = word(self.memory(BUFFERS[1] + at, 4));
        let has_passed =
            (new as u16).wrapping_sub(event as u16 + 1) < (new as u16).wrapping_sub(old as u16);
        if has_passed {
            self.ring(queue);
        }
        has_passed
    }

    /// The next completion, if there is one; the doorbell is not rung.
    pub(crate) fn next(&mut self, queue: usize) -> Option<Answer> {
        let from = &mut self.completions[queue];
        let at = from.base as usize + from.at as usize * 16;
        let word = |index: usize| {
            let guest = self.world.guest.borrow();
            let bytes = guest[at + index * 4..][..4].try_into().expect("4 bytes");
            u32::from_le_bytes(bytes)
        };
        if (word(3) >> 16 & 1 != 0) != from.phase {
            return None;
        }
        let answer = Answer {
            result: word(0),
            head: word(2) as u16,
            queue: (word(2) >> 16) as u16,
            id: word(3) as u16,
            status: (word(3) >> 17 & 0x3fff) as u16,
        };
        from.at = (from.at + 1) % from.entries;
        from.phase ^= from.at == 0;
        Some(answer)
    }

    /// Says what was seen.
    pub(crate) fn seen(&mut self, queue: usize) {
        self.write(0x1004 + 8 * queue as u32, self.completions[queue].at);
    }

    /// The device works, and the mediator hears of it.
    pub(crate) fn run(&mut self) {
        self.world.run();
        self.look();
    }

    pub(crate) fn look(&mut self) {
        self.looked = self.nvme.look(&mut self.world);
        self.nvme.check_conservation();
    }

    /// One command from beginning to end.
    pub(crate) fn ask(&mut self, queue: usize, words: [u32; 16]) -> Answer {
        let id = self.fill(queue, words);
        self.ring(queue);
        self.run();
        // The device may have to be asked for something else first.
        let answer = self.next(queue).or_else(|| {
            self.run();
            self.next(queue)
        });
        let answer = answer.expect("an answer");
        assert_eq!(answer.id, id, "the identifier that was asked with");
        self.seen(queue);
        answer
    }

    pub(crate) fn admin(
        &mut self,
        opcode: u8,
        namespace: u32,
        prp1: u64,
        dwords: &[(usize, u32)],
    ) -> Answer {
        let words = command(opcode, namespace, [prp1, 0], dwords);
        self.ask(0, words)
    }

    /// Creates queue pair `queue`.
    pub(crate) fn create(&mut self, queue: usize, entries: u32) {
        self.submissions[queue].entries = entries;
        self.completions[queue].entries = entries;
        let size = (entries - 1) << 16 | queue as u32;
        let at = self.completions[queue].base;
        let vector = queue as u32;
        let made = self.admin(0x05, 0, at, &[(10, size), (11, vector << 16 | 3)]);
        assert_eq!(made.status, 0);
        let at = self.submissions[queue].base;
        let made = self.admin(0x01, 0, at, &[(10, size), (11, (queue as u32) << 16 | 1)]);
        assert_eq!(made.status, 0);
    }

    pub(crate) fn set(&mut self, at: u64, bytes: &[u8]) {
        self.world.guest.borrow_mut()[at as usize..][..bytes.len()].copy_from_slice(bytes);
    }

    pub(crate) fn memory(&self, at: u64, bytes: usize) -> Vec<u8> {
        self.world.guest.borrow()[at as usize..][..bytes].to_vec()
    }
}

/// A command's words.
pub(crate) fn command(
    opcode: u8,
    namespace: u32,
    prps: [u64; 2],
    dwords: &[(usize, u32)],
) -> [u32; 16] {
    let mut words = [0; 16];
    words[0] = opcode.into();
    words[1] = namespace;
    for (index, prp) in prps.into_iter().enumerate() {
        words[6 + 2 * index] = prp as u32;
        words[7 + 2 * index] = (prp >> 32) as u32;
    }
    for (index, word) in dwords {
        words[*index] = *word;
    }
    words
}

/// A read or write of `blocks` blocks of namespace 1.
pub(crate) fn blocks(opcode: u8, prps: [u64; 2], first: u32, blocks: u32) -> [u32; 16] {
    command(opcode, 1, prps, &[(10, first), (12, blocks - 1)])
}

/// Storage for eight queue pairs and four namespaces.
pub(crate) fn storage(world: &Fake, requests: usize) -> Storage<'static> {
    let fill = |count: usize| 0..count;
    Storage {
        requests: fill(requests)
            .map(|_| Request::NEW)
            .collect::<Vec<_>>()
            .leak(),
        queues: fill(8).map(|_| QueuePair::NEW).collect::<Vec<_>>().leak(),
        namespaces: fill(4).map(|_| Namespace::NEW).collect::<Vec<_>>().leak(),
        pages: fill(world.pages.len() / 4096)
            .map(|_| Page::NEW)
            .collect::<Vec<_>>()
            .leak(),
        scratch: std::boxed::Box::leak(std::boxed::Box::new([0; 4096])),
    }
}
