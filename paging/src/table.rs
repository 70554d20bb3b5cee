//! A table hardware walks while we change it.
//!
//! Owns the order of the stores. A change is counted first and its pages taken; a new table is
//! filled while nobody can see it, then shown by one store of the entry above it; a table out
//! of use stays as it is until caches have forgotten it. So a walk that falls between any two
//! stores, and one that began before them, finds for each address the old answer or the new
//! one.

use core::convert::Infallible;

use memory::{Address, ByteRange, Frames, Hpa, OutOfFrames, Reserve};

use crate::format::ABSENT;
use crate::geometry::{ENTRIES, Piece};
use crate::goal::{Goal, Step};
use crate::{Change, Entry, Format, Leaf, Level, Refused, walk};

/// A radix table, with all the pages it consists of.
///
/// Every call on one table names the pool it was made from.
#[derive(Debug)]
pub struct Table<F> {
    format: F,
    root: Hpa,
}

impl<F: Format> Table<F> {
    /// Makes a table in which nothing is mapped. Takes one page.
    pub fn new(format: F, frames: &mut impl Frames) -> Result<Self, OutOfFrames> {
        let root = frames.take()?.base();
        Ok(Self { format, root })
    }

    /// Where hardware starts to walk.
    pub fn root(&self) -> Hpa {
        self.root
    }

    /// The format the table is written in.
    pub fn format(&self) -> &F {
        &self.format
    }

    /// Where `input` goes, or `None` if nothing is mapped there.
    pub fn walk(&self, frames: &impl Frames, input: F::Input) -> Option<Leaf<F::Attributes>> {
        let Ok(leaf) = walk(&self.format, self.root, input, |table, index| {
            Ok::<_, Infallible>(frames.read(table, index))
        });
        leaf
    }

    /// Makes every page of `input` go to the page as far behind `output` as it is behind the
    /// start of `input`, with `attributes`, whatever was mapped before.
    ///
    /// Uses the largest pages that the alignment and the format allow, splits those that are
    /// larger than the change, and merges those that have become alike. All or nothing: see
    /// [`Refused`].
    pub fn map(
        &mut self,
        frames: &mut impl Frames,
        input: ByteRange<F::Input>,
        output: Hpa,
        attributes: F::Attributes,
    ) -> Result<Change<F>, Refused<F::Input>> {
        if output.page_offset() != 0 {
            return Err(Refused::UnalignedOutput(output));
        }
        let last = output.checked_add(input.len() - 1);
        if last.is_none_or(|last| last.raw() > self.format.geometry().last_output()) {
            return Err(Refused::BeyondOutput {
                output,
                len: input.len(),
                width: self.format.geometry().output_width(),
            });
        }
        let offset = output.raw().wrapping_sub(input.start().raw());
        self.pursue(frames, input, Goal::Mapped { offset, attributes })
    }

    /// Makes every page of `input` answer nothing.
    ///
    /// All or nothing: see [`Refused`]. Only a change that takes a part of a larger page needs
    /// memory, so that unmapping whole pages is never refused for want of it.
    pub fn unmap(
        &mut self,
        frames: &mut impl Frames,
        input: ByteRange<F::Input>,
    ) -> Result<Change<F>, Refused<F::Input>> {
        self.pursue(frames, input, Goal::Absent)
    }

    /// Ends the table. Its pages go back to the pool when the change is settled: by then no
    /// hardware may have the root in a register.
    pub fn retire(self) -> Change<F> {
        let geometry = self.format.geometry();
        let mut change = Change::none(self.format);
        change.retire(self.root, geometry.root());
        if let Some(all) =
            ByteRange::inclusive(F::Input::new(0), F::Input::new(geometry.last_input()))
        {
            change.replaced(all);
        }
        change
    }

    fn pursue(
        &mut self,
        frames: &mut impl Frames,
        range: ByteRange<F::Input>,
        goal: Goal<F::Attributes>,
    ) -> Result<Change<F>, Refused<F::Input>> {
        let geometry = self.format.geometry();
        if !range.is_page_aligned() {
            return Err(Refused::UnalignedInput(range));
        }
        if range.last().raw() > geometry.last_input() {
            return Err(Refused::BeyondInput {
                range,
                width: geometry.input_width(),
            });
        }
        let needed = goal.frames_needed(&self.format, frames, self.root, geometry.root(), range);
        let reserve = Reserve::take(frames, needed)
            .map_err(|OutOfFrames| Refused::OutOfFrames { range, needed })?;
        let mut pursuit = Pursuit {
            format: self.format,
            goal,
            frames,
            reserve,
            change: Change::none(self.format),
        };
        pursuit.change_table(self.root, geometry.root(), range);
        assert!(
            pursuit.reserve.left() == 0,
            "a change draws the pages that were counted"
        );
        Ok(pursuit.change)
    }
}

/// A change on its way, from the count to the last store.
struct Pursuit<'a, F: Format, M> {
    format: F,
    goal: Goal<F::Attributes>,
    frames: &'a mut M,
    reserve: Reserve,
    change: Change<F>,
}

