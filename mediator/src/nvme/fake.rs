//! An honest controller, a small driver, and memory of both, for tests.

extern crate std;

use std::cell::RefCell;
use std::collections::{BTreeMap, VecDeque};
use std::vec;
use std::vec::Vec;

use bounce::{Arena, Page, Pages, Part};
use memory::{ByteRange, Gpa, GuestMemory, Hole, Iova};

use super::{Namespace, Nvme, QueuePair, Request, Storage};
use crate::{Lie, Looked, Mediator, Notice, Reach, World};

/// Bytes of the guest's memory, from address 0.
const MEMORY: usize = 4 << 20;
/// Bytes of a block of namespace 1.
pub(super) const BLOCK: usize = 512;

/// A queue as the device knows it.
#[derive(Clone, Copy, Default, Debug)]
pub(super) struct DeviceQueue {
    pub(super) base: u64,
    pub(super) entries: u32,
    pub(super) at: u32,
    pub(super) doorbell: u32,
    pub(super) phase: bool,
    pub(super) completion: usize,
    pub(super) is_there: bool,
}

/// A request that the device fetched.
#[derive(Clone, Copy, Debug)]
pub(super) struct Fetched {
    pub(super) queue: usize,
    pub(super) words: [u32; 16],
}

/// The machine around the mediator.
pub(super) struct Fake {
    pub(super) guest: RefCell<Vec<u8>>,
    /// What is not the guest's memory.
    pub(super) hole: Option<ByteRange<Gpa>>,
    arena: Arena,
    pub(super) pages: Vec<u8>,
    pub(super) capabilities: u64,
    pub(super) cc: u32,
    pub(super) is_ready: bool,
    aqa: u32,
    asq: u64,
    acq: u64,
    pub(super) submissions: Vec<DeviceQueue>,
    pub(super) completions: Vec<DeviceQueue>,
    /// What the device was given and has not begun with.
    pub(super) given: VecDeque<Fetched>,
    /// What is behind each page of the window.
    pub(super) mapped: BTreeMap<u64, Reach>,
    /// Requests for events.
    pub(super) events: VecDeque<Fetched>,
    pub(super) disk: Vec<u8>,
    /// What it says of namespace 1 besides.
    pub(super) metadata: u8,
    /// FLBAS and NLBAF.
    pub(super) format: u8,
    pub(super) last_format: u8,
    /// Whether its registers read as ones.
    pub(super) is_gone: bool,
    pub(super) raised: Vec<u16>,
    pub(super) is_masked: bool,
    /// Whether the guest has no interrupt of the device's.
    pub(super) is_mute: bool,
    /// How often the mediator may linger; at the last time the device works.
    pub(super) patience: u32,
    pub(super) notices: Vec<Notice>,
    pub(super) lie: Option<Lie>,
    /// Accesses of doorbells of the device.
    pub(super) rung: usize,
}

impl Fake {
    pub(super) fn new(bytes: u64) -> Self {
        let arena = Arena::new(bytes).expect("a size of an arena");
        Self {
            guest: RefCell::new(vec![0xee; MEMORY]),
            hole: None,
            arena,
            pages: vec![0; arena.bytes() as usize],
            // 2048 entries, a doorbell stride of 8 bytes, the NVM command set.
            capabilities: 2047 | 20 << 24 | 1 << 32 | 1 << 37 | 0xff << 52,
            cc: 0,
            is_ready: false,
            aqa: 0,
            asq: 0,
            acq: 0,
            submissions: vec![DeviceQueue::default(); 64],
            completions: vec![DeviceQueue::default(); 64],
            given: VecDeque::new(),
            mapped: BTreeMap::new(),
            events: VecDeque::new(),
            disk: disk(),
            metadata: 0,
            format: 0,
            last_format: 1,
            is_gone: false,
            raised: Vec::new(),
            is_masked: false,
            is_mute: false,
            patience: 0,
            notices: Vec::new(),
            lie: None,
            rung: 0,
        }
    }

