//! What the remapping units are told: who reaches what, and which interrupts pass.
//!
//! All units of a segment share one set of tables: a request meets one of them, and each denies by
//! default. What one is told to forget, all are. A unit that does not forget in time is broken hardware that nothing confines any more:
//! the machine stops there.

use core::fmt;

use heapless::Vec;
use memory::{ByteRange, Flushed, Frames, Hpa, Iova, OutOfFrames, PAGE_SIZE, Stale};
use paging::{PageSize, Refused};
use pci::{Address, Bdf};
use viommu::Limits;
use vtd::context::{Attachment, ContextTables};
use vtd::domain::{Access, Debt, Domain, DomainId, SecondStage, Support};
use vtd::fault::{Fault, Told};
use vtd::invalidate::Scope;
use vtd::remap::{Block, Destinations, InterruptTable, Refusal, Route};
use vtd::unit::{Candidate, Everywhere, Failure, Unit};

use super::registers::Mapped;
use crate::own::OwnFrames;

/// Units at most; servers have one for each of up to a dozen root complexes.
pub(super) const MAX_UNITS: usize = 32;
/// Segments at most.
pub(super) const MAX_SEGMENTS: usize = 4;
/// Domains of untrusted devices at most.
const MAX_DOMAINS: usize = 62;
/// The number of the trusted devices' domain; the others follow.
const TRUSTED: u16 = 1;
/// Entries of an interrupt-remapping table: 16 a page.
pub(super) const INTERRUPT_PAGES: u64 = 16;
/// Interrupts of one device at most.
const QUOTA: u16 = 512;

/// What a device reaches.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) enum Reach {
    /// Nothing: no entry.
    Nothing,
    /// The guest's memory.
    Memory,
    /// What its own domain lends.
    Own(u8),
    /// Nothing, and nobody hears of its faults.
    Quarantine,
}

/// The units of all segments.
#[derive(Debug)]
pub(crate) struct Remapping {
    units: Vec<Unit<Mapped>, MAX_UNITS>,
    /// The segment of each unit.
    of_units: Vec<u16, MAX_UNITS>,
    segments: Vec<Segment, MAX_SEGMENTS>,
    trusted: Domain,
    own: Vec<Option<Domain>, MAX_DOMAINS>,
    format: SecondStage,
    /// The pages of all tables.
    pub(super) frames: OwnFrames,
}

/// The tables of one segment.
#[derive(Debug)]
pub(super) struct Segment {
    number: u16,
    contexts: ContextTables,
    interrupts: InterruptTable,
    /// Buses on which somebody was ever given something.
    buses: [u64; 4],
}

/// Why a device got nothing.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) enum Denied {
    /// No unit governs its segment.
    NoUnit,
    /// Its context entry.
    Context(vtd::context::Refusal),
}

impl fmt::Display for Denied {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::NoUnit => f.write_str("no remapping unit governs its segment"),
            Self::Context(refusal) => refusal.fmt(f),
        }
    }
}

impl Segment {
    /// A segment whose tables let nothing pass. Takes their pages.
    pub(super) fn new(
        number: u16,
        support: Support,
        has_wide_destinations: bool,
        frames: &mut OwnFrames,
    ) -> Result<Self, OutOfFrames> {
        let contexts = ContextTables::new(support, frames)?;
        let interrupts = frames.take_run(INTERRUPT_PAGES * PAGE_SIZE)?;
        let pages = (0..INTERRUPT_PAGES)
            .filter_map(|page| memory::Frame::new(Hpa::new(interrupts.raw() + page * PAGE_SIZE)));
        let destinations = if has_wide_destinations {
            Destinations::Wide
        } else {
            Destinations::Narrow
        };
        let interrupts = InterruptTable::new(pages, destinations).map_err(|_| OutOfFrames)?;
        Ok(Self {
            number,
            contexts,
            interrupts,
            buses: [0; 4],
        })
    }

    /// Its number.
    pub(super) fn number(&self) -> u16 {
        self.number
    }
}

/// The segment with this number, if a unit governs it.
fn numbered(segments: &mut [Segment], number: u16) -> Option<&mut Segment> {
    segments.iter_mut().find(|segment| segment.number == number)
}

