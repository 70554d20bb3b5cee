use std::vec;
use std::vec::Vec;

use bounce::rehearsal::{Sides, Touch, most};
use kit::SparseMemory;
use memory::{ByteRange, Gpa, GuestMemory, Iova};
use proptest::prelude::*;

use super::*;
use crate::Notice;
use crate::rehearsal::{Device, Stage};

/// The device, as QEMU has it.
#[derive(Clone, Debug)]
struct Model {
    buffer: Vec<u8>,
    liveness: u32,
    factorial: u32,
    status: u32,
    interrupts: u32,
    source: u64,
    destination: u64,
    count: u64,
    command: u32,
    /// Interrupts that it sent.
    sent: usize,
    /// What it does instead of an honest device's work.
    lie: Lying,
}

#[derive(Clone, Copy, PartialEq, Eq, Debug)]
enum Lying {
    No,
    /// Every register reads as this.
    Always(u32),
    /// It says that it is done, and did nothing.
    Idle,
}

impl Model {
    fn new() -> Self {
        Self {
            buffer: vec![0; 4096],
            liveness: 0,
            factorial: 0,
            status: 0,
            interrupts: 0,
            source: 0,
            destination: 0,
            count: 0,
            command: 0,
            sent: 0,
            lie: Lying::No,
        }
    }

    fn interrupt(&mut self, bits: u32) {
        self.interrupts |= bits;
        self.sent += usize::from(self.interrupts != 0);
    }

    /// Does what it was told, if it was.
    fn work(&mut self, sides: &Sides) {
        if self.command & 1 == 0 {
            return;
        }
        if self.lie == Lying::No {
            let count = self.count as usize;
            if self.command & 2 == 0 {
                let at = (self.destination - 0x4_0000) as usize;
                let place = &mut self.buffer[at..at + count];
                sides
                    .device_reads(Iova::new(self.source), place)
                    .expect("its own pages");
            } else {
                let at = (self.source - 0x4_0000) as usize;
                sides
                    .device_writes(Iova::new(self.destination), &self.buffer[at..at + count])
                    .expect("its own pages");
            }
        }
        self.command &= !1;
        if self.command & 4 != 0 {
            self.interrupt(0x100);
        }
    }
}

impl Device for Model {
    fn load(&mut self, _: &Sides, offset: u32) -> u32 {
        if let Lying::Always(value) = self.lie {
            return value;
        }
        match offset {
            0x00 => 0x0100_00ed,
            0x04 => self.liveness,
            0x08 => self.factorial,
            0x20 => self.status,
            0x24 => self.interrupts,
            0x98 => self.command,
            _ => panic!("nobody needs {offset:#x} of the device"),
        }
    }

    fn store(&mut self, _: &Sides, offset: u32, value: u32) {
        let is_running = self.command & 1 != 0;
        match offset {
            0x04 => self.liveness = !value,
            // From 34 on it is 0 in 32 bits.
            0x08 => self.factorial = (1..=value.min(34)).fold(1, u32::wrapping_mul),
            0x20 => self.status = value & 0x80,
            0x60 => self.interrupt(value),
            0x64 => self.interrupts &= !value,
            0x80 if !is_running => self.source = value.into(),
            0x88 if !is_running => self.destination = value.into(),
            0x90 if !is_running => self.count = value.into(),
            0x98 if !is_running => self.command = value,
            0x80 | 0x88 | 0x90 | 0x98 => {}
            _ => panic!("the device has nothing at {offset:#x}"),
        }
    }
}

const RAM: u64 = 0x10_0000;
const RAM_BYTES: u64 = 0x8000;
const SECRET: u8 = 0xa5;

/// A guest's driver, and the mediator that it knows nothing of.
struct Driver {
    stage: Stage<Model>,
    edu: Edu<'static>,
}

impl Driver {
    fn new() -> Self {
        let ram = ByteRange::new(Gpa::new(RAM), RAM_BYTES).unwrap();
        let guest = SparseMemory::new().with(ram);
        guest
            .write(Gpa::new(RAM), &[SECRET; RAM_BYTES as usize])
            .unwrap();
        let arena = Arena::new(16 * 4096).unwrap();
        let mut stage = Stage::new(Sides::new(arena, guest), Model::new());
        stage.vectors = 1;
        let edu = Edu::new(pages(16), arena, &mut stage).unwrap();
        Self { stage, edu }
    }

