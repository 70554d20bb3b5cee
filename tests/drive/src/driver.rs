//! The guest's side, honest: a driver that knows what it asked, and what it must get.

use bounce::rehearsal::Sides;
use memory::{ByteRange, Gpa, GuestMemory, PAGE_SIZE};

use crate::controller::{BLOCKS, SHIFTS};
use crate::dice::Dice;
use crate::memory_map::{self, CANARY, PAIRS, SLOT_PAGES, SLOTS};

/// Entries of each queue.
const ENTRIES: u32 = 32;

/// What was asked, besides bytes.
#[derive(Clone, PartialEq, Eq, Debug)]
pub(crate) enum Question {
    /// The disk's bytes.
    Read(Place),
    /// The disk is to have these.
    Write(Place, Vec<u8>),
    /// The disk is to have zeros.
    WriteZeroes(Place),
    /// A log page, of which the controller says the same in each byte.
    Log,
    /// What the device says of itself, which is not compared.
    Identify,
    /// What it says of a namespace.
    Namespace(usize),
    CreateCompletion(usize),
    CreateSubmission(usize),
    DeleteSubmission(usize),
    DeleteCompletion(usize),
    /// An event, which may never come.
    Event,
    /// Anything without consequence.
    Other,
}

/// Blocks of a disk.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) struct Place {
    pub(crate) disk: usize,
    pub(crate) first: u64,
    pub(crate) count: u64,
}

impl Place {
    fn bytes(&self) -> std::ops::Range<usize> {
        let shift = SHIFTS[self.disk];
        (self.first << shift) as usize..((self.first + self.count) << shift) as usize
    }

    fn overlaps(&self, other: &Self) -> bool {
        self.disk == other.disk
            && self.first < other.first + other.count
            && other.first < self.first + self.count
    }
}

/// A request that is under way.
#[derive(Clone, Debug)]
pub(crate) struct Asked {
    pub(crate) queue: usize,
    pub(crate) id: u16,
    pub(crate) question: Question,
    slot: Option<usize>,
    /// The guest's bytes that it is about, in order.
    pub(crate) extents: Vec<ByteRange<Gpa>>,
    /// Whether they are to be written.
    pub(crate) is_to_guest: bool,
}

impl Asked {
    /// Whether all of `range` is the request's; neighbouring pages are copied in one piece.
    pub(crate) fn covers(&self, range: ByteRange<Gpa>) -> bool {
        let mut at = range.start();
        while let Some(extent) = self.extents.iter().find(|extent| extent.contains(at)) {
            if extent.last() >= range.last() {
                return true;
            }
            at = Gpa::new(extent.last().raw() + 1);
        }
        false
    }
}

/// A completion as the driver finds it.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Answer {
    pub(crate) queue: usize,
    pub(crate) id: u16,
    pub(crate) status: u16,
    head: u32,
}

/// How far the driver is with one queue pair.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Pair {
    pub(crate) has_submission: bool,
    pub(crate) has_completion: bool,
    /// Whether it is about to change.
    pub(crate) is_busy: bool,
    pub(crate) tail: u32,
    head: u32,
    pub(crate) seen: u32,
    phase: bool,
}

impl Pair {
    const NEW: Self = Self {
        has_submission: false,
        has_completion: false,
        is_busy: false,
        tail: 0,
        head: 0,
        seen: 0,
        phase: true,
    };
}

/// The driver.
#[derive(Debug)]
pub(crate) struct Driver {
    pub(crate) dice: Dice,
    pub(crate) pairs: [Pair; PAIRS],
    pub(crate) asked: Vec<Asked>,
    pub(crate) has_buffers: bool,
    /// What each disk holds, where that is known.
    disks: Vec<Vec<Option<u8>>>,
    /// Of which disks the size of blocks is known.
    known: [bool; SHIFTS.len()],
    next_id: u16,
    /// Bytes of a request at most.
    longest: u64,
    /// Bytes that were compared.
    pub(crate) verified: u64,
}

