//! Frames that remember every store, and can be seen as they were after any of them.

use std::collections::{BTreeMap, BTreeSet};

use memory::{Flushed, Frame, Frames, Hpa, OutOfFrames, PAGE_SIZE};

/// Words in a table.
const WORDS: usize = 512;

/// A pool of frames that keeps the history of each.
///
/// Hardware walks a table between any two stores; [`RecordingFrames::rewind`] shows what it
/// found there. The pool has as many frames as are asked for. Reading or storing through a
/// table that is not taken is a panic: it is a use after `give_back`, or a wild address.
#[derive(Debug)]
pub struct RecordingFrames {
    tables: BTreeMap<Hpa, Table>,
    taken: BTreeSet<Hpa>,
    free: Vec<Hpa>,
    next: u64,
    stores: usize,
}

/// The history of one frame: that of each word.
#[derive(Debug)]
struct Table {
    words: Vec<Vec<Change>>,
}

/// After how many stores a word was what.
type Change = (usize, u64);

impl Default for RecordingFrames {
    fn default() -> Self {
        Self::new()
    }
}

impl RecordingFrames {
    /// A pool of which nothing is taken. Its frames lie from 16 MiB on, with gaps.
    pub fn new() -> Self {
        Self {
            tables: BTreeMap::new(),
            taken: BTreeSet::new(),
            free: Vec::new(),
            next: 0x100_0000,
            stores: 0,
        }
    }

    /// How many stores there were so far. The zeroing of a frame that is taken counts as one.
    pub fn stores(&self) -> usize {
        self.stores
    }

    /// How many frames are taken and not given back.
    pub fn taken(&self) -> usize {
        self.taken.len()
    }

    /// What was to be read after the first `stores` stores. The view may be asked of frames
    /// that are not taken any more: hardware that was not flushed reads them as well.
    ///
    /// # Panics
    /// If there were fewer stores.
    pub fn rewind(&self, stores: usize) -> Past<'_> {
        assert!(
            stores <= self.stores,
            "there were only {} stores, not {stores}",
            self.stores
        );
        Past {
            frames: self,
            stores,
        }
    }

    fn owned(&self, table: Hpa, index: usize) -> &Table {
        assert!(
            self.taken.contains(&table),
            "word {index} of {table}, which is not a frame that is taken"
        );
        &self.tables[&table]
    }
}

impl Frames for RecordingFrames {
    fn take(&mut self) -> Result<Frame, OutOfFrames> {
        let base = self.free.pop().unwrap_or_else(|| {
            let base = Hpa::new(self.next);
            self.next += 3 * PAGE_SIZE;
            base
        });
        let table = self.tables.entry(base).or_insert_with(|| Table {
            words: vec![Vec::new(); WORDS],
        });
        self.stores += 1;
        for word in &mut table.words {
            if word.last().is_some_and(|&(_, value)| value != 0) {
                word.push((self.stores, 0));
            }
        }
        self.taken.insert(base);
        Ok(Frame::new(base).expect("frames are made page aligned"))
    }

    fn read(&self, table: Hpa, index: usize) -> u64 {
        let word = &self.owned(table, index).words[index];
        word.last().map_or(0, |&(_, value)| value)
    }

    fn publish(&mut self, table: Hpa, index: usize, word: u64) {
        self.owned(table, index);
        self.stores += 1;
        let history = self.tables.get_mut(&table).expect("owned above");
        history.words[index].push((self.stores, word));
    }

    fn give_back(&mut self, frame: Frame, _: &Flushed) {
        assert!(
            self.taken.remove(&frame.base()),
            "{} is given back but not taken",
            frame.base()
        );
        self.free.push(frame.base());
    }
}

/// The frames as they were at a moment of the past.
#[derive(Clone, Copy, Debug)]
pub struct Past<'a> {
    frames: &'a RecordingFrames,
    stores: usize,
}

impl Past<'_> {
    /// The word at `index` of the table at `table`, as a walker found it then.
    ///
    /// # Panics
    /// If the table was never a frame of the pool: the walker was sent astray.
    pub fn read(&self, table: Hpa, index: usize) -> u64 {
        let (known, _) = self.history(table, index);
        known.last().map_or(0, |&(_, word)| word)
    }

    /// After how many stores the word at `index` of the table at `table` was another, if ever.
    /// A walk that read nothing else needs no look at the moments between.
    pub fn next_change(&self, table: Hpa, index: usize) -> Option<usize> {
        let (_, unknown) = self.history(table, index);
        unknown.first().map(|&(stores, _)| stores)
    }

    /// What became of the word up to this moment, and after it.
    fn history(&self, table: Hpa, index: usize) -> (&[Change], &[Change]) {
        let Some(history) = self.frames.tables.get(&table) else {
            panic!("a walker was sent to {table}, which never was a frame");
        };
        let word = &history.words[index];
        word.split_at(word.partition_point(|&(stores, _)| stores <= self.stores))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use memory::{Flush, Stale, TimedOut};

    struct Instant;
    impl Flush<()> for Instant {
        fn flush(&mut self, (): &()) -> Result<(), TimedOut> {
            Ok(())
        }
    }

    #[test]
    fn the_past_has_each_word_as_it_was_after_that_many_stores() {
        let mut frames = RecordingFrames::new();
        let table = frames.take().unwrap().base();
        let start = frames.stores();
        frames.publish(table, 7, 1);
        frames.publish(table, 8, 2);
        frames.publish(table, 7, 3);
        let seen: Vec<_> = (start..=frames.stores())
            .map(|n| frames.rewind(n))
            .map(|past| (past.read(table, 7), past.read(table, 8)))
            .collect();
        assert_eq!(seen, [(0, 0), (1, 0), (1, 2), (3, 2)]);
    }

    #[test]
    fn a_word_stays_until_its_next_change() {
        let mut frames = RecordingFrames::new();
        let table = frames.take().unwrap().base();
        let start = frames.stores();
        frames.publish(table, 8, 2);
        frames.publish(table, 7, 1);
        assert_eq!(frames.rewind(start).next_change(table, 7), Some(start + 2));
        assert_eq!(frames.rewind(start + 2).next_change(table, 7), None);
    }

    #[test]
    fn a_frame_that_is_taken_again_is_zero_now_and_full_in_the_past() {
        let mut frames = RecordingFrames::new();
        let frame = frames.take().unwrap();
        let table = frame.base();
        frames.publish(table, 0, 5);
        let full = frames.stores();
        let proof = Stale::new(()).settle(&mut Instant).unwrap();
        frames.give_back(frame, &proof);
        assert_eq!(frames.take().unwrap().base(), table);
        assert_eq!(frames.read(table, 0), 0);
        assert_eq!(frames.rewind(full).read(table, 0), 5);
    }

    #[test]
    #[should_panic(expected = "not a frame that is taken")]
    fn a_store_through_a_frame_given_back_is_caught() {
        let mut frames = RecordingFrames::new();
        let frame = frames.take().unwrap();
        let table = frame.base();
        let proof = Stale::new(()).settle(&mut Instant).unwrap();
        frames.give_back(frame, &proof);
        frames.publish(table, 0, 1);
    }
}