    pub(super) fn arena(&self) -> Arena {
        self.arena
    }

    /// Bytes that the device may read: a fault is a failure of the test.
    fn device_reads(&self, at: u64, to: &mut [u8]) {
        let at = match self.mapped.get(&(at & !0xfff)) {
            None => at,
            Some(Reach::ReadOwn(own)) => own.raw() + at % 4096,
            Some(Reach::ReadGuest(page)) => {
                let at = Gpa::new(page.raw() + at % 4096);
                return self.read(at, to).expect("the guest's memory");
            }
            Some(reach) => panic!("reads {reach:?}"),
        };
        let range = ByteRange::new(Iova::new(at), to.len() as u64).expect("bytes");
        assert!(self.arena.readable().covers(&range), "reads {range:?}");
        let offset = self.arena.offset(range).expect("covered") as usize;
        to.copy_from_slice(&self.pages[offset..][..to.len()]);
    }

    fn device_writes(&mut self, at: u64, from: &[u8]) {
        let at = match self.mapped.get(&(at & !0xfff)) {
            None => at,
            Some(Reach::WriteOwn(own)) => own.raw() + at % 4096,
            Some(Reach::WriteGuest(page)) => {
                let at = Gpa::new(page.raw() + at % 4096);
                return self.write(at, from).expect("the guest's memory");
            }
            Some(reach) => panic!("writes {reach:?}"),
        };
        let range = ByteRange::new(Iova::new(at), from.len() as u64).expect("bytes");
        assert!(self.arena.writable().covers(&range), "writes {range:?}");
        let offset = self.arena.offset(range).expect("covered") as usize;
        self.pages[offset..][..from.len()].copy_from_slice(from);
    }

    /// The pieces of memory that two PRPs describe.
    fn pieces(&self, words: &[u32; 16], bytes: usize) -> Vec<(u64, usize)> {
        let quad = |at: usize| u64::from(words[at]) | u64::from(words[at + 1]) << 32;
        let (prp1, prp2) = (quad(6), quad(8));
        let first = bytes.min(4096 - (prp1 % 4096) as usize);
        let mut pieces = vec![(prp1, first)];
        let mut left = bytes - first;
        if left == 0 {
            return pieces;
        }
        if left <= 4096 {
            assert_eq!(prp2 % 4096, 0);
            pieces.push((prp2, left));
            return pieces;
        }
        let mut list = prp2;
        while left > 0 {
            let mut entry = [0; 8];
            self.device_reads(list, &mut entry);
            let entry = u64::from_le_bytes(entry);
            assert_eq!(entry % 4096, 0);
            if list % 4096 == 4088 && left > 4096 {
                list = entry;
                continue;
            }
            pieces.push((entry, left.min(4096)));
            left -= left.min(4096);
            list += 8;
        }
        pieces
    }

    pub(super) fn give(&mut self, words: &[u32; 16], data: &[u8]) {
        let mut rest = data;
        for (at, bytes) in self.pieces(words, data.len()) {
            let (piece, after) = rest.split_at(bytes);
            self.device_writes(at, piece);
            rest = after;
        }
    }

    pub(super) fn take(&self, words: &[u32; 16], bytes: usize) -> Vec<u8> {
        let mut data = Vec::new();
        for (at, bytes) in self.pieces(words, bytes) {
            let mut piece = vec![0; bytes];
            self.device_reads(at, &mut piece);
            data.extend(piece);
        }
        data
    }

    /// Fetches what it was rung for.
    pub(super) fn fetch(&mut self) {
        for queue in 0..self.submissions.len() {
            while self.submissions[queue].is_there
                && self.submissions[queue].at != self.submissions[queue].doorbell
            {
                let from = self.submissions[queue];
                let mut bytes = [0; 64];
                self.device_reads(from.base + u64::from(from.at) * 64, &mut bytes);
                let mut words = [0; 16];
                for (word, bytes) in words.iter_mut().zip(bytes.as_chunks().0) {
                    *word = u32::from_le_bytes(*bytes);
                }
                self.submissions[queue].at = (from.at + 1) % from.entries;
                self.given.push_back(Fetched { queue, words });
            }
        }
    }

