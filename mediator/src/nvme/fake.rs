//! A machine for tests: an honest controller, a small driver, and memory of both.

extern crate std;

mod device;
mod driver;
mod world;

use std::cell::RefCell;
use std::collections::{BTreeMap, VecDeque};
use std::vec;
use std::vec::Vec;

use bounce::Arena;
use memory::{ByteRange, Gpa, Iova};

pub(super) use self::driver::{BUFFERS, Driver, blocks, command, storage};
use crate::{Lie, Notice, Reach};

/// Bytes of the guest's memory, from address 0.
const MEMORY: usize = 4 << 20;
/// Bytes of a block of namespace 1.
pub(crate) const BLOCK: usize = 512;

/// A queue as the device knows it.
#[derive(Clone, Copy, Default, Debug)]
pub(crate) struct DeviceQueue {
    pub(crate) base: u64,
    pub(crate) entries: u32,
    pub(crate) at: u32,
    pub(crate) doorbell: u32,
    pub(crate) phase: bool,
    pub(crate) completion: usize,
    pub(crate) is_there: bool,
}

/// A request that the device fetched.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Fetched {
    pub(crate) queue: usize,
    pub(crate) words: [u32; 16],
}

/// The machine around the mediator.
pub(crate) struct Fake {
    pub(crate) guest: RefCell<Vec<u8>>,
    /// What is not the guest's memory.
    pub(crate) hole: Option<ByteRange<Gpa>>,
    arena: Arena,
    pub(crate) pages: Vec<u8>,
    pub(crate) capabilities: u64,
    pub(crate) cc: u32,
    pub(crate) is_ready: bool,
    aqa: u32,
    asq: u64,
    acq: u64,
    pub(crate) submissions: Vec<DeviceQueue>,
    pub(crate) completions: Vec<DeviceQueue>,
    /// What the device was given and has not begun with.
    pub(crate) given: VecDeque<Fetched>,
    /// What is behind each page of the window.
    pub(crate) mapped: BTreeMap<u64, Reach>,
    /// Requests for events.
    pub(crate) events: VecDeque<Fetched>,
    pub(crate) disk: Vec<u8>,
    /// What it says of namespace 1 besides.
    pub(crate) metadata: u8,
    /// FLBAS and NLBAF.
    pub(crate) format: u8,
    pub(crate) last_format: u8,
    /// Whether its registers read as ones.
    pub(crate) is_gone: bool,
    pub(crate) raised: Vec<u16>,
    pub(crate) is_masked: bool,
    /// Whether the guest has no interrupt of the device's.
    pub(crate) is_mute: bool,
    /// How often the mediator may linger; at the last time the device works.
    pub(crate) patience: u32,
    pub(crate) notices: Vec<Notice>,
    /// What the version register says.
    pub(crate) version: u32,
    pub(crate) lie: Option<Lie>,
    /// Accesses of doorbells of the device.
    pub(crate) rung: usize,
}

impl Fake {
    pub(crate) fn new(bytes: u64) -> Self {
        let arena = Arena::new(bytes).expect("a size of an arena");
        Self {
            guest: RefCell::new(vec![0xee; MEMORY]),
            hole: None,
            arena,
            pages: vec![0; arena.bytes() as usize],
            // 2048 entries, a doorbell stride of 8 bytes, the NVM command set.
            capabilities: 2047 | 20 << 24 | 1 << 32 | 1 << 37 | 0xff << 52,
            cc: 0,
            is_ready: false,
            aqa: 0,
            asq: 0,
            acq: 0,
            submissions: vec![DeviceQueue::default(); 64],
            completions: vec![DeviceQueue::default(); 64],
            given: VecDeque::new(),
            mapped: BTreeMap::new(),
            events: VecDeque::new(),
            disk: disk(),
            metadata: 0,
            format: 0,
            last_format: 1,
            is_gone: false,
            raised: Vec::new(),
            is_masked: false,
            is_mute: false,
            patience: 0,
            notices: Vec::new(),
            version: 0x0002_0000,
            lie: None,
            rung: 0,
        }
    }

    pub(crate) fn arena(&self) -> Arena {
        self.arena
    }
}

/// 1 MiB of which no two blocks near each other are the same.
fn disk() -> Vec<u8> {
    let pattern: Vec<u8> = (0..7 * 251).map(|at: u32| (at / 7) as u8).collect();
    let mut disk = pattern.repeat((1 << 20) / pattern.len() + 1);
    disk.truncate(1 << 20);
    disk
}

/// Where the guest's pages are mapped: 1 MiB.
fn window() -> ByteRange<Iova> {
    ByteRange::new(Iova::new(0x1000_0000), 1 << 20).expect("pages")
}