    fn read(&mut self, at: u32) -> u32 {
        let mut bytes = [0; 4];
        self.edu.read(&mut self.stage, at, &mut bytes);
        u32::from_le_bytes(bytes)
    }

    fn write(&mut self, at: u32, value: u32) {
        let _ = self.edu.write(&mut self.stage, at, &value.to_le_bytes());
    }

    fn write_quad(&mut self, at: u32, value: u64) {
        let _ = self.edu.write(&mut self.stage, at, &value.to_le_bytes());
    }

    fn program(&mut self, source: u64, destination: u64, count: u64, command: u32) {
        self.write_quad(0x80, source);
        self.write_quad(0x88, destination);
        self.write_quad(0x90, count);
        self.write(0x98, command);
    }

    fn work(&mut self) {
        self.stage.act(Model::work);
    }

    fn look(&mut self) -> Looked {
        self.edu.look(&mut self.stage)
    }

    fn memory(&self, at: u64, len: usize) -> Vec<u8> {
        let mut bytes = vec![0; len];
        self.stage
            .sides
            .guest()
            .read(Gpa::new(at), &mut bytes)
            .unwrap();
        bytes
    }

    fn set(&self, at: u64, bytes: &[u8]) {
        self.stage.sides.guest().write(Gpa::new(at), bytes).unwrap();
    }

    /// All of what the device can read.
    fn readable(&self) -> Vec<u8> {
        self.stage.sides.peek(self.stage.sides.arena().readable())
    }
}

fn pages(count: usize) -> &'static mut [Page] {
    vec![Page::NEW; count].leak()
}

#[test]
fn sixty_four_bytes_in_a_page_of_secrets_go_out_and_come_back_and_no_secret_with_them() {
    let mut driver = Driver::new();
    let sent: Vec<_> = (1..65).collect();
    driver.set(RAM + 0x7c0, &sent);
    driver.program(RAM + 0x7c0, 0x4_0010, 64, 1);
    assert_eq!(driver.read(0x98), 1);
    let seen = driver.readable();
    assert!(
        !seen.contains(&SECRET),
        "a secret is where the device reads"
    );
    assert_eq!(seen.iter().filter(|byte| **byte != 0).count(), 64);
    driver.work();
    assert_eq!(driver.read(0x98), 0);
    assert_eq!(
        driver
            .stage
            .act(|device, _| device.buffer[0x10..0x50].to_vec()),
        sent
    );
    assert!(driver.readable().iter().all(|byte| *byte == 0), "scrubbed");

    driver.program(0x4_0010, RAM + 0x1fe0, 64, 3);
    driver.work();
    assert_eq!(
        driver.memory(RAM + 0x1fe0, 64),
        [SECRET; 64],
        "not before it is asked for"
    );
    assert_eq!(driver.read(0x98), 2);
    assert_eq!(driver.memory(RAM + 0x1fe0, 64), sent);
    assert_eq!(driver.memory(RAM + 0x1fdf, 1), [SECRET]);
    assert_eq!(driver.memory(RAM + 0x2020, 1), [SECRET]);
    let counts = driver.edu.counts();
    assert_eq!(
        (counts.requests, counts.completed, counts.answered),
        (2, 2, 0)
    );
    assert_eq!(
        (counts.bytes_in, counts.bytes_out, counts.interrupts),
        (64, 64, 0)
    );
    assert_eq!(driver.edu.lent_pages(), 0);
}

#[test]
fn the_interrupt_comes_after_the_bytes_and_stays_until_it_is_acknowledged() {
    let mut driver = Driver::new();
    driver.stage.device.get_mut().buffer.fill(7);
    driver.program(0x4_0000, RAM, 16, 7);
    assert_eq!(driver.look(), Looked::Nothing);
    driver.work();
    assert!(driver.stage.raised.is_empty());
    assert_eq!(driver.look(), Looked::Done);
    assert_eq!(
        (driver.memory(RAM, 16), driver.stage.raised.len()),
        (vec![7; 16], 1)
    );
    assert_eq!(driver.read(0x24), 0x100);
    assert_eq!(driver.look(), Looked::Nothing);
    driver.write(0x64, 0x100);
    assert_eq!(driver.read(0x24), 0);
    assert_eq!(driver.stage.raised, [0]);
}

