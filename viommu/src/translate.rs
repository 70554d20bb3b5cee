//! What one device's addresses mean: the cache of its translations, and the way past it.
//!
//! Owns what was learned from the guest's tables, which is used until the guest has it forgotten,
//! as hardware does. Only what is present is remembered. Whoever holds a device holds its cache;
//! what two of them know never meets.

use memory::{Gpa, GuestMemory, Iova, PAGE_SIZE};
use pci::Bdf;
use vtd::spec::fault::Reason;

use crate::queue::Scope;
use crate::walk::{self, Context, Route};

/// Pages remembered of one device.
const PAGES: usize = 32;
/// What a device writes there is no memory access but an interrupt (section 3.14).
const INTERRUPTS: u64 = 0xfee;

/// What a device does.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Access {
    /// It reads.
    Read,
    /// It writes.
    Write,
}

/// Whether devices' addresses are translated at all.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Mode {
    /// They are guest-physical.
    Physical,
    /// By the root table that is here.
    Tables(Gpa),
}

/// A device may not do what it wanted.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Refused {
    /// The reason, as a unit records it.
    pub reason: Reason,
    /// The guest asked not to hear of this device's faults.
    pub is_quiet: bool,
}

/// What is known of one device's addresses.
#[derive(Clone, Debug)]
pub struct Translations {
    source: Bdf,
    mode: Mode,
    context: Option<Context>,
    pages: [Known; PAGES],
}

/// One page.
#[derive(Clone, Copy, Debug)]
struct Known {
    /// The number of the page, of the device's addresses.
    number: u64,
    to: Gpa,
    domain: u16,
    /// Pages of 2^this make the guest's page of which this is a part.
    span: u8,
    may_read: bool,
    may_write: bool,
}

impl Known {
    /// No page: nothing may be done with it.
    const NOTHING: Self = Self {
        number: 0,
        to: Gpa::new(0),
        domain: 0,
        span: 0,
        may_read: false,
        may_write: false,
    };

    fn may(&self, access: Access) -> bool {
        match access {
            Access::Read => self.may_read,
            Access::Write => self.may_write,
        }
    }
}

impl Translations {
    /// Nothing is known yet of the addresses of `source`.
    pub const fn new(source: Bdf, mode: Mode) -> Self {
        Self {
            source,
            mode,
            context: None,
            pages: [Known::NOTHING; PAGES],
        }
    }

    /// Everything is forgotten, and `mode` counts from here on.
    pub fn switch(&mut self, mode: Mode) {
        *self = Self::new(self.source, mode);
    }

    /// Whose they are.
    pub fn source(&self) -> Bdf {
        self.source
    }

    /// Whether the guest's tables are asked at all.
    pub fn are_asked(&self) -> bool {
        self.mode != Mode::Physical
    }

    /// Forgets what `scope` names.
    pub fn forget(&mut self, scope: Scope) {
        match scope {
            // An entry that is read again may name another table under an old number: what was
            // learned through it is the guest's to have forgotten by another command.
            Scope::Contexts => self.context = None,
            Scope::ContextsOf(domain) => {
                self.context = self.context.filter(|context| context.domain != domain);
            }
            Scope::Device { source, mask } => {
                let is_meant = (source ^ self.source.requester_id()) & !mask == 0;
                self.context = self.context.filter(|_| !is_meant);
            }
            Scope::Pages => self.pages = [Known::NOTHING; PAGES],
            Scope::PagesOf(domain) => self.drop_pages(|known| known.domain == domain),
            Scope::Run {
                domain,
                first,
                mask,
            } => self.drop_pages(|known| {
                // Either may be the larger one, and both are aligned to their sizes.
                let shift = known.span.max(mask);
                known.domain == domain && known.number >> shift == first >> shift
            }),
        }
    }

    /// Where the byte at `at` is, if the device may do this to it. What follows it in the same
    /// 4 KiB page is behind it.
    ///
    /// # Errors
    /// [`Refused`] as a unit would refuse it.
    pub fn translate(
        &mut self,
        memory: &impl GuestMemory,
        at: Iova,
        access: Access,
    ) -> Result<Gpa, Refused> {
        let Mode::Tables(root) = self.mode else {
            return Ok(Gpa::new(at.raw()));
        };
        let context = match self.context {
            Some(context) => context,
            None => {
                let found = walk::context(memory, root, self.source);
                let found = found.map_err(|end| Refused {
                    reason: end.reason,
                    is_quiet: end.is_quiet,
                })?;
                *self.context.insert(found)
            }
        };
        let refused = |reason| Refused {
            reason,
            is_quiet: context.is_quiet,
        };
        if at.raw() >> 20 == INTERRUPTS {
            return Err(refused(walk::denied(access)));
        }
        let Route::Table { root, bits } = context.route else {
            return Ok(Gpa::new(at.raw()));
        };
        let number = at.raw() / PAGE_SIZE;
        let slot = number as usize % PAGES;
        let known = self.pages[slot];
        let is_known = known.number == number && known.domain == context.domain;
        let known = if is_known && known.may(access) {
            known
        } else {
            // A right that was not there is asked for again: section 6.2.3.1.
            let leaf = walk::page(memory, root, bits, at, access).map_err(refused)?;
            let known = Known {
                number,
                to: leaf.page,
                domain: context.domain,
                span: (leaf.size.bytes() / PAGE_SIZE).trailing_zeros() as u8,
                may_read: leaf.may_read,
                may_write: leaf.may_write,
            };
            self.pages[slot] = known;
            known
        };
        if !known.may(access) {
            return Err(refused(walk::denied(access)));
        }
        known
            .to
            .checked_add(at.page_offset())
            .ok_or(refused(Reason::ENTRY_RESERVED))
    }

    fn drop_pages(&mut self, mut is_meant: impl FnMut(&Known) -> bool) {
        for known in self.pages.iter_mut().filter(|known| is_meant(known)) {
            *known = Known::NOTHING;
        }
    }
}
