//! The invalidation queue: makes a unit forget.
//!
//! Owns the ring of 256 descriptors, the order and completion of what is in it, and recovery
//! from its errors; implements [`Flush`] for every [`Scope`] there is. Refuses to know why
//! something is stale. `descriptor` beside it encodes, `unit` switches the queue on.

mod descriptor;

use core::fmt;

use memory::{ByteRange, Flush, Frame, Frames, Hpa, Iova, TimedOut};
use pci::Bdf;

use crate::domain::DomainId;
use crate::registers::{FSTS, IQERCD, IQH, IQT, Registers, wait_until};
use crate::spec::registers::{Fsts, Iqa, QueueIndex};
pub(crate) use descriptor::{Abilities, Descriptor};

/// What a unit may still believe.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Scope {
    /// All it ever read: devices, pages, interrupts.
    Everything,
    /// Everything about memory: which device has which domain, and every domain's pages.
    Translations,
    /// One device's entry, and the pages of the domain it was in.
    Device {
        /// The device.
        source: Bdf,
        /// The domain it was in.
        domain: DomainId,
    },
    /// Every page of one domain.
    Domain(DomainId),
    /// Some pages of one domain.
    Pages {
        /// The domain.
        domain: DomainId,
        /// Addresses in it.
        pages: ByteRange<Iova>,
    },
    /// Every interrupt-remapping entry.
    Interrupts,
    /// Some interrupt-remapping entries.
    InterruptEntries {
        /// Index of the first.
        first: u16,
        /// How many, at least one.
        count: u16,
    },
}

/// The queue of one unit: a page of descriptors and a word hardware reports to.
#[derive(Debug)]
pub(crate) struct Queue {
    ring: Frame,
    status: Frame,
    // A ring of 256 and an 8-bit index: the tail cannot name a slot past the last one.
    tail: u8,
    sequence: u32,
    abilities: Abilities,
    tail_writes: u64,
    trouble: Option<Trouble>,
}

/// Why a unit did not forget.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Trouble {
    /// Nothing happened in time.
    TimedOut,
    /// The unit found the descriptor at `slot` wrong, for the reason numbered `information`.
    Rejected {
        /// Index in the ring.
        slot: u8,
        /// The error information of the unit's error record.
        information: u8,
    },
    /// The unit gave up waiting for the device `source`.
    Aborted {
        /// The device that did not answer.
        source: Bdf,
    },
    /// Unfinished descriptors fill the ring.
    Full,
    /// The unit names a slot that is not in the ring.
    Lost,
}

impl fmt::Display for Trouble {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::TimedOut => f.write_str("invalidation queue: the unit did not finish in time"),
            Self::Rejected { slot, information } => write!(
                f,
                "invalidation queue: the unit rejects the descriptor at slot {slot} (error {information:#x})"
            ),
            Self::Aborted { source } => write!(
                f,
                "invalidation queue: device {source} did not answer the unit; reset or remove it"
            ),
            Self::Full => {
                f.write_str("invalidation queue: full of requests the unit never finished")
            }
            Self::Lost => f.write_str("invalidation queue: the unit reads outside the queue"),
        }
    }
}

/// How often a request is submitted before its error is reported: once more after a recovery.
const ATTEMPTS: u32 = 2;

/// What fences and abandoned waits report; never a sequence number.
const NOBODY_WAITS: u32 = 0;

impl Queue {
    /// Makes a queue of two pages of our own, for a unit with these `abilities`.
    pub(crate) fn new(ring: Frame, status: Frame, abilities: Abilities) -> Self {
        Self {
            ring,
            status,
            tail: 0,
            sequence: NOBODY_WAITS,
            abilities,
            tail_writes: 0,
            trouble: None,
        }
    }

    /// How often the unit was asked to do something: stores to its tail register.
    pub(crate) fn tail_writes(&self) -> u64 {
        self.tail_writes
    }

    /// Why the last request that failed did, once.
    pub(crate) fn take_trouble(&mut self) -> Option<Trouble> {
        self.trouble.take()
    }

    /// The value of the queue address register: one page of 128-bit descriptors.
    pub(crate) fn address(&self) -> Iqa {
        let mut address = Iqa(0);
        address.set_iqa(self.ring.base().raw() >> 12);
        address
    }

    fn next_sequence(&mut self) -> u32 {
        self.sequence = self.sequence.wrapping_add(1);
        if self.sequence == NOBODY_WAITS {
            self.sequence = 1;
        }
        self.sequence
    }

    fn fence(&self) -> Descriptor {
        Descriptor::wait(self.status.base(), NOBODY_WAITS)
    }
}

/// A queue with its unit's registers and the memory it is in: able to flush.
#[derive(Debug)]
pub struct Invalidator<'a, R, F> {
    pub(crate) queue: &'a mut Queue,
    pub(crate) registers: &'a mut R,
    pub(crate) frames: &'a mut F,
}

impl<R: Registers, F: Frames> Flush<Scope> for Invalidator<'_, R, F> {
    fn flush(&mut self, scope: &Scope) -> Result<(), TimedOut> {
        self.forget(scope).map_err(|_| TimedOut)
    }
}