#[test]
fn a_guest_that_polls_the_interrupt_status_finds_the_bytes_there() {
    let mut driver = Driver::new();
    driver.stage.device.get_mut().buffer.fill(7);
    driver.program(0x4_0000, RAM, 16, 7);
    assert_eq!(driver.read(0x24), 0);
    driver.work();
    assert_eq!(driver.read(0x24), 0x100);
    assert_eq!(driver.memory(RAM, 16), [7; 16]);
}

#[test]
fn a_masked_interrupt_is_raised_once_it_is_unmasked() {
    let mut driver = Driver::new();
    driver.stage.is_masked = true;
    driver.program(RAM, 0x4_0000, 16, 5);
    driver.work();
    assert_eq!(driver.look(), Looked::Done);
    assert!(driver.stage.raised.is_empty());
    driver.stage.is_masked = false;
    driver.edu.unmasked(&mut driver.stage, 0);
    driver.edu.unmasked(&mut driver.stage, 0);
    assert_eq!(driver.stage.raised, [0]);
}

#[test]
fn a_guest_reads_back_its_own_addresses_and_never_ours() {
    let mut driver = Driver::new();
    driver.program(0x1_2345_6000 + RAM, 0x4_0000, 1, 0);
    let mut bytes = [0; 8];
    driver.edu.read(&mut driver.stage, 0x80, &mut bytes);
    assert_eq!(u64::from_le_bytes(bytes), 0x1_2345_6000 + RAM);
    assert_eq!(driver.read(0x80), 0x2345_6000 + RAM as u32);
    driver.program(RAM + 4, 0x4_0000, 9, 1);
    assert_eq!(
        [0x80, 0x88, 0x90].map(|at| driver.read(at)),
        [RAM as u32 + 4, 0x4_0000, 9]
    );
}

#[test]
fn what_is_programmed_while_it_runs_is_not_heard() {
    let mut driver = Driver::new();
    driver.program(RAM, 0x4_0000, 16, 1);
    driver.program(RAM + 64, 0x4_0100, 32, 3);
    assert_eq!(
        [0x80, 0x88, 0x90, 0x98].map(|at| driver.read(at)),
        [RAM as u32, 0x4_0000, 16, 1]
    );
    driver.work();
    assert_eq!(driver.read(0x98), 0);
    assert_eq!(driver.edu.counts().requests, 1);
}

#[test]
fn accesses_of_other_widths_and_places_read_as_ones_and_write_nothing() {
    let mut driver = Driver::new();
    for (at, len) in [
        (0, 1),
        (0, 2),
        (0, 8),
        (0x98, 1),
        (0x98, 2),
        (0x81, 4),
        (0x9c, 4),
        (0x5000, 4),
        (0x4_0000, 8),
    ] {
        let mut bytes = vec![0; len];
        driver.edu.read(&mut driver.stage, at, &mut bytes);
        assert_eq!(bytes, vec![0xff; len], "{len} bytes at {at:#x}");
        let _ = driver.edu.write(&mut driver.stage, at, &vec![1; len]);
    }
    assert_eq!(driver.edu.counts(), Counts::default());
    assert_eq!(driver.read(0x98), 0);
}

#[test]
fn what_does_not_move_bytes_is_the_devices_own() {
    let mut driver = Driver::new();
    assert_eq!(driver.read(0x00), 0x0100_00ed);
    driver.write(0x04, 0x1234_5678);
    assert_eq!(driver.read(0x04), !0x1234_5678);
    driver.write(0x08, 5);
    assert_eq!(driver.read(0x08), 120);
    driver.write(0x20, 0x80);
    assert_eq!(driver.read(0x20), 0x80);
    driver.write(0x60, 0x11);
    assert_eq!(driver.look(), Looked::Done);
    assert_eq!((driver.read(0x24), driver.stage.raised.len()), (0x11, 1));
    assert_eq!(driver.look(), Looked::Nothing);
    driver.write(0x64, 0x11);
    assert_eq!(driver.read(0x24), 0);
    driver.write(0x60, 0x100);
    assert_eq!((driver.read(0x24), driver.stage.raised.len()), (0x100, 2));
}

