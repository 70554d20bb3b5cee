//! Who has which domain: root and context tables of legacy mode.
//!
//! Owns one unit's tables, the order in which an entry appears and disappears, and quarantine. A
//! requester that was never attached has no entry and reaches nothing. Refuses to know what a
//! domain maps (`domain`) and when caches are flushed (`invalidate`).
//!
//! An entry's life is kept in the entry itself: *vacant* is all zeros; *attached* is present;
//! *leaving* is not present, with the high word, which hardware then ignores, still naming the
//! domain until caches have forgotten it; *quarantined* adds the bit that silences its faults.

use core::fmt;

use memory::{Flushed, Frame, Frames, Hpa, OutOfFrames, Stale};
use pci::Bdf;

use crate::domain::{Domain, DomainId, Support};
use crate::invalidate::Scope;
use crate::spec::context::{ContextHigh, ContextLow, tt};
use crate::spec::root::RootEntry;

/// The tables of one unit.
#[derive(Debug)]
pub struct ContextTables {
    root: Frame,
    support: Support,
}

/// What the tables say of a requester.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Attachment {
    /// It reaches nothing.
    None,
    /// It reaches what the domain lends.
    Attached(DomainId),
    /// It was detached from the domain and caches may not know yet.
    Leaving(DomainId),
    /// It reaches nothing and its faults are not recorded.
    Quarantined,
}

/// Why a device was not attached.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Refusal {
    /// It has a domain, or caches may still know its last one.
    Occupied(Bdf, Attachment),
    /// Its unit cannot walk tables as wide as the domain's.
    Width(Bdf),
    /// Its unit does not tell as many domains apart.
    Number(Bdf, DomainId),
    /// The pool has no page for the context table of its bus.
    OutOfFrames(Bdf),
}

impl fmt::Display for Refusal {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Occupied(source, state) => {
                write!(f, "device {source} is not free to attach: {state:?}")
            }
            Self::Width(source) => write!(
                f,
                "device {source}: its remapping unit cannot walk the domain's tables"
            ),
            Self::Number(source, id) => write!(
                f,
                "device {source}: its remapping unit has no domain {}",
                id.number()
            ),
            Self::OutOfFrames(source) => write!(
                f,
                "device {source}: no page left for its bus's context table"
            ),
        }
    }
}

impl ContextTables {
    /// Makes tables in which no requester has an entry, for a unit with this `support`.
    pub fn new(support: Support, frames: &mut impl Frames) -> Result<Self, OutOfFrames> {
        let root = frames.take()?;
        Ok(Self { root, support })
    }

    /// Where the unit starts to look a requester up.
    pub fn root(&self) -> Hpa {
        self.root.base()
    }

    /// Gives `source` what `domain` lends.
    ///
    /// The debt is due before the device is told to start: units in caching mode remember that
    /// there was no entry.
    pub fn attach(
        &mut self,
        frames: &mut impl Frames,
        source: Bdf,
        domain: &Domain,
    ) -> Result<Stale<Scope>, Refusal> {
        if !self.support.includes(domain.address_width()) {
            return Err(Refusal::Width(source));
        }
        if u32::from(domain.id().number()) >= self.support.domains() {
            return Err(Refusal::Number(source, domain.id()));
        }
        match self.attachment(frames, source) {
            Attachment::None => {}
            state => return Err(Refusal::Occupied(source, state)),
        }
        let table = self
            .take_table_of(frames, source)
            .map_err(|OutOfFrames| Refusal::OutOfFrames(source))?;
        let mut high = ContextHigh(0);
        high.set_aw(domain.address_width().encoding());
        high.set_did(domain.id().number());
        let mut low = ContextLow(0);
        low.set_p(true);
        low.set_tt(tt::SECOND_STAGE);
        low.set_ssptptr(domain.root().raw() >> 12);
        let (first, second) = words_of(source);
        frames.publish(table, second, high.0);
        frames.publish(table, first, low.0);
        Ok(Stale::new(Scope::Translations))
    }

