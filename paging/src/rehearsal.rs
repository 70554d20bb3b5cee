//! A rehearsal: changes played against a model, with hardware walking at every moment.
//!
//! Owns what a table promises, as one check that any format can be put through: see
//! [`rehearse`]. Only for tests; needs the feature `rehearsal`.

use core::convert::Infallible;
use std::collections::{BTreeMap, BTreeSet};
use std::vec::Vec;

use kit::{RecordingFlush, RecordingFrames, StingyFrames};
use memory::{Address, ByteRange, Frames, Hpa, PAGE_SIZE};

use crate::geometry::ENTRIES;
use crate::{Change, Entry, Format, Geometry, Leaf, Level, PageSize, Refused, Table, walk};

/// Frames enough for any change that is rehearsed.
const PLENTY: usize = 1 << 20;

/// A change to rehearse, in pages of 4 KiB.
#[derive(Clone, Copy, Debug)]
pub enum Deed<Attributes> {
    /// Maps `pages` pages from `first` on to those from `output` on.
    Map {
        /// Number of the first page.
        first: u64,
        /// How many pages.
        pages: u64,
        /// Number of the page that the first goes to.
        output: u64,
        /// What is granted.
        attributes: Attributes,
    },
    /// Unmaps `pages` pages from `first` on.
    Unmap {
        /// Number of the first page.
        first: u64,
        /// How many pages.
        pages: u64,
    },
}

impl<Attributes: Copy> Deed<Attributes> {
    /// Makes a change of any four numbers, crowded about the places where pages of all sizes
    /// meet, with one of `attributes`.
    pub fn drawn(geometry: Geometry, dice: [u64; 4], attributes: &[Attributes]) -> Self {
        const LARGE: u64 = 1 << 9;
        const HUGE: u64 = 1 << 18;
        let [place, extent, target, choice] = dice;
        let end = (geometry.last_input() >> 12) + 1;
        let anchors = [0, LARGE, HUGE, 3 * HUGE, end / 2, end - HUGE];
        let anchor = anchors[(place % 6) as usize];
        let step = [1, 1, LARGE, HUGE][(place >> 8) as usize % 4];
        let first = (anchor + (place >> 16) % 3 * step + (place >> 32) % 3).min(end - 1);
        let steps = [1, 2, LARGE - 1, LARGE, LARGE + 1, HUGE, HUGE + 1];
        let outputs = (geometry.last_output() >> 12) + 1;
        let offset = [0, 0, 0, HUGE, LARGE, 1][(target % 6) as usize];
        let room = end - first.max(offset);
        let fine = !offset.is_multiple_of(LARGE) || geometry.largest() == PageSize::KiB4;
        let most = if fine { LARGE + 1 } else { room };
        let pages = steps[(extent % 7) as usize].min(most).clamp(1, end - first);
        let output = (first + offset) % (outputs - pages);
        match attributes.get((choice % (attributes.len() as u64 + 1)) as usize) {
            Some(&attributes) => Self::Map {
                first,
                pages,
                output,
                attributes,
            },
            None => Self::Unmap { first, pages },
        }
    }

    fn range<A: Address>(&self) -> ByteRange<A> {
        let (Self::Map { first, pages, .. } | Self::Unmap { first, pages }) = *self;
        ByteRange::new(A::new(first * PAGE_SIZE), pages * PAGE_SIZE).expect("a deed has pages")
    }
}

/// Plays `deeds` on a table of `format`, and panics unless
///
/// - the table answers as the model does after each,
/// - a walk at each past store finds the old answer or the new one for every address that is
///   near an edge, and so does a walk that takes several stores from one level to the next,
/// - every leaf that was replaced lies wholly in the range to be flushed,
/// - a change that is short of frames is refused, with nothing to be seen of it, and one that
///   has the number it asked for is made with exactly those,
/// - and every frame is either in the table or in the pool once the change is settled.
pub fn rehearse<F: Format>(format: F, deeds: &[Deed<F::Attributes>]) {
    let mut frames = StingyFrames::new(RecordingFrames::new(), PLENTY);
    let mut stage = Stage {
        table: Table::new(format, &mut frames).expect("there is plenty"),
        frames,
        model: Model {
            runs: BTreeMap::new(),
        },
    };
    for deed in deeds {
        stage.perform(deed);
    }
    let change = stage.table.retire();
    settle(change, &mut stage.frames);
    assert_eq!(stage.frames.pool().taken(), 0, "every frame came back");
}

/// What a page answers: the page it goes to, and how.
type Answer<Attributes> = Option<(u64, Attributes)>;

struct Stage<F: Format> {
    table: Table<F>,
    frames: StingyFrames<RecordingFrames>,
    model: Model<F::Attributes>,
}