#[test]
fn what_is_no_memory_of_the_guests_is_refused_once_aloud_and_nothing_is_moved() {
    let mut driver = Driver::new();
    driver.stage.device.get_mut().buffer.fill(7);
    let end = RAM + RAM_BYTES;
    for at in [0, 0xfee0_0000, end - 8, u64::MAX - 3, u64::MAX, RAM - 8] {
        for command in [5, 7] {
            let (source, destination) = if command == 5 {
                (at, 0x4_0000)
            } else {
                (0x4_0000, at)
            };
            driver.program(source, destination, 16, command);
            assert_eq!(driver.read(0x98), command & !1, "{at:#x}");
            assert_eq!(driver.read(0x24), 0x100);
            driver.write(0x64, 0x100);
        }
    }
    assert_eq!(
        driver.stage.notices,
        [Notice::RefusedTransfer(Refusal::Memory)]
    );
    assert_eq!(
        (driver.edu.counts().answered, driver.edu.counts().requests),
        (12, 0)
    );
    assert_eq!(driver.memory(end - 8, 8), [SECRET; 8]);
    assert_eq!(driver.edu.lent_pages(), 0);
}

#[test]
fn what_leaves_the_devices_buffer_is_refused() {
    let mut driver = Driver::new();
    let cases = [
        (0x4_0000, 4097),
        (0x4_0fff, 2),
        (0x3_ffff, 1),
        (0x4_1001, 0),
        (0, 1),
        (u64::MAX, u64::MAX),
        (0x4_0000, u64::MAX),
    ];
    for (buffer, count) in cases {
        driver.program(RAM, buffer, count, 1);
        assert_eq!(driver.read(0x98), 0);
        driver.program(buffer, RAM, count, 3);
        assert_eq!(driver.read(0x98), 2);
    }
    assert_eq!(
        driver.stage.notices,
        [Notice::RefusedTransfer(Refusal::Buffer)]
    );
    assert_eq!(driver.edu.counts().requests, 0);
    driver.program(RAM + 1, 0x4_0000, 4096, 1);
    driver.work();
    assert_eq!(driver.read(0x98), 0);
    assert_eq!(driver.edu.counts().bytes_in, 4096);
}

#[test]
fn a_transfer_of_nothing_is_over_at_once() {
    let mut driver = Driver::new();
    driver.program(0, 0x4_0000, 0, 5);
    assert_eq!((driver.read(0x98), driver.read(0x24)), (4, 0x100));
    assert_eq!(driver.stage.raised, [0]);
    assert!(driver.stage.notices.is_empty());
}

#[test]
fn memory_that_goes_away_before_the_bytes_come_is_not_written() {
    let mut driver = Driver::new();
    driver.program(0x4_0000, RAM + RAM_BYTES - 8, 8, 3);
    let guest = SparseMemory::new().with(ByteRange::new(Gpa::new(RAM), 0x1000).unwrap());
    let arena = driver.stage.sides.arena();
    driver.stage.sides = Sides::new(arena, guest);
    driver.work();
    assert_eq!(driver.read(0x98), 2);
    assert_eq!(
        driver.stage.notices,
        [Notice::RefusedTransfer(Refusal::Memory)]
    );
    assert_eq!(
        (driver.edu.counts().bytes_out, driver.edu.lent_pages()),
        (0, 0)
    );
}

#[test]
fn a_device_that_never_finishes_keeps_one_loan_and_the_guest_waits_as_ever() {
    let mut driver = Driver::new();
    driver.program(RAM, 0x4_0000, 16, 5);
    for _ in 0..100 {
        assert_eq!(driver.read(0x98), 5);
        assert_eq!(driver.look(), Looked::Nothing);
        driver.program(RAM, 0x4_0000, 16, 5);
    }
    assert_eq!(driver.edu.lent_pages(), 1);
    driver.edu.forget(&mut driver.stage);
    assert_eq!(driver.edu.lent_pages(), 0);
    assert!(driver.readable().iter().all(|byte| *byte == 0));
}

