//! Interrupt remapping: only vectors we issued, only from the device we issued them to.
//!
//! Owns one unit's interrupt-remapping table: who may use which entries, how many, and in which
//! order an entry changes under a unit that may be reading it. Refuses to know what a guest
//! asked for in which format (`request`), and when caches are flushed (`invalidate`).
//!
//! An entry's life is kept in the entry itself: *free* is all zeros; *issued* names its device
//! in the high word and is marked in bits that hardware leaves to software; *live* is present;
//! *leaving* is marked, not present, and not free until caches have forgotten it. The high word
//! changes only while the entry is not present, so that every change of a live entry is one
//! store of the low word.

mod request;

use core::fmt;

use memory::{Flushed, Frame, Frames, Hpa, PAGE_SIZE, Stale};
use pci::Bdf;

use crate::invalidate::Scope;
use crate::spec::interrupt::{ADDRESS_PREFIX, RemappableAddress, RemappableRedirection};
use crate::spec::irte::{IrteHigh, IrteLow, SIZE, svt};
use crate::spec::registers::Irta;
pub use request::{Delivery, Destination, Objection, Polarity, Route, Trigger};

/// Entries in one page of table.
const ENTRIES_PER_PAGE: u16 = (PAGE_SIZE as usize / SIZE) as u16;

/// The most entries issued at once: what one MSI capability can ask for.
pub const LONGEST_BLOCK: u16 = 32;

/// Software's marks in an entry.
const ISSUED: u8 = 1;
const LEAVING: u8 = 2;

/// How wide the destinations of a table are.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Destinations {
    /// 8-bit xAPIC ids.
    Narrow,
    /// 32-bit x2APIC ids (extended interrupt mode).
    Wide,
}

/// The table of one unit.
#[derive(Debug)]
pub struct InterruptTable {
    base: Hpa,
    pages: u16,
    destinations: Destinations,
}

/// Entries issued to one device. Whoever holds it may route them; it goes back by way of
/// [`InterruptTable::retire`].
#[derive(PartialEq, Eq, Debug)]
pub struct Block {
    source: Bdf,
    first: u16,
    count: u16,
}

/// Entries taken back, which caches may still know.
#[must_use = "entries of a retired block are lost to the table unless released"]
#[derive(PartialEq, Eq, Debug)]
pub struct RetiredBlock(Block);

/// What a device writes where to raise an interrupt.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Message {
    /// Address of the write.
    pub address: u64,
    /// Double word written.
    pub data: u32,
}

/// The pages handed over are no table: not 1, 2, 4 … 256 pages, one behind the other, the first
/// aligned to 4 KiB.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct NotATable;

/// Why entries were not issued or not routed.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Refusal {
    /// The device has as many entries as it may.
    Quota {
        /// The device.
        source: Bdf,
        /// How many it has.
        held: u16,
        /// How many it may have.
        quota: u16,
    },
    /// A block of none, or of more than [`LONGEST_BLOCK`].
    Count(u16),
    /// No run of free entries is long enough.
    Full,
    /// The block has fewer entries.
    Outside(u16),
    /// The destination does not fit a table of 8-bit destinations.
    Destination(u32),
}

impl fmt::Display for Refusal {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Quota {
                source,
                held,
                quota,
            } => write!(
                f,
                "device {source} has {held} interrupts and may have {quota}; it gets no more"
            ),
            Self::Count(count) => write!(f, "no device may ask for {count} interrupts at once"),
            Self::Full => f.write_str("the interrupt-remapping table is full"),
            Self::Outside(number) => write!(f, "interrupt {number} was not issued"),
            Self::Destination(id) => write!(
                f,
                "processor {id:#x} cannot be reached by interrupts without x2APIC mode"
            ),
        }
    }
}

impl InterruptTable {
    /// Makes a table of `pages`, in which no interrupt passes.
    pub fn new(
        pages: impl IntoIterator<Item = Frame>,
        destinations: Destinations,
    ) -> Result<Self, NotATable> {
        let mut pages = pages.into_iter();
        let base = pages.next().ok_or(NotATable)?.base();
        let mut count: u16 = 1;
        for page in pages {
            let expected = base.checked_add(u64::from(count) * PAGE_SIZE);
            if Some(page.base()) != expected || count == 256 {
                return Err(NotATable);
            }
            count += 1;
        }
        if !count.is_power_of_two() {
            return Err(NotATable);
        }
        Ok(Self {
            base,
            pages: count,
            destinations,
        })
    }

