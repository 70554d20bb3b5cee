//! The guest's tables, as a unit walks them: root, context, second stage.
//!
//! Owns every check of sections 9.1, 9.3 and 9.8 that this unit's capabilities ask for. Reads each
//! word once; keeps nothing.

use memory::{Gpa, GuestMemory, Hpa, Iova, PAGE_SIZE};
use paging::{Geometry, Level, PageSize};
use pci::Bdf;
use vtd::spec::context::{ContextHigh, ContextLow, tt};
use vtd::spec::fault::Reason;
use vtd::spec::root::RootEntry;
use vtd::spec::second_stage::Entry;

use crate::Access;

/// Bytes of a root or context entry.
const ENTRY: u64 = 16;
/// Bits 51:12 hold the address of a table or page; what lies above is reserved in root and context
/// entries.
const ADDRESS_BITS: u32 = 52;

/// Where a device's requests go.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) struct Context {
    pub(crate) domain: u16,
    /// Faults of the device are not recorded.
    pub(crate) is_quiet: bool,
    pub(crate) route: Route,
}

#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) enum Route {
    /// Untranslated.
    Pass,
    /// Through the table at `root`, for addresses of so many bits.
    Table { root: Gpa, bits: u32 },
}

/// Why a walk ended, and whether it is recorded.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) struct End {
    pub(crate) reason: Reason,
    pub(crate) is_quiet: bool,
}

/// A page, and what may be done to it.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) struct Leaf {
    /// Where it is; of a page that was looked up by an address, the 4 KiB of that address.
    pub(crate) page: Gpa,
    pub(crate) size: PageSize,
    pub(crate) may_read: bool,
    pub(crate) may_write: bool,
}

const fn loud(reason: Reason) -> End {
    End {
        reason,
        is_quiet: false,
    }
}

/// The context entry of `source`, in the tables from `root` on.
pub(crate) fn context(memory: &impl GuestMemory, root: Gpa, source: Bdf) -> Result<Context, End> {
    let fetch = |table: Gpa, index: u8, reason| {
        let at = table.checked_add(u64::from(index) * ENTRY);
        let words = at.and_then(|at| Some((at, at.checked_add(8)?)));
        let (low, high) = words.ok_or(loud(reason))?;
        match (memory.read_u64(low), memory.read_u64(high)) {
            (Ok(low), Ok(high)) => Ok((low, high)),
            _ => Err(loud(reason)),
        }
    };
    let (low, high) = fetch(root, source.bus(), Reason::ROOT_UNREACHABLE)?;
    let entry = RootEntry(low);
    if !entry.p() {
        return Err(loud(Reason::ROOT_NOT_PRESENT));
    }
    if low & 0xffe != 0 || low >> ADDRESS_BITS != 0 || high != 0 {
        return Err(loud(Reason::ROOT_RESERVED));
    }
    let table = Gpa::new(entry.ctp() * PAGE_SIZE);
    let (low, high) = fetch(table, source.devfn(), Reason::CONTEXT_UNREACHABLE)?;
    let (low, high) = (ContextLow(low), ContextHigh(high));
    let end = |reason| End {
        reason,
        is_quiet: low.fpd(),
    };
    if !low.p() {
        return Err(end(Reason::CONTEXT_NOT_PRESENT));
    }
    if low.0 & 0xff0 != 0 || low.0 >> ADDRESS_BITS != 0 || high.0 >> 24 != 0 || high.0 & 0x80 != 0 {
        return Err(end(Reason::CONTEXT_RESERVED));
    }
    let bits = match high.aw() {
        1 => 39,
        2 => 48,
        _ => return Err(end(Reason::CONTEXT_INVALID)),
    };
    let route = match low.tt() {
        tt::SECOND_STAGE => Route::Table {
            root: Gpa::new(low.ssptptr() * PAGE_SIZE),
            bits,
        },
        tt::PASS_THROUGH => Route::Pass,
        _ => return Err(end(Reason::CONTEXT_INVALID)),
    };
    Ok(Context {
        domain: high.did(),
        is_quiet: low.fpd(),
        route,
    })
}

