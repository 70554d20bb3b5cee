//! The plan of the guest's memory: one to one, but for what is left out or trapped.
//!
//! Owns the answer each page is to have, as a list of runs, and the count of the pages their
//! table takes. Stores nothing: [`crate::GuestMap`] builds what is planned.

use core::fmt;

use memory::{ByteRange, Gpa, PAGE_SIZE};

use crate::mtrr::Mtrrs;
use crate::{Access, Nested};

/// Pages at which the guest is stopped.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Trap {
    /// Whole pages of 4 KiB.
    pub pages: ByteRange<Gpa>,
    /// Which accesses stop.
    pub kind: TrapKind,
}

/// Which accesses stop the guest.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum TrapKind {
    /// Stores. Loads and fetches pass.
    ReadOnly,
    /// All.
    Absent,
}

/// What the guest's memory is to look like. Guest-physical addresses equal host-physical ones.
#[derive(Clone, Copy, Debug)]
pub struct Plan<'a> {
    width: u32,
    holes: &'a [ByteRange<Gpa>],
    traps: &'a [Trap],
    mtrrs: Mtrrs<'a>,
}

/// A plan that cannot be.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum PlanError {
    /// No processor has physical addresses of this many bits.
    Width(u32),
    /// A trap is not made of whole pages.
    Unaligned(ByteRange<Gpa>),
    /// A trap reaches beyond the last physical address.
    Beyond(ByteRange<Gpa>),
}

impl fmt::Display for PlanError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Width(width) => write!(
                f,
                "guest memory: physical addresses of {width} bits; expected 32 to 52, check CPUID 8000_0008h"
            ),
            Self::Unaligned(pages) => write!(
                f,
                "guest memory: the trap at {}..={} is not made of whole 4 KiB pages",
                pages.start(),
                pages.last()
            ),
            Self::Beyond(pages) => write!(
                f,
                "guest memory: the trap at {}..={} lies beyond the last physical address",
                pages.start(),
                pages.last()
            ),
        }
    }
}

impl core::error::Error for PlanError {}

/// Neighbouring pages with the same answer.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) struct Segment<Attributes> {
    pub(crate) range: ByteRange<Gpa>,
    /// `None` where nothing is mapped.
    pub(crate) attributes: Option<Attributes>,
}

impl<'a> Plan<'a> {
    /// Plans the memory of a machine with physical addresses of `physical_width` bits (32..=52).
    ///
    /// The guest never reaches a page that holds a byte of `holes`, which is our own memory;
    /// `traps` stop it as long as nobody lifts them. Either may come in any order and overlap;
    /// a hole wins over a trap and `Absent` over `ReadOnly`.
    pub fn new(
        physical_width: u32,
        holes: &'a [ByteRange<Gpa>],
        traps: &'a [Trap],
        mtrrs: Mtrrs<'a>,
    ) -> Result<Self, PlanError> {
        if !(32..=52).contains(&physical_width) {
            return Err(PlanError::Width(physical_width));
        }
        let plan = Self {
            width: physical_width,
            holes,
            traps,
            mtrrs,
        };
        traps.iter().try_for_each(|trap| plan.check(trap.pages))?;
        Ok(plan)
    }

    /// Bits of a physical address.
    pub fn physical_width(&self) -> u32 {
        self.width
    }

    /// Exactly how many pages the nested table takes, its root included.
    pub fn frames_needed<F: Nested>(&self, format: &F) -> usize {
        let largest = format.geometry().largest().level();
        let mut needed = 1;
        let mut level = format.geometry().root();
        while let Some(below) = level.below() {
            // A table of the level below stands for one entry of this level, and is needed
            // unless one word says it all.
            let mut counted = None;
            for segment in self.segments(format) {
                if segment.attributes.is_none() {
                    continue;
                }
                let (start, last) = (segment.range.start().raw(), segment.range.last().raw());
                let (first, end) = (start / level.span(), last / level.span());
                if level > largest {
                    needed += end - first + 1 - u64::from(counted == Some(first));
                    counted = Some(end);
                    continue;
                }
                let is_whole = |entry: u64| {
                    start <= entry * level.span() && (entry + 1) * level.span() - 1 <= last
                };
                for entry in [first, end] {
                    if !is_whole(entry) && counted != Some(entry) {
                        needed += 1;
                        counted = Some(entry);
                    }
                }
            }
            level = below;
        }
        needed as usize
    }

    /// Whether a page of `pages` holds a byte of our own.
    pub(crate) fn has_hole(&self, pages: ByteRange<Gpa>) -> bool {
        self.holes
            .iter()
            .any(|hole| hole.whole_pages().overlaps(&pages))
    }

    /// Checks that `pages` are whole pages of the machine.
    pub(crate) fn check(&self, pages: ByteRange<Gpa>) -> Result<(), PlanError> {
        if !pages.is_page_aligned() {
            Err(PlanError::Unaligned(pages))
        } else if pages.last() > self.last() {
            Err(PlanError::Beyond(pages))
        } else {
            Ok(())
        }
    }

    /// What `format` says of a page at `at` that grants `access`, and how far it may say so.
    pub(crate) fn attributes<F: Nested>(
        &self,
        format: &F,
        at: Gpa,
        access: Access,
    ) -> (F::Attributes, Gpa) {
        let run = format.memory_run(&self.mtrrs, at.identity());
        (
            format.attributes(access, run.memory),
            Gpa::new(run.last.raw()),
        )
    }

    /// The whole of the memory, in order, in the largest runs.
    pub(crate) fn segments<F: Nested>(
        &self,
        format: &F,
    ) -> impl Iterator<Item = Segment<F::Attributes>> {
        let mut next = Some(Gpa::new(0));
        core::iter::from_fn(move || {
            let mut segment = self.segment_from(format, next?)?;
            loop {
                next = segment
                    .range
                    .last()
                    .checked_add(1)
                    .filter(|next| *next <= self.last());
                match next.and_then(|next| self.segment_from(format, next)) {
                    Some(more) if more.attributes == segment.attributes => {
                        segment.range = segment.range.hull(&more.range);
                    }
                    _ => return Some(segment),
                }
            }
        })
    }

    /// A run of pages from `start` on with the same answer, not always the largest.
    fn segment_from<F: Nested>(&self, format: &F, start: Gpa) -> Option<Segment<F::Attributes>> {
        let holes = self.holes.iter().map(ByteRange::whole_pages);
        let traps = self.traps.iter().map(|trap| trap.pages);
        let last = holes
            .chain(traps)
            .filter_map(|range| {
                if start < range.start() {
                    Some(Gpa::new(range.start().raw() - 1))
                } else {
                    range.contains(start).then(|| range.last())
                }
            })
            .fold(self.last(), Gpa::min);
        let (attributes, last) = match self.access(start) {
            Some(access) => {
                let (attributes, uniform) = self.attributes(format, start, access);
                (Some(attributes), last.min(uniform))
            }
            None => (None, last),
        };
        Some(Segment {
            range: ByteRange::inclusive(start, last)?,
            attributes,
        })
    }

    /// What the page at `start` grants.
    fn access(&self, start: Gpa) -> Option<Access> {
        let page = ByteRange::new(start, PAGE_SIZE)?;
        if self.has_hole(page) {
            return None;
        }
        let mut traps = self.traps.iter().filter(|trap| trap.pages.overlaps(&page));
        traps.try_fold(Access::ALL, |_, trap| match trap.kind {
            TrapKind::Absent => None,
            TrapKind::ReadOnly => Some(Access::READ_EXECUTE),
        })
    }

    fn last(&self) -> Gpa {
        Gpa::new((1 << self.width) - 1)
    }
}