impl<R: Registers, F: Frames> Invalidator<'_, R, F> {
    /// Returns once the unit holds nothing of `scope` any more, and requests it had under way
    /// are done where it can drain them.
    pub fn forget(&mut self, scope: &Scope) -> Result<(), Trouble> {
        let can = self.queue.abilities;
        let fence = self.queue.fence();
        let result = match *scope {
            Scope::Everything => self.run(&[
                Descriptor::contexts(),
                fence,
                can.iotlb(),
                Descriptor::interrupts(),
            ]),
            Scope::Translations => self.run(&[Descriptor::contexts(), fence, can.iotlb()]),
            // The context first: an IOTLB entry may be made again from a cached context.
            Scope::Device { source, domain } => self.run(&[
                Descriptor::context(domain, source),
                fence,
                can.iotlb_of(domain),
            ]),
            Scope::Domain(domain) => self.run(&[can.iotlb_of(domain)]),
            Scope::Pages { domain, pages } => self.run(&[can.iotlb_pages(domain, pages)]),
            Scope::Interrupts => self.run(&[Descriptor::interrupts()]),
            Scope::InterruptEntries { first, count } => {
                self.run(&[can.interrupt_entries(first, count)])
            }
        };
        if let Err(trouble) = result {
            self.queue.trouble = Some(trouble);
        }
        result
    }

    fn run(&mut self, batch: &[Descriptor]) -> Result<(), Trouble> {
        let mut result = Ok(());
        for _ in 0..ATTEMPTS {
            result = self.attempt(batch);
            match result {
                Err(Trouble::Rejected { .. } | Trouble::Aborted { .. }) => self.recover()?,
                _ => return result,
            }
        }
        result
    }

    /// Submits `batch` and a wait behind it, and waits for the wait.
    fn attempt(&mut self, batch: &[Descriptor]) -> Result<(), Trouble> {
        let pending = self.queue.tail.wrapping_sub(self.head()?);
        // One slot stays free: a full ring would look empty.
        if usize::from(u8::MAX - pending) < batch.len() + 1 {
            return Err(Trouble::Full);
        }
        let awaited = self.queue.next_sequence();
        let status = self.queue.status.base();
        for descriptor in batch {
            self.push(*descriptor);
        }
        self.push(Descriptor::wait(status, awaited));
        self.ring();

        let is_done = |frames: &F| frames.read(status, 0) & u64::from(u32::MAX) == awaited.into();
        let frames = &*self.frames;
        let finished = wait_until(self.registers, |registers| {
            is_done(frames) || has_stopped(FSTS.read(registers))
        });
        if is_done(self.frames) {
            return Ok(());
        }
        match finished {
            Ok(()) => Err(self.diagnose()),
            Err(TimedOut) => Err(Trouble::TimedOut),
        }
    }

    fn diagnose(&self) -> Trouble {
        let record = IQERCD.read(self.registers);
        if FSTS.read(self.registers).iqe() {
            match self.head() {
                Ok(slot) => Trouble::Rejected {
                    slot,
                    information: record.iqei(),
                },
                Err(lost) => lost,
            }
        } else {
            Trouble::Aborted {
                source: Bdf::from_requester_id(record.itesid()),
            }
        }
    }

    /// Sets a stopped queue going again: whatever it did not finish is replaced by waits nobody
    /// waits for, then the error is cleared and the ring runs empty.
    ///
    /// The unit fetches nothing while its error bits are set, so the slots are ours to change.
    fn recover(&mut self) -> Result<(), Trouble> {
        let idle = self.queue.fence();
        let mut slot = self.head()?;
        while slot != self.queue.tail {
            self.store(slot, idle);
            slot = slot.wrapping_add(1);
        }
        let mut errors = Fsts(0);
        errors.set_iqe(true);
        errors.set_ice(true);
        errors.set_ite(true);
        FSTS.clear(self.registers, errors);
        // The same tail once more: some units look at the ring only when they are told.
        self.ring();
        let tail = u16::from(self.queue.tail);
        wait_until(self.registers, |registers| {
            IQH.read(registers).index() == tail
        })
        .map_err(|TimedOut| Trouble::TimedOut)
    }

    fn push(&mut self, descriptor: Descriptor) {
        self.store(self.queue.tail, descriptor);
        self.queue.tail = self.queue.tail.wrapping_add(1);
    }

    fn store(&mut self, slot: u8, descriptor: Descriptor) {
        let ring: Hpa = self.queue.ring.base();
        let [low, high] = descriptor.words();
        let index = usize::from(slot) * 2;
        self.frames.publish(ring, index + 1, high);
        self.frames.publish(ring, index, low);
    }

    fn ring(&mut self) {
        let mut tail = QueueIndex(0);
        tail.set_index(u16::from(self.queue.tail));
        IQT.write(self.registers, tail);
        self.queue.tail_writes += 1;
    }

    fn head(&self) -> Result<u8, Trouble> {
        u8::try_from(IQH.read(self.registers).index()).map_err(|_| Trouble::Lost)
    }
}

/// Section 6.5.2: with IQE or ITE set, no new descriptors are fetched until software clears it.
fn has_stopped(status: Fsts) -> bool {
    status.iqe() || status.ite()
}

#[cfg(test)]
mod tests;
