//! The guest's memory, as hardware sees it.
//!
//! Owns the nested table that a [`Plan`] describes, and the traps that come and go on it. Never
//! maps a page of our own.

use core::fmt;

use memory::{ByteRange, Frames, Gpa, Hpa, OutOfFrames, PAGE_SIZE, Reserve};
use paging::{Change, Draft, Format, Leaf, Refused, Table};

use crate::mtrr::{Mtrrs, Run};
use crate::{Access, MemoryType, Plan, TrapKind};

/// A format that translates what the guest takes for physical addresses.
pub trait Nested: Format<Input = Gpa> {
    /// What a leaf says that grants `access` to memory of type `memory`.
    fn attributes(&self, access: Access, memory: MemoryType) -> Self::Attributes;

    /// The memory type that a leaf for `at` has to tell, and how far it goes on.
    fn memory_run(&self, mtrrs: &Mtrrs<'_>, at: Hpa) -> Run;
}

/// The nested table of the guest. Every call names the pool it was built from.
#[derive(Debug)]
pub struct GuestMap<'a, F> {
    plan: Plan<'a>,
    table: Table<F>,
}

/// A guest's memory that was left as it was.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum MapError {
    /// The machine's physical addresses have more bits than the table translates.
    TooWide {
        /// Bits of a physical address.
        physical: u32,
        /// Bits the table translates.
        table: u32,
    },
    /// The pool has fewer pages than the table takes.
    OutOfFrames {
        /// Pages the table takes.
        needed: usize,
    },
    /// No page of the machine starts there.
    NoPage(Gpa),
    /// The page holds memory of our own, which the guest does not reach in any case.
    OurOwn(Gpa),
    /// The table could not be changed.
    Table(Refused<Gpa>),
}

impl fmt::Display for MapError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::TooWide { physical, table } => write!(
                f,
                "guest memory: physical addresses have {physical} bits but nested tables translate {table}; use five levels"
            ),
            Self::OutOfFrames { needed } => write!(
                f,
                "guest memory: the nested table takes {needed} pages and the pool has fewer; enlarge the pool"
            ),
            Self::NoPage(page) => write!(
                f,
                "guest memory: no page of this machine starts at {page}; nothing was changed"
            ),
            Self::OurOwn(page) => write!(
                f,
                "guest memory: the page at {page} holds memory of Bouncer's own and is never mapped"
            ),
            Self::Table(error) => error.fmt(f),
        }
    }
}

impl core::error::Error for MapError {}

impl<'a, F: Nested> GuestMap<'a, F> {
    /// Builds the whole table, with the largest pages possible, or nothing.
    pub fn build(format: F, plan: Plan<'a>, frames: &mut impl Frames) -> Result<Self, MapError> {
        let geometry = format.geometry();
        let narrower = geometry.input_width().min(geometry.output_width());
        if plan.physical_width() > narrower {
            return Err(MapError::TooWide {
                physical: plan.physical_width(),
                table: narrower,
            });
        }
        let needed = plan.frames_needed(&format);
        let short = |OutOfFrames| MapError::OutOfFrames { needed };
        Reserve::take(frames, needed)
            .map_err(short)?
            .release(frames);
        let mut draft = Draft::new(format, frames).map_err(short)?;
        for segment in plan.segments(&format) {
            if let Some(attributes) = segment.attributes {
                let output = segment.range.start().identity();
                let mapped = draft.map(frames, segment.range, output, attributes);
                assert!(mapped.is_ok(), "a plan counts the frames its table takes");
            }
        }
        let table = draft.finish();
        Ok(Self { plan, table })
    }

    /// The table, to be named to the processor.
    pub fn table(&self) -> &Table<F> {
        &self.table
    }

    /// Where `at` goes, or `None` if the guest is stopped there.
    pub fn walk(&self, frames: &impl Frames, at: Gpa) -> Option<Leaf<F::Attributes>> {
        self.table.walk(frames, at)
    }

    /// Stops the guest at the page that starts at `page` from now on, whatever was there before.
    ///
    /// A page out of a larger one takes a frame for each size between.
    pub fn trap(
        &mut self,
        frames: &mut impl Frames,
        page: Gpa,
        kind: TrapKind,
    ) -> Result<Change<F>, MapError> {
        match kind {
            TrapKind::Absent => {
                let page = self.check(page)?;
                self.table.unmap(frames, page).map_err(MapError::Table)
            }
            TrapKind::ReadOnly => self.grant(frames, page, Access::READ_EXECUTE),
        }
    }

    /// Lets the guest through at the page that starts at `page` again, and merges the page with
    /// its neighbours where they have become alike.
    pub fn untrap(&mut self, frames: &mut impl Frames, page: Gpa) -> Result<Change<F>, MapError> {
        self.grant(frames, page, Access::ALL)
    }

    fn grant(
        &mut self,
        frames: &mut impl Frames,
        page: Gpa,
        access: Access,
    ) -> Result<Change<F>, MapError> {
        let range = self.check(page)?;
        // No memory type changes inside a page.
        let (attributes, _) = self.plan.attributes(self.table.format(), page, access);
        self.table
            .map(frames, range, page.identity(), attributes)
            .map_err(MapError::Table)
    }

    /// The page at `page`, if it is one that the guest may ever reach.
    fn check(&self, page: Gpa) -> Result<ByteRange<Gpa>, MapError> {
        let range = ByteRange::new(page, PAGE_SIZE).ok_or(MapError::NoPage(page))?;
        self.plan.check(range).map_err(|_| MapError::NoPage(page))?;
        if self.plan.has_hole(range) {
            return Err(MapError::OurOwn(page));
        }
        Ok(range)
    }
}

#[cfg(test)]
mod tests;
