//! The invalidation queue: what the guest wants forgotten, in order.
//!
//! Owns the reading of descriptors (section 6.5.2) and the order in which work is given out: what
//! stands before a wait is done by whoever holds the devices before the wait's status is written.
//! One descriptor is fetched at a time, once; how many one exit serves is bounded by its caller.

use memory::{Gpa, GuestMemory};
use vtd::spec::invalidation::{
    AnyLow, ContextCacheLow, InterruptEntryLow, IotlbHigh, IotlbLow, SIZE, WaitLow, granularity,
    kind,
};
use vtd::spec::registers::{Iqa, QueueIndex};

use crate::capability::{LARGEST_INDEX_MASK, LARGEST_MASK};
use crate::{Entries, Mode};

/// What the devices' caches must forget.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Scope {
    /// Which device has which domain.
    Contexts,
    /// The same of one domain.
    ContextsOf(u16),
    /// The same of the devices whose source id is this, but for the bits of the mask.
    Device {
        /// The source id.
        source: u16,
        /// Its bits that do not count.
        mask: u16,
    },
    /// Every page of every device.
    Pages,
    /// Every page of one domain.
    PagesOf(u16),
    /// 2^mask pages of one domain.
    Run {
        /// The domain.
        domain: u16,
        /// The number of the first page, aligned to as many.
        first: u64,
        /// How many.
        mask: u8,
    },
}

/// What is to be done for the unit before it goes on.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Work {
    /// Every device's addresses mean something else from here on.
    Switch(Mode),
    /// Every device forgets this, and what it has under way by it is over.
    Forget(Scope),
    /// These interrupt entries are read again.
    Interrupts(Entries),
}

/// What one descriptor asks for.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) enum Asked {
    /// Work.
    Work(Work),
    /// To write this there, and to raise the completion event.
    Wait {
        status: Option<(Gpa, u32)>,
        has_event: bool,
    },
}

/// What is wrong with a descriptor: field IQEI of the error record.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) struct Error(pub(crate) u8);

impl Error {
    /// The tail is beyond the queue.
    pub(crate) const TAIL: Self = Self(1);
    /// The descriptor could not be fetched.
    const UNREACHABLE: Self = Self(2);
    /// There is no such type.
    const TYPE: Self = Self(3);
    /// Reserved bits are set.
    const RESERVED: Self = Self(4);
}

/// The queue's registers.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Queue {
    pub(crate) address: Iqa,
    pub(crate) tail: QueueIndex,
    pub(crate) head: u16,
}

impl Queue {
    pub(crate) const NEW: Self = Self {
        address: Iqa(0),
        tail: QueueIndex(0),
        head: 0,
    };

    /// Descriptors there is room for.
    fn room(&self) -> u32 {
        256 << self.address.qs()
    }

    pub(crate) fn is_empty(&self) -> bool {
        self.head == self.tail.index()
    }

    /// Whether the tail is one of this queue.
    pub(crate) fn has_tail(&self) -> bool {
        u32::from(self.tail.index()) < self.room() && self.tail.0 & !0x7_fff0 == 0
    }

    /// Reads the descriptor at the head.
    pub(crate) fn fetch(&self, memory: &impl GuestMemory) -> Result<Asked, Error> {
        if !self.has_tail() {
            return Err(Error::TAIL);
        }
        let base = Gpa::new(self.address.iqa() << 12);
        let at = base.checked_add(u64::from(self.head) * SIZE as u64);
        let words = at.and_then(|at| {
            let low = memory.read_u64(at).ok()?;
            Some((low, memory.read_u64(at.checked_add(8)?).ok()?))
        });
        let (low, high) = words.ok_or(Error::UNREACHABLE)?;
        read(low, high)
    }

    /// The descriptor at the head is done with.
    pub(crate) fn advance(&mut self) {
        let next = u32::from(self.head) + 1;
        self.head = if next >= self.room() { 0 } else { next as u16 };
    }
}

fn read(low: u64, high: u64) -> Result<Asked, Error> {
    let any = AnyLow(low);
    if any.kind_high() != 0 {
        return Err(Error::TYPE);
    }
    match any.kind() {
        kind::CONTEXT_CACHE => {
            let fields = ContextCacheLow(low);
            let scope = contexts(fields.g(), fields.did(), fields.sid(), fields.fm());
            let is_clean = low & 0xfffc_0000_0000_f1c0 == 0 && high == 0;
            let scope = scope.filter(|_| is_clean).ok_or(Error::RESERVED)?;
            Ok(Asked::Work(Work::Forget(scope)))
        }
        kind::IOTLB => {
            let fields = IotlbLow(low);
            let (g, domain) = (fields.g(), fields.did());
            let is_clean = low & 0xffff_ffff_0000_f100 == 0;
            // Bits 127:64 mean something for single pages only.
            let high = if g == granularity::SELECTIVE { high } else { 0 };
            let scope = pages(g, domain, high);
            let scope = scope.filter(|_| is_clean && high & 0xf80 == 0);
            Ok(Asked::Work(Work::Forget(scope.ok_or(Error::RESERVED)?)))
        }
        kind::INTERRUPT_ENTRY => {
            let fields = InterruptEntryLow(low);
            let entries = if fields.g() {
                let mask = fields.im();
                (mask <= LARGEST_INDEX_MASK).then_some(Entries {
                    first: fields.iidx(),
                    mask,
                })
            } else {
                Some(Entries::ALL)
            };
            let is_clean = low & 0xffff_0000_07ff_f1e0 == 0 && high == 0;
            let entries = entries.filter(|_| is_clean).ok_or(Error::RESERVED)?;
            Ok(Asked::Work(Work::Interrupts(entries)))
        }
        kind::WAIT => {
            let fields = WaitLow(low);
            let is_clean = low & 0xffff_f180 == 0 && high & 0b11 == 0;
            if !is_clean {
                return Err(Error::RESERVED);
            }
            Ok(Asked::Wait {
                status: fields.sw().then_some((Gpa::new(high), fields.status())),
                has_event: fields.iflag(),
            })
        }
        _ => Err(Error::TYPE),
    }
}

/// What a context-cache invalidation of this granularity names.
pub(crate) fn contexts(g: u8, domain: u16, source: u16, function_mask: u8) -> Option<Scope> {
    match g {
        granularity::GLOBAL => Some(Scope::Contexts),
        granularity::DOMAIN => Some(Scope::ContextsOf(domain)),
        granularity::SELECTIVE => Some(Scope::Device {
            source,
            mask: match function_mask {
                0b00 => 0,
                0b01 => 0b100,
                0b10 => 0b110,
                _ => 0b111,
            },
        }),
        _ => None,
    }
}

/// What an IOTLB invalidation of this granularity names; `address` is bits 127:64 of a descriptor, or
/// the invalidate address register, which has the same fields.
pub(crate) fn pages(g: u8, domain: u16, address: u64) -> Option<Scope> {
    match g {
        granularity::GLOBAL => Some(Scope::Pages),
        granularity::DOMAIN => Some(Scope::PagesOf(domain)),
        granularity::SELECTIVE => {
            let fields = IotlbHigh(address);
            let mask = fields.am();
            (mask <= LARGEST_MASK).then_some(Scope::Run {
                domain,
                first: fields.address() >> mask << mask,
                mask,
            })
        }
        _ => None,
    }
}
