//! The guest's side, hostile: whatever a driver must not do.

use mediator::{Looked, Mediator};
use memory::{Gpa, GuestMemory, PAGE_SIZE};

use crate::driver::{ENTRIES, put, set_quad};
use crate::memory_map::{self, PAIRS};
use crate::play::Play;

/// Opcodes that make a difference, of both kinds of queue.
const OPCODES: [u32; 24] = [
    0x00, 0x01, 0x02, 0x04, 0x05, 0x06, 0x08, 0x09, 0x0a, 0x0c, 0x0d, 0x0e, 0x10, 0x11, 0x14, 0x15,
    0x18, 0x7c, 0x80, 0x81, 0x82, 0x84, 0x86, 0xc1,
];

impl Play<'_> {
    /// One act of a guest that means harm.
    pub(crate) fn harm(&mut self) {
        match self.dice.roll(20) {
            0..8 => self.submit_anything(),
            8 => self.ring_anything(),
            9 => {
                let (offset, value) = (self.dice.roll(0x4000) as u32, self.dice.any());
                let len = 1 + self.dice.roll(8) as usize;
                let bytes = value.to_le_bytes();
                self.call(|nvme, stage| nvme.write(stage, offset, &bytes[..len]));
            }
            10 => {
                let (offset, len) = (
                    self.dice.roll(0x4000) as u32,
                    1 + self.dice.roll(8) as usize,
                );
                self.call(|nvme, stage| {
                    nvme.read(stage, offset, &mut vec![0; len]);
                    Looked::Nothing
                });
            }
            11 => self.enable_anyhow(),
            12 => self.wild_writes(),
            13 => {
                // Doorbells in memory, and event indices.
                let [doorbells, events] = memory_map::doorbells();
                let page = self.dice.pick(&[doorbells, events]);
                let value = self.dice.pick(&[0_u32, 1, 31, 32, 0xffff, u32::MAX]);
                let at = page + self.dice.roll(16) * 4;
                put(&self.stage.sides, at, &value.to_le_bytes());
            }
            14 => {
                self.stage.is_masked ^= true;
                let vector = self.dice.roll(4) as u16;
                self.call(|nvme, stage| {
                    nvme.unmasked(stage, vector);
                    Looked::Nothing
                });
            }
            15 if self.dice.one_in(8) => self.forget(),
            15 => self.create_properly(),
            16 | 17 => self.read_or_write_half_properly(),
            _ => self.look(),
        }
    }

    /// An address that no honest driver names here.
    fn bad_address(&mut self) -> u64 {
        let wild = memory_map::wild();
        let (start, bytes) = (wild.start().raw(), wild.len());
        let in_wild = start + self.dice.roll(bytes);
        match self.dice.roll(12) {
            0 => 0,
            // Behind the local APIC, and where a hypervisor might be.
            1 => 0xfee0_0000 + self.dice.roll(0x1000),
            2 => 0xffff_ffff_ffff_f000,
            3 => self.dice.any(),
            4 => self.dice.any() & !(PAGE_SIZE - 1),
            5 => wild.last().raw() + 1,
            6 => in_wild,
            7 => in_wild & !3,
            _ => in_wild & !(PAGE_SIZE - 1),
        }
    }

    fn submit_anything(&mut self) {
        let mut words = [0; 16];
        let opcode = self.dice.pick(&OPCODES);
        words[0] = opcode | (self.dice.any() as u32 & 0xffff_0000);
        if self.dice.one_in(30) {
            words[0] |= self.dice.any() as u32 & 0xff00;
        }
        words[1] = self.dice.pick(&[0, 1, 1, 1, 2, 3, 4, 5, u32::MAX]);
        let addresses = [self.bad_address(), self.bad_address()];
        set_quad(&mut words, 6, addresses[0]);
        set_quad(&mut words, 8, addresses[1]);
        for word in &mut words[10..] {
            let any = self.dice.any() as u32;
            *word = self.dice.pick(&[0, 1, any & 0xf, any & 0x00ff_00ff, any]);
        }
        if self.dice.one_in(4) {
            // A queue like that of a driver: identifier, size, vector.
            words[10] = self.dice.pick(&[1, 3, 31, 255, 0xffff]) << 16 | self.dice.roll(5) as u32;
            words[11] = (self.dice.roll(5) as u32) << 16 | 3;
        }
        let queue = self.dice.roll(PAIRS as u64) as usize;
        self.submit(queue, &words);
        if self.dice.one_in(2) {
            let tail = self.tails[queue];
            self.write(0x1000 + 8 * queue as u32, tail);
        }
    }

    /// A queue pair where a driver would have it: something has to work.
    fn create_properly(&mut self) {
        let queue = 1 + self.dice.roll(PAIRS as u64 - 1) as usize;
        let rings = [
            memory_map::completion_ring(queue),
            memory_map::submission_ring(queue),
        ];
        for (opcode, ring) in [0x05, 0x01].into_iter().zip(rings) {
            let mut words = [0; 16];
            words[0] = opcode;
            set_quad(&mut words, 6, ring);
            words[10] = (ENTRIES - 1) << 16 | queue as u32;
            words[11] = (queue as u32) << 16 | 3;
            self.submit(0, &words);
            let tail = self.tails[0];
            self.write(0x1000, tail);
            self.device_acts();
            self.look();
        }
        self.tails[queue] = 0;
    }

    /// Blocks at a list of pages, one of which may be anything.
    fn read_or_write_half_properly(&mut self) {
        let wild = memory_map::wild();
        let count = wild.len() / PAGE_SIZE;
        let page = |index: u64| wild.start().raw() + index % count * PAGE_SIZE;
        let (first, list) = (self.dice.roll(count), page(self.dice.roll(count)));
        let bad = self.dice.roll(12);
        for entry in 1..8 {
            let at = if entry == bad {
                self.bad_address()
            } else {
                page(first + entry)
            };
            put(&self.stage.sides, list + 8 * entry, &at.to_le_bytes());
        }
        let mut words = [0; 16];
        (words[0], words[1]) = (self.dice.pick(&[1, 2]), 1);
        set_quad(&mut words, 6, page(first) + self.dice.roll(2) * 0x7c0);
        set_quad(&mut words, 8, list + 8);
        words[10] = self.dice.roll(100) as u32;
        words[12] = self.dice.roll(64) as u32;
        let queue = 1 + self.dice.roll(PAIRS as u64 - 1) as usize;
        self.submit(queue, &words);
        let tail = self.tails[queue];
        self.write(0x1000 + 8 * queue as u32, tail);
    }

    fn submit(&mut self, queue: usize, words: &[u32; 16]) {
        let tail = self.tails[queue];
        let at = memory_map::submission_ring(queue) + u64::from(tail) * 64;
        let bytes: Vec<u8> = words.iter().flat_map(|word| word.to_le_bytes()).collect();
        put(&self.stage.sides, at, &bytes);
        self.tails[queue] = (tail + 1) % ENTRIES;
    }

    fn ring_anything(&mut self) {
        let index = self
            .dice
            .pick(&[0, 1, 2, 3, 4, 5, 6, 7, 8, 33, 127, 128, 2047, 3071]);
        let any = self.dice.any() as u32;
        let value = self
            .dice
            .pick(&[0, 1, 2, 31, 32, 33, 0xffff, u32::MAX, any & 0xf, any]);
        self.write(0x1000 + 4 * index, value);
    }

    /// CC, and what has to be set before it.
    fn enable_anyhow(&mut self) {
        if self.dice.one_in(3) {
            let any = self.dice.any() as u32;
            let value = self.dice.pick(&[0, 0x0046_0000, 0x0046_4001, any, any | 1]);
            self.write(0x14, value);
        }
        if self.dice.one_in(3) {
            let [low, high] = self.dice.pick(&[[0x28, 0x2c], [0x30, 0x34]]);
            let at = self.bad_address();
            self.write(low, at as u32);
            self.write(high, (at >> 32) as u32);
            let sizes = self.dice.any() as u32;
            self.write(0x24, sizes);
        } else {
            self.write(0x14, 0);
            self.device_acts();
            self.read(0x1c);
            self.program_queues();
        }
        self.write(0x14, 0x0046_0001);
        self.tails = [0; PAIRS];
    }

    /// Lists that loop, lead nowhere, and are not aligned.
    fn wild_writes(&mut self) {
        let wild = memory_map::wild();
        for _ in 0..16 {
            let at = wild.start().raw() + self.dice.roll(wild.len() / 8) * 8;
            let value = match self.dice.roll(4) {
                0 => at & !(PAGE_SIZE - 1),
                1 => wild.start().raw() + self.dice.roll(wild.len() / PAGE_SIZE) * PAGE_SIZE,
                2 => self.bad_address(),
                _ => self.dice.any(),
            };
            let written = self
                .stage
                .sides
                .guest()
                .write(Gpa::new(at), &value.to_le_bytes());
            assert_eq!(written, Ok(()), "the guest's own memory");
        }
    }
}