impl<F: Format> Stage<F> {
    fn perform(&mut self, deed: &Deed<F::Attributes>) {
        let range = deed.range::<F::Input>();
        let probes = self.probes(range);
        let before: Vec<_> = probes.iter().map(|page| self.model.answer(*page)).collect();

        let leaves: BTreeMap<_, _> = probes
            .iter()
            .map(|page| (*page, self.table.walk(&self.frames, input(*page))))
            .collect();

        let start = self.frames.pool().stores();
        let change = self.perform_when_enough(deed);
        self.model.apply(deed);
        let after: Vec<_> = probes.iter().map(|page| self.model.answer(*page)).collect();

        for (page, (old, new)) in probes.into_iter().zip(before.into_iter().zip(after)) {
            let now = self.table.walk(&self.frames, input(page));
            assert_eq!(answer(now), new, "page {page:#x} after {deed:x?}");
            let watch = Watch {
                table: &self.table,
                frames: self.frames.pool(),
                page,
                either: [old, new],
            };
            watch.walk_every_moment(start);
            watch.walk_slowly(start);
            // A cache holds whole leaves, so that the whole of one that is no more is stale.
            if let Some(cached) = leaves.get(&page).copied().flatten()
                && now != Some(cached)
            {
                let stale = change.stale().expect("a leaf that was replaced is stale");
                let start = page * PAGE_SIZE / cached.size.bytes() * cached.size.bytes();
                let leaf = ByteRange::new(F::Input::new(start), cached.size.bytes());
                assert!(
                    leaf.is_some_and(|leaf| stale.covers(&leaf)),
                    "the leaf at {start:#x} was replaced in {deed:x?} but is not in {stale:x?}"
                );
            }
        }
        settle(change, &mut self.frames);
        self.account_for_every_frame();
    }

    /// Tries with too few frames first.
    fn perform_when_enough(&mut self, deed: &Deed<F::Attributes>) -> Change<F> {
        let taken = self.frames.pool().taken();
        let needed = match self.attempt(deed, 0) {
            Ok(change) => return change,
            Err(needed) => needed,
        };
        // Every shortage of a small change, the first and the last of a large one.
        for left in (1..needed.min(8)).chain([needed - 1]) {
            let short = self.attempt(deed, left);
            assert_eq!(short.err(), Some(needed), "{deed:x?} with {left} frames");
            assert_eq!(self.frames.pool().taken(), taken, "a refusal keeps a frame");
        }
        self.attempt(deed, needed)
            .expect("it has what it asked for")
    }

    /// Performs `deed` with exactly `left` frames, or tells how many it needs.
    fn attempt(&mut self, deed: &Deed<F::Attributes>, left: usize) -> Result<Change<F>, usize> {
        self.frames.allow(left);
        let result = match *deed {
            Deed::Map {
                output, attributes, ..
            } => {
                let output = Hpa::new(output * PAGE_SIZE);
                self.table
                    .map(&mut self.frames, deed.range(), output, attributes)
            }
            Deed::Unmap { .. } => self.table.unmap(&mut self.frames, deed.range()),
        };
        let over = self.frames.left();
        self.frames.allow(PLENTY);
        match result {
            Ok(change) => {
                assert_eq!(over, 0, "{deed:x?} asks for more than it takes");
                Ok(change)
            }
            Err(Refused::OutOfFrames { needed, .. }) => Err(needed),
            Err(refused) => panic!("{deed:x?}: {refused}"),
        }
    }

    fn account_for_every_frame(&self) {
        let format = self.table.format();
        let linked = tables(
            format,
            &self.frames,
            self.table.root(),
            format.geometry().root(),
        );
        assert_eq!(
            self.frames.pool().taken(),
            linked,
            "the frames that are taken are those of the table"
        );
    }

    /// Pages whose answer may be another than that of a neighbour, or in another table.
    fn probes(&self, range: ByteRange<F::Input>) -> BTreeSet<u64> {
        let last = self.table.format().geometry().last_input() / PAGE_SIZE;
        let ends = [range.start().raw(), range.last().raw() + 1].map(|end| end / PAGE_SIZE);
        let mut edges = self.model.edges();
        for end in ends {
            for size in [1, 1 << 9, 1 << 18] {
                edges.extend([end / size * size, end.next_multiple_of(size)]);
            }
        }
        edges
            .into_iter()
            .flat_map(|edge| [edge.saturating_sub(1), edge])
            .filter(|page| *page <= last)
            .collect()
    }
}