/// The page of `at` in the table at `root`. A page that is not there at all is one without any right:
/// `access` says which reason that has.
pub(crate) fn page(
    memory: &impl GuestMemory,
    root: Gpa,
    bits: u32,
    at: Iova,
    access: Access,
) -> Result<Leaf, Reason> {
    let geometry = geometry(bits, PageSize::GiB1);
    if at.raw() > geometry.last_input() {
        return Err(Reason::BEYOND_WIDTH);
    }
    let (mut may_read, mut may_write) = (true, true);
    let mut table = root;
    let mut level = geometry.root();
    loop {
        let place = table.checked_add(level.index(at.raw()) as u64 * 8);
        let word = place.and_then(|place| memory.read_u64(place).ok());
        let entry = Entry(word.ok_or(Reason::TABLE_UNREACHABLE)?);
        // Section 3.7: the rights of all entries on the way, taken together.
        (may_read, may_write) = (may_read && entry.r(), may_write && entry.w());
        if !entry.r() && !entry.w() {
            return Err(denied(access));
        }
        let (target, size) = match target(geometry, level, entry)? {
            Target::Table(next, below) => {
                (table, level) = (next, below);
                continue;
            }
            Target::Page(page, size) => (page, size),
        };
        let inside = at.raw() % size.bytes() / PAGE_SIZE * PAGE_SIZE;
        return Ok(Leaf {
            page: target.checked_add(inside).ok_or(Reason::ENTRY_RESERVED)?,
            size,
            may_read,
            may_write,
        });
    }
}

/// What a look along a table came to.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) enum Found {
    /// The first page that may be read or written, and the address where it begins, which may lie before that where the
    /// look began.
    Page(u64, Leaf),
    /// There is none.
    None,
    /// None before this address; what is behind it was not looked at any more.
    Unfinished(u64),
}

/// The first page with any right at an address from `from` up to `last`, in the table at `root`. Each entry that is read
/// is taken from `budget`.
pub(crate) fn first_page(
    memory: &impl GuestMemory,
    root: Gpa,
    geometry: Geometry,
    from: u64,
    last: u64,
    budget: &mut u32,
) -> Found {
    let last = last.min(geometry.last_input());
    let mut at = from;
    while at <= last {
        let (mut may_read, mut may_write) = (true, true);
        let (mut table, mut level) = (root, geometry.root());
        loop {
            if *budget == 0 {
                return Found::Unfinished(at);
            }
            *budget -= 1;
            let place = table.checked_add(level.index(at) as u64 * 8);
            let word = place.and_then(|place| memory.read_u64(place).ok());
            // What cannot be fetched gives no right.
            let entry = Entry(word.unwrap_or(0));
            let rights = (may_read && entry.r(), may_write && entry.w());
            let found = target(geometry, level, entry);
            match found.ok().filter(|_| rights.0 || rights.1) {
                Some(Target::Table(next, below)) => {
                    (table, level) = (next, below);
                    (may_read, may_write) = rights;
                    continue;
                }
                Some(Target::Page(page, size)) => {
                    let leaf = Leaf {
                        page,
                        size,
                        may_read: rights.0,
                        may_write: rights.1,
                    };
                    return Found::Page(at / size.bytes() * size.bytes(), leaf);
                }
                None => {}
            }
            at = (at / level.span() + 1) * level.span();
            if at > last || level.index(at) == 0 {
                break;
            }
        }
    }
    Found::None
}

/// The shape of a table for addresses of `bits` bits, with pages up to `largest`.
pub(crate) fn geometry(bits: u32, largest: PageSize) -> Geometry {
    Geometry::new(bits, ADDRESS_BITS, largest)
}

/// What an entry with some right leads to.
enum Target {
    Table(Gpa, Level),
    Page(Gpa, PageSize),
}

fn target(geometry: Geometry, level: Level, entry: Entry) -> Result<Target, Reason> {
    let target = Hpa::new(entry.address() * PAGE_SIZE);
    if let Some(below) = level.below().filter(|_| !entry.ps()) {
        return Ok(Target::Table(target.identity(), below));
    }
    // Without snoop control bit 11 of a leaf is reserved; without device TLBs bit 62 is.
    let is_reserved = entry.snp() || entry.tm() || !geometry.has_page(level, target);
    let size = level.page_size().filter(|_| !is_reserved);
    let size = size.ok_or(Reason::ENTRY_RESERVED)?;
    Ok(Target::Page(target.identity(), size))
}

/// What a device is told that may not do this.
pub(crate) fn denied(access: Access) -> Reason {
    match access {
        Access::Read => Reason::READ_DENIED,
        Access::Write => Reason::WRITE_DENIED,
    }
}
