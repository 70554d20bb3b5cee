//! A table before any hardware knows of it.
//!
//! Owns the secret of the root: as long as nobody can be told where to walk, no cache holds
//! anything, and changes owe nothing. [`Draft::finish`] gives the root away and ends that.

use memory::{ByteRange, Flush, Frames, Hpa, OutOfFrames, TimedOut};

use crate::{Change, Format, Leaf, Refused, Table};

/// A table that nobody walks yet. See [`Table`] for what the calls mean.
#[derive(Debug)]
pub struct Draft<F> {
    table: Table<F>,
}

impl<F: Format> Draft<F> {
    /// Begins a table in which nothing is mapped. Takes one page.
    pub fn new(format: F, frames: &mut impl Frames) -> Result<Self, OutOfFrames> {
        let table = Table::new(format, frames)?;
        Ok(Self { table })
    }

    /// Maps as [`Table::map`] does. All or nothing.
    pub fn map(
        &mut self,
        frames: &mut impl Frames,
        input: ByteRange<F::Input>,
        output: Hpa,
        attributes: F::Attributes,
    ) -> Result<(), Refused<F::Input>> {
        let change = self.table.map(frames, input, output, attributes)?;
        forget(change, frames);
        Ok(())
    }

    /// Unmaps as [`Table::unmap`] does. All or nothing.
    pub fn unmap(
        &mut self,
        frames: &mut impl Frames,
        input: ByteRange<F::Input>,
    ) -> Result<(), Refused<F::Input>> {
        let change = self.table.unmap(frames, input)?;
        forget(change, frames);
        Ok(())
    }

    /// Where `input` will go.
    pub fn walk(&self, frames: &impl Frames, input: F::Input) -> Option<Leaf<F::Attributes>> {
        self.table.walk(frames, input)
    }

    /// Gives all pages back.
    pub fn abandon(self, frames: &mut impl Frames) {
        forget(self.table.retire(), frames);
    }

    /// The table, ready to be walked.
    pub fn finish(self) -> Table<F> {
        self.table
    }
}

/// Settles a change that no cache can know of, because nobody knows the root.
fn forget<F: Format>(change: Change<F>, frames: &mut impl Frames) {
    let settled = change.settle(&mut NobodyKnows, frames);
    assert!(settled.is_ok(), "there is nothing to wait for");
}

/// The flush of caches that cannot hold anything.
struct NobodyKnows;

impl<Input> Flush<ByteRange<Input>> for NobodyKnows {
    fn flush(&mut self, _: &ByteRange<Input>) -> Result<(), TimedOut> {
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::sample::Sample;
    use crate::{Geometry, PageSize};
    use kit::{RecordingFrames, StingyFrames};
    use memory::Iova;

    const FORMAT: Sample = Sample(Geometry::new(48, 52, PageSize::GiB1));

    fn range(start: u64, len: u64) -> ByteRange<Iova> {
        ByteRange::new(Iova::new(start), len).unwrap()
    }

    #[test]
    fn pages_out_of_use_go_back_at_once() {
        let mut frames = RecordingFrames::new();
        let mut draft = Draft::new(FORMAT, &mut frames).unwrap();
        draft
            .map(&mut frames, range(0, 0x1000), Hpa::new(0), 1)
            .unwrap();
        assert_eq!(frames.taken(), 4);
        draft
            .map(&mut frames, range(0, 1 << 30), Hpa::new(0), 1)
            .unwrap();
        assert_eq!(frames.taken(), 2);
        draft.unmap(&mut frames, range(0, 1 << 30)).unwrap();
        assert_eq!(frames.taken(), 1);
    }

    #[test]
    fn a_draft_refuses_as_a_table_does() {
        let mut frames = StingyFrames::new(RecordingFrames::new(), 2);
        let mut draft = Draft::new(FORMAT, &mut frames).unwrap();
        let pages = range(0, 0x1000);
        let refused = draft.map(&mut frames, pages, Hpa::new(0), 1).unwrap_err();
        let expected = Refused::OutOfFrames {
            range: pages,
            needed: 3,
        };
        assert_eq!(refused, expected);
        assert_eq!(draft.walk(&frames, Iova::new(0)), None);
    }

    #[test]
    fn an_abandoned_draft_leaves_nothing_behind() {
        let mut frames = RecordingFrames::new();
        let mut draft = Draft::new(FORMAT, &mut frames).unwrap();
        draft
            .map(&mut frames, range(0, 0x1000), Hpa::new(0), 1)
            .unwrap();
        draft.abandon(&mut frames);
        assert_eq!(frames.taken(), 0);
    }

    #[test]
    fn a_finished_draft_answers_what_was_drafted() {
        let mut frames = RecordingFrames::new();
        let mut draft = Draft::new(FORMAT, &mut frames).unwrap();
        draft
            .map(&mut frames, range(0, 0x1000), Hpa::new(0x5000), 1)
            .unwrap();
        let table = draft.finish();
        let leaf = table.walk(&frames, Iova::new(7)).unwrap();
        assert_eq!(leaf.output, Hpa::new(0x5007));
    }
}
