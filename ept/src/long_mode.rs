//! What NPT and the hypervisor's own tables share: the long-mode entry.
//!
//! Owns the translation between a long-mode entry and plain words. What U/S and G mean is for
//! the two formats to say.

use memory::{Hpa, PAGE_SIZE};
use paging::{Geometry, Level, PageSize};

use crate::spec::long_mode::Entry;
use crate::{Access, PatIndex};

/// An entry that points to the table at `table` and takes no permission away but U/S.
// Accessed and dirty flags are set from the start: the processor has no reason left to store
// to a table of ours.
pub(crate) fn table(table: Hpa) -> Entry {
    let mut entry = Entry::from_word(0);
    entry.set_present(true);
    entry.set_writable(true);
    entry.set_accessed(true);
    entry.set_page(table.raw() / PAGE_SIZE);
    entry
}

/// An entry that maps a page of `size` at `output`.
pub(crate) fn leaf(output: Hpa, size: PageSize, access: Access, cache: PatIndex) -> Entry {
    let mut entry = table(output);
    entry.set_writable(access.write);
    entry.set_no_execute(!access.execute);
    entry.set_write_through(cache.pwt());
    entry.set_cache_disable(cache.pcd());
    entry.set_dirty(true);
    match size {
        PageSize::KiB4 => entry.set_size_or_pat(cache.pat()),
        PageSize::MiB2 | PageSize::GiB1 => {
            entry.set_size_or_pat(true);
            entry.set_large_pat(cache.pat());
        }
    }
    entry
}

/// A present entry in plain words.
pub(crate) enum Meaning {
    Table(Hpa),
    Leaf(Hpa, Access, PatIndex),
}

/// What the processor makes of `entry` in a table of `level`; `None` if it is not present or
/// faults on a reserved bit.
pub(crate) fn decode(entry: Entry, level: Level, geometry: Geometry) -> Option<Meaning> {
    let address = entry.page() * PAGE_SIZE;
    if !entry.present() || address > geometry.last_output() {
        return None;
    }
    let is_lowest = level == Level::LOWEST;
    if !is_lowest && !entry.size_or_pat() {
        return Some(Meaning::Table(Hpa::new(address)));
    }
    let (output, pat) = if is_lowest {
        (address, entry.size_or_pat())
    } else {
        (address & !PAGE_SIZE, entry.large_pat())
    };
    let output = Hpa::new(output);
    geometry.has_page(level, output).then(|| {
        Meaning::Leaf(
            output,
            Access {
                write: entry.writable(),
                execute: !entry.no_execute(),
            },
            PatIndex::from_flags(pat, entry.cache_disable(), entry.write_through()),
        )
    })
}
