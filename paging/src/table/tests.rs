use core::cell::Cell;
use std::vec::Vec;

use kit::{RecordingFlush, RecordingFrames, StingyFrames};
use memory::{Address, ByteRange, Flushed, Frame, Frames, Hpa, Iova, OutOfFrames};
use proptest::prelude::*;

use super::Table;
use crate::rehearsal::{Deed, rehearse};
use crate::sample::{Sample, shapes};
use crate::{Change, Geometry, Leaf, PageSize, Refused, walk};

const MIB2: u64 = 2 << 20;
const GIB1: u64 = 1 << 30;
const FOUR_LEVELS: Sample = Sample(Geometry::new(48, 52, PageSize::GiB1));

proptest! {
    #![proptest_config(ProptestConfig::with_cases(96))]

    #[test]
    fn hardware_finds_the_old_answer_or_the_new_one_between_any_two_stores(
        shape in 0..shapes().count(),
        dice in prop::collection::vec(any::<[u64; 4]>(), 1..8),
    ) {
        let format = shapes().nth(shape).unwrap();
        let deeds: Vec<_> = dice
            .iter()
            .map(|dice| Deed::drawn(format.0, *dice, &[1, 2]))
            .collect();
        rehearse(format, &deeds);
    }
}

struct Bench {
    table: Table<Sample>,
    frames: StingyFrames<RecordingFrames>,
}

impl Bench {
    fn new() -> Self {
        Self::of(FOUR_LEVELS)
    }

    fn of(format: Sample) -> Self {
        let mut frames = StingyFrames::new(RecordingFrames::new(), 10_000);
        Self {
            table: Table::new(format, &mut frames).unwrap(),
            frames,
        }
    }

    fn map(&mut self, start: u64, len: u64, output: u64) -> Option<ByteRange<Iova>> {
        let change = self
            .table
            .map(&mut self.frames, range(start, len), Hpa::new(output), 1)
            .unwrap();
        self.settle(change)
    }

    fn unmap(&mut self, start: u64, len: u64) -> Option<ByteRange<Iova>> {
        let change = self
            .table
            .unmap(&mut self.frames, range(start, len))
            .unwrap();
        self.settle(change)
    }

    /// Settles, and tells what was flushed.
    fn settle(&mut self, change: Change<Sample>) -> Option<ByteRange<Iova>> {
        let mut flush = RecordingFlush::new();
        change.settle(&mut flush, &mut self.frames).unwrap();
        flush.flushed().first().copied()
    }

    fn at(&self, input: u64) -> Option<(u64, PageSize)> {
        let leaf = self.table.walk(&self.frames, Iova::new(input))?;
        Some((leaf.output.raw(), leaf.size))
    }

    fn taken(&self) -> usize {
        self.frames.pool().taken()
    }
}

fn range<A: Address>(start: u64, len: u64) -> ByteRange<A> {
    ByteRange::new(A::new(start), len).unwrap()
}

#[test]
fn a_new_table_answers_nothing() {
    let bench = Bench::new();
    assert_eq!(bench.at(0), None);
    assert_eq!(bench.at((1 << 48) - 1), None);
}

#[test]
fn a_walk_keeps_the_offset_in_the_page() {
    let mut bench = Bench::new();
    bench.map(0x5000, 0x1000, 0x9000);
    bench.map(GIB1, GIB1, 4 * GIB1);
    assert_eq!(bench.at(0x5abc), Some((0x9abc, PageSize::KiB4)));
    let far = GIB1 + 0x1234_5678;
    assert_eq!(bench.at(far), Some((far + 3 * GIB1, PageSize::GiB1)));
}

#[test]
fn a_walk_beyond_the_input_width_answers_nothing() {
    let mut bench = Bench::new();
    bench.map(0, 0x1000, 0x9000);
    assert_eq!(bench.at(1 << 48), None);
    assert_eq!(bench.at(!0xfff), None);
}