    /// Takes its domain from `source`; `None` if it had none. Once the debt is settled,
    /// [`Self::vacate`] lets it be attached again.
    pub fn detach(&mut self, frames: &mut impl Frames, source: Bdf) -> Option<Stale<Scope>> {
        match self.attachment(frames, source) {
            Attachment::Attached(domain) => {
                let table = self.table_of(frames, source)?;
                frames.publish(table, words_of(source).0, 0);
                Some(Stale::new(Scope::Device { source, domain }))
            }
            _ => None,
        }
    }

    /// Takes its domain from `source` for good and stops recording its faults.
    pub fn quarantine(
        &mut self,
        frames: &mut impl Frames,
        source: Bdf,
    ) -> Result<Stale<Scope>, OutOfFrames> {
        let scope = match self.attachment(frames, source) {
            Attachment::Attached(domain) | Attachment::Leaving(domain) => {
                Scope::Device { source, domain }
            }
            Attachment::None | Attachment::Quarantined => Scope::Translations,
        };
        let table = self.take_table_of(frames, source)?;
        let mut low = ContextLow(0);
        low.set_fpd(true);
        frames.publish(table, words_of(source).0, low.0);
        Ok(Stale::new(scope))
    }

    /// Ends the quarantine of `source`, which then has no entry. `None` if it is in none.
    pub fn release(&mut self, frames: &mut impl Frames, source: Bdf) -> Option<Stale<Scope>> {
        if self.attachment(frames, source) != Attachment::Quarantined {
            return None;
        }
        let table = self.table_of(frames, source)?;
        let (first, second) = words_of(source);
        frames.publish(table, second, 0);
        frames.publish(table, first, 0);
        Some(Stale::new(Scope::Translations))
    }

    /// Forgets the last domain of `source`. `proof` is of the flush its [`Self::detach`] or
    /// [`Self::quarantine`] asked for. An attached device stays attached.
    pub fn vacate(&mut self, frames: &mut impl Frames, source: Bdf, _proof: &Flushed) {
        let Some(table) = self.table_of(frames, source) else {
            return;
        };
        let (first, second) = words_of(source);
        if !ContextLow(frames.read(table, first)).p() {
            frames.publish(table, second, 0);
        }
    }

    /// What the tables say of `source`.
    pub fn attachment(&self, frames: &impl Frames, source: Bdf) -> Attachment {
        let Some(table) = self.table_of(frames, source) else {
            return Attachment::None;
        };
        let (first, second) = words_of(source);
        let low = ContextLow(frames.read(table, first));
        let domain = DomainId::new(ContextHigh(frames.read(table, second)).did());
        match domain {
            Some(domain) if low.p() => Attachment::Attached(domain),
            _ if low.fpd() => Attachment::Quarantined,
            Some(domain) => Attachment::Leaving(domain),
            None => Attachment::None,
        }
    }

    fn table_of(&self, frames: &impl Frames, source: Bdf) -> Option<Hpa> {
        let entry = RootEntry(frames.read(self.root.base(), usize::from(source.bus()) * 2));
        entry.p().then(|| Hpa::new(entry.ctp() << 12))
    }

    fn take_table_of(&mut self, frames: &mut impl Frames, source: Bdf) -> Result<Hpa, OutOfFrames> {
        if let Some(table) = self.table_of(frames, source) {
            return Ok(table);
        }
        // Kept for as long as the unit runs: the root entry is all that remembers it.
        let table = frames.take()?.base();
        let mut entry = RootEntry(0);
        entry.set_p(true);
        entry.set_ctp(table.raw() >> 12);
        frames.publish(self.root.base(), usize::from(source.bus()) * 2, entry.0);
        Ok(table)
    }
}

/// Where in its bus's table the two words of `source` are: bits 63:0, bits 127:64.
fn words_of(source: Bdf) -> (usize, usize) {
    let first = usize::from(source.devfn()) * 2;
    (first, first + 1)
}

#[cfg(test)]
mod tests;
