//! The device's side: an NVMe controller behind its registers, over the pages it reaches.

mod commands;

use std::collections::VecDeque;

use bounce::rehearsal::Sides;
use mediator::rehearsal::Device;
use memory::Iova;

use crate::dice::Dice;

/// Queues of each kind that it has.
const QUEUES: usize = 16;
/// Blocks of each namespace.
pub(crate) const BLOCKS: u64 = 256;
/// Block sizes of the namespaces, as powers of two.
pub(crate) const SHIFTS: [u8; 3] = [9, 12, 9];

/// A queue as the device knows it.
#[derive(Clone, Copy, Default, Debug)]
pub(crate) struct Queue {
    pub(crate) is_there: bool,
    pub(crate) base: u64,
    pub(crate) entries: u32,
    pub(crate) at: u32,
    pub(crate) doorbell: u32,
    pub(crate) phase: bool,
    pub(crate) completion: usize,
    /// Whether what is posted is announced: "Interrupts Enabled".
    pub(crate) is_announced: bool,
}

impl Queue {
    fn new(base: u64, entries: u32) -> Self {
        Self {
            is_there: true,
            base,
            entries,
            phase: true,
            ..Self::default()
        }
    }
}

/// A command that it fetched.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Fetched {
    pub(crate) queue: usize,
    pub(crate) words: [u32; 16],
}

impl Fetched {
    pub(crate) fn id(&self) -> u32 {
        self.words[0] >> 16
    }

    fn quad(&self, at: usize) -> u64 {
        u64::from(self.words[at]) | u64::from(self.words[at + 1]) << 32
    }
}

/// A completion, before it is posted.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Completion {
    pub(crate) result: u32,
    pub(crate) head: u32,
    pub(crate) queue: u32,
    pub(crate) id: u32,
    pub(crate) status: u32,
}

/// The controller.
#[derive(Debug)]
pub(crate) struct Controller {
    pub(crate) dice: Dice,
    /// In how many acts it lies once; 0 is never.
    pub(crate) lies_once_in: u64,
    /// In how many acts it fetches all there is once.
    haste: u64,
    pub(crate) capabilities: u64,
    configuration: u32,
    is_ready: bool,
    attributes: u32,
    bases: [u64; 2],
    pub(crate) submissions: [Queue; QUEUES],
    pub(crate) completions: [Queue; QUEUES],
    /// What it fetched and has not done.
    pub(crate) work: VecDeque<Fetched>,
    /// Requests for events.
    events: VecDeque<Fetched>,
    /// Whether it raised an interrupt since somebody last asked.
    pub(crate) has_called: bool,
    /// Completions that it posted where it raises none.
    pub(crate) unannounced: u64,
    /// Identifiers that it completed.
    pub(crate) over: Vec<u32>,
    pub(crate) disks: Vec<Vec<u8>>,
}

impl Controller {
    /// A controller that is honest.
    pub(crate) fn new(seed: u64) -> Self {
        let mut dice = Dice::new(seed);
        let disks = SHIFTS
            .iter()
            .map(|shift| vec![0; (BLOCKS << shift) as usize]);
        // 256 entries, and doorbells up to 16 bytes apart.
        let stride = dice.roll(3);
        let haste = dice.pick(&[1, 3, 30]);
        Self {
            disks: disks.collect(),
            capabilities: 255 | 1 << 16 | 20 << 24 | stride << 32 | 1 << 37,
            dice,
            lies_once_in: 0,
            haste,
            configuration: 0,
            is_ready: false,
            attributes: 0,
            bases: [0; 2],
            submissions: [Queue::default(); QUEUES],
            completions: [Queue::default(); QUEUES],
            work: VecDeque::new(),
            events: VecDeque::new(),
            has_called: false,
            unannounced: 0,
            over: Vec::new(),
        }
    }

    pub(crate) fn is_honest(&self) -> bool {
        self.lies_once_in == 0
    }

    /// Whether this act is a lie.
    pub(crate) fn lies(&mut self) -> bool {
        self.lies_once_in != 0 && self.dice.one_in(self.lies_once_in)
    }

    /// Fetches what it was rung for, and does up to `most` commands, in any order.
    pub(crate) fn act(&mut self, sides: &Sides, most: usize) {
        let is_disabled = self.configuration & 1 == 0;
        // What it was told before it may finish, until it says that it is disabled.
        if is_disabled && (!self.is_ready || self.dice.one_in(2)) {
            return self.disable();
        }
        if self.lies() {
            self.act_up(sides);
        }
        if !is_disabled {
            self.fetch(sides);
        }
        for _ in 0..most {
            let index = self.dice.roll(self.work.len().max(1) as u64) as usize;
            let Some(command) = self.work.get(index).copied() else {
                break;
            };
            if self.has_room_for(&command) {
                self.work.remove(index);
                self.execute(sides, &command);
            }
        }
        if !self.events.is_empty() && self.dice.one_in(20) {
            let event = self.events.pop_front();
            let result = 0x0102_0301;
            event
                .iter()
                .for_each(|event| self.complete(sides, event, 0, result));
        }
    }

    /// Somebody resets the function.
    pub(crate) fn reset(&mut self) {
        self.configuration = 0;
        self.disable();
    }

