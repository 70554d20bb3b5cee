//! A play: two parties, the mediator between them, and what must hold after every act.

mod invariants;

use bounce::rehearsal::Sides;
use bounce::{Arena, Page, Part};
use kit::SparseMemory;
use mediator::nvme::{Namespace, Nvme, QueuePair, Request, Storage};
use mediator::rehearsal::Stage;
use mediator::{Looked, Mediator};
use memory::{ByteRange, Iova, PAGE_SIZE};

use crate::controller::{Controller, SHIFTS};
use crate::dice::Dice;
use crate::driver::{Asked, Driver, ENTRIES, Question, get, put};
use crate::lies::scribble;
use crate::memory_map::{self, CANARY, PAIRS};

/// Who plays, and how.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Parties {
    /// Everything follows from it.
    pub seed: u64,
    /// Whether the device lies.
    pub device_lies: bool,
    /// Whether the driver means harm.
    pub guest_harms: bool,
}

/// What came of a play: that it was one.
#[derive(Clone, Copy, PartialEq, Eq, Default, Debug)]
pub struct Tally {
    /// Acts that were played.
    pub acts: u64,
    /// Answers that the guest got.
    pub answers: u64,
    /// Requests that the device was given.
    pub given: u64,
    /// Bytes of requests that were moved either way.
    pub moved: u64,
    /// Pages of a window that were found to lead where they may.
    pub reached: u64,
    /// Bytes that were compared with what they must be.
    pub verified: u64,
    /// How often a device was refused at once.
    pub unfit: u64,
    /// How often one was cut off.
    pub cut_off: u64,
    /// Requests that had to wait for pages.
    pub held_back: u64,
    /// Completions that the device posted where it raises no interrupt.
    pub unannounced: u64,
}

impl core::ops::AddAssign for Tally {
    fn add_assign(&mut self, other: Self) {
        self.acts += other.acts;
        self.answers += other.answers;
        self.given += other.given;
        self.moved += other.moved;
        self.reached += other.reached;
        self.verified += other.verified;
        self.unfit += other.unfit;
        self.cut_off += other.cut_off;
        self.held_back += other.held_back;
        self.unannounced += other.unannounced;
    }
}

/// Says which play it was that failed.
struct TellWhenItFails(Parties);

impl Drop for TellWhenItFails {
    fn drop(&mut self) {
        if std::thread::panicking() {
            eprintln!("this was the play of {:?}", self.0);
        }
    }
}

/// A mediator, and both parties.
#[derive(Debug)]
pub struct Play<'a> {
    parties: Parties,
    pub(crate) dice: Dice,
    pub(crate) stage: Stage<Controller>,
    nvme: Nvme<'a>,
    driver: Driver,
    /// A hostile driver's tails.
    pub(crate) tails: [u32; PAIRS],
    /// What a hostile driver's rings still ask for, whenever it rings for old entries.
    named: Vec<Asked>,
    /// What was asked of a controller that was told to disable itself, until it says that it did.
    fading: Vec<Asked>,
    /// What the honest driver's tails were when it last rang, and its heads when it last said so.
    rung: [[u32; 2]; PAIRS],
    /// Whether the mediator wants to be called again.
    has_more: bool,
    /// Bytes of requests that went either way.
    moved: [u64; 2],
    tally: Tally,
}

