//! What the controller does with each command.

use core::ops::Range;

use bounce::rehearsal::Sides;

use super::{BLOCKS, Controller, Fetched, QUEUES, Queue, SHIFTS};

impl Controller {
    pub(super) fn execute(&mut self, sides: &Sides, command: &Fetched) {
        if command.queue == 0 {
            self.execute_admin(sides, command);
        } else {
            let status = self.execute_io(sides, command);
            self.complete(sides, command, status, 0);
        }
    }

    /// Section 3.2 of the NVM command set. Returns the status.
    fn execute_io(&mut self, sides: &Sides, command: &Fetched) -> u32 {
        const INVALID_NAMESPACE: u32 = 0x0b;
        const OUT_OF_RANGE: u32 = 0x80;
        let opcode = command.words[0] as u8;
        let disk = command.words[1].wrapping_sub(1) as usize;
        let Some(shift) = SHIFTS.get(disk) else {
            return if opcode == 0 { 0 } else { INVALID_NAMESPACE };
        };
        let (first, count) = (command.quad(10), u64::from(command.words[12] & 0xffff) + 1);
        let is_in_range = first < BLOCKS && count <= BLOCKS - first;
        let place = (first.min(BLOCKS) << shift) as usize;
        let bytes = (count << shift) as usize;
        match opcode {
            1 | 2 | 5 | 8 if !is_in_range => return OUT_OF_RANGE,
            1 => {
                let data = self.gather(sides, command, bytes);
                self.disks[disk][place..place + bytes].copy_from_slice(&data);
            }
            2 => {
                let data = self.disks[disk][place..place + bytes].to_vec();
                self.scatter(sides, command, &data);
            }
            5 => drop(self.gather(sides, command, bytes)),
            8 => self.disks[disk][place..place + bytes].fill(0),
            9 => drop(self.gather(
                sides,
                command,
                ((command.words[10] & 0xff) as usize + 1) * 16,
            )),
            _ => {}
        }
        0
    }

    fn execute_admin(&mut self, sides: &Sides, command: &Fetched) {
        let [number, size] = [command.words[10] & 0xffff, command.words[10] >> 16];
        let slot = number as usize % QUEUES;
        let mut queue = Queue::new(command.quad(6), size + 1);
        let mut result = 0;
        match command.words[0] as u8 {
            0x00 => {
                self.submissions[slot].is_there = false;
                // What it had of it is aborted, and not completed.
                if !self.lies() {
                    self.work.retain(|other| other.queue != slot);
                }
            }
            0x01 => {
                queue.completion = (command.words[11] >> 16) as usize % QUEUES;
                self.submissions[slot] = queue;
            }
            0x02 => {
                let dwords = command.words[11] << 16 | command.words[10] >> 16;
                let data = vec![0x3c; (dwords as usize + 1) * 4];
                self.scatter(sides, command, &data);
            }
            0x04 => self.completions[slot].is_there = false,
            0x05 => {
                queue.is_announced = command.words[11] & 2 != 0;
                self.completions[slot] = queue;
            }
            0x06 => {
                let data = self.identify(command);
                self.scatter(sides, command, &data);
            }
            0x09 => result = command.words[11],
            0x0c => return self.events.push_back(*command),
            _ => {}
        }
        self.complete(sides, command, 0, result);
    }

    fn identify(&mut self, command: &Fetched) -> Vec<u8> {
        let mut data = vec![0; 4096];
        let shift = SHIFTS.get(command.words[1].wrapping_sub(1) as usize);
        match (command.words[10] as u8, shift) {
            (0, Some(shift)) => {
                data[..8].copy_from_slice(&BLOCKS.to_le_bytes());
                data[8..16].copy_from_slice(&BLOCKS.to_le_bytes());
                data[130] = *shift;
            }
            (1, _) => {
                data[77] = 9;
                data[516] = SHIFTS.len() as u8;
            }
            (2, _) => {
                for (to, number) in data.chunks_exact_mut(4).zip(1..=SHIFTS.len()) {
                    to[0] = number as u8;
                }
            }
            _ => {}
        }
        if self.lies() {
            self.lie_about_itself(&mut data);
        }
        data
    }

    /// What `command`'s pages hold.
    fn gather(&mut self, sides: &Sides, command: &Fetched, bytes: usize) -> Vec<u8> {
        let mut data = vec![0; bytes];
        for (at, piece) in self.pieces(sides, command, bytes) {
            self.read(sides, at, &mut data[piece]);
        }
        data
    }

    /// Puts `data` where `command` says, unless that is a lie.
    fn scatter(&mut self, sides: &Sides, command: &Fetched, data: &[u8]) {
        let data = if self.lies() {
            &data[..data.len() / 3]
        } else {
            data
        };
        for (at, piece) in self.pieces(sides, command, data.len()) {
            self.write(sides, at, &data[piece]);
        }
    }

    /// Where the bytes of `command` are, by its PRPs: section 4.1.1.
    fn pieces(&self, sides: &Sides, command: &Fetched, bytes: usize) -> Vec<(u64, Range<usize>)> {
        let (first, second) = (command.quad(6), command.quad(8));
        let mut done = bytes.min(4096 - (first % 4096) as usize);
        let mut pieces = vec![(first, 0..done)];
        if done < bytes && bytes - done <= 4096 {
            pieces.push((second, done..bytes));
            return pieces;
        }
        let mut list = second;
        while done < bytes {
            let mut entry = [0; 8];
            self.read(sides, list, &mut entry);
            let entry = u64::from_le_bytes(entry);
            if list % 4096 == 4088 && bytes - done > 4096 {
                list = entry;
                continue;
            }
            let end = bytes.min(done + 4096);
            pieces.push((entry, done..end));
            (done, list) = (end, list + 8);
        }
        pieces
    }
}