impl Driver {
    pub(crate) fn new(seed: u64, longest: u32) -> Self {
        let disks = SHIFTS
            .iter()
            .map(|shift| vec![Some(0); (BLOCKS << shift) as usize]);
        Self {
            dice: Dice::new(seed),
            pairs: [Pair::NEW; PAIRS],
            asked: Vec::new(),
            has_buffers: false,
            disks: disks.collect(),
            known: [false; SHIFTS.len()],
            next_id: 0,
            longest: longest.into(),
            verified: 0,
        }
    }

    /// The controller is disabled: nothing is under way any more.
    pub(crate) fn lose_all(&mut self) {
        for asked in core::mem::take(&mut self.asked) {
            self.lose(&asked);
        }
        self.pairs = [Pair::NEW; PAIRS];
        self.has_buffers = false;
    }

    /// Nobody knows whether `asked` was done.
    fn lose(&mut self, asked: &Asked) {
        if let Question::Write(place, _) | Question::WriteZeroes(place) = &asked.question {
            self.disks[place.disk][place.bytes()].fill(None);
        }
    }

    /// The admin queues are there.
    pub(crate) fn begin(&mut self, sides: &Sides) {
        self.pairs = [Pair::NEW; PAIRS];
        for queue in 0..PAIRS {
            clear(sides, memory_map::completion_ring(queue));
        }
        self.pairs[0].has_submission = true;
        self.pairs[0].has_completion = true;
    }

    /// Puts a question into `queue`, if that has room. The doorbell is not rung.
    fn put(
        &mut self,
        sides: &Sides,
        queue: usize,
        mut words: [u32; 16],
        question: Question,
    ) -> Option<&mut Asked> {
        let pair = &mut self.pairs[queue];
        let tail = (pair.tail + 1) % ENTRIES;
        if !pair.has_submission || tail == pair.head {
            return None;
        }
        while self.asked.iter().any(|asked| asked.id == self.next_id) {
            self.next_id = self.next_id.wrapping_add(1);
        }
        words[0] |= u32::from(self.next_id) << 16;
        let at = memory_map::submission_ring(queue) + u64::from(pair.tail) * 64;
        let bytes: Vec<u8> = words.iter().flat_map(|word| word.to_le_bytes()).collect();
        put(sides, at, &bytes);
        pair.tail = tail;
        self.asked.push(Asked {
            queue,
            id: self.next_id,
            question,
            slot: None,
            extents: Vec::new(),
            is_to_guest: false,
        });
        self.next_id = self.next_id.wrapping_add(1);
        self.asked.last_mut()
    }

    /// Asks for as many queues as it will use, and more.
    pub(crate) fn ask_for_queues(&mut self, sides: &Sides) {
        let mut words = [0; 16];
        (words[0], words[10], words[11]) = (0x09, 7, 0x007f_007f);
        self.put(sides, 0, words, Question::Other);
    }