impl Play<'_> {
    /// Plays `acts` acts.
    ///
    /// # Panics
    /// If something does not hold that must.
    pub fn run(parties: Parties, acts: u64) -> Tally {
        let _told = TellWhenItFails(parties);
        let mut dice = Dice::new(parties.seed);
        let is_restless = dice.one_in(2);
        // Bytes that change once they are read must be read once: nothing may have to wait.
        let pages = if is_restless && !parties.guest_harms {
            1024
        } else {
            dice.pick(&[32_u64, 48, 80, 512])
        };
        let arena = Arena::new(pages * PAGE_SIZE).expect("a size that arenas have");
        let mut guest = SparseMemory::new();
        for range in memory_map::memory() {
            guest = guest.holding(range.start(), &vec![CANARY; range.len() as usize]);
        }
        let mut controller = Controller::new(dice.any());
        if parties.device_lies {
            controller.lies_once_in = dice.pick(&[3, 20, 100]);
            if dice.one_in(4) {
                controller.lie_about_registers();
            }
        }
        let mut stage = Stage::new(Sides::new(arena, guest), controller);
        if parties.device_lies && dice.one_in(4) {
            let mut dice = dice.clone();
            stage.sides.device_is_restless(dice.one_in(2));
            stage.sides.meddle(move |sides| {
                if dice.one_in(8) {
                    scribble(sides, dice.any());
                }
            });
        }
        let mut requests: Vec<_> = (0..64).map(|_| Request::NEW).collect();
        // One pair more than the driver uses.
        let mut queues: Vec<_> = (0..=PAIRS).map(|_| QueuePair::NEW).collect();
        let mut namespaces: Vec<_> = (0..4).map(|_| Namespace::NEW).collect();
        let mut pages = vec![Page::NEW; (arena.bytes() / PAGE_SIZE) as usize];
        let storage = Storage {
            requests: &mut requests[..dice.pick(&[16, 64])],
            queues: &mut queues,
            namespaces: &mut namespaces,
            pages: &mut pages,
            scratch: &mut [0; PAGE_SIZE as usize],
        };
        let mut nvme = match Nvme::new(storage, arena, &mut stage) {
            Ok(nvme) => nvme,
            Err(why) => {
                assert!(parties.device_lies, "{why}");
                return Tally {
                    acts: 1,
                    unfit: 1,
                    ..Tally::default()
                };
            }
        };
        let mut window = vec![Page::NEW; 256];
        if dice.one_in(3) {
            let start = arena.writable().last().raw() + 1;
            let range = ByteRange::new(Iova::new(start), window.len() as u64 * PAGE_SIZE);
            stage.mappable = range;
            let range = range.expect("a window has pages");
            nvme.map_whole_pages(range, &mut window, &mut stage);
        }
        let driver = Driver::new(dice.any(), nvme.longest_transfer());
        let mut play = Play {
            parties,
            dice,
            stage,
            nvme,
            driver,
            tails: [0; PAIRS],
            named: Vec::new(),
            fading: Vec::new(),
            rung: [[0; 2]; PAIRS],
            has_more: false,
            moved: [0; 2],
            tally: Tally::default(),
        };
        play.stage.sides.touches();
        play.stage.sides.guest_is_restless(is_restless);
        play.enable();
        for _ in 0..acts {
            play.act();
            play.tally.acts += 1;
        }
        play.end()
    }

    fn act(&mut self) {
        if self.parties.guest_harms {
            return match self.dice.roll(3) {
                0 => self.device_acts(),
                _ => self.harm(),
            };
        }
        match self.dice.roll(40) {
            0..8 => {
                for _ in 0..1 + self.dice.roll(6) {
                    self.driver.ask_disk(&self.stage.sides);
                }
            }
            8..11 => self.driver.ask_admin(&self.stage.sides),
            11..20 => self.ring(),
            20..29 => self.device_acts(),
            29..35 => self.look(),
            35..38 => self.say_what_was_seen(),
            38 => {
                self.stage.is_masked ^= true;
                self.call(|nvme, stage| {
                    nvme.unmasked(stage, 0);
                    Looked::Nothing
                });
            }
            _ if self.dice.one_in(6) => self.reset(),
            _ if self.dice.one_in(3) => self.use_buffers(),
            _ => self.look(),
        }
    }

    /// One call of the mediator, and then everything must hold.
    pub(crate) fn call(
        &mut self,
        call: impl FnOnce(&mut Nvme<'_>, &mut Stage<Controller>) -> Looked,
    ) {
        self.has_more |= call(&mut self.nvme, &mut self.stage) == Looked::More;
        self.nvme.check_conservation();
        let touches = self.stage.sides.touches();
        self.check_touches(&touches);
        if !self.parties.guest_harms {
            self.hear();
        }
        if self.stage.lie.is_some() {
            // Whatever was under way is over, and nothing of it is written any more.
            assert!(self.parties.device_lies, "cut off for {:?}", self.stage.lie);
            self.driver.asked.clear();
        }
        self.check_reach();
    }

    /// The driver finds what is in its completion queues.
    fn hear(&mut self) {
        while let Some(answer) = self.driver.next_answer(&self.stage.sides) {
            self.tally.answers += 1;
            let asked = self.driver.hear(&answer);
            if !self.parties.device_lies {
                self.driver.verify(&self.stage.sides, &asked, answer.status);
            }
        }
    }

    pub(crate) fn write(&mut self, offset: u32, value: u32) {
        self.call(|nvme, stage| nvme.write(stage, offset, &value.to_le_bytes()));
    }

    pub(crate) fn read(&mut self, offset: u32) -> u32 {
        let mut bytes = [0; 4];
        self.call(|nvme, stage| {
            nvme.read(stage, offset, &mut bytes);
            Looked::Nothing
        });
        u32::from_le_bytes(bytes)
    }

    pub(crate) fn look(&mut self) {
        self.call(|nvme, stage| nvme.look(stage));
    }

    pub(crate) fn device_acts(&mut self) {
        if self.stage.lie.is_none() {
            let most = self.dice.roll(6) as usize;
            self.stage
                .act(|controller, sides| controller.act(sides, most));
        }
    }

    pub(crate) fn program_queues(&mut self) {
        self.write(0x24, (ENTRIES - 1) << 16 | (ENTRIES - 1));
        self.write(0x28, memory_map::submission_ring(0) as u32);
        self.write(0x2c, 0);
        self.write(0x30, memory_map::completion_ring(0) as u32);
        self.write(0x34, 0);
    }

    fn enable(&mut self) {
        self.program_queues();
        self.driver.begin(&self.stage.sides);
        self.write(0x14, 0x0046_0001);
        self.driver.ask_for_queues(&self.stage.sides);
        for disk in 0..SHIFTS.len() {
            self.driver.ask_for_namespace(&self.stage.sides, disk);
        }
        self.tails = [0; PAIRS];
        if self.parties.guest_harms {
            self.tails[0] = self.driver.pairs[0].tail;
            self.named.clone_from(&self.driver.asked);
            self.ring();
        }
    }

    /// Disables the controller, waits as long as one waits, and enables it again.
    fn reset(&mut self) {
        // From here on nothing is written for what was asked before, but by the device itself.
        self.fading.extend(self.driver.asked.iter().cloned());
        self.driver.lose_all();
        self.write(0x14, 0);
        let is_disabled = (0..64).any(|_| {
            if self.dice.one_in(4) {
                // Rung too late, and looked at meanwhile.
                let (doorbell, value) = (self.dice.roll(8) as u32, self.dice.roll(10) as u32);
                self.write(0x1000 + 4 * doorbell, value);
                self.look();
            }
            self.device_acts();
            self.read(0x1c) & 1 == 0
        });
        assert!(is_disabled || self.parties.device_lies);
        if is_disabled {
            self.fading.clear();
            self.check_reach();
        }
        self.enable();
    }

    /// The function is reset behind everybody's back, and the mediator told.
    pub(crate) fn forget(&mut self) {
        self.driver.lose_all();
        self.stage.act(|controller, _| controller.reset());
        self.call(|nvme, stage| {
            nvme.forget(stage);
            Looked::Nothing
        });
        assert_eq!(self.nvme.in_flight(), 0);
        assert_eq!(
            self.stage.sides.mapped(),
            [],
            "the device still reaches something"
        );
    }

    /// Rings for everything that was put.
    fn ring(&mut self) {
        for queue in 0..PAIRS {
            let tail = self.driver.pairs[queue].tail;
            if !self.driver.pairs[queue].has_submission {
                continue;
            }
            if self.driver.has_buffers && queue != 0 {
                let at = memory_map::doorbells()[0] + 8 * queue as u64;
                put(&self.stage.sides, at, &tail.to_le_bytes());
            }
            self.write(0x1000 + 8 * queue as u32, tail);
        }
    }

    fn say_what_was_seen(&mut self) {
        for queue in 0..PAIRS {
            if !self.driver.pairs[queue].has_completion {
                continue;
            }
            let seen = self.driver.pairs[queue].seen;
            self.driver.pairs[queue].untold = 0;
            if self.driver.has_buffers && queue != 0 {
                let at = memory_map::doorbells()[0] + 8 * queue as u64 + 4;
                put(&self.stage.sides, at, &seen.to_le_bytes());
            }
            self.write(0x1004 + 8 * queue as u32, seen);
        }
    }

    /// Everything is taken back, and nothing of the guest's is left where the device reads.
    fn end(mut self) -> Tally {
        if !self.parties.device_lies && !self.parties.guest_harms {
            self.finish();
        }
        self.stage.sides.leave_alone();
        self.stage.sides.device_is_restless(false);
        self.forget();
        let sides = &self.stage.sides;
        let readable = sides.peek(sides.arena().readable());
        let leaks = readable.windows(2).any(|pair| pair == [CANARY, CANARY]);
        assert!(!leaks, "bytes of no request are where the device reads");
        let data = sides.peek(sides.arena().part(Part::ToDevice));
        assert!(
            data.iter().all(|byte| *byte == 0),
            "bytes of requests that are over"
        );
        let counts = self.nvme.counts();
        if !self.parties.guest_harms {
            assert_eq!([counts.bytes_in, counts.bytes_out], self.moved);
        }
        self.tally.held_back = counts.held_back;
        self.tally.given = counts.requests;
        self.tally.moved = self.moved.iter().sum();
        self.tally.verified = self.driver.verified;
        self.tally.cut_off = u64::from(self.stage.lie.is_some());
        self.tally
    }

    /// With honest parties everything that was asked is answered.
    fn finish(&mut self) {
        self.stage.is_masked = false;
        for _ in 0..400 {
            self.ring();
            self.device_acts();
            self.look();
            self.say_what_was_seen();
        }
        self.all_is_answered("by whom was looked at all the time");
        self.only_when_called();
    }

    fn all_is_answered(&self, by: &str) {
        let mut left = self.driver.asked.iter();
        let left = left.find(|asked| asked.question != Question::Event);
        let left = left.map(|asked| (asked.queue, asked.id));
        assert_eq!(
            left, None,
            "queue and request never answered {by}, {}",
            self.parties.seed
        );
    }

    /// The driver rings where it is asked to, and the mediator looks when the device calls: nothing is left
    /// lying for all that.
    fn only_when_called(&mut self) {
        self.note_rings();
        for round in 0..300 {
            let asks = if round < 40 { self.dice.roll(24) } else { 0 };
            for _ in 0..asks {
                self.driver.ask_disk(&self.stage.sides);
                if self.dice.one_in(2) {
                    self.ring_as_asked();
                }
            }
            self.ring_as_asked();
            if self.dice.one_in(2) {
                self.device_acts();
            }
            let has_called = self.stage.act(|it, _| core::mem::take(&mut it.has_called));
            if has_called || core::mem::take(&mut self.has_more) {
                self.look();
            }
            self.say_as_asked();
        }
        self.all_is_answered("by whom was looked at when called");
        self.tally.unannounced += self.stage.act(|it, _| it.unannounced);
    }

    fn note_rings(&mut self) {
        for (rung, pair) in self.rung.iter_mut().zip(&self.driver.pairs) {
            *rung = [pair.tail, pair.seen];
        }
    }

    fn ring_as_asked(&mut self) {
        for queue in 0..PAIRS {
            let pair = self.driver.pairs[queue];
            if pair.has_submission {
                self.ring_one(queue, 0, pair.tail);
            }
        }
    }

    fn say_as_asked(&mut self) {
        for queue in 0..PAIRS {
            let pair = self.driver.pairs[queue];
            if pair.has_completion {
                self.ring_one(queue, 1, pair.seen);
            }
        }
    }

    /// Rings doorbell `kind` of `queue`; where doorbells are in memory, only if the event index is passed:
    /// section B.5.
    fn ring_one(&mut self, queue: usize, kind: usize, new: u32) {
        let old = core::mem::replace(&mut self.rung[queue][kind], new);
        if old == new {
            return;
        }
        if kind == 1 {
            self.driver.pairs[queue].untold = 0;
        }
        let offset = 8 * queue as u64 + 4 * kind as u64;
        if self.driver.has_buffers && queue != 0 {
            let [doorbells, events] = memory_map::doorbells();
            put(&self.stage.sides, doorbells + offset, &new.to_le_bytes());
            let event = get(&self.stage.sides, events + offset) as u16;
            let (new, old) = (new as u16, old as u16);
            if new.wrapping_sub(event).wrapping_sub(1) >= new.wrapping_sub(old) {
                return;
            }
        }
        self.write(0x1000 + offset as u32, new);
    }

    /// Doorbells in memory from now on.
    fn use_buffers(&mut self) {
        self.driver.use_buffers(&self.stage.sides);
    }
}