/// Hardware that walks to one page while a change goes on.
struct Watch<'a, F: Format> {
    table: &'a Table<F>,
    frames: &'a RecordingFrames,
    page: u64,
    /// What it may find.
    either: [Answer<F::Attributes>; 2],
}

impl<F: Format> Watch<'_, F> {
    /// Walks as after each store from `start` on.
    fn walk_every_moment(&self, start: usize) {
        let mut moment = Some(start);
        while let Some(now) = moment {
            let past = self.frames.rewind(now);
            // Until one of the words it read changes, the walk finds the same.
            moment = None;
            self.walk(|table, index| {
                let change = past.next_change(table, index);
                moment = moment.into_iter().chain(change).min();
                past.read(table, index)
            });
        }
    }

    /// Walks with the table changing underfoot, each level later than the one above.
    fn walk_slowly(&self, start: usize) {
        let mut dice = self.page ^ start as u64;
        for _ in 0..16 {
            let mut moment = start;
            self.walk(|table, index| {
                dice = dice
                    .wrapping_mul(0x5851_f42d_4c95_7f2d)
                    .wrapping_add(0x1405_7b7e_f767_814f);
                let ahead = self.frames.stores() - moment;
                moment += (dice >> 33) as usize % (ahead + 1);
                self.frames.rewind(moment).read(table, index)
            });
        }
    }

    fn walk(&self, mut read: impl FnMut(Hpa, usize) -> u64) {
        let Ok(leaf) = walk(
            self.table.format(),
            self.table.root(),
            input(self.page),
            |table, index| Ok::<_, Infallible>(read(table, index)),
        );
        let found = answer(leaf);
        let (page, either) = (self.page, self.either);
        assert!(
            either.contains(&found),
            "page {page:#x} answers {found:x?}, which is none of {either:x?}"
        );
    }
}

/// What a table should answer: runs of pages by the number of their first.
struct Model<Attributes> {
    runs: BTreeMap<u64, ModelRun<Attributes>>,
}

#[derive(Clone, Copy)]
struct ModelRun<Attributes> {
    last: u64,
    output: u64,
    attributes: Attributes,
}

impl<Attributes: Copy> Model<Attributes> {
    fn apply(&mut self, deed: &Deed<Attributes>) {
        let (Deed::Map { first, pages, .. } | Deed::Unmap { first, pages }) = *deed;
        let last = first + pages - 1;
        self.split(first);
        self.split(last + 1);
        self.runs.retain(|start, _| *start < first || last < *start);
        if let Deed::Map {
            output, attributes, ..
        } = *deed
        {
            let run = ModelRun {
                last,
                output,
                attributes,
            };
            self.runs.insert(first, run);
        }
    }

    fn answer(&self, page: u64) -> Answer<Attributes> {
        let (start, run) = self.runs.range(..=page).next_back()?;
        (page <= run.last).then_some((run.output + (page - start), run.attributes))
    }

    fn edges(&self) -> BTreeSet<u64> {
        self.runs
            .iter()
            .flat_map(|(start, run)| [*start, run.last + 1])
            .collect()
    }

    /// Makes the run that goes over `page` two, the second of which starts there.
    fn split(&mut self, page: u64) {
        let Some((&start, run)) = self.runs.range_mut(..page).next_back() else {
            return;
        };
        if page <= run.last {
            let rest = ModelRun {
                output: run.output + (page - start),
                ..*run
            };
            run.last = page - 1;
            self.runs.insert(page, rest);
        }
    }
}

/// Settles at the second attempt.
fn settle<F: Format>(change: Change<F>, frames: &mut StingyFrames<RecordingFrames>) {
    let taken = frames.pool().taken();
    let mut flush = RecordingFlush::failing(1);
    if let Err((change, _)) = change.settle(&mut flush, frames) {
        assert_eq!(
            frames.pool().taken(),
            taken,
            "no frame comes back unflushed"
        );
        let settled = change.settle(&mut flush, frames);
        assert!(settled.is_ok(), "the second flush finishes");
    }
}

/// How many frames the table at `table` consists of.
fn tables<F: Format>(format: &F, frames: &impl Frames, table: Hpa, level: Level) -> usize {
    let below =
        (0..ENTRIES).filter_map(
            |index| match format.decode(frames.read(table, index), level) {
                Entry::Table(next) => Some(tables(format, frames, next, level.below()?)),
                _ => None,
            },
        );
    1 + below.sum::<usize>()
}

fn input<A: Address>(page: u64) -> A {
    A::new(page * PAGE_SIZE)
}

fn answer<Attributes>(leaf: Option<Leaf<Attributes>>) -> Answer<Attributes> {
    leaf.map(|leaf| (leaf.output.raw() / PAGE_SIZE, leaf.attributes))
}