    /// Asks something of the controller.
    pub(crate) fn ask_admin(&mut self, sides: &Sides) {
        let mut words = [0; 16];
        let queue = 1 + self.dice.roll(PAIRS as u64 - 1) as usize;
        let pair = self.pairs[queue];
        match self.dice.roll(10) {
            0..4 if !pair.is_busy && !pair.has_completion => {
                let ring = memory_map::completion_ring(queue);
                clear(sides, ring);
                // Both doorbells in memory begin at 0, as the queues do.
                let at = memory_map::doorbells()[0] + 8 * queue as u64;
                put(sides, at, &[0; 8]);
                words[0] = 0x05;
                set_quad(&mut words, 6, ring);
                words[10] = (ENTRIES - 1) << 16 | queue as u32;
                words[11] = (queue as u32) << 16 | 3;
                self.change(sides, queue, words, Question::CreateCompletion(queue));
            }
            0..4 if !pair.is_busy && !pair.has_submission => {
                let at = memory_map::doorbells()[0] + 8 * queue as u64;
                put(sides, at, &[0; 4]);
                words[0] = 0x01;
                set_quad(&mut words, 6, memory_map::submission_ring(queue));
                words[10] = (ENTRIES - 1) << 16 | queue as u32;
                words[11] = (queue as u32) << 16 | 1;
                self.change(sides, queue, words, Question::CreateSubmission(queue));
            }
            4 if !pair.is_busy && pair.has_submission => {
                words[10] = queue as u32;
                // Nothing more is put into it from now on.
                self.pairs[queue].has_submission = false;
                self.change(sides, queue, words, Question::DeleteSubmission(queue));
            }
            4 if !pair.is_busy && pair.has_completion && !self.is_used(queue) => {
                words[0] = 0x04;
                words[10] = queue as u32;
                self.change(sides, queue, words, Question::DeleteCompletion(queue));
            }
            5 => self.ask_for_bytes(sides, 0x02, 0x0002),
            6 => self.ask_for_bytes(sides, 0x06, self.dice.clone().roll(2) as u32),
            7 => {
                let waiting = |asked: &Asked| asked.question == Question::Event;
                if self.asked.iter().filter(|asked| waiting(asked)).count() < 4 {
                    words[0] = 0x0c;
                    self.put(sides, 0, words, Question::Event);
                }
            }
            8 => {
                words[0] = 0x09;
                words[10] = 7;
                words[11] = self.dice.any() as u32 & 0x7fff_7fff;
                self.put(sides, 0, words, Question::Other);
            }
            _ => {
                words[0] = 0x08;
                words[10] = self.dice.any() as u32 & 0xff_0003;
                self.put(sides, 0, words, Question::Other);
            }
        }
    }

    fn is_used(&self, queue: usize) -> bool {
        self.pairs[queue].has_submission || self.asked.iter().any(|asked| asked.queue == queue)
    }

    fn change(&mut self, sides: &Sides, queue: usize, words: [u32; 16], question: Question) {
        let is_asked = self.put(sides, 0, words, question).is_some();
        self.pairs[queue].is_busy |= is_asked;
    }

    /// A log page, or what the device says of itself.
    fn ask_for_bytes(&mut self, sides: &Sides, opcode: u32, dword10: u32) {
        let Some(slot) = self.free_slot() else { return };
        let (bytes, question) = if opcode == 2 {
            let most = self.longest.min(8192);
            ((1 + self.dice.roll(most / 4)) * 4, Question::Log)
        } else {
            (4096, Question::Identify)
        };
        let mut words = [0; 16];
        words[0] = opcode;
        words[1] = 1 + self.dice.roll(3) as u32;
        words[10] = dword10;
        if opcode == 2 {
            words[10] |= (bytes as u32 / 4 - 1) << 16;
        }
        let extents = self.point(sides, &mut words, slot, bytes);
        if let Some(asked) = self.put(sides, 0, words, question) {
            (asked.slot, asked.extents, asked.is_to_guest) = (Some(slot), extents, true);
        }
    }

    /// Names every namespace, so that all are known.
    pub(crate) fn ask_for_namespace(&mut self, sides: &Sides, disk: usize) {
        let Some(slot) = self.free_slot() else { return };
        let mut words = [0; 16];
        (words[0], words[1]) = (0x06, disk as u32 + 1);
        let extents = self.point(sides, &mut words, slot, 4096);
        if let Some(asked) = self.put(sides, 0, words, Question::Namespace(disk)) {
            (asked.slot, asked.extents, asked.is_to_guest) = (Some(slot), extents, true);
        }
    }

    /// Rings in memory from the answer on, if nothing is under way in the other queues.
    pub(crate) fn use_buffers(&mut self, sides: &Sides) {
        if self.has_buffers || self.asked.iter().any(|asked| asked.queue != 0) {
            return;
        }
        let [doorbells, events] = memory_map::doorbells();
        clear(sides, doorbells);
        clear(sides, events);
        for (queue, pair) in self.pairs.iter().enumerate() {
            let at = doorbells + 8 * queue as u64;
            let [tail, seen] = [
                (pair.has_submission, pair.tail),
                (pair.has_completion, pair.seen),
            ]
            .map(|(is_there, value)| if is_there { value } else { 0 });
            put(sides, at, &tail.to_le_bytes());
            put(sides, at + 4, &seen.to_le_bytes());
        }
        let mut words = [0; 16];
        words[0] = 0x7c;
        set_quad(&mut words, 6, doorbells);
        set_quad(&mut words, 8, events);
        self.has_buffers = self.put(sides, 0, words, Question::Other).is_some();
    }