    /// Fetches and does everything.
    pub(super) fn run(&mut self) {
        self.fetch();
        while let Some(request) = self.given.pop_front() {
            self.execute(request);
        }
    }

    pub(super) fn complete(&mut self, request: &Fetched, status: u16, result: u32) {
        let id = request.words[0] >> 16;
        let from = self.submissions[request.queue];
        self.post(
            from.completion,
            [
                result,
                0,
                (request.queue as u32) << 16 | from.at,
                id | u32::from(status) << 17,
            ],
        );
    }

    /// Posts an entry, with the phase that it needs.
    pub(super) fn post(&mut self, completion: usize, mut words: [u32; 4]) {
        let to = &mut self.completions[completion];
        words[3] |= u32::from(to.phase) << 16;
        let at = to.base + u64::from(to.at) * 16;
        to.at = (to.at + 1) % to.entries;
        to.phase ^= to.at == 0;
        for (index, word) in (0..).zip(words) {
            self.device_writes(at + index * 4, &word.to_le_bytes());
        }
    }

    fn execute(&mut self, request: Fetched) {
        let words = request.words;
        let opcode = words[0] as u8;
        let quad = |at: usize| u64::from(words[at]) | u64::from(words[at + 1]) << 32;
        if request.queue != 0 {
            let at = (quad(10) as usize) * BLOCK;
            let bytes = ((words[12] & 0xffff) as usize + 1) * BLOCK;
            match opcode {
                1 => {
                    let data = self.take(&words, bytes);
                    self.disk[at..][..bytes].copy_from_slice(&data);
                }
                2 => {
                    let data = self.disk[at..][..bytes].to_vec();
                    self.give(&words, &data);
                }
                9 => drop(self.take(&words, 16)),
                5 => drop(self.take(&words, bytes)),
                _ => {}
            }
            return self.complete(&request, 0, 0);
        }
        let number = (words[10] & 0xffff) as usize;
        let queue = DeviceQueue {
            base: quad(6),
            entries: (words[10] >> 16) + 1,
            phase: true,
            is_there: true,
            completion: (words[11] >> 16) as usize,
            ..DeviceQueue::default()
        };
        match opcode {
            0x01 => self.submissions[number] = queue,
            0x05 => self.completions[number] = queue,
            0x00 => self.submissions[number] = DeviceQueue::default(),
            0x04 => self.completions[number] = DeviceQueue::default(),
            0x06 => {
                let data = self.identify(words[10] as u8);
                self.give(&words, &data);
            }
            0x02 => {
                let dwords = (words[10] >> 16) as usize + 1;
                self.give(&words, &vec![0x5a; dwords * 4]);
            }
            0x09 if words[10] as u8 == 7 => return self.complete(&request, 0, words[11]),
            0x0c => return self.events.push_back(request),
            _ => {}
        }
        self.complete(&request, 0, 0);
    }

    /// What it says of itself, with everything on that can be.
    fn identify(&self, structure: u8) -> Vec<u8> {
        let mut data = vec![0xff; 4096];
        match structure {
            0 => {
                data.fill(0);
                data[25] = self.last_format;
                data[26] = self.format;
                data[192..196].copy_from_slice(&[0, 0, 13, 0]);
                data[256..260].copy_from_slice(&[0, 0, 13, 0]);
                data[128..136].copy_from_slice(&[self.metadata, 0, 9, 0, 0, 0, 12, 0]);
                data[0] = 1;
            }
            1 => data[77] = 0,
            _ => {}
        }
        data
    }
}