#[test]
fn a_request_waits_for_a_device_that_still_works_on_what_was_forgotten() {
    let mut driver = Driver::new();
    driver.program(RAM, 0x4_0000, 16, 1);
    driver.edu.forget(&mut driver.stage);
    driver.stage.act(|device, _| device.lie = Lying::Idle);
    driver.program(RAM + 64, 0x4_0000, 16, 1);
    assert_eq!(driver.read(0x98), 1);
    assert_eq!(
        (driver.edu.counts().requests, driver.edu.lent_pages()),
        (1, 0)
    );
    driver.work();
    driver.stage.act(|device, _| device.lie = Lying::No);
    assert_eq!(driver.read(0x98), 1);
    driver.work();
    assert_eq!(driver.read(0x98), 0);
    assert_eq!(driver.edu.counts().requests, 2);
}

#[test]
fn a_device_that_finishes_twice_is_heard_once() {
    let mut driver = Driver::new();
    driver.program(0x4_0000, RAM, 16, 7);
    driver.work();
    assert_eq!(driver.look(), Looked::Done);
    driver.write(0x64, 0x100);
    driver.set(RAM, &[1; 16]);
    driver.stage.act(|device, sides| {
        sides.device_scribbles(0xee);
        device.interrupt(0x100);
    });
    assert_eq!(driver.look(), Looked::Nothing);
    assert_eq!((driver.read(0x24), driver.stage.raised.len()), (0, 1));
    assert_eq!(driver.memory(RAM, 16), [1; 16]);
}

#[test]
fn a_device_that_says_it_is_done_and_wrote_nothing_gives_zeros_and_no_old_bytes() {
    let mut driver = Driver::new();
    driver.stage.device.get_mut().buffer.fill(0x5e);
    driver.program(0x4_0000, RAM, 64, 3);
    driver.work();
    assert_eq!(driver.read(0x98), 2);
    driver.stage.act(|device, _| device.lie = Lying::Idle);
    driver.program(0x4_0000, RAM + 0x1000, 64, 3);
    driver.work();
    assert_eq!(driver.read(0x98), 2);
    assert_eq!(driver.memory(RAM + 0x1000, 64), [0; 64]);
}

#[test]
fn a_device_that_is_gone_is_not_done() {
    let mut driver = Driver::new();
    driver.program(0x4_0000, RAM, 64, 3);
    driver
        .stage
        .act(|device, _| device.lie = Lying::Always(u32::MAX));
    assert_eq!(driver.read(0x98), 3);
    assert_eq!(driver.memory(RAM, 64), [SECRET; 64]);
    assert_eq!(driver.edu.lent_pages(), 1);
}

#[test]
fn another_device_and_pages_out_of_its_reach_are_refused() {
    let arena = Arena::new(16 * 4096).unwrap();
    let mut model = Model::new();
    model.lie = Lying::Always(0x1b36_0010);
    let mut stage = Stage::new(Sides::new(arena, SparseMemory::new()), model);
    let refused = Edu::new(pages(16), arena, &mut stage).unwrap_err();
    assert_eq!(refused, Unfit::Identity { said: 0x1b36_0010 });
    let arena = Arena::new(256 << 20).unwrap();
    let mut stage = Stage::new(
        Sides::new(Arena::new(1 << 16).unwrap(), SparseMemory::new()),
        Model::new(),
    );
    let refused = Edu::new(pages(65536), arena, &mut stage).unwrap_err();
    assert_eq!(refused, Unfit::Pages);
}

/// Anything that guest and device may do.
#[derive(Clone, Debug)]
enum Deed {
    Read(u32, usize),
    Write(u32, Vec<u8>),
    Program {
        memory: u64,
        buffer: u64,
        count: u64,
        command: u32,
    },
    Work,
    Scribble(u8),
    Interrupt(u32),
    Lie(Lying),
    Look,
    Forget,
}

