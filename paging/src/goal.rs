//! What a change wants, and what that asks of each entry it meets.
//!
//! Owns the one decision that counting and storing must agree on, and the count. Stores
//! nothing.

use memory::{Address, ByteRange, Frames, Hpa};

use crate::format::ABSENT;
use crate::geometry::Piece;
use crate::{Entry, Format, Level};

/// What a range shall answer.
#[derive(Clone, Copy, Debug)]
pub(crate) enum Goal<Attributes> {
    /// Nothing.
    Absent,
    /// Its own address plus `offset`, modulo 2^64.
    Mapped { offset: u64, attributes: Attributes },
}

/// What a goal asks of one entry.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) enum Step {
    /// It answers as wanted already.
    Keep,
    /// This word, in one store.
    Store(u64),
    /// A change in the table it points to.
    Descend(Hpa),
    /// A new table in its place, because only a part of it changes.
    Grow,
}

impl<Attributes: Copy + PartialEq> Goal<Attributes> {
    /// Decides what to do with an entry of `level` that says `entry`.
    pub(crate) fn step<F: Format<Attributes = Attributes>>(
        &self,
        format: &F,
        level: Level,
        piece: &Piece<F::Input>,
        entry: Entry<Attributes>,
    ) -> Step {
        if self.is_met(entry, piece.region.start().raw()) {
            return Step::Keep;
        }
        if piece.is_whole()
            && let Some(word) = self.word(format, level, piece.region.start().raw())
        {
            return Step::Store(word);
        }
        match entry {
            Entry::Table(table) => Step::Descend(table),
            Entry::Absent | Entry::Leaf(..) => Step::Grow,
        }
    }

    /// The word that gives all of the entry of `level` at `start` this goal's answer, if one
    /// word can.
    pub(crate) fn word<F: Format<Attributes = Attributes>>(
        &self,
        format: &F,
        level: Level,
        start: u64,
    ) -> Option<u64> {
        match *self {
            Self::Absent => Some(ABSENT),
            Self::Mapped { offset, attributes } => {
                let size = level.page_size()?;
                let output = Hpa::new(start.wrapping_add(offset));
                self.fits(format, level)
                    .then(|| format.leaf(output, size, attributes))
            }
        }
    }

    /// How many new tables the goal needs below the table at `table`, for `part` of what it
    /// stands for.
    pub(crate) fn frames_needed<F: Format<Attributes = Attributes>>(
        &self,
        format: &F,
        frames: &impl Frames,
        table: Hpa,
        level: Level,
        part: ByteRange<F::Input>,
    ) -> usize {
        level
            .pieces(part)
            .map(|piece| {
                let entry = format.decode(frames.read(table, piece.index), level);
                match (self.step(format, level, &piece, entry), level.below()) {
                    (Step::Descend(next), Some(below)) => {
                        self.frames_needed(format, frames, next, below, piece.part)
                    }
                    (Step::Grow, Some(below)) => self.frames_grown(format, below, piece.part),
                    _ => 0,
                }
            })
            .sum()
    }

    /// How many tables a goal needs from `top` down, where there are none and `part` lies in one
    /// of `top`.
    // In closed form: `part` may be as large as the input space, and whoever asked for it must
    // be refused in a bounded time.
    fn frames_grown<F: Format<Attributes = Attributes>>(
        &self,
        format: &F,
        top: Level,
        part: ByteRange<F::Input>,
    ) -> usize {
        let mut needed = 0;
        let mut level = Some(top);
        while let Some(here) = level {
            // One table of this level stands for one entry of the level above.
            let entry = here.above();
            let (start, last) = (part.start().raw(), part.last().raw());
            let touched = (last >> entry.shift()) - (start >> entry.shift()) + 1;
            needed += if self.fits(format, entry) {
                touched - whole(start, last, entry)
            } else {
                touched
            };
            level = here.below();
        }
        needed as usize
    }

    /// Whether one word of `level` can give this goal's answer.
    fn fits<F: Format<Attributes = Attributes>>(&self, format: &F, level: Level) -> bool {
        match *self {
            Self::Absent => true,
            Self::Mapped { offset, .. } => format.geometry().has_page(level, Hpa::new(offset)),
        }
    }

    /// Whether an entry that stands for the bytes from `start` on gives this goal's answer for
    /// all of them.
    fn is_met(&self, entry: Entry<Attributes>, start: u64) -> bool {
        match (*self, entry) {
            (Self::Absent, Entry::Absent) => true,
            (Self::Mapped { offset, attributes }, Entry::Leaf(output, have)) => {
                output.raw() == start.wrapping_add(offset) && have == attributes
            }
            _ => false,
        }
    }
}

/// How many entries of `level` lie wholly in `start..=last`.
fn whole(start: u64, last: u64, level: Level) -> u64 {
    let first = start.div_ceil(level.span());
    let end = (last + 1) / level.span();
    end.saturating_sub(first)
}
