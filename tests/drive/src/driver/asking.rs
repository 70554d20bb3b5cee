//! What the driver asks, in any legal way.

use bounce::rehearsal::Sides;
use memory::{ByteRange, Gpa, PAGE_SIZE};

use super::{Asked, Driver, ENTRIES, Place, Question, clear, put, set_quad};
use crate::controller::{BLOCKS, SHIFTS};
use crate::memory_map::{self, CANARY, PAIRS, SLOT_PAGES, SLOTS};

impl Driver {
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
        for (queue, pair) in self.pairs.iter_mut().enumerate().skip(1) {
            pair.untold = 0;
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
            // Nobody knows this one, and it is answered without the device.
            2 => (0x99, Question::Other),
            3..5 => {
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
}

/// A byte of a request: any but the canary.
fn payload(first: u8, at: u64) -> u8 {
    let byte = first.wrapping_add((at ^ at >> 8) as u8);
    if byte == CANARY { 0 } else { byte }
}