fn deeds() -> impl Strategy<Value = Deed> {
    let at = prop_oneof![
        prop::sample::select(vec![
            0_u32, 4, 8, 0x20, 0x24, 0x60, 0x64, 0x80, 0x84, 0x88, 0x90, 0x98
        ]),
        any::<u32>(),
    ];
    let lies = prop_oneof![
        3 => Just(Lying::No),
        1 => Just(Lying::Idle),
        1 => any::<u32>().prop_map(Lying::Always),
    ];
    prop_oneof![
        2 => (at.clone(), 1_usize..9).prop_map(|(at, len)| Deed::Read(at, len)),
        1 => (at, prop::collection::vec(any::<u8>(), 1..9)).prop_map(|(at, bytes)| Deed::Write(at, bytes)),
        6 => (
            prop_oneof![8 => RAM - 16..RAM + RAM_BYTES, 1 => any::<u64>()],
            prop_oneof![8 => 0x4_0000_u64..0x4_1004, 1 => any::<u64>()],
            prop_oneof![8 => 0_u64..300, 2 => 4000_u64..4100, 1 => any::<u64>()],
            0_u32..8,
        )
            .prop_map(|(memory, buffer, count, command)| Deed::Program { memory, buffer, count, command }),
        6 => Just(Deed::Work),
        1 => any::<u8>().prop_map(Deed::Scribble),
        1 => any::<u32>().prop_map(Deed::Interrupt),
        1 => lies.prop_map(Deed::Lie),
        4 => Just(Deed::Look),
        1 => Just(Deed::Forget),
    ]
}

proptest! {
    #[test]
    fn whatever_guest_and_device_do_only_bytes_of_requests_are_copied(
        deeds in prop::collection::vec(deeds(), 1..60),
    ) {
        let mut driver = Driver::new();
        driver.stage.sides.guest_is_restless(true);
        let mut lent_for = None;
        for deed in deeds {
            match deed {
                Deed::Read(at, len) => driver.edu.read(&mut driver.stage, at, &mut vec![0; len]),
                Deed::Write(at, bytes) => {
                    let _ = driver.edu.write(&mut driver.stage, at, &bytes);
                }
                Deed::Program { memory, buffer, count, command } => {
                    let (source, destination) = if command & 2 == 0 { (memory, buffer) } else { (buffer, memory) };
                    driver.program(source, destination, count, command);
                }
                Deed::Work => driver.work(),
                Deed::Scribble(byte) => driver.stage.sides.device_scribbles(byte),
                Deed::Interrupt(bits) => driver.stage.act(|device, _| device.interrupt(bits)),
                Deed::Lie(lie) => driver.stage.act(|device, _| device.lie = lie),
                Deed::Look => drop(driver.look()),
                Deed::Forget => driver.edu.forget(&mut driver.stage),
            }
            // What is programmed, and heard, is what may be touched.
            let mut programmed = [0_u64; 3];
            for (value, at) in programmed.iter_mut().zip([0x80, 0x88, 0x90]) {
                let mut bytes = [0; 8];
                driver.edu.read(&mut driver.stage, at, &mut bytes);
                *value = u64::from_le_bytes(bytes);
            }
            let [source, destination, count] = programmed;
            let now = [source, destination].map(|at| ByteRange::new(Gpa::new(at), count));
            let touches = driver.stage.sides.touches();
            for touch in &touches {
                if let Some(range) = touch.fetched() {
                    prop_assert!(now[0].is_some_and(|bytes| bytes.covers(&range)), "{touch:?}");
                }
                if let Some(range) = touch.written() {
                    let may = now[1].is_some_and(|bytes| bytes.covers(&range))
                        || lent_for.is_some_and(|bytes: ByteRange<Gpa>| bytes.covers(&range));
                    prop_assert!(may, "{touch:?}");
                }
            }
            lent_for = now[1];
            prop_assert!(most(touches.iter().filter_map(Touch::fetched)) <= 1);
            prop_assert!(driver.edu.lent_pages() <= 2);
        }
        driver.edu.forget(&mut driver.stage);
        prop_assert_eq!(driver.edu.lent_pages(), 0);
        prop_assert!(driver.readable().iter().all(|byte| *byte == 0), "all scrubbed");
        prop_assert!(driver.stage.notices.len() <= 2);
    }
}