    /// Asks the disk for something.
    pub(crate) fn ask_disk(&mut self, sides: &Sides) {
        let first = self.dice.roll(PAIRS as u64) as usize;
        let mut queues = (0..PAIRS).map(|queue| (first + queue) % PAIRS);
        let usable = |queue: &usize| *queue != 0 && self.pairs[*queue].has_submission;
        let (Some(queue), Some(slot)) = (queues.find(usable), self.free_slot()) else {
            return;
        };
        let disk = self.dice.roll(SHIFTS.len() as u64) as usize;
        let most = (self.longest.min((SLOT_PAGES - 1) * PAGE_SIZE) >> SHIFTS[disk]).min(BLOCKS);
        if !self.known[disk] {
            return self.ask_for_namespace(sides, disk);
        }
        if most == 0 {
            return;
        }
        let count = if self.dice.one_in(2) {
            1
        } else {
            1 + self.dice.roll(most)
        };
        let place = Place {
            disk,
            first: self.dice.roll(BLOCKS - count + 1),
            count,
        };
        let is_taken = self.asked.iter().any(|asked| match &asked.question {
            Question::Read(other) | Question::Write(other, _) | Question::WriteZeroes(other) => {
                other.overlaps(&place)
            }
            _ => false,
        });
        if is_taken {
            return;
        }
        let mut words = [0; 16];
        words[1] = disk as u32 + 1;
        words[10] = place.first as u32;
        words[12] = count as u32 - 1;
        let bytes = place.bytes().len() as u64;
        let (opcode, question) = match self.dice.roll(8) {
            0 => (8, Question::WriteZeroes(place)),
            1 => (0, Question::Other),
            2..5 => {
                let first = self.dice.any() as u8;
                let data = (0..bytes).map(|at| payload(first, at)).collect();
                (1, Question::Write(place, data))
            }
            _ => (2, Question::Read(place)),
        };
        words[0] = opcode;
        let mut extents = Vec::new();
        if opcode == 1 || opcode == 2 {
            extents = self.point(sides, &mut words, slot, bytes);
        }
        if let Question::Write(_, data) = &question {
            let mut rest = &data[..];
            for extent in &extents {
                let (piece, after) = rest.split_at(extent.len() as usize);
                put(sides, extent.start().raw(), piece);
                rest = after;
            }
        }
        if let Some(asked) = self.put(sides, queue, words, question) {
            (asked.slot, asked.extents, asked.is_to_guest) = (Some(slot), extents, opcode == 2);
        }
    }

    fn free_slot(&mut self) -> Option<usize> {
        let first = self.dice.roll(SLOTS as u64) as usize;
        let taken = |slot: usize| self.asked.iter().any(|asked| asked.slot == Some(slot));
        (0..SLOTS)
            .map(|slot| (first + slot) % SLOTS)
            .find(|slot| !taken(*slot))
    }

