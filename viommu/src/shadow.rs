//! One device's tables, carried over into others that hardware walks.
//!
//! Owns what is still to be brought in line after each invalidation of the guest's (caching mode, section
//! 6.1), and in which order: addresses ascend, and what the guest's tables do not give is revoked. A device
//! whose context entry leads to no table of pages reaches nothing. What is memory of the guest's, and how
//! something is lent, is the caller's to know ([`Loans`]).

use memory::{ByteRange, Gpa, GuestMemory, Iova, PAGE_SIZE};
use paging::Geometry;
use pci::Bdf;
use vtd::domain::Access as Granted;

use crate::capability::Limits;
use crate::queue::Scope;
use crate::walk::{self, Found, Leaf, Route};
use crate::{Access, Mode, Refused, Translations};

/// Of the budget for reading entries: what a change of the hardware's tables takes.
const CHANGE: u32 = 8;

/// What hardware lets the device reach.
pub trait Loans {
    /// Lends the memory from `page` on at `at`, if all of it is the guest's and there is room; nothing is
    /// lent there otherwise. What was lent there before is not any more.
    fn lend(&mut self, at: ByteRange<Iova>, page: Gpa, access: Granted);
    /// Ends what is lent at `at`. The device does not reach it any more then.
    fn revoke(&mut self, at: ByteRange<Iova>);
    /// The page that is lent at `at`, whole.
    fn lent(&self, at: Iova) -> Option<ByteRange<Iova>>;
}

/// What is known of one device's tables, and what is to be done for them.
#[derive(Clone, Debug)]
pub struct Shadow {
    source: Bdf,
    limits: Limits,
    mode: Mode,
    context: Context,
    /// The first and the last address where more may be lent than the guest's tables give, or less.
    due: Option<(u64, u64)>,
    /// Whether no page that is lent lies on an end of that, but for where a pass over it has come to.
    is_rounded: bool,
}

/// What the context entry said when it was read.
#[derive(Clone, Copy, Debug)]
enum Context {
    /// It is to be read.
    Unread,
    /// It leads nowhere.
    Nothing,
    /// To this table.
    Table {
        domain: u16,
        root: Gpa,
        geometry: Geometry,
    },
}

impl Shadow {
    /// Nothing is known yet of the tables of `source`, and nothing is lent by them.
    pub fn new(source: Bdf, limits: Limits, mode: Mode) -> Self {
        Self {
            source,
            limits,
            mode,
            context: Context::Unread,
            due: Some((0, limits.last())),
            is_rounded: true,
        }
    }

    /// Whose they are.
    pub fn source(&self) -> Bdf {
        self.source
    }

    /// Whether the guest's tables are in force.
    pub fn is_translating(&self) -> bool {
        self.mode != Mode::Physical
    }

    /// `mode` counts from here on. Nothing has followed yet ([`Self::carry_on`]).
    pub fn switch(&mut self, mode: Mode) {
        *self = Self::new(self.source, self.limits, mode);
    }

    /// The guest had this forgotten. Nothing has followed yet ([`Self::carry_on`]).
    pub fn forget(&mut self, scope: Scope) {
        let is_mine = |number: u16| match self.context {
            Context::Table { domain, .. } => domain == number,
            // Nothing is lent.
            Context::Unread | Context::Nothing => false,
        };
        let is_named = |source: u16, mask: u16| (source ^ self.source.requester_id()) & !mask == 0;
        match scope {
            // An entry that becomes present was not known with its domain.
            Scope::Contexts | Scope::ContextsOf(_) => self.switch(self.mode),
            Scope::Device { source, mask } if is_named(source, mask) => self.switch(self.mode),
            Scope::Pages => self.owe(0, u64::MAX),
            Scope::PagesOf(domain) if is_mine(domain) => self.owe(0, u64::MAX),
            Scope::Run {
                domain,
                first,
                mask,
            } if is_mine(domain) => {
                let bytes = PAGE_SIZE << mask;
                let start = first.saturating_mul(PAGE_SIZE);
                self.owe(start, start.saturating_add(bytes - 1));
            }
            Scope::Device { .. } | Scope::PagesOf(_) | Scope::Run { .. } => {}
        }
    }

    /// Brings what is lent in line with the guest's tables, as far as `budget` goes: entries to be read. Returns
    /// whether that is done.
    pub fn carry_on(
        &mut self,
        memory: &impl GuestMemory,
        loans: &mut impl Loans,
        budget: &mut u32,
    ) -> bool {
        let Some((mut from, mut last)) = self.due else {
            return true;
        };
        if let Context::Unread = self.context {
            self.context = self.read_context(memory);
        }
        let Context::Table { root, geometry, .. } = self.context else {
            revoke(loans, from, last);
            self.due = None;
            return true;
        };
        // A page that is lent whole goes whole. Once: what is small in the guest's tables may be lent as one large
        // page, and a pass that ends within it goes on from there.
        if !self.is_rounded {
            let whole = |at| loans.lent(Iova::new(at));
            from = whole(from).map_or(from, |page| page.start().raw());
            last = whole(last).map_or(last, |page| page.last().raw());
            self.is_rounded = true;
        }
        loop {
            match walk::first_page(memory, root, geometry, from, last, budget) {
                Found::Page(at, leaf) => {
                    if let Some(before) = at.checked_sub(1).filter(|before| *before >= from) {
                        revoke(loans, from, before);
                    }
                    lend(loans, at, leaf);
                    let end = at.saturating_add(leaf.size.bytes());
                    if end > last {
                        break;
                    }
                    from = end;
                }
                Found::None => {
                    revoke(loans, from, last);
                    break;
                }
                Found::Unfinished(at) => {
                    if at > from {
                        revoke(loans, from, at - 1);
                    }
                    self.due = Some((at, last));
                    return false;
                }
            }
            *budget = budget.saturating_sub(CHANGE);
        }
        self.due = None;
        true
    }

    /// Why the guest's tables do not let the device do this, if they do not.
    pub fn explain(&self, memory: &impl GuestMemory, at: Iova, access: Access) -> Option<Refused> {
        let mut fresh = Translations::new(self.source, self.mode);
        fresh.translate(memory, at, access).err()
    }

    fn read_context(&self, memory: &impl GuestMemory) -> Context {
        let Mode::Tables(tables) = self.mode else {
            return Context::Nothing;
        };
        match walk::context(memory, tables, self.source) {
            Ok(walk::Context {
                domain,
                route: Route::Table { root, bits },
                ..
            }) if self.limits.have_tables(bits) => Context::Table {
                domain,
                root,
                geometry: walk::geometry(bits, self.limits.largest),
            },
            _ => Context::Nothing,
        }
    }

    /// What is lent from `first` to `last` may be out of line.
    fn owe(&mut self, first: u64, last: u64) {
        let last = last.min(self.limits.last());
        let (from, to) = self.due.unwrap_or((first, last));
        if first <= last {
            self.due = Some((from.min(first), to.max(last)));
            self.is_rounded = false;
        }
    }
}

fn lend(loans: &mut impl Loans, at: u64, leaf: Leaf) {
    let access = match (leaf.may_read, leaf.may_write) {
        (true, true) => Granted::ReadWrite,
        (true, false) => Granted::Read,
        _ => Granted::Write,
    };
    if let Some(range) = ByteRange::new(Iova::new(at), leaf.size.bytes()) {
        loans.lend(range, leaf.page, access);
    }
}

fn revoke(loans: &mut impl Loans, first: u64, last: u64) {
    if let Some(range) = ByteRange::inclusive(Iova::new(first), Iova::new(last)) {
        loans.revoke(range);
    }
}