/// Makes every unit forget what is owed.
fn settle(units: &mut [Unit<Mapped>], frames: &mut OwnFrames, debt: Stale<Scope>) -> Flushed {
    match debt.settle(&mut Everywhere { units, frames }) {
        Ok(proof) => proof,
        Err((debt, _)) => unforgotten(*debt.scope(), units),
    }
}

/// Makes every unit forget what a domain was lent.
fn pay(debt: Debt, units: &mut [Unit<Mapped>], frames: &mut OwnFrames) {
    if let Err((owed, _)) = debt.settle(units, frames) {
        panic!("a remapping unit did not forget what a domain was lent: {owed:?}");
    }
}

/// Hardware that goes on with what it was told to forget confines nobody.
fn unforgotten(scope: Scope, units: &mut [Unit<Mapped>]) -> ! {
    let trouble = units.iter_mut().find_map(Unit::take_trouble);
    panic!("a remapping unit did not forget {scope:?}: {trouble:?}")
}

impl Remapping {
    /// The tables of `segments`, whose trusted devices share `trusted`, and no unit yet.
    pub(super) fn new(
        segments: Vec<Segment, MAX_SEGMENTS>,
        trusted: Domain,
        format: SecondStage,
        frames: OwnFrames,
    ) -> Self {
        Self {
            units: Vec::new(),
            of_units: Vec::new(),
            segments,
            trusted,
            own: Vec::new(),
            format,
            frames,
        }
    }

    /// Makes a unit of `segment` enforce these tables from here on.
    pub(super) fn take_over(
        &mut self,
        segment: u16,
        candidate: Candidate<Mapped>,
    ) -> Result<(), Failure> {
        let tables = numbered(&mut self.segments, segment).ok_or(Failure::Absent)?;
        let frames = &mut self.frames;
        let (ring, status) = match (frames.take(), frames.take()) {
            (Ok(ring), Ok(status)) => (ring, status),
            _ => return Err(Failure::OutOfFrames),
        };
        let mut unit = candidate.take_over(&tables.contexts, ring, status, frames)?;
        unit.remap_interrupts(&tables.interrupts, frames)?;
        let is_kept = self.units.push(unit).is_ok() && self.of_units.push(segment).is_ok();
        is_kept.then_some(()).ok_or(Failure::OutOfFrames)
    }

    /// The number of the domain that trusted devices share.
    pub(super) fn trusted_id() -> DomainId {
        DomainId::new(TRUSTED).expect("not 0")
    }

    /// Makes a domain in which nothing is lent. `None` if there is no room for it.
    pub(super) fn new_domain(&mut self) -> Option<u8> {
        let slot = match self.own.iter().position(Option::is_none) {
            Some(free) => free,
            None => {
                self.own.push(None).ok()?;
                self.own.len() - 1
            }
        };
        let id = DomainId::new(TRUSTED + 1 + slot as u16)?;
        self.own[slot] = Some(Domain::new(id, self.format, &mut self.frames).ok()?);
        Some(slot as u8)
    }

    /// Ends a domain; whoever is attached to it still is attached to nothing before its pages are free.
    pub(super) fn end_domain(&mut self, slot: u8) {
        let id = self.own.get(usize::from(slot)).and_then(Option::as_ref);
        let Some(id) = id.map(Domain::id) else {
            return;
        };
        let numbers: Vec<u16, MAX_SEGMENTS> = self.segments.iter().map(|s| s.number).collect();
        for number in numbers {
            for bus in self.buses(number) {
                self.detach_all(number, bus, id);
            }
        }
        let Some(domain) = self.own.get_mut(usize::from(slot)).and_then(Option::take) else {
            return;
        };
        pay(domain.retire(), &mut self.units, &mut self.frames);
    }

    fn detach_all(&mut self, segment: u16, bus: u8, id: DomainId) {
        for devfn in 0..=255 {
            let at = Address::new(segment, Bdf::from_parts(bus, devfn));
            let Some(segment) = numbered(&mut self.segments, segment) else {
                return;
            };
            if segment.contexts.attachment(&self.frames, at.bdf) == Attachment::Attached(id) {
                // Taking an entry away needs no page.
                let _: Result<(), Denied> = self.give(at, Reach::Nothing);
            }
        }
    }