impl GuestMemory for Fake {
    #[inline(never)]
    fn read(&self, at: Gpa, to: &mut [u8]) -> Result<(), Hole> {
        let range = ByteRange::new(at, to.len() as u64).expect("bytes");
        if !self.is_memory(range) {
            return Err(Hole(range));
        }
        to.copy_from_slice(&self.guest.borrow()[at.raw() as usize..][..to.len()]);
        Ok(())
    }

    #[inline(never)]
    fn write(&self, at: Gpa, from: &[u8]) -> Result<(), Hole> {
        let range = ByteRange::new(at, from.len() as u64).expect("bytes");
        if !self.is_memory(range) {
            return Err(Hole(range));
        }
        self.guest.borrow_mut()[at.raw() as usize..][..from.len()].copy_from_slice(from);
        Ok(())
    }
}

impl Fake {
    fn own(&self, at: Iova, bytes: usize) -> core::ops::Range<usize> {
        let range = ByteRange::new(at, bytes as u64).expect("bytes");
        let offset = self.arena.offset(range).expect("a page of ours") as usize;
        offset..offset + bytes
    }
}

impl Pages for Fake {
    #[inline(never)]
    fn is_memory(&self, range: ByteRange<Gpa>) -> bool {
        range.last().raw() < MEMORY as u64 && !self.hole.is_some_and(|hole| hole.overlaps(&range))
    }

    #[inline(never)]
    fn copy_in(&mut self, from: ByteRange<Gpa>, to: Iova) -> Result<(), Hole> {
        let own = self.own(to, from.len() as usize);
        assert!(
            self.arena.part(Part::ToDevice).contains(to),
            "bytes of requests go to the device here"
        );
        if !self.is_memory(from) {
            return Err(Hole(from));
        }
        let guest = self.guest.borrow();
        self.pages[own.clone()].copy_from_slice(&guest[from.start().raw() as usize..][..own.len()]);
        Ok(())
    }

    #[inline(never)]
    fn copy_out(&mut self, from: Iova, to: ByteRange<Gpa>) -> Result<(), Hole> {
        let own = self.own(from, to.len() as usize);
        self.write(to.start(), &self.pages[own])
    }

    #[inline(never)]
    fn load(&self, at: Iova, to: &mut [u8]) {
        to.copy_from_slice(&self.pages[self.own(at, to.len())]);
    }

    #[inline(never)]
    fn load_u32(&self, at: Iova) -> u32 {
        let mut bytes = [0; 4];
        self.load(at, &mut bytes);
        u32::from_le_bytes(bytes)
    }

    #[inline(never)]
    fn store(&mut self, at: Iova, from: &[u8]) {
        let own = self.own(at, from.len());
        self.pages[own].copy_from_slice(from);
    }

    #[inline(never)]
    fn scrub(&mut self, at: ByteRange<Iova>) {
        let own = self.own(at.start(), at.len() as usize);
        self.pages[own].fill(0);
    }
}

impl World for Fake {
    #[inline(never)]
    fn load_register(&self, offset: u32) -> u32 {
        match offset {
            0x00 => self.capabilities as u32,
            0x04 => (self.capabilities >> 32) as u32,
            0x08 => 0x0002_0000,
            0x14 => self.cc,
            0x1c if self.is_gone => u32::MAX,
            0x1c => u32::from(self.is_ready),
            _ => panic!("a load of {offset:#x}"),
        }
    }