#[test]
fn the_largest_pages_that_are_aligned_on_both_sides_are_used() {
    let mut bench = Bench::new();
    bench.map(MIB2 - 0x1000, 2 * GIB1, MIB2 - 0x1000);
    assert_eq!(bench.at(MIB2 - 1).unwrap().1, PageSize::KiB4);
    assert_eq!(bench.at(MIB2).unwrap().1, PageSize::MiB2);
    assert_eq!(bench.at(GIB1 - 1).unwrap().1, PageSize::MiB2);
    assert_eq!(bench.at(GIB1).unwrap().1, PageSize::GiB1);
    bench.map(0, 2 * GIB1, MIB2);
    assert_eq!(bench.at(GIB1).unwrap().1, PageSize::MiB2);
    bench.map(0, MIB2, 0x1000);
    assert_eq!(bench.at(0).unwrap().1, PageSize::KiB4);
}

#[test]
fn no_page_is_larger_than_the_format_has() {
    for format in shapes() {
        let mut bench = Bench::of(format);
        bench.map(0, 4 * MIB2, 0);
        let expected = format.0.largest().min(PageSize::MiB2);
        assert_eq!(bench.at(0).unwrap().1, expected);
    }
}

#[test]
fn a_page_changed_and_changed_back_is_merged_into_the_page_it_was_cut_from() {
    let mut bench = Bench::new();
    bench.map(0, 2 * GIB1, 0);
    let before = bench.taken();
    bench.unmap(5 * MIB2 + 0x3000, 0x1000);
    assert_eq!(bench.taken(), before + 2);
    assert_eq!(bench.at(5 * MIB2 + 0x2fff).unwrap().1, PageSize::KiB4);
    assert_eq!(bench.at(4 * MIB2).unwrap().1, PageSize::MiB2);
    bench.map(5 * MIB2 + 0x3000, 0x1000, 5 * MIB2 + 0x3000);
    assert_eq!(bench.at(5 * MIB2).unwrap().1, PageSize::GiB1);
    assert_eq!(bench.taken(), before);
}

#[test]
fn pages_mapped_one_by_one_are_merged() {
    for backwards in [false, true] {
        let mut bench = Bench::new();
        for step in 0..512 {
            let page = if backwards { 511 - step } else { step };
            bench.map(page * 0x1000, 0x1000, page * 0x1000);
        }
        assert_eq!(bench.at(0).unwrap().1, PageSize::MiB2);
    }
}

#[test]
fn pages_that_differ_in_attributes_are_not_merged() {
    let mut bench = Bench::new();
    bench.map(0x1000, MIB2 - 0x1000, 0x1000);
    let change = bench
        .table
        .map(&mut bench.frames, range(0, 0x1000), Hpa::new(0), 2)
        .unwrap();
    bench.settle(change);
    assert_eq!(bench.at(0).unwrap().1, PageSize::KiB4);
}

#[test]
fn a_table_that_has_become_empty_goes_back_to_its_pool() {
    let mut bench = Bench::new();
    bench.map(0x7f_ffff_f000, 0x2000, 0);
    assert_eq!(bench.taken(), 7);
    bench.unmap(0x80_0000_0000, 0x1000);
    assert_eq!(bench.taken(), 4);
    bench.unmap(0x7f_ffff_f000, 0x1000);
    assert_eq!(bench.taken(), 1);
}

#[test]
fn mapping_where_nothing_was_leaves_nothing_to_flush() {
    let mut bench = Bench::new();
    assert_eq!(bench.map(0, GIB1 + 0x1000, 0), None);
}

#[test]
fn a_change_that_changes_nothing_stores_nothing() {
    let mut bench = Bench::new();
    bench.map(0, 2 * GIB1, 0);
    let stores = bench.frames.pool().stores();
    assert_eq!(bench.map(MIB2, 0x5000, MIB2), None);
    assert_eq!(bench.unmap(4 * GIB1, GIB1), None);
    assert_eq!(bench.frames.pool().stores(), stores);
}

#[test]
fn what_is_flushed_is_as_large_as_the_page_that_was_cut() {
    let mut bench = Bench::new();
    bench.map(0, 2 * GIB1, 0);
    assert_eq!(bench.unmap(MIB2, 0x1000), Some(range(0, GIB1)));
    assert_eq!(
        bench.unmap(MIB2 + 0x1000, 0x1000),
        Some(range(MIB2 + 0x1000, 0x1000))
    );
}

