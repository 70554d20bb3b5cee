//! A change that was made, and what it still owes.
//!
//! Owns the debt: which inputs caches may still translate the old way, and which tables they may
//! still read. Both are settled by one flush.

use core::fmt;

use heapless::Vec;
use memory::{ByteRange, Flush, Flushed, Frame, Frames, Hpa, PAGE_SIZE, Stale, TimedOut};

use crate::geometry::ENTRIES;
use crate::{Entry, Format, Level};

/// How many tables one change takes out of use at most. When a change could take more, the rest
/// stay linked and are changed in place: the answers are the same, and a later change over the
/// same range finds them.
// A change of one page needs at most one for each level below the root; of a range, twice that.
const CAPACITY: usize = 8;

/// A range of inputs that caches may still translate the old way.
pub type StaleRange<Input> = Stale<ByteRange<Input>>;

/// A change to a table that hardware may be walking.
///
/// Hardware may use the old answers until the change is settled, and the old tables are kept
/// intact for it until then.
#[must_use = "hardware may still use the old mapping until this is settled"]
pub struct Change<F: Format> {
    stale: Option<StaleRange<F::Input>>,
    retired: Retired<F>,
}

impl<F: Format> Change<F> {
    /// The inputs that caches may know the old way: those that had an answer, widened to the
    /// pages that held it. `None` if nothing was there to be cached, and nothing need be
    /// flushed on hardware that caches no absences.
    pub fn stale(&self) -> Option<&ByteRange<F::Input>> {
        self.stale.as_ref().map(Stale::scope)
    }

    /// Flushes what is stale, if anything, and gives the retired tables back to their pool.
    ///
    /// On a time-out the whole debt is handed back.
    pub fn settle(
        self,
        by: &mut impl Flush<ByteRange<F::Input>>,
        frames: &mut impl Frames,
    ) -> Result<(), (Self, TimedOut)> {
        let Self { stale, retired } = self;
        let Some(stale) = stale else {
            return Ok(());
        };
        match stale.settle(by) {
            Ok(proof) => {
                retired.give_back(frames, &proof);
                Ok(())
            }
            Err((stale, error)) => Err((
                Self {
                    stale: Some(stale),
                    retired,
                },
                error,
            )),
        }
    }

    /// Takes the debt apart, for changes whose flushes are merged into a wider one. The tables
    /// are for [`Retired::give_back`] once that one has succeeded.
    pub fn into_parts(self) -> (Option<StaleRange<F::Input>>, Retired<F>) {
        (self.stale, self.retired)
    }

    pub(crate) fn none(format: F) -> Self {
        Self {
            stale: None,
            retired: Retired {
                format,
                tables: Vec::new(),
            },
        }
    }

    /// Whether one more table may be retired.
    pub(crate) fn has_room(&self) -> bool {
        !self.retired.tables.is_full()
    }

    /// Records that an entry that stood for `region` was not absent and was replaced.
    pub(crate) fn replaced(&mut self, region: ByteRange<F::Input>) {
        let widened = match &self.stale {
            Some(stale) => stale.scope().hull(&region),
            None => region,
        };
        self.stale = Some(Stale::new(widened));
    }

    /// Records that the table at `table`, with all that it points to, is out of use. There is
    /// room.
    pub(crate) fn retire(&mut self, table: Hpa, level: Level) {
        let pushed = self.retired.tables.push(Subtree::new(table, level));
        assert!(pushed.is_ok(), "asked for room before retiring a table");
    }
}

impl<F: Format> fmt::Debug for Change<F> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Change")
            .field("stale", &self.stale)
            .field("retired", &self.retired)
            .finish()
    }
}

/// Tables out of use, which caches may still lead to.
#[must_use = "pages of retired tables are lost to their pool unless given back"]
pub struct Retired<F> {
    format: F,
    tables: Vec<Subtree, CAPACITY>,
}

impl<F: Format> Retired<F> {
    /// Gives the pages of the tables back. `proof` is of a flush of what the same change left
    /// stale.
    pub fn give_back(self, frames: &mut impl Frames, proof: &Flushed) {
        for subtree in &self.tables {
            give_back(&self.format, frames, subtree.root(), subtree.level(), proof);
        }
    }
}

impl<F> fmt::Debug for Retired<F> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_list().entries(&self.tables).finish()
    }
}

/// A table and its level, in one word: a debt is returned by value, and kept small.
#[derive(Clone, Copy)]
struct Subtree(u64);

impl Subtree {
    fn new(root: Hpa, level: Level) -> Self {
        Self(root.raw() | u64::from(level.number()))
    }

    fn root(self) -> Hpa {
        Hpa::new(self.0 & !(PAGE_SIZE - 1))
    }

    fn level(self) -> Level {
        Level::from_number((self.0 % PAGE_SIZE) as u8)
    }
}

impl fmt::Debug for Subtree {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} of level {}", self.root(), self.level().number())
    }
}

fn give_back<F: Format>(
    format: &F,
    frames: &mut impl Frames,
    table: Hpa,
    level: Level,
    proof: &Flushed,
) {
    if let Some(below) = level.below() {
        for index in 0..ENTRIES {
            if let Entry::Table(next) = format.decode(frames.read(table, index), level) {
                give_back(format, frames, next, below, proof);
            }
        }
    }
    let frame = Frame::new(table).expect("entries point to whole tables");
    frames.give_back(frame, proof);
}
