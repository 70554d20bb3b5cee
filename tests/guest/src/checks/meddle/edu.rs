//! QEMU's educational device: a requester that copies where it is told.
//!
//! Owns its registers (QEMU, docs/specs/edu.rst) and the waiting for its engine. Whether what it
//! does is allowed is for others to say.

use std::time::{Duration, Instant};

use super::stretch::Stretch;
use crate::verdict::{Shortfall, ensure};

/// Vendor 1234h, device 11E8h, as the first double word of configuration space.
pub(super) const IDENTITY: u32 = 0x11e8_1234;
/// What its identification register reads: version 1.0, "ed".
pub(super) const ID: u32 = 0x0100_00ed;
/// Bytes of its one base address register.
pub(super) const BAR_BYTES: u64 = 1 << 20;

const LIVENESS: u64 = 0x04;
const RAISE: u64 = 0x60;
const ACKNOWLEDGE: u64 = 0x64;
const SOURCE: u64 = 0x80;
const DESTINATION: u64 = 0x88;
const COUNT: u64 = 0x90;
const COMMAND: u64 = 0x98;
const GO: u64 = 1;
const TO_MEMORY: u64 = 2;
/// Where its buffer of 4096 bytes is, in its own address space.
const BUFFER: u64 = 0x4_0000;

/// What the engine takes at least: QEMU's moves bytes a tenth of a second after it was told.
pub(super) const ENGINE: Duration = Duration::from_millis(90);
const PATIENCE: Duration = Duration::from_secs(20);

/// The registers of one.
#[derive(Debug)]
pub(super) struct Edu {
    base: u64,
    registers: Stretch,
}

impl Edu {
    /// Maps its registers at `base` and checks that it is there.
    pub(super) fn at(base: u64) -> Result<Self, Shortfall> {
        let edu = Self {
            base,
            registers: Stretch::map(base, 0x1000)?,
        };
        let id = edu.id();
        ensure!(
            id == ID,
            "no educational device answers at {base:#x}: {id:#x}"
        );
        ensure!(edu.is_alive(), "the device at {base:#x} inverts nothing");
        Ok(edu)
    }

    /// What its identification register reads.
    pub(super) fn id(&self) -> u32 {
        self.registers.dword(self.base)
    }

    /// Whether its liveness register inverts what is written to it.
    pub(super) fn is_alive(&self) -> bool {
        let at = self.base + LIVENESS;
        [0x1234_5678, 0xedcb_a987].into_iter().all(|word| {
            self.registers.store(at, 4, word);
            self.registers.dword(at) == !(word as u32)
        })
    }

    /// Copies `count` bytes of memory into its buffer, or tries.
    pub(super) fn take(&self, from: u64, count: u64) -> Result<(), Shortfall> {
        self.copy(from, BUFFER, count, GO)
    }

    /// Copies `count` bytes of its buffer to memory, or tries.
    pub(super) fn give(&self, to: u64, count: u64) -> Result<(), Shortfall> {
        self.copy(BUFFER, to, count, GO | TO_MEMORY)
    }

    /// Raises its interrupt, and takes it back.
    pub(super) fn interrupt(&self) {
        self.registers.store(self.base + RAISE, 4, 1);
        self.registers.store(self.base + ACKNOWLEDGE, 4, 1);
    }

    /// Begins to copy `count` bytes of its buffer to memory. [`Edu::finish`] waits for it.
    pub(super) fn begin_to_give(&self, to: u64, count: u64) {
        self.begin(BUFFER, to, count, GO | TO_MEMORY);
    }

    fn copy(&self, from: u64, to: u64, count: u64, command: u64) -> Result<(), Shortfall> {
        self.begin(from, to, count, command);
        self.finish()
    }

    fn begin(&self, from: u64, to: u64, count: u64, command: u64) {
        for (register, value) in [
            (SOURCE, from),
            (DESTINATION, to),
            (COUNT, count),
            (COMMAND, command),
        ] {
            self.registers.store(self.base + register, 8, value);
        }
    }

    /// Waits until its engine is done.
    pub(super) fn finish(&self) -> Result<(), Shortfall> {
        let began = Instant::now();
        while self.registers.load(self.base + COMMAND, 8) & GO != 0 {
            ensure!(
                began.elapsed() < PATIENCE,
                "the engine of the device at {:#x} does not come to an end",
                self.base
            );
            std::thread::sleep(Duration::from_millis(5));
        }
        Ok(())
    }
}