#[test]
fn a_change_in_a_new_part_shows_itself_in_one_store() {
    let mut bench = Bench::new();
    let start = bench.frames.pool().stores();
    bench.map(0x5000, 0x3000, 0x5000);
    let frames = bench.frames.pool();
    let shown: Vec<_> = (start..=frames.stores())
        .map(|moment| frames.rewind(moment))
        .map(|past| {
            [0x5000, 0x6000, 0x7000].map(|at| {
                walk(
                    &FOUR_LEVELS,
                    bench.table.root(),
                    Iova::new(at),
                    |table, index| Ok::<_, ()>(past.read(table, index)),
                )
                .unwrap()
                .is_some()
            })
        })
        .collect();
    assert!(
        shown
            .iter()
            .all(|all| *all == [false; 3] || *all == [true; 3])
    );
    assert_eq!(shown.last(), Some(&[true; 3]));
}

#[test]
fn retired_tables_stay_until_a_flush_succeeds() {
    let mut bench = Bench::new();
    bench.map(0, 0x1000, 0);
    let change = bench
        .table
        .unmap(&mut bench.frames, range(0, 0x1000))
        .unwrap();
    let (change, _) = change
        .settle(&mut RecordingFlush::failing(1), &mut bench.frames)
        .unwrap_err();
    assert_eq!(bench.taken(), 4);
    bench.settle(change);
    assert_eq!(bench.taken(), 1);
}

#[test]
fn a_debt_taken_apart_is_settled_by_a_wider_flush() {
    let mut bench = Bench::new();
    bench.map(0, 0x1000, 0);
    let change = bench
        .table
        .unmap(&mut bench.frames, range(0, 0x1000))
        .unwrap();
    let (stale, retired) = change.into_parts();
    let mut flush = RecordingFlush::new();
    let proof = stale
        .unwrap()
        .map(|_| "everything")
        .settle(&mut flush)
        .unwrap();
    retired.give_back(&mut bench.frames, &proof);
    assert_eq!(bench.taken(), 1);
}

#[test]
fn more_tables_than_a_change_can_retire_stay_linked_and_answer_right() {
    let mut bench = Bench::new();
    for huge in 0..40 {
        bench.map(huge * GIB1 + 0x5000, 0x1000, 0);
    }
    bench.map(0, 40 * GIB1, 64 * GIB1);
    for huge in 0..40 {
        let at = huge * GIB1 + 0x5000;
        assert_eq!(bench.at(at).unwrap().0, at + 64 * GIB1);
    }
    for _ in 0..5 {
        bench.map(0, 40 * GIB1, 0);
        bench.map(0, 40 * GIB1, 64 * GIB1);
    }
    assert_eq!(bench.at(39 * GIB1).unwrap().1, PageSize::GiB1);
    assert_eq!(bench.taken(), 2);
}

#[test]
fn whole_pages_are_unmapped_without_a_frame() {
    let mut bench = Bench::new();
    bench.map(0, GIB1, 0);
    bench.map(GIB1, MIB2, 0);
    bench.frames.allow(0);
    bench.unmap(0, GIB1 + MIB2);
    assert_eq!(bench.at(0), None);
}

#[test]
fn a_hostile_range_is_refused_in_bounded_time() {
    let mut bench = Bench::of(Sample(Geometry::new(57, 52, PageSize::KiB4)));
    let before = bench.taken();
    let all = range(0, 1 << 52);
    let refused = bench
        .table
        .map(&mut bench.frames, all, Hpa::new(0), 1)
        .unwrap_err();
    let needed = (1 << 31) + (1 << 22) + (1 << 13) + (1 << 4);
    assert_eq!(refused, Refused::OutOfFrames { range: all, needed });
    assert_eq!(bench.taken(), before);
}

#[test]
fn a_range_that_is_not_whole_pages_is_refused() {
    let mut bench = Bench::new();
    for odd in [range(0x800, 0x1000), range(0, 0x1001), range(0, 1)] {
        let refused = bench.table.unmap(&mut bench.frames, odd).unwrap_err();
        assert_eq!(refused, Refused::UnalignedInput(odd));
    }
    let refused = bench
        .table
        .map(&mut bench.frames, range(0, 0x1000), Hpa::new(0x800), 1)
        .unwrap_err();
    assert_eq!(refused, Refused::UnalignedOutput(Hpa::new(0x800)));
}

