//! The walk hardware does, in software.
//!
//! Owns the descent from a root to a leaf, over tables of our own or of somebody else. Reads
//! only.
//!
//! ```text
//!  input   |  index 3  |  index 2  |  index 1  |  index 0  |   offset    |
//!                |           |           |           |
//!  root ──▶ [ table ] ─▶ [ table ] ─▶ [ table ] ─▶ [ leaf ] ─▶ 4 KiB page
//!                            └─▶ 1 GiB   └─▶ 2 MiB page, where a leaf comes earlier
//! ```

use memory::{Address, Hpa};

use crate::{Entry, Format, PageSize};

/// Where an address goes.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Leaf<Attributes> {
    /// The address that the input translates to, its offset in the page included.
    pub output: Hpa,
    /// The size of the page it lies in.
    pub size: PageSize,
    /// What the page's own entry grants. Tables written by this crate take nothing away on the
    /// way to a leaf; those of others may.
    pub attributes: Attributes,
}

/// Walks the table whose root is at `root`, whoever wrote it, reading each level's word once
/// through `read(table, index)`.
///
/// `None` if nothing is mapped at `input`. An error of `read` ends the walk.
pub fn walk<F: Format, E>(
    format: &F,
    root: Hpa,
    input: F::Input,
    mut read: impl FnMut(Hpa, usize) -> Result<u64, E>,
) -> Result<Option<Leaf<F::Attributes>>, E> {
    let input = input.raw();
    if input > format.geometry().last_input() {
        return Ok(None);
    }
    let mut table = root;
    let mut level = Some(format.geometry().root());
    while let Some(here) = level {
        match format.decode(read(table, here.index(input))?, here) {
            Entry::Absent => return Ok(None),
            Entry::Table(next) => table = next,
            Entry::Leaf(page, attributes) => {
                return Ok(here.page_size().map(|size| Leaf {
                    output: Hpa::new(page.raw() | (input % size.bytes())),
                    size,
                    attributes,
                }));
            }
        }
        level = here.below();
    }
    Ok(None)
}
