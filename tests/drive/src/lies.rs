//! What a controller does that no honest one does.

use bounce::rehearsal::Sides;

use crate::controller::{Completion, Controller};

impl Controller {
    /// A controller of a kind that nobody sells.
    pub(crate) fn lie_about_registers(&mut self) {
        let dice = &mut self.dice;
        match dice.roll(7) {
            // MQES, DSTRD, MPSMIN, the command sets, everything, and the version.
            0 => self.capabilities = self.capabilities & !0xffff | dice.pick(&[0, 1, 2, 65535]),
            1 => self.capabilities |= dice.roll(16) << 32,
            2 => self.capabilities |= dice.roll(16) << 48,
            3 => self.capabilities = dice.any(),
            4 => self.capabilities = u64::MAX,
            5 => self.capabilities |= dice.any() << 53,
            _ => {}
        }
    }

    /// CSTS: fatal, ready or not at the wrong time, or gone.
    pub(crate) fn status_lie(&mut self, status: u32) -> u32 {
        let any = self.dice.any() as u32;
        self.dice
            .pick(&[status | 2, status ^ 1, u32::MAX, any, status | 8])
    }

    /// MDTS, HMPRE, NN, OACS, SGLS, blocks of any size with any metadata, any number of them.
    pub(crate) fn lie_about_itself(&mut self, data: &mut [u8]) {
        let dice = &mut self.dice;
        match dice.roll(6) {
            0 => data.iter_mut().for_each(|byte| *byte = dice.any() as u8),
            1 => data.fill(0xff),
            2 => {
                data[77] = dice.pick(&[0, 1, 31, 32, 63, 64, 255]);
                data[272..280].fill(0xff);
                data[516..520].fill(dice.any() as u8);
                data[536..540].fill(0xff);
            }
            3 => {
                data[25] = dice.any() as u8;
                data[26] = dice.any() as u8;
                data[130] = dice.roll(64) as u8;
                data[..8].fill(0xff);
            }
            4 => data[128..132].copy_from_slice(&dice.any().to_le_bytes()[..4]),
            _ => data[dice.roll(4096) as usize] = dice.any() as u8,
        }
    }

    /// Any completion but this one at this place.
    pub(crate) fn lie_about(&mut self, sides: &Sides, queue: usize, honest: Completion) {
        let any = self.dice.any() as u32;
        let mut lie = honest;
        match self.dice.roll(16) {
            // It never completes.
            0 => return,
            1 => lie.id = any & 0xffff,
            2 => lie.id = self.work.front().map_or(0, |other| other.id()),
            3 => {
                lie.id = self
                    .over
                    .get(any as usize % self.over.len().max(1))
                    .copied()
                    .unwrap_or(7)
            }
            4 => lie.queue = any & 0xffff,
            5 => lie.queue = u32::from(honest.queue == 0),
            6 => lie.head = any & 0xffff,
            7 => lie.head = honest.head.wrapping_sub(1) & 0xffff,
            8 => lie.status = any & 0x7fff,
            9 => lie.result = any,
            10 => {
                self.post(sides, queue, honest);
                self.post(sides, queue, honest);
            }
            11 => return self.overrun(sides, queue, honest),
            12 => return self.rewrite(sides, queue),
            13 => return self.post(sides, any as usize % 4, honest),
            14 => return self.skip(sides, queue, honest),
            _ => self.completions[queue].phase ^= true,
        }
        self.post(sides, queue, lie);
    }

    /// More completions than there is room for.
    fn overrun(&mut self, sides: &Sides, queue: usize, honest: Completion) {
        for _ in 0..self.completions[queue].entries + 2 {
            self.post(sides, queue, honest);
        }
    }

    /// The whole queue at once, anything.
    fn rewrite(&mut self, sides: &Sides, queue: usize) {
        let to = self.completions[queue];
        for index in 0..u64::from(to.entries) * 2 {
            let word = self.dice.any().to_le_bytes();
            self.write(sides, to.base + index * 8, &word);
        }
    }

    /// The entry behind the next one.
    fn skip(&mut self, sides: &Sides, queue: usize, honest: Completion) {
        let to = &mut self.completions[queue];
        to.at = (to.at + 1) % to.entries.max(1);
        self.post(sides, queue, honest);
    }

    /// Something that nobody asked for.
    pub(crate) fn act_up(&mut self, sides: &Sides) {
        let any = self.dice.any();
        match self.dice.roll(6) {
            0 => self.work.clear(),
            1 => sides.device_scribbles(any as u8),
            2 => {
                let queue = any as usize % 4;
                let completion = Completion {
                    result: any as u32,
                    head: (any >> 8) as u32 & 0xff,
                    queue: (any >> 16) as u32 & 3,
                    id: (any >> 32) as u32 & 0xff,
                    status: 0,
                };
                self.post(sides, queue, completion);
            }
            _ => scribble(sides, any),
        }
    }
}

/// Writes a few bytes to some place that the device can write.
pub(crate) fn scribble(sides: &Sides, any: u64) {
    let writable = sides.arena().writable();
    let at = writable.start().raw() + (any >> 8) % (writable.len() - 8);
    let written = sides.device_writes(memory::Iova::new(at), &any.to_le_bytes());
    assert_eq!(written, Ok(()), "its own pages");
}
