//! What the controller can do and our pages allow, asked once.

use core::fmt;

use memory::PAGE_SIZE;

use super::Pools;
use super::lists::{LONGEST_TRANSFER, Lists};
use super::queues::MOST_QUEUES;
use super::spec::{Capabilities, Command, ENTRY_BYTES, offset};
use crate::World;

/// Entries of a queue at most, whatever the device can do: what drivers use.
const MOST_ENTRIES: u32 = 1024;
/// Entries of the device's admin queues.
const ADMIN_ENTRIES: u32 = 64;

/// From so many queues on, one pair is ours.
const LEAST_WITH_QUIET: u32 = 4;

/// What the guest is shown, and what the device is given.
#[derive(Clone, Copy, Debug)]
pub(super) struct Limits {
    /// What the guest is shown of CAP.
    pub(super) capabilities: u64,
    /// The version, as the device says it.
    pub(super) version: u32,
    /// Queues of each kind that the guest may create.
    pub(super) queues: u32,
    /// Whether a pair of queues may be ours besides.
    pub(super) has_quiet: bool,
    /// Whether the guest is offered doorbells in memory.
    pub(super) has_buffers: bool,
    /// Entries of a queue that the guest may create.
    pub(super) entries: u32,
    /// Pages of the device's ring of a submission queue at most.
    pub(super) submission_pages: u32,
    /// Pages of the device's ring of a completion queue at most.
    pub(super) completion_pages: u32,
    /// Bytes of one request.
    pub(super) transfer: u32,
    /// Bytes from one of the device's doorbells to the next.
    stride: u32,
}

/// Why a controller cannot be mediated.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Unfit {
    /// Its registers read as ones.
    Absent,
    /// It has no pages of 4 KiB.
    PageSize {
        /// Its smallest pages, as a power of two.
        smallest: u32,
    },
    /// It does not know the NVM command set.
    CommandSet,
    /// Its queues have no room for two entries.
    QueueEntries,
    /// Its doorbells do not lie in its register window.
    Doorbells {
        /// Bytes from one to the next.
        stride: u32,
    },
    /// Its pages do not hold the queues.
    Pages,
    /// There is no room for queues.
    Queues,
    /// There is no room for requests.
    Requests,
}

impl fmt::Display for Unfit {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Absent => write!(f, "its registers read as ones: is it there?"),
            Self::PageSize { smallest } => write!(
                f,
                "its smallest pages have 2^{smallest} bytes, and 4 KiB are needed"
            ),
            Self::CommandSet => write!(f, "it does not say that it knows the NVM command set"),
            Self::QueueEntries => write!(f, "its queues have one entry, and two are needed"),
            Self::Doorbells { stride } => write!(
                f,
                "its doorbells are {stride:#x} bytes apart and leave its register window"
            ),
            Self::Pages => write!(
                f,
                "its pages do not hold a queue each way; give it a larger pool in the policy"
            ),
            Self::Queues => write!(f, "there is no room for a queue besides the admin queue"),
            Self::Requests => write!(f, "there is no room for the least number of requests"),
        }
    }
}

impl Limits {
    pub(super) fn new(pools: &Pools<'_>, queues: usize, world: &impl World) -> Result<Self, Unfit> {
        let low = world.load_register(offset::CAP);
        let high = world.load_register(offset::CAP + 4);
        let version = world.load_register(offset::VS);
        if low == u32::MAX && high == u32::MAX {
            return Err(Unfit::Absent);
        }
        let device = Capabilities(u64::from(high) << 32 | u64::from(low));
        if device.smallest_page() > PAGE_SIZE.ilog2() {
            return Err(Unfit::PageSize {
                smallest: device.smallest_page(),
            });
        }
        if device.0 & Capabilities::NVM_COMMANDS == 0 {
            return Err(Unfit::CommandSet);
        }
        let entries = device.most_entries().min(MOST_ENTRIES);
        if entries < 2 {
            return Err(Unfit::QueueEntries);
        }
        let stride = device.doorbell_stride();
        let pairs = world.window().saturating_sub(offset::DOORBELLS) / stride / 2;
        let to = pools.queues_to.pages();
        let lists = Lists::pages_for(pools.to.pages() + pools.from.pages());
        // The admin queues have a page each way.
        let submission = to.checked_sub(lists + 1).ok_or(Unfit::Pages)?;
        let completion = pools
            .queues_from
            .pages()
            .checked_sub(1)
            .ok_or(Unfit::Pages)?;
        let room = queues.min(MOST_QUEUES) as u32;
        let wanted = room.checked_sub(1).filter(|wanted| *wanted != 0);
        let wanted = wanted.ok_or(Unfit::Queues)?;
        let possible = pairs
            .checked_sub(1)
            .filter(|pairs| *pairs != 0)
            .ok_or(Unfit::Doorbells { stride })?;
        let queues = wanted.min(possible).min(submission).min(completion);
        if queues == 0 {
            return Err(Unfit::Pages);
        }
        // The guest keeps most of few.
        let has_quiet = queues >= LEAST_WITH_QUIET;
        let kept = Capabilities::ARBITRATION | Capabilities::TIMEOUT;
        let shown = u64::from(entries - 1)
            | Capabilities::CONTIGUOUS
            | Capabilities::NVM_COMMANDS
            | device.0 & kept;
        Ok(Self {
            capabilities: shown,
            version,
            queues: queues - u32::from(has_quiet),
            has_quiet,
            has_buffers: true,
            entries,
            submission_pages: submission / queues,
            // One is for the pair's.
            completion_pages: (completion - u32::from(has_quiet)) / queues,
            transfer: longest_transfer(pools).ok_or(Unfit::Pages)?,
            stride,
        })
    }

    /// MDTS that says how long requests may be; section 5.17.2.1.
    pub(super) fn transfer_shift(&self) -> u8 {
        (self.transfer / PAGE_SIZE as u32).ilog2() as u8
    }

    /// The device's doorbell of submission queue `queue`; section 3.1.3.24.
    pub(super) fn submission_doorbell(&self, queue: usize) -> u32 {
        offset::DOORBELLS + 2 * queue as u32 * self.stride
    }

    /// The device's doorbell of completion queue `queue`; section 3.1.3.25.
    pub(super) fn completion_doorbell(&self, queue: usize) -> u32 {
        offset::DOORBELLS + (2 * queue as u32 + 1) * self.stride
    }

    /// Entries and bytes of each of the device's ring for `entries` entries of the guest's.
    pub(super) fn submission_ring(&self, entries: Option<u32>) -> (u32, u32) {
        (self.ring(entries), Command::BYTES)
    }

    /// The same of a completion queue.
    pub(super) fn completion_ring(&self, entries: Option<u32>) -> (u32, u32) {
        (self.ring(entries), ENTRY_BYTES)
    }

    fn ring(&self, entries: Option<u32>) -> u32 {
        entries.map_or(ADMIN_ENTRIES, |entries| entries.min(self.entries))
    }
}

/// What a loan of either direction surely holds wherever it begins in its first page, as MDTS can
/// say it.
fn longest_transfer(pools: &Pools<'_>) -> Option<u32> {
    let pages = pools.to.longest().min(pools.from.longest());
    let whole = pages.checked_sub(1).filter(|whole| *whole != 0)?;
    Some((1 << whole.ilog2()) * PAGE_SIZE as u32).map(|bytes| bytes.min(LONGEST_TRANSFER))
}
