//! What one device, or all trusted ones, may touch: a second-stage table with its domain id.
//!
//! Owns the table format and the debts of changing a live table. Refuses to know which device
//! uses the domain (`context`) and whose pages are lent (its callers). The walk and the order of
//! the stores are `paging`'s.

mod format;

use memory::{ByteRange, Flush, Flushed, Frames, Hpa, Iova, OutOfFrames, Stale, TimedOut};
use paging::{Change, Draft, Format, Leaf, Refused, Retired, Table};

use crate::invalidate::Scope;
use crate::registers::Registers;
use crate::unit::{Everywhere, Unit};
pub use format::{Access, AddressWidth, SecondStage, Support};

/// The number caches know a domain by. Never 0, which hardware in caching mode keeps for itself.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Debug)]
pub struct DomainId(u16);

impl DomainId {
    /// Names domain `number`, or `None` for 0.
    pub const fn new(number: u16) -> Option<Self> {
        if number == 0 {
            None
        } else {
            Some(Self(number))
        }
    }

    /// The number.
    pub const fn number(self) -> u16 {
        self.0
    }
}

/// A second-stage table and the id its translations are cached under.
#[derive(Debug)]
pub struct Domain {
    id: DomainId,
    table: Table<SecondStage>,
}

impl Domain {
    /// Makes a domain in which nothing is lent. Takes one page.
    pub fn new(
        id: DomainId,
        format: SecondStage,
        frames: &mut impl Frames,
    ) -> Result<Self, OutOfFrames> {
        let table = Table::new(format, frames)?;
        Ok(Self { id, table })
    }

    /// Makes a domain in which every page of `whole` is lent at its own address for reading and
    /// writing, except those that share a byte with one of `holes` (which may be in any order
    /// and overlap) and those of the range interrupt requests are written to.
    ///
    /// Refused when the format does not reach the end of `whole` or the pool runs out; the pool
    /// has all its pages back then.
    pub fn identity(
        id: DomainId,
        format: SecondStage,
        frames: &mut impl Frames,
        whole: ByteRange<Hpa>,
        holes: &[ByteRange<Hpa>],
    ) -> Result<Self, Refused<Iova>> {
        let pages = same_in_iova(whole);
        within_reach(&format, pages)?;
        let mut draft = Draft::new(format, frames).map_err(|OutOfFrames| Refused::OutOfFrames {
            range: pages,
            needed: 1,
        })?;
        match draw_identity(&mut draft, frames, whole, holes) {
            Ok(()) => Ok(Self {
                id,
                table: draft.finish(),
            }),
            Err(refused) => {
                draft.abandon(frames);
                Err(refused)
            }
        }
    }

    /// The id.
    pub fn id(&self) -> DomainId {
        self.id
    }

    /// Where the unit starts to walk.
    pub fn root(&self) -> Hpa {
        self.table.root()
    }

    /// The width a context entry must give for this table.
    pub fn address_width(&self) -> AddressWidth {
        self.table.format().address_width()
    }

    /// Lets whoever uses the domain reach the pages from `pages` on, at `at`, as `access` says.
    /// Whatever was lent there before is lent no longer.
    pub fn lend(
        &mut self,
        frames: &mut impl Frames,
        at: ByteRange<Iova>,
        pages: Hpa,
        access: Access,
    ) -> Result<Debt, Refused<Iova>> {
        within_reach(self.table.format(), at)?;
        let change = self.table.map(frames, at, pages, access)?;
        Ok(Debt::of(self.id, at, change))
    }

    /// Ends the loan of every page at `at`.
    pub fn revoke(
        &mut self,
        frames: &mut impl Frames,
        at: ByteRange<Iova>,
    ) -> Result<Debt, Refused<Iova>> {
        let change = self.table.unmap(frames, at)?;
        Ok(Debt::of(self.id, at, change))
    }

    /// Ends the domain, which no context entry names any more.
    pub fn retire(self) -> Debt {
        let last = self.table.format().geometry().last_input();
        let all = ByteRange::inclusive(Iova::new(0), Iova::new(last));
        let all = all.expect("a domain has addresses");
        Debt::of(self.id, all, self.table.retire())
    }

    /// What is lent at `at`.
    pub fn translate(&self, frames: &impl Frames, at: Iova) -> Option<Leaf<Access>> {
        self.table.walk(frames, at)
    }
}