    #[inline(never)]
    fn store_register(&mut self, offset: u32, value: u32) {
        let low = |base: u64| base >> 32 << 32 | u64::from(value);
        let high = |base: u64| base & 0xffff_ffff | u64::from(value) << 32;
        match offset {
            0x14 => {
                let was_enabled = core::mem::replace(&mut self.cc, value) & 1;
                if value & 1 == 1 && was_enabled == 0 {
                    let queue = |base, entries| DeviceQueue {
                        base,
                        entries: (entries & 0xfff) + 1,
                        phase: true,
                        is_there: true,
                        ..DeviceQueue::default()
                    };
                    self.submissions.fill(DeviceQueue::default());
                    self.completions.fill(DeviceQueue::default());
                    self.submissions[0] = queue(self.asq, self.aqa);
                    self.completions[0] = queue(self.acq, self.aqa >> 16);
                    self.given.clear();
                    self.events.clear();
                    self.is_ready = true;
                }
            }
            0x24 => self.aqa = value,
            0x28 => self.asq = low(self.asq),
            0x2c => self.asq = high(self.asq),
            0x30 => self.acq = low(self.acq),
            0x34 => self.acq = high(self.acq),
            0x1000.. => {
                self.rung += 1;
                let index = (offset - 0x1000) / 8;
                let queues = if index.is_multiple_of(2) {
                    &mut self.submissions
                } else {
                    &mut self.completions
                };
                queues[index as usize / 2].doorbell = value;
            }
            _ => panic!("a store to {offset:#x}"),
        }
    }

    #[inline(never)]
    fn map(&mut self, at: Iova, page: Reach) -> bool {
        assert!(window().contains(at) && at.page_offset() == 0);
        let (Reach::ReadGuest(page_at) | Reach::WriteGuest(page_at)) = page else {
            return self.mapped.insert(at.raw(), page).is_none();
        };
        let range = ByteRange::new(page_at, 4096).expect("a page");
        range.is_page_aligned() && self.is_memory(range) && {
            self.mapped.insert(at.raw(), page).is_none()
        }
    }

    #[inline(never)]
    fn unmap(&mut self, range: ByteRange<Iova>) {
        assert!(window().covers(&range) && range.is_page_aligned());
        self.mapped.retain(|at, _| !range.contains(Iova::new(*at)));
    }

    #[inline(never)]
    fn is_announced(&self) -> bool {
        !self.is_mute
    }

    #[inline(never)]
    fn linger(&mut self) -> bool {
        let Some(left) = self.patience.checked_sub(1) else {
            return false;
        };
        self.patience = left;
        if left == 0 {
            self.run();
        }
        true
    }

    #[inline(never)]
    fn raise(&mut self, vector: u16) -> bool {
        if !self.is_masked {
            self.raised.push(vector);
        }
        !self.is_masked
    }

    #[inline(never)]
    fn tell(&mut self, notice: Notice) {
        self.notices.push(notice);
    }

    #[inline(never)]
    fn cut_off(&mut self, lie: Lie) {
        self.lie = Some(lie);
    }
}

/// One queue of the driver's.
#[derive(Clone, Copy, Debug)]
pub(super) struct DriverQueue {
    pub(super) base: u64,
    pub(super) entries: u32,
    pub(super) at: u32,
    pub(super) phase: bool,
}

/// A completion as the driver finds it.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) struct Answer {
    pub(super) result: u32,
    pub(super) head: u16,
    pub(super) queue: u16,
    pub(super) id: u16,
    /// Without Do Not Retry.
    pub(super) status: u16,
}

/// A driver, and the mediator it knows nothing of.
pub(super) struct Driver {
    pub(super) world: Fake,
    pub(super) nvme: Nvme<'static>,
    pub(super) submissions: Vec<DriverQueue>,
    pub(super) completions: Vec<DriverQueue>,
    pub(super) looked: Looked,
    next_id: u16,
}

/// Where the driver has its rings: 64 KiB for each.
const RINGS: u64 = 0x20_0000;
/// Where it has its doorbells and the event indices.
pub(super) const BUFFERS: [u64; 2] = [0x5000, 0x6000];
/// Entries of its admin queues.
const ADMIN: u32 = 32;

impl Driver {
    /// A driver of a machine whose device has `bytes` bytes of pages.
    pub(super) fn new(bytes: u64) -> Self {
        Self::of(Fake::new(bytes), 64)
    }