impl<F: Format, M: Frames> Pursuit<'_, F, M> {
    /// Brings about the goal for `part` of what the table at `table` stands for.
    fn change_table(&mut self, table: Hpa, level: Level, part: ByteRange<F::Input>) {
        for piece in level.pieces(part) {
            let entry = self.entry(table, piece.index, level);
            match self.goal.step(&self.format, level, &piece, entry) {
                Step::Keep => {}
                Step::Store(word) => self.store(table, level, &piece, entry, word),
                Step::Descend(next) => {
                    self.change_table(next, below(level), piece.part);
                    self.tidy(table, level, &piece, next);
                }
                Step::Grow => {
                    let word = self.unseen_word(level, &piece, entry);
                    self.replace(table, &piece, entry, word);
                }
            }
        }
    }

    /// Stores the one word that brings about the goal for all of `piece`. A table that this
    /// takes out of use is retired while there is room, and is changed in place after that.
    fn store(
        &mut self,
        table: Hpa,
        level: Level,
        piece: &Piece<F::Input>,
        entry: Entry<F::Attributes>,
        word: u64,
    ) {
        match entry {
            Entry::Table(next) if !self.change.has_room() => {
                self.change_table(next, below(level), piece.part);
            }
            Entry::Table(next) => {
                self.replace(table, piece, entry, word);
                self.change.retire(next, below(level));
            }
            Entry::Absent | Entry::Leaf(..) => self.replace(table, piece, entry, word),
        }
    }

    /// The word of `level` that answers the goal for the part of `piece`, and for the rest what
    /// `old` answers. Nobody sees it yet, nor any table it points to.
    fn unseen_word(
        &mut self,
        level: Level,
        piece: &Piece<F::Input>,
        old: Entry<F::Attributes>,
    ) -> u64 {
        let start = piece.region.start().raw();
        if piece.is_whole()
            && let Some(word) = self.goal.word(&self.format, level, start)
        {
            return word;
        }
        let frame = self
            .reserve
            .draw(self.frames)
            .expect("a change draws the pages that were counted");
        let level = below(level);
        for small in level.pieces(piece.region) {
            let behind = small.region.start().raw() - start;
            let old = match old {
                Entry::Leaf(output, attributes) => {
                    Entry::Leaf(Hpa::new(output.raw() + behind), attributes)
                }
                _ => Entry::Absent,
            };
            let word = match small.region.intersection(&piece.part) {
                Some(part) => self.unseen_word(level, &Piece { part, ..small }, old),
                None => self.word(level, old),
            };
            if word != ABSENT {
                self.frames.publish(frame.base(), small.index, word);
            }
        }
        self.format.table(frame.base())
    }

    /// Replaces the entry that points to the table at `next` by one word, if one word gives the
    /// same answers.
    fn tidy(&mut self, table: Hpa, level: Level, piece: &Piece<F::Input>, next: Hpa) {
        if self.change.has_room()
            && let Some(alike) = self.alike(next, level)
        {
            let word = self.word(level, alike);
            self.replace(table, piece, Entry::Table(next), word);
            self.change.retire(next, below(level));
        }
    }

    /// The one entry of `level` that answers what the whole table at `next`, one level below,
    /// answers, if there is one.
    // Both ends are looked at first: a table that is being filled or emptied in either
    // direction differs there, so that a change of one page rarely reads more than two words.
    fn alike(&self, next: Hpa, level: Level) -> Option<Entry<F::Attributes>> {
        let small = below(level);
        let first = self.entry(next, 0, small);
        let mut others = core::iter::once(ENTRIES - 1).chain(1..ENTRIES - 1);
        match first {
            Entry::Absent => others.all(|index| self.entry(next, index, small) == Entry::Absent),
            Entry::Table(_) => false,
            Entry::Leaf(output, attributes) => {
                self.format.geometry().has_page(level, output)
                    && others.all(|index| {
                        let behind = index as u64 * small.span();
                        let follows = Hpa::new(output.raw() + behind);
                        self.entry(next, index, small) == Entry::Leaf(follows, attributes)
                    })
            }
        }
        .then_some(first)
    }

    /// Shows `word` in place of `entry`.
    fn replace(
        &mut self,
        table: Hpa,
        piece: &Piece<F::Input>,
        entry: Entry<F::Attributes>,
        word: u64,
    ) {
        self.frames.publish(table, piece.index, word);
        if entry != Entry::Absent {
            self.change.replaced(piece.region);
        }
    }

    fn entry(&self, table: Hpa, index: usize, level: Level) -> Entry<F::Attributes> {
        self.format.decode(self.frames.read(table, index), level)
    }

    fn word(&self, level: Level, entry: Entry<F::Attributes>) -> u64 {
        match (entry, level.page_size()) {
            (Entry::Leaf(output, attributes), Some(size)) => {
                self.format.leaf(output, size, attributes)
            }
            (Entry::Table(table), _) => self.format.table(table),
            _ => ABSENT,
        }
    }
}

/// The level below one whose entry points to a table.
fn below(level: Level) -> Level {
    level
        .below()
        .expect("entries of the lowest level are changed by one store")
}

#[cfg(test)]
mod tests;