    /// How many entries the table has.
    pub fn entries(&self) -> u32 {
        u32::from(self.pages) * u32::from(ENTRIES_PER_PAGE)
    }

    /// Issues `count` neighbouring entries to `source`, which may have `quota` at most. The
    /// first one's index is a multiple of the power of two that `count` needs.
    pub fn issue(
        &mut self,
        frames: &mut impl Frames,
        source: Bdf,
        count: u16,
        quota: u16,
    ) -> Result<Block, Refusal> {
        if count == 0 || count > LONGEST_BLOCK {
            return Err(Refusal::Count(count));
        }
        let held = self.held_by(frames, source);
        if held.saturating_add(count) > quota {
            return Err(Refusal::Quota {
                source,
                held,
                quota,
            });
        }
        let stride = usize::from(count.next_power_of_two());
        let first = self
            .indices()
            .step_by(stride)
            .find(|&first| (first..=first + (count - 1)).all(|index| self.is_free(frames, index)))
            .ok_or(Refusal::Full)?;
        let block = Block {
            source,
            first,
            count,
        };
        for index in block.indices() {
            let (table, word) = self.words_of(index);
            frames.publish(table, word + 1, verified(source).0);
            frames.publish(table, word, marked(ISSUED).0);
        }
        Ok(block)
    }

    /// Sends interrupt `number` of `block` along `route` from the next one on.
    ///
    /// One store: the unit sees the old route or the new one. The debt is due before the device
    /// may rely on the new route.
    pub fn route(
        &mut self,
        frames: &mut impl Frames,
        block: &Block,
        number: u16,
        route: Route,
    ) -> Result<Stale<Scope>, Refusal> {
        let index = block.index(number).ok_or(Refusal::Outside(number))?;
        let destination = match self.destinations {
            Destinations::Wide => route.destination().id(),
            Destinations::Narrow => u8::try_from(route.destination().id())
                .map(|id| u32::from(id) << 8)
                .map_err(|_| Refusal::Destination(route.destination().id()))?,
        };
        let mut low = marked(ISSUED);
        low.set_p(true);
        low.set_dm(route.destination().is_logical());
        low.set_rh(route.destination().is_hint());
        low.set_tm(route.trigger() == Trigger::Level);
        low.set_dlm(route.delivery_mode());
        low.set_v(route.vector());
        low.set_dst(destination);
        Ok(self.store(frames, index, low))
    }

    /// Lets no interrupt `number` of `block` through.
    pub fn silence(
        &mut self,
        frames: &mut impl Frames,
        block: &Block,
        number: u16,
    ) -> Result<Stale<Scope>, Refusal> {
        let index = block.index(number).ok_or(Refusal::Outside(number))?;
        Ok(self.store(frames, index, marked(ISSUED)))
    }

    /// Takes a block back. Its entries are free once the debt is settled and the block
    /// [`Self::release`]d.
    pub fn retire(
        &mut self,
        frames: &mut impl Frames,
        block: Block,
    ) -> (RetiredBlock, Stale<Scope>) {
        for index in block.indices() {
            let (table, word) = self.words_of(index);
            frames.publish(table, word, marked(LEAVING).0);
        }
        let scope = Scope::InterruptEntries {
            first: block.first,
            count: block.count,
        };
        (RetiredBlock(block), Stale::new(scope))
    }

    /// Frees the entries of a retired block. `proof` is of the flush its retirement asked for.
    pub fn release(
        &mut self,
        frames: &mut impl Frames,
        RetiredBlock(block): RetiredBlock,
        _proof: &Flushed,
    ) {
        for index in block.indices() {
            let (table, word) = self.words_of(index);
            frames.publish(table, word + 1, 0);
            frames.publish(table, word, 0);
        }
    }

    /// The value of the table address register.
    pub(crate) fn address(&self) -> Irta {
        let mut address = Irta(0);
        // 2^(S+1) entries.
        address.set_s((self.entries().trailing_zeros() - 1) as u8);
        address.set_eime(self.destinations == Destinations::Wide);
        address.set_irta(self.base.raw() >> 12);
        address
    }