    /// Makes `words` point at `bytes` bytes of the slot, in any legal way: section 4.1.1. All
    /// around is the canary.
    fn point(
        &mut self,
        sides: &Sides,
        words: &mut [u32; 16],
        slot: usize,
        bytes: u64,
    ) -> Vec<ByteRange<Gpa>> {
        let start = memory_map::slot(slot);
        put(
            sides,
            start,
            &vec![CANARY; (SLOT_PAGES * PAGE_SIZE) as usize],
        );
        let offset = match self.dice.roll(3) {
            0 => 0,
            1 => self.dice.roll(PAGE_SIZE / 4) * 4,
            _ => PAGE_SIZE - 4 * (1 + self.dice.roll(16)),
        };
        let count = (offset + bytes).div_ceil(PAGE_SIZE);
        // The slot's pages in any order.
        let mut pages: Vec<u64> = (0..SLOT_PAGES)
            .map(|page| start + page * PAGE_SIZE)
            .collect();
        if self.dice.one_in(2) {
            for index in 1..pages.len() {
                pages.swap(index, self.dice.roll(index as u64 + 1) as usize);
            }
        }
        pages.truncate(count as usize);
        set_quad(words, 6, pages[0] + offset);
        match count {
            1 => set_quad(words, 8, self.dice.any()),
            2 => set_quad(words, 8, pages[1]),
            _ => {
                let list = self.list(sides, slot, &pages[1..]);
                set_quad(words, 8, list);
            }
        }
        let mut extents = Vec::new();
        let mut left = bytes;
        for (page, into) in pages
            .iter()
            .zip([offset].into_iter().chain(core::iter::repeat(0)))
        {
            let len = left.min(PAGE_SIZE - into);
            extents.extend(ByteRange::new(Gpa::new(page + into), len));
            left -= len;
        }
        extents
    }

    /// Writes a list of `entries`, over one page or two.
    fn list(&mut self, sides: &Sides, slot: usize, entries: &[u64]) -> u64 {
        let [first, second] = memory_map::lists(slot);
        let room = 2 + self.dice.roll(20) as usize;
        let at = first + PAGE_SIZE - 8 * room as u64;
        let in_first = if entries.len() <= room {
            entries.len()
        } else {
            room - 1
        };
        let (here, there) = entries.split_at(in_first);
        for (index, entry) in (0..).zip(here) {
            put(sides, at + index * 8, &entry.to_le_bytes());
        }
        if !there.is_empty() {
            put(sides, first + PAGE_SIZE - 8, &second.to_le_bytes());
        }
        for (index, entry) in (0..).zip(there) {
            put(sides, second + index * 8, &entry.to_le_bytes());
        }
        at
    }

    /// The next completion that is there. The admin queue comes last: what is said there of
    /// another queue came after what that queue says.
    pub(crate) fn next_answer(&mut self, sides: &Sides) -> Option<Answer> {
        (0..PAIRS).rev().find_map(|queue| {
            let pair = &mut self.pairs[queue];
            if !pair.has_completion {
                return None;
            }
            let at = memory_map::completion_ring(queue) + u64::from(pair.seen) * 16;
            let mut bytes = [0; 16];
            sides
                .guest()
                .read(Gpa::new(at), &mut bytes)
                .expect("the ring is there");
            let word =
                |index: usize| u32::from_le_bytes([0, 1, 2, 3].map(|byte| bytes[index * 4 + byte]));
            if (word(3) >> 16 & 1 != 0) != pair.phase {
                return None;
            }
            pair.seen = (pair.seen + 1) % ENTRIES;
            pair.phase ^= pair.seen == 0;
            Some(Answer {
                queue: (word(2) >> 16) as usize,
                id: word(3) as u16,
                status: (word(3) >> 17) as u16,
                head: word(2) & 0xffff,
            })
        })
    }

    /// The request that `answer` is about is over. What was asked is returned.
    ///
    /// # Panics
    /// If nothing such was asked.
    pub(crate) fn hear(&mut self, answer: &Answer) -> Asked {
        let place = |asked: &Asked| asked.queue == answer.queue && asked.id == answer.id;
        let Some(index) = self.asked.iter().position(place) else {
            panic!("{answer:?} answers what was not asked, or was answered before");
        };
        assert!(answer.head < ENTRIES, "{answer:?}");
        let asked = self.asked.swap_remove(index);
        self.pairs[answer.queue].head = answer.head;
        let is_success = answer.status & 0x7ff == 0;
        match asked.question {
            Question::CreateCompletion(queue) => {
                self.pairs[queue] = Pair {
                    has_completion: is_success,
                    ..Pair::NEW
                };
            }
            Question::CreateSubmission(queue) => {
                let pair = &mut self.pairs[queue];
                (pair.has_submission, pair.is_busy) = (is_success, false);
                (pair.tail, pair.head) = (0, 0);
            }
            Question::DeleteSubmission(queue) => {
                self.pairs[queue].is_busy = false;
                self.pairs[queue].has_submission = !is_success;
                if is_success {
                    let (lost, kept) = self.asked.drain(..).partition(|asked| asked.queue == queue);
                    self.asked = kept;
                    let lost: Vec<Asked> = lost;
                    lost.iter().for_each(|asked| self.lose(asked));
                }
            }
            Question::Namespace(disk) => self.known[disk] |= is_success,
            Question::DeleteCompletion(queue) => {
                let pair = &mut self.pairs[queue];
                (pair.is_busy, pair.has_completion) = (false, !is_success);
            }
            _ => {}
        }
        asked
    }