    /// Lends whoever is in the domain `slot` the pages from `pages` on at `at`, where nothing is lent
    /// yet.
    pub(crate) fn lend(
        &mut self,
        slot: u8,
        at: ByteRange<Iova>,
        pages: Hpa,
        access: Access,
    ) -> Result<(), Refused<Iova>> {
        let Self {
            units, own, frames, ..
        } = self;
        let Some(domain) = own.get_mut(usize::from(slot)).and_then(Option::as_mut) else {
            return Ok(());
        };
        let debt = domain.lend(frames, at, pages, access)?;
        pay(debt, units, frames);
        Ok(())
    }

    /// Ends what is lent at `at` in the domain `slot`. Where memory is short, and a part of a large page is to go, all
    /// of that page does.
    pub(crate) fn revoke(&mut self, slot: u8, at: ByteRange<Iova>) {
        let Self {
            units, own, frames, ..
        } = self;
        let Some(domain) = own.get_mut(usize::from(slot)).and_then(Option::as_mut) else {
            return;
        };
        for size in [PageSize::KiB4, PageSize::MiB2, PageSize::GiB1] {
            let (start, last) = (at.start().raw(), at.last().raw());
            let start = start / size.bytes() * size.bytes();
            let last = last | (size.bytes() - 1);
            let wide = ByteRange::inclusive(Iova::new(start), Iova::new(last));
            if let Some(Ok(debt)) = wide.map(|wide| domain.revoke(frames, wide)) {
                return pay(debt, units, frames);
            }
        }
        panic!("whole pages can be taken back");
    }

    /// The page that is lent at `at` in the domain `slot`, whole.
    pub(super) fn lent(&self, slot: u8, at: Iova) -> Option<ByteRange<Iova>> {
        let domain = self.own.get(usize::from(slot))?.as_ref()?;
        let bytes = domain.translate(&self.frames, at)?.size.bytes();
        ByteRange::new(Iova::new(at.raw() / bytes * bytes), bytes)
    }

    /// Whether exactly this is lent already in the domain `slot`, so that it takes no memory to lend it.
    pub(super) fn is_lent(
        &self,
        slot: u8,
        at: ByteRange<Iova>,
        pages: Hpa,
        access: Access,
    ) -> bool {
        let domain = self.own.get(usize::from(slot)).and_then(Option::as_ref);
        let leaf = domain.and_then(|domain| domain.translate(&self.frames, at.start()));
        leaf.is_some_and(|leaf| {
            leaf.output == pages && leaf.attributes == access && leaf.size.bytes() >= at.len()
        })
    }

    /// What the domains of untrusted devices can hold.
    pub(super) fn limits(&self) -> Limits {
        Limits::of(&self.format)
    }

    /// Gives the requester `at` this reach and no other.
    pub(super) fn give(&mut self, at: Address, reach: Reach) -> Result<(), Denied> {
        let Self {
            units,
            segments,
            trusted,
            own,
            frames,
            ..
        } = self;
        let segment = numbered(segments, at.segment).ok_or(Denied::NoUnit)?;
        let domain = match reach {
            Reach::Nothing => None,
            Reach::Quarantine => return self.quarantine(at),
            Reach::Memory => Some(&*trusted),
            Reach::Own(slot) => own.get(usize::from(slot)).and_then(Option::as_ref),
        };
        match segment.contexts.attachment(frames, at.bdf) {
            Attachment::Attached(id) if Some(id) == domain.map(Domain::id) => return Ok(()),
            Attachment::None if domain.is_none() => return Ok(()),
            _ => {}
        }
        if let Some(debt) = segment.contexts.release(frames, at.bdf) {
            let _: Flushed = settle(units, frames, debt);
        }
        if let Some(debt) = segment.contexts.detach(frames, at.bdf) {
            let proof = settle(units, frames, debt);
            segment.contexts.vacate(frames, at.bdf, &proof);
        }
        let Some(domain) = domain else {
            return Ok(());
        };
        let debt = segment
            .contexts
            .attach(frames, at.bdf, domain)
            .map_err(Denied::Context)?;
        segment.buses[usize::from(at.bdf.bus() / 64)] |= 1 << (at.bdf.bus() % 64);
        // An entry that appears is news only to units that remember absences.
        let scope = *debt.scope();
        if units
            .iter_mut()
            .any(|unit| unit.show(&scope, frames).is_err())
        {
            unforgotten(scope, units);
        }
        Ok(())
    }

