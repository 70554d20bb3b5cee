//! The controller, which does what it is asked.

extern crate std;

use std::vec;
use std::vec::Vec;

use memory::{ByteRange, Gpa, GuestMemory, Iova};

use super::{BLOCK, DeviceQueue, Fake, Fetched};
use crate::Reach;

impl Fake {
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
        let offset = self
            .arena
            .offset(range.start(), range.len())
            .expect("covered") as usize;
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
        let offset = self
            .arena
            .offset(range.start(), range.len())
            .expect("covered") as usize;
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

    pub(crate) fn give(&mut self, words: &[u32; 16], data: &[u8]) {
        let mut rest = data;
        for (at, bytes) in self.pieces(words, data.len()) {
            let (piece, after) = rest.split_at(bytes);
            self.device_writes(at, piece);
            rest = after;
        }
    }

    pub(crate) fn take(&self, words: &[u32; 16], bytes: usize) -> Vec<u8> {
        let mut data = Vec::new();
        for (at, bytes) in self.pieces(words, bytes) {
            let mut piece = vec![0; bytes];
            self.device_reads(at, &mut piece);
            data.extend(piece);
        }
        data
    }

    /// Fetches what it was rung for.
    pub(crate) fn fetch(&mut self) {
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
    pub(crate) fn run(&mut self) {
        self.fetch();
        while let Some(request) = self.given.pop_front() {
            self.execute(request);
        }
    }

    pub(crate) fn complete(&mut self, request: &Fetched, status: u16, result: u32) {
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
    pub(crate) fn post(&mut self, completion: usize, mut words: [u32; 4]) {
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