#[test]
fn a_range_beyond_the_table_is_refused() {
    let mut bench = Bench::new();
    let beyond = range((1 << 48) - 0x1000, 0x2000);
    let refused = bench.table.unmap(&mut bench.frames, beyond).unwrap_err();
    assert_eq!(
        refused,
        Refused::BeyondInput {
            range: beyond,
            width: 48
        }
    );
    let everything = ByteRange::inclusive(Iova::new(0), Iova::new(u64::MAX)).unwrap();
    assert!(bench.table.unmap(&mut bench.frames, everything).is_err());
}

#[test]
fn an_output_that_entries_cannot_hold_is_refused() {
    let mut bench = Bench::new();
    for output in [(1 << 52) - 0x1000, !0xfff] {
        let refused = bench
            .table
            .map(&mut bench.frames, range(0, 0x2000), Hpa::new(output), 1)
            .unwrap_err();
        let expected = Refused::BeyondOutput {
            output: Hpa::new(output),
            len: 0x2000,
            width: 52,
        };
        assert_eq!(refused, expected);
    }
}

#[test]
fn the_last_page_of_every_shape_can_be_mapped() {
    for format in shapes() {
        let mut bench = Bench::of(format);
        let last = format.0.last_input() - 0xfff;
        bench.map(last, 0x1000, (1 << 52) - 0x1000);
        let expected = ((1 << 52) - 1, PageSize::KiB4);
        assert_eq!(bench.at(format.0.last_input()), Some(expected));
    }
}

#[test]
fn a_table_somebody_else_wrote_is_walked_through_their_words() {
    let words = |table: Hpa, index: usize| match (table.raw(), index) {
        (0x1000, 0) => Ok(0x2001),
        (0x2000, 3) => Ok((4 * GIB1) | (7 << 2) | 2),
        (0x1000, 1) => Ok(0x3001),
        _ => Err(table),
    };
    let root = Hpa::new(0x1000);
    let found = walk(&FOUR_LEVELS, root, Iova::new(3 * GIB1 + 5), words);
    let leaf = Leaf {
        output: Hpa::new(4 * GIB1 + 5),
        size: PageSize::GiB1,
        attributes: 7,
    };
    assert_eq!(found, Ok(Some(leaf)));
    let unreadable = walk(&FOUR_LEVELS, root, Iova::new(512 * GIB1), words);
    assert_eq!(unreadable, Err(Hpa::new(0x3000)));
}

#[test]
fn a_table_that_points_to_itself_ends_the_walk() {
    let found = walk(&FOUR_LEVELS, Hpa::new(0x1000), Iova::new(0), |_, _| {
        Ok::<_, ()>(0x1001)
    });
    assert_eq!(found, Ok(None));
}

#[test]
fn a_page_beside_others_costs_a_few_words_of_each_level() {
    let mut bench = Bench::new();
    for page in [0, 7, 20, 511] {
        bench.map(page * 0x1000, 0x1000, 0);
    }
    let mut frames = Counting {
        frames: bench.frames,
        words: Cell::new(0),
    };
    for page in [8, 300] {
        let pages = range(page * 0x1000, 0x1000);
        let change = bench.table.map(&mut frames, pages, Hpa::new(0), 1).unwrap();
        assert_eq!(change.stale(), None);
        let change = bench.table.unmap(&mut frames, pages).unwrap();
        assert_eq!(change.stale(), Some(&pages));
    }
    let changes = 4;
    let levels = 4;
    assert!(frames.words.get() <= changes * levels * 4);
}

/// Frames that count the words that are read and stored.
struct Counting {
    frames: StingyFrames<RecordingFrames>,
    words: Cell<usize>,
}

impl Frames for Counting {
    fn take(&mut self) -> Result<Frame, OutOfFrames> {
        self.frames.take()
    }

    fn read(&self, table: Hpa, index: usize) -> u64 {
        self.words.set(self.words.get() + 1);
        self.frames.read(table, index)
    }

    fn publish(&mut self, table: Hpa, index: usize, word: u64) {
        self.words.set(self.words.get() + 1);
        self.frames.publish(table, index, word);
    }

    fn give_back(&mut self, frame: Frame, proof: &Flushed) {
        self.frames.give_back(frame, proof);
    }
}
