//! The guest's side, honest: a driver that knows what it asked, and what it must get.

mod asking;

use bounce::rehearsal::Sides;
use memory::{ByteRange, Gpa, GuestMemory, PAGE_SIZE};

use crate::controller::{BLOCKS, SHIFTS};
use crate::dice::Dice;
use crate::memory_map::{self, CANARY, PAIRS, SLOT_PAGES};

/// Entries of each queue: few, so that they are full at times.
pub(crate) const ENTRIES: u32 = 10;

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
    /// Completions that were seen since the mediator was told.
    pub(crate) untold: u32,
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
        untold: 0,
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
            pair.untold += 1;
            assert!(pair.untold < ENTRIES, "queue {queue} is overrun");
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