    fn held_by(&self, frames: &impl Frames, source: Bdf) -> u16 {
        let held = self.indices().filter(|&index| {
            let (table, word) = self.words_of(index);
            IrteLow(frames.read(table, word)).avail() != 0
                && IrteHigh(frames.read(table, word + 1)).sid() == source.requester_id()
        });
        u16::try_from(held.count()).unwrap_or(u16::MAX)
    }

    fn is_free(&self, frames: &impl Frames, index: u16) -> bool {
        let (table, word) = self.words_of(index);
        frames.read(table, word) == 0 && frames.read(table, word + 1) == 0
    }

    fn store(&self, frames: &mut impl Frames, index: u16, low: IrteLow) -> Stale<Scope> {
        let (table, word) = self.words_of(index);
        frames.publish(table, word, low.0);
        Stale::new(Scope::InterruptEntries {
            first: index,
            count: 1,
        })
    }

    fn indices(&self) -> impl Iterator<Item = u16> + use<> {
        0..=(self.entries() - 1) as u16
    }

    /// The page and the word of it where entry `index` starts.
    fn words_of(&self, index: u16) -> (Hpa, usize) {
        let page = u64::from(index / ENTRIES_PER_PAGE) * PAGE_SIZE;
        let table = Hpa::new(self.base.raw() + page);
        (table, usize::from(index % ENTRIES_PER_PAGE) * 2)
    }
}

impl Block {
    /// The device it was issued to.
    pub fn source(&self) -> Bdf {
        self.source
    }

    /// How many interrupts it has.
    pub fn count(&self) -> u16 {
        self.count
    }

    /// What the device writes to raise interrupt `number` alone, as for one MSI-X entry. `None`
    /// beyond the block.
    pub fn message(&self, number: u16) -> Option<Message> {
        let handle = self.index(number)?;
        Some(message(handle, SubHandle::Ignored))
    }

    /// What the device writes to raise interrupt 0, and, with n added to the data, interrupt n:
    /// for an MSI capability with several messages.
    pub fn messages(&self) -> Message {
        message(self.first, SubHandle::Added)
    }

    /// The redirection entry of the I/O APIC pin that raises interrupt `number`, unmasked.
    /// `route` is where the entry was routed: vector and trigger mode must agree (section
    /// 5.1.5.1). `None` beyond the block.
    pub fn redirection(
        &self,
        number: u16,
        route: Route,
        polarity: Polarity,
    ) -> Option<RemappableRedirection> {
        let handle = self.index(number)?;
        let mut entry = RemappableRedirection(0);
        entry.set_format(true);
        entry.set_handle_14_0(handle & 0x7fff);
        entry.set_handle_15(handle >> 15 != 0);
        entry.set_vector(route.vector());
        entry.set_tm(route.trigger() == Trigger::Level);
        entry.set_polarity(polarity == Polarity::ActiveLow);
        Some(entry)
    }

    fn index(&self, number: u16) -> Option<u16> {
        (number < self.count).then(|| self.first + number)
    }

    fn indices(&self) -> impl Iterator<Item = u16> + use<> {
        self.first..=self.first + (self.count - 1)
    }
}

#[derive(Clone, Copy, PartialEq, Eq)]
enum SubHandle {
    Ignored,
    Added,
}

fn message(handle: u16, sub_handle: SubHandle) -> Message {
    let mut address = RemappableAddress(0);
    address.set_prefix(ADDRESS_PREFIX);
    address.set_format(true);
    address.set_shv(sub_handle == SubHandle::Added);
    address.set_handle_14_0(handle & 0x7fff);
    address.set_handle_15(handle >> 15 != 0);
    Message {
        address: address.0.into(),
        data: 0,
    }
}

/// All 16 bits of the requester id must be those of `source`.
fn verified(source: Bdf) -> IrteHigh {
    let mut high = IrteHigh(0);
    high.set_svt(svt::SOURCE_ID);
    high.set_sid(source.requester_id());
    high
}

/// A low word that is not present.
fn marked(mark: u8) -> IrteLow {
    let mut low = IrteLow(0);
    low.set_avail(mark);
    low
}

#[cfg(test)]
mod tests;