    /// Takes everything from the requester `at`, and stops hearing of it.
    fn quarantine(&mut self, at: Address) -> Result<(), Denied> {
        let segment = numbered(&mut self.segments, at.segment).ok_or(Denied::NoUnit)?;
        if segment.contexts.attachment(&self.frames, at.bdf) == Attachment::Quarantined {
            return Ok(());
        }
        let debt = segment.contexts.quarantine(&mut self.frames, at.bdf);
        let debt = debt
            .map_err(|OutOfFrames| Denied::Context(vtd::context::Refusal::OutOfFrames(at.bdf)))?;
        segment.buses[usize::from(at.bdf.bus() / 64)] |= 1 << (at.bdf.bus() % 64);
        let proof = settle(&mut self.units, &mut self.frames, debt);
        segment.contexts.vacate(&mut self.frames, at.bdf, &proof);
        Ok(())
    }

    /// The buses of `number` on which somebody was ever given something.
    pub(super) fn buses(&self, number: u16) -> impl Iterator<Item = u8> + use<> {
        let segment = self.segments.iter().find(|s| s.number == number);
        let buses = segment.map_or([0; 4], |s| s.buses);
        (0..=255_u8).filter(move |bus| buses[usize::from(bus / 64)] >> (bus % 64) & 1 != 0)
    }

    /// Issues `count` interrupts to the requester `at`.
    pub(super) fn issue(&mut self, at: Address, count: u16) -> Result<Block, Refusal> {
        let Self {
            segments, frames, ..
        } = self;
        let segment = numbered(segments, at.segment).ok_or(Refusal::Full)?;
        segment.interrupts.issue(frames, at.bdf, count, QUOTA)
    }

    /// Sends interrupt `number` of `block` along `route`, or nowhere.
    pub(super) fn route(
        &mut self,
        segment: u16,
        block: &Block,
        number: u16,
        route: Option<Route>,
    ) -> Result<(), Refusal> {
        let Self {
            units,
            segments,
            frames,
            ..
        } = self;
        let Some(segment) = numbered(segments, segment) else {
            return Err(Refusal::Full);
        };
        let debt = match route {
            Some(route) => segment.interrupts.route(frames, block, number, route)?,
            None => segment.interrupts.silence(frames, block, number)?,
        };
        let _: Flushed = settle(units, frames, debt);
        Ok(())
    }

    /// Takes interrupts back.
    pub(super) fn retire(&mut self, segment: u16, block: Block) {
        let Self {
            units,
            segments,
            frames,
            ..
        } = self;
        let Some(segment) = numbered(segments, segment) else {
            return;
        };
        let (block, debt) = segment.interrupts.retire(frames, block);
        let proof = settle(units, frames, debt);
        segment.interrupts.release(frames, block, &proof);
    }

    /// Announces faults along `route` from here on.
    pub(super) fn announce_faults(&mut self, route: Route) {
        for unit in &mut self.units {
            unit.announce_faults(route);
        }
    }

    /// Stops announcing them; they go on being recorded.
    pub(super) fn hush_faults(&mut self) {
        self.units.iter_mut().for_each(Unit::hush_faults);
    }

    /// Tells every recorded fault and whose it was; each record is looked at once.
    pub(super) fn tell_faults(&mut self, mut tell: impl FnMut(Address, Fault)) -> Told {
        let mut told = Told::All;
        for (unit, segment) in self.units.iter_mut().zip(&self.of_units) {
            let some = unit.tell_faults(|fault| tell(Address::new(*segment, fault.source), fault));
            if some == Told::Some {
                told = some;
            }
        }
        told
    }

    /// Units there are.
    pub(super) fn units(&self) -> usize {
        self.units.len()
    }

    /// How often units were asked to forget something.
    pub(super) fn queue_writes(&self) -> u64 {
        self.units.iter().map(Unit::queue_writes).sum()
    }
}