    pub(super) fn of(mut world: Fake, requests: usize) -> Self {
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
    pub(super) fn ready(bytes: u64) -> Self {
        let mut this = Self::new(bytes);
        this.enable();
        this.prepare();
        this
    }

    /// From now on whole pages are mapped.
    pub(super) fn map(&mut self) {
        let pages = (0..window().len() / 4096).map(|_| Page::NEW);
        let pages = pages.collect::<Vec<_>>().leak();
        let is_mapping = self.nvme.map_whole_pages(window(), pages, &mut self.world);
        assert!(is_mapping);
    }

    pub(super) fn prepare(&mut self) {
        assert_eq!(self.admin(0x06, 1, 0x3000, &[(10, 0)]).status, 0);
        self.create(1, 64);
    }

    pub(super) fn read(&mut self, offset: u32) -> u32 {
        let mut bytes = [0; 4];
        self.nvme.read(&mut self.world, offset, &mut bytes);
        u32::from_le_bytes(bytes)
    }

    pub(super) fn write(&mut self, offset: u32, value: u32) {
        self.looked = self
            .nvme
            .write(&mut self.world, offset, &value.to_le_bytes());
    }

    pub(super) fn enable(&mut self) {
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
    pub(super) fn fill(&mut self, queue: usize, mut words: [u32; 16]) -> u16 {
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
    pub(super) fn ring(&mut self, queue: usize) {
        self.write(0x1000 + 8 * queue as u32, self.submissions[queue].at);
    }

    /// Rings in memory for what was filled, and for real if the event index asks for it. Whether
    /// it did.
    pub(super) fn ring_in_memory(&mut self, queue: usize) -> bool {
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
    pub(super) fn next(&mut self, queue: usize) -> Option<Answer> {
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
    pub(super) fn seen(&mut self, queue: usize) {
        self.write(0x1004 + 8 * queue as u32, self.completions[queue].at);
    }

    /// The device works, and the mediator hears of it.
    pub(super) fn run(&mut self) {
        self.world.run();
        self.look();
    }

    pub(super) fn look(&mut self) {
        self.looked = self.nvme.look(&mut self.world);
        self.nvme.check_conservation();
    }

    /// One command from beginning to end.
    pub(super) fn ask(&mut self, queue: usize, words: [u32; 16]) -> Answer {
        let id = self.fill(queue, words);
        self.ring(queue);
        self.run();
        let answer = self.next(queue).expect("an answer");
        assert_eq!(answer.id, id, "the identifier that was asked with");
        self.seen(queue);
        answer
    }

    pub(super) fn admin(
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
    pub(super) fn create(&mut self, queue: usize, entries: u32) {
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

    pub(super) fn set(&mut self, at: u64, bytes: &[u8]) {
        self.world.guest.borrow_mut()[at as usize..][..bytes.len()].copy_from_slice(bytes);
    }

    pub(super) fn memory(&self, at: u64, bytes: usize) -> Vec<u8> {
        self.world.guest.borrow()[at as usize..][..bytes].to_vec()
    }
}

/// Where the guest's pages are mapped: 1 MiB.
fn window() -> ByteRange<Iova> {
    ByteRange::new(Iova::new(0x1000_0000), 1 << 20).expect("pages")
}

/// A command's words.
pub(super) fn command(
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
pub(super) fn blocks(opcode: u8, prps: [u64; 2], first: u32, blocks: u32) -> [u32; 16] {
    command(opcode, 1, prps, &[(10, first), (12, blocks - 1)])
}

/// 1 MiB of which no two blocks near each other are the same.
fn disk() -> Vec<u8> {
    let pattern: Vec<u8> = (0..7 * 251).map(|at: u32| (at / 7) as u8).collect();
    let mut disk = pattern.repeat((1 << 20) / pattern.len() + 1);
    disk.truncate(1 << 20);
    disk
}

/// Storage for eight queue pairs and four namespaces.
pub(super) fn storage(world: &Fake, requests: usize) -> Storage<'static> {
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