    fn disable(&mut self) {
        self.is_ready = false;
        self.submissions.fill(Queue::default());
        self.completions.fill(Queue::default());
        self.work.clear();
        self.events.clear();
    }

    fn enable(&mut self) {
        self.disable();
        let entries = |field: u32| (field & 0xfff) + 1;
        self.submissions[0] = Queue::new(self.bases[0], entries(self.attributes));
        self.completions[0] = Queue::new(self.bases[1], entries(self.attributes >> 16));
        self.completions[0].is_announced = true;
        self.is_ready = true;
    }

    /// Bytes that it may read. An honest controller is not led astray.
    fn read(&self, sides: &Sides, at: u64, to: &mut [u8]) {
        let read = sides.device_reads(Iova::new(at), to);
        assert!(read.is_ok() || !self.is_honest(), "led to read {read:?}");
    }

    pub(crate) fn write(&self, sides: &Sides, at: u64, from: &[u8]) {
        let written = sides.device_writes(Iova::new(at), from);
        assert!(
            written.is_ok() || !self.is_honest(),
            "led to write {written:?}"
        );
    }

    fn fetch(&mut self, sides: &Sides) {
        for queue in 0..QUEUES {
            // As many as it likes to, and round the ring once at most.
            let most = match self.dice.roll(self.haste) {
                0 => u32::MAX,
                _ => self.dice.roll(4) as u32 / 2,
            };
            for _ in 0..self.submissions[queue].entries.min(most) {
                let from = self.submissions[queue];
                if !from.is_there || from.at == from.doorbell {
                    break;
                }
                let mut bytes = [0; 64];
                self.read(sides, from.base + u64::from(from.at) * 64, &mut bytes);
                let mut words = [0; 16];
                for (word, bytes) in words.iter_mut().zip(bytes.as_chunks().0) {
                    *word = u32::from_le_bytes(*bytes);
                }
                self.submissions[queue].at = (from.at + 1) % from.entries;
                self.work.push_back(Fetched { queue, words });
            }
        }
    }

    /// Whether its completion queue takes another entry: "the controller shall not" post into a full one,
    /// section 4.6.
    fn has_room_for(&self, command: &Fetched) -> bool {
        let to = self.completions[self.submissions[command.queue].completion];
        self.lies_once_in != 0 || !to.is_there || (to.at + 1) % to.entries != to.doorbell
    }

    /// Says that `command` is over.
    fn complete(&mut self, sides: &Sides, command: &Fetched, status: u32, result: u32) {
        let from = self.submissions[command.queue];
        let completion = Completion {
            result,
            head: from.at,
            queue: command.queue as u32,
            id: command.id(),
            status,
        };
        self.over.push(completion.id);
        if self.lies() {
            self.lie_about(sides, from.completion, completion);
        } else {
            self.post(sides, from.completion, completion);
        }
    }

    pub(crate) fn post(&mut self, sides: &Sides, queue: usize, completion: Completion) {
        let to = &mut self.completions[queue];
        if !to.is_there {
            return;
        }
        let (at, phase) = (to.base + u64::from(to.at) * 16, to.phase);
        to.at = (to.at + 1) % to.entries;
        to.phase ^= to.at == 0;
        self.has_called |= to.is_announced;
        self.unannounced += u64::from(!to.is_announced);
        let last = completion.status << 17 | u32::from(phase) << 16 | completion.id;
        let words = [
            completion.result,
            0,
            completion.queue << 16 | completion.head,
            last,
        ];
        for (index, word) in (0..).zip(words) {
            self.write(sides, at + index * 4, &word.to_le_bytes());
        }
    }
}

impl Device for Controller {
    fn load(&mut self, _: &Sides, offset: u32) -> u32 {
        match offset {
            0x00 => self.capabilities as u32,
            0x04 => (self.capabilities >> 32) as u32,
            0x08 => 0x0001_0400,
            0x14 => self.configuration,
            0x1c => {
                let status = u32::from(self.is_ready);
                if self.lies() {
                    self.status_lie(status)
                } else {
                    status
                }
            }
            _ => 0,
        }
    }

    fn store(&mut self, _: &Sides, offset: u32, value: u32) {
        let [submission, completion] = &mut self.bases;
        let low = |base: u64| base >> 32 << 32 | u64::from(value);
        let high = |base: u64| base & 0xffff_ffff | u64::from(value) << 32;
        match offset {
            0x14 => {
                let was_enabled = core::mem::replace(&mut self.configuration, value) & 1 != 0;
                match (was_enabled, value & 1 != 0) {
                    (false, true) => self.enable(),
                    // Now, or when it gets round to it.
                    (true, false) if self.dice.one_in(2) => self.disable(),
                    _ => {}
                }
            }
            0x24 => self.attributes = value,
            0x28 => *submission = low(*submission),
            0x2c => *submission = high(*submission),
            0x30 => *completion = low(*completion),
            0x34 => *completion = high(*completion),
            0x1000.. => {
                let stride = 4 << (self.capabilities >> 32 & 0xf);
                let index = ((offset - 0x1000) / stride) as usize;
                let queues = if index.is_multiple_of(2) {
                    &mut self.submissions
                } else {
                    &mut self.completions
                };
                queues[index / 2 % QUEUES].doorbell = value;
            }
            _ => {}
        }
    }
}