    /// With an honest device, the answer is success and the bytes are the right ones.
    pub(crate) fn verify(&mut self, sides: &Sides, asked: &Asked, status: u16) {
        let is_about_bytes = matches!(
            asked.question,
            Question::Read(_) | Question::Write(..) | Question::WriteZeroes(_) | Question::Log
        );
        let (queue, id) = (asked.queue, asked.id);
        assert!(
            status == 0 || !is_about_bytes,
            "status {status:#x} of {id} in queue {queue}: {:?}",
            asked.question
        );
        match &asked.question {
            Question::Write(place, data) => {
                let disk = &mut self.disks[place.disk][place.bytes()];
                disk.iter_mut()
                    .zip(data)
                    .for_each(|(to, from)| *to = Some(*from));
            }
            Question::WriteZeroes(place) => self.disks[place.disk][place.bytes()].fill(Some(0)),
            Question::Read(place) => {
                let expected = self.disks[place.disk][place.bytes()].to_vec();
                self.compare(sides, asked, &expected);
            }
            Question::Log => {
                let len: u64 = asked.extents.iter().map(ByteRange::len).sum();
                self.compare(sides, asked, &vec![Some(0x3c); len as usize]);
            }
            _ => {}
        }
    }

    /// The slot has `expected` in the request's bytes, and the canary in all others.
    fn compare(&mut self, sides: &Sides, asked: &Asked, expected: &[Option<u8>]) {
        let start = memory_map::slot(asked.slot.expect("it has bytes"));
        let mut whole = vec![Some(CANARY); (SLOT_PAGES * PAGE_SIZE) as usize];
        let mut rest = expected;
        for extent in &asked.extents {
            let (piece, after) = rest.split_at(extent.len() as usize);
            let at = (extent.start().raw() - start) as usize;
            whole[at..at + piece.len()].copy_from_slice(piece);
            rest = after;
        }
        let mut found = vec![0; whole.len()];
        sides
            .guest()
            .read(Gpa::new(start), &mut found)
            .expect("the slot is there");
        let differs = found
            .iter()
            .zip(&whole)
            .position(|(found, whole)| whole.is_some_and(|whole| whole != *found));
        assert_eq!(
            differs, None,
            "the first wrong byte of slot at {start:#x} after {asked:?}"
        );
        self.verified += expected.len() as u64;
    }
}

/// A byte of a request: any but the canary.
fn payload(first: u8, at: u64) -> u8 {
    let byte = first.wrapping_add((at ^ at >> 8) as u8);
    if byte == CANARY { 0 } else { byte }
}

pub(crate) fn set_quad(words: &mut [u32; 16], at: usize, value: u64) {
    (words[at], words[at + 1]) = (value as u32, (value >> 32) as u32);
}

pub(crate) fn put(sides: &Sides, at: u64, bytes: &[u8]) {
    sides
        .guest()
        .write(Gpa::new(at), bytes)
        .expect("the guest's own memory");
}

/// The double word at `at`.
pub(crate) fn get(sides: &Sides, at: u64) -> u32 {
    let mut bytes = [0; 4];
    sides
        .guest()
        .read(Gpa::new(at), &mut bytes)
        .expect("the guest's own memory");
    u32::from_le_bytes(bytes)
}

fn clear(sides: &Sides, page: u64) {
    put(sides, page, &[0; PAGE_SIZE as usize]);
}