/// A changed domain that units may still know the old way.
#[must_use = "devices may still reach the old pages until this is settled"]
#[derive(Debug)]
pub struct Debt {
    domain: DomainId,
    due: Due,
    retired: Retired<SecondStage>,
}

/// What units must be told.
#[derive(Debug)]
enum Due {
    /// These pages were lent when nothing was.
    Show(ByteRange<Iova>),
    /// These pages were lent otherwise.
    Forget(Stale<ByteRange<Iova>>),
}

impl Debt {
    fn of(domain: DomainId, changed: ByteRange<Iova>, change: Change<SecondStage>) -> Self {
        let (stale, retired) = change.into_parts();
        Self {
            domain,
            due: stale.map_or(Due::Show(changed), Due::Forget),
            retired,
        }
    }

    /// Whether no device can reach what it should not: nothing was lent there before. Units
    /// that remember absences still want the debt settled before the loan is used.
    pub fn is_nothing(&self) -> bool {
        matches!(self.due, Due::Show(_))
    }

    /// Makes all `units` that the domain is used in forget the old pages, and gives pages of the
    /// table that are out of use back. The proof is for the pages that were lent; there is none
    /// if nothing was.
    ///
    /// On a time-out the whole debt is handed back. Costs no invalidation where nothing was lent
    /// before and the unit looks for itself.
    pub fn settle<R: Registers, F: Frames>(
        self,
        units: &mut [Unit<R>],
        frames: &mut F,
    ) -> Result<Option<Flushed>, (Self, TimedOut)> {
        let Self {
            domain,
            due,
            retired,
        } = self;
        let owing = |due, retired| Self {
            domain,
            due,
            retired,
        };
        match due {
            Due::Show(pages) => {
                for unit in units {
                    if let Err(error) = unit.show(&Scope::Pages { domain, pages }, frames) {
                        return Err((owing(due, retired), error));
                    }
                }
                Ok(None)
            }
            Due::Forget(stale) => {
                let everywhere = Everywhere { units, frames };
                match stale.settle(&mut PagesOf { domain, everywhere }) {
                    Ok(proof) => {
                        retired.give_back(frames, &proof);
                        Ok(Some(proof))
                    }
                    Err((stale, error)) => Err((owing(Due::Forget(stale), retired), error)),
                }
            }
        }
    }
}

/// Pages of one domain, flushed from every unit it is used in.
struct PagesOf<'a, R, F> {
    domain: DomainId,
    everywhere: Everywhere<'a, R, F>,
}

impl<R: Registers, F: Frames> Flush<ByteRange<Iova>> for PagesOf<'_, R, F> {
    fn flush(&mut self, pages: &ByteRange<Iova>) -> Result<(), TimedOut> {
        let (domain, pages) = (self.domain, *pages);
        self.everywhere.flush(&Scope::Pages { domain, pages })
    }
}

fn draw_identity(
    draft: &mut Draft<SecondStage>,
    frames: &mut impl Frames,
    whole: ByteRange<Hpa>,
    holes: &[ByteRange<Hpa>],
) -> Result<(), Refused<Iova>> {
    // Requests there are interrupts and never translated: nobody's memory.
    let interrupts = ByteRange::inclusive(Hpa::new(0xfee0_0000), Hpa::new(0xfeef_ffff));
    draft.map(
        frames,
        same_in_iova(whole),
        whole.start(),
        Access::ReadWrite,
    )?;
    for hole in holes.iter().chain(&interrupts) {
        if let Some(hole) = hole.whole_pages().intersection(&whole) {
            draft.unmap(frames, same_in_iova(hole))?;
        }
    }
    Ok(())
}

fn within_reach(format: &SecondStage, pages: ByteRange<Iova>) -> Result<(), Refused<Iova>> {
    let width = format.reach();
    if pages.last().raw() >> width != 0 {
        return Err(Refused::BeyondInput {
            range: pages,
            width,
        });
    }
    Ok(())
}

fn same_in_iova(range: ByteRange<Hpa>) -> ByteRange<Iova> {
    let (start, last) = (range.start().raw(), range.last().raw());
    ByteRange::inclusive(Iova::new(start), Iova::new(last)).expect("a range is one in any space")
}

#[cfg(test)]
mod tests;
