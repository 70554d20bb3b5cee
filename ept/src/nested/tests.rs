use std::vec::Vec;

use kit::{RecordingFlush, RecordingFrames, StingyFrames};
use memory::{ByteRange, Frames, Gpa, Hpa, PAGE_SIZE};
use paging::{Change, PageSize};
use proptest::prelude::*;

use super::*;
use crate::{Depth, Ept, Npt, PlanError, Trap, VariableMtrr};

const MIB2: u64 = 2 << 20;
const GIB1: u64 = 1 << 30;
const WIDTH: u32 = 36;
const END: u64 = 1 << WIDTH;

const UC: MemoryType = MemoryType::UNCACHEABLE;
const WB: MemoryType = MemoryType::WRITE_BACK;

/// UC from 3 GiB to 4 GiB, WB elsewhere.
const PCI_HOLE: [VariableMtrr; 1] = [VariableMtrr {
    base: 0xc000_0000,
    mask: 0xf_c000_0800,
}];

/// A memory type change inside a large page: UC from 3 GiB - 1 MiB on.
const ODD: [VariableMtrr; 1] = [VariableMtrr {
    base: 0xbff0_0000,
    mask: 0xf_fff0_0800,
}];

fn mtrrs(variable: &[VariableMtrr]) -> Mtrrs<'_> {
    Mtrrs::new(WIDTH, 0x806, None, variable).unwrap()
}

fn ept(largest: PageSize) -> Ept {
    Ept::new(Depth::Four, WIDTH, largest)
}

fn range(start: u64, len: u64) -> ByteRange<Gpa> {
    ByteRange::new(Gpa::new(start), len).unwrap()
}

fn pool(frames: usize) -> StingyFrames<RecordingFrames> {
    StingyFrames::new(RecordingFrames::new(), frames)
}

fn settle<F: Format>(change: Change<F>, frames: &mut impl Frames) -> Option<ByteRange<F::Input>> {
    let mut flush = RecordingFlush::new();
    change.settle(&mut flush, frames).unwrap();
    flush.flushed().first().copied()
}

/// What the guest finds at an address: what it may do, the type of the memory, and the page.
fn found(
    map: &GuestMap<'_, Ept>,
    frames: &impl Frames,
    at: u64,
) -> Option<(Access, MemoryType, PageSize)> {
    let leaf = map.walk(frames, Gpa::new(at))?;
    assert_eq!(leaf.output, Hpa::new(at), "guest-physical is host-physical");
    Some((leaf.attributes.access, leaf.attributes.memory, leaf.size))
}

#[test]
fn a_plan_with_nothing_to_leave_out_is_one_to_one_in_the_largest_pages() {
    for largest in [PageSize::MiB2, PageSize::GiB1] {
        let plan = Plan::new(WIDTH, &[], &[], mtrrs(&[])).unwrap();
        let mut frames = pool(1000);
        let map = GuestMap::build(ept(largest), plan, &mut frames).unwrap();
        for at in [0, MIB2 - 1, MIB2, GIB1, END / 2, END - 1] {
            assert_eq!(found(&map, &frames, at), Some((Access::ALL, WB, largest)));
        }
        assert_eq!(map.walk(&frames, Gpa::new(END)), None);
    }
}

#[test]
fn the_whole_of_48_bits_takes_what_was_counted() {
    let plan = Plan::new(48, &[], &[], Mtrrs::new(48, 0x806, None, &[]).unwrap()).unwrap();
    let format = Ept::new(Depth::Four, 48, PageSize::GiB1);
    assert_eq!(plan.frames_needed(&format), 513);
    let mut frames = pool(513);
    let map = GuestMap::build(format, plan, &mut frames).unwrap();
    assert_eq!(frames.left(), 0);
    assert!(map.walk(&frames, Gpa::new((1 << 48) - 1)).is_some());
}

#[test]
fn our_own_memory_is_absent_and_its_neighbours_are_there() {
    let holes = [range(0x1234_5000, 0x40_0000), range(7 * GIB1 + 1, 1)];
    let plan = Plan::new(WIDTH, &holes, &[], mtrrs(&[])).unwrap();
    let mut frames = pool(1000);
    let map = GuestMap::build(ept(PageSize::GiB1), plan, &mut frames).unwrap();
    for at in [
        0x1234_5000,
        0x1274_4fff,
        0x1250_0000,
        7 * GIB1,
        7 * GIB1 + 0xfff,
    ] {
        assert_eq!(map.walk(&frames, Gpa::new(at)), None, "{at:#x}");
    }
    for at in [0x1234_4fff, 0x1274_5000, 7 * GIB1 - 1, 7 * GIB1 + 0x1000] {
        assert_eq!(found(&map, &frames, at).unwrap().0, Access::ALL, "{at:#x}");
    }
}

#[test]
fn a_trapped_page_stops_what_its_kind_says() {
    let traps = [
        Trap {
            pages: range(0xfeb0_0000, 0x2000),
            kind: TrapKind::ReadOnly,
        },
        Trap {
            pages: range(0xfed9_0000, 0x1000),
            kind: TrapKind::Absent,
        },
    ];
    let plan = Plan::new(WIDTH, &[], &traps, mtrrs(&PCI_HOLE)).unwrap();
    let mut frames = pool(1000);
    let map = GuestMap::build(ept(PageSize::GiB1), plan, &mut frames).unwrap();
    let access = |at| found(&map, &frames, at).map(|(access, memory, _)| (access, memory));
    assert_eq!(access(0xfeaf_ffff), Some((Access::ALL, UC)));
    assert_eq!(access(0xfeb0_0000), Some((Access::READ_EXECUTE, UC)));
    assert_eq!(access(0xfeb0_1fff), Some((Access::READ_EXECUTE, UC)));
    assert_eq!(access(0xfeb0_2000), Some((Access::ALL, UC)));
    assert_eq!(access(0xfed8_ffff), Some((Access::ALL, UC)));
    assert_eq!(access(0xfed9_0000), None);
    assert_eq!(access(0xfed9_1000), Some((Access::ALL, UC)));
}

#[test]
fn ept_repeats_the_mtrrs_and_is_split_only_where_they_are_mixed() {
    let plan = Plan::new(WIDTH, &[], &[], mtrrs(&ODD)).unwrap();
    let mut frames = pool(1000);
    let map = GuestMap::build(ept(PageSize::GiB1), plan, &mut frames).unwrap();
    let gib3 = 3 * GIB1;
    let all = |memory, size| Some((Access::ALL, memory, size));
    assert_eq!(
        found(&map, &frames, gib3 - GIB1 - 1),
        all(WB, PageSize::GiB1)
    );
    assert_eq!(
        found(&map, &frames, gib3 - MIB2 - 1),
        all(WB, PageSize::MiB2)
    );
    assert_eq!(found(&map, &frames, gib3 - MIB2), all(WB, PageSize::KiB4));
    assert_eq!(
        found(&map, &frames, gib3 - 0x10_0000),
        all(UC, PageSize::KiB4)
    );
    assert_eq!(found(&map, &frames, gib3), all(WB, PageSize::GiB1));
}

/// APM §15.25.8: the processor itself combines the nested type with the MTRRs.
#[test]
fn npt_is_not_split_for_mtrrs() {
    let plan = Plan::new(WIDTH, &[], &[], mtrrs(&ODD)).unwrap();
    let mut frames = pool(1000);
    let format = Npt::new(Depth::Four, WIDTH, PageSize::GiB1);
    let map = GuestMap::build(format, plan, &mut frames).unwrap();
    let leaf = map.walk(&frames, Gpa::new(3 * GIB1 - 1)).unwrap();
    assert_eq!(leaf.size, PageSize::GiB1);
    assert_eq!(leaf.attributes.cache, crate::PatIndex::WRITE_BACK);
}

#[test]
fn a_page_trapped_and_let_through_again_leaves_no_trace() {
    let plan = Plan::new(WIDTH, &[], &[], mtrrs(&PCI_HOLE)).unwrap();
    let mut frames = pool(1000);
    let mut map = GuestMap::build(ept(PageSize::GiB1), plan, &mut frames).unwrap();
    let before = frames.left();
    let page = Gpa::new(0xfeb0_3000);
    for kind in [TrapKind::ReadOnly, TrapKind::Absent] {
        let change = map.trap(&mut frames, page, kind).unwrap();
        let flushed = settle(change, &mut frames);
        assert_eq!(flushed, Some(range(0xc000_0000, GIB1)));
        let granted = match kind {
            TrapKind::ReadOnly => Some((Access::READ_EXECUTE, UC, PageSize::KiB4)),
            TrapKind::Absent => None,
        };
        assert_eq!(found(&map, &frames, page.raw()), granted);

        let change = map.untrap(&mut frames, page).unwrap();
        settle(change, &mut frames);
        let whole = Some((Access::ALL, UC, PageSize::GiB1));
        assert_eq!(found(&map, &frames, page.raw()), whole);
        assert_eq!(frames.left(), before);
    }
}

#[test]
fn no_trap_opens_our_own_memory() {
    let holes = [range(5 * GIB1 + 0x800, 0x1000)];
    let plan = Plan::new(WIDTH, &holes, &[], mtrrs(&[])).unwrap();
    let mut frames = pool(1000);
    let mut map = GuestMap::build(ept(PageSize::GiB1), plan, &mut frames).unwrap();
    for at in [5 * GIB1, 5 * GIB1 + 0x1000] {
        let page = Gpa::new(at);
        let untrapped = map.untrap(&mut frames, page).unwrap_err();
        assert_eq!(untrapped, MapError::OurOwn(page));
        let trapped = map.trap(&mut frames, page, TrapKind::ReadOnly).unwrap_err();
        assert_eq!(trapped, MapError::OurOwn(page));
        assert_eq!(map.walk(&frames, page), None);
    }
}

#[test]
fn what_is_no_page_of_the_machine_is_not_trapped() {
    let plan = Plan::new(WIDTH, &[], &[], mtrrs(&[])).unwrap();
    let mut frames = pool(1000);
    let mut map = GuestMap::build(ept(PageSize::GiB1), plan, &mut frames).unwrap();
    for at in [0x800, END, !0xfff, u64::MAX] {
        let page = Gpa::new(at);
        let refused = map.trap(&mut frames, page, TrapKind::Absent).unwrap_err();
        assert_eq!(refused, MapError::NoPage(page));
    }
}

#[test]
fn a_trap_that_runs_out_of_frames_leaves_the_guest_as_it_was() {
    let plan = Plan::new(WIDTH, &[], &[], mtrrs(&[])).unwrap();
    let mut frames = pool(1000);
    let mut map = GuestMap::build(ept(PageSize::GiB1), plan, &mut frames).unwrap();
    for left in 0..2 {
        frames.allow(left);
        let page = Gpa::new(GIB1);
        let refused = map.trap(&mut frames, page, TrapKind::Absent).unwrap_err();
        let expected = Refused::OutOfFrames {
            range: range(GIB1, PAGE_SIZE),
            needed: 2,
        };
        assert_eq!(refused, MapError::Table(expected));
        let whole = Some((Access::ALL, WB, PageSize::GiB1));
        assert_eq!(found(&map, &frames, GIB1), whole);
        assert_eq!(frames.left(), left);
    }
}

#[test]
fn a_pool_too_small_by_any_number_builds_nothing_and_loses_nothing() {
    let holes = [range(0x1234_5000, 0x40_0000)];
    let plan = Plan::new(WIDTH, &holes, &[], mtrrs(&ODD)).unwrap();
    let format = ept(PageSize::GiB1);
    let needed = plan.frames_needed(&format);
    assert!(needed > 4);
    for left in 0..needed {
        let mut frames = pool(left);
        let refused = GuestMap::build(format, plan, &mut frames).unwrap_err();
        assert_eq!(refused, MapError::OutOfFrames { needed });
        assert_eq!(frames.left(), left);
    }
}

#[test]
fn a_machine_wider_than_the_table_is_refused() {
    let mtrrs = Mtrrs::new(52, 0x806, None, &[]).unwrap();
    let plan = Plan::new(52, &[], &[], mtrrs).unwrap();
    let mut frames = pool(1000);
    let format = Ept::new(Depth::Four, 52, PageSize::GiB1);
    let refused = GuestMap::build(format, plan, &mut frames).unwrap_err();
    let expected = MapError::TooWide {
        physical: 52,
        table: 48,
    };
    assert_eq!(refused, expected);
}

#[test]
fn a_planned_trap_that_is_no_pages_of_the_machine_is_refused() {
    let plan = |pages| {
        let traps = [Trap {
            pages,
            kind: TrapKind::Absent,
        }];
        Plan::new(WIDTH, &[], &traps, mtrrs(&[]))
            .map(|_| ())
            .unwrap_err()
    };
    let odd = range(0x800, 0x1000);
    assert_eq!(plan(odd), PlanError::Unaligned(odd));
    let beyond = range(END - 0x1000, 0x2000);
    assert_eq!(plan(beyond), PlanError::Beyond(beyond));
}

/// What one plan says of one page, in the plainest words.
fn expected(holes: &[ByteRange<Gpa>], traps: &[Trap], page: u64) -> Option<Access> {
    let bytes = range(page, PAGE_SIZE);
    let trapped = |kind| {
        traps
            .iter()
            .any(|trap| trap.kind == kind && trap.pages.overlaps(&bytes))
    };
    if holes.iter().any(|hole| hole.overlaps(&bytes)) || trapped(TrapKind::Absent) {
        None
    } else if trapped(TrapKind::ReadOnly) {
        Some(Access::READ_EXECUTE)
    } else {
        Some(Access::ALL)
    }
}

prop_compose! {
    /// Ranges that crowd about the places where pages of all sizes meet.
    fn crowded()(
        anchor in prop_oneof![
            Just(0), Just(MIB2), Just(GIB1), Just(3 * GIB1), Just(END - GIB1)
        ],
        step in prop_oneof![Just(PAGE_SIZE), Just(MIB2), Just(GIB1 / 2)],
        steps in 0..2_u64,
        fine in 0..3_u64,
        pages in prop_oneof![Just(1), Just(2), Just(511), Just(512), Just(513), Just(1 << 17)],
    ) -> ByteRange<Gpa> {
        let start = (anchor + step * steps + fine * PAGE_SIZE).min(END - PAGE_SIZE);
        range(start, (pages * PAGE_SIZE).min(END - start))
    }
}

prop_compose! {
    fn trap()(pages in crowded(), is_absent: bool) -> Trap {
        let kind = if is_absent { TrapKind::Absent } else { TrapKind::ReadOnly };
        Trap { pages, kind }
    }
}

fn holds<F: Nested>(
    format: F,
    holes: &[ByteRange<Gpa>],
    traps: &[Trap],
    mtrrs: Mtrrs<'_>,
    is_right: impl Fn(&F::Attributes, u64, Access) -> bool,
) {
    let plan = Plan::new(WIDTH, holes, traps, mtrrs).unwrap();
    let mut frames = pool(10_000);
    let map = GuestMap::build(format, plan, &mut frames).unwrap();
    assert_eq!(frames.pool().taken(), plan.frames_needed(&format));

    let edges: Vec<_> = holes
        .iter()
        .copied()
        .chain(traps.iter().map(|trap| trap.pages))
        .flat_map(|range| [range.start().raw(), range.last().raw() + 1])
        .chain([0, MIB2, GIB1, 0xbff0_0000, 3 * GIB1, END])
        .collect();
    let pages = edges
        .into_iter()
        .flat_map(|edge| [edge.saturating_sub(PAGE_SIZE), edge])
        .filter(|page| *page < END);
    for page in pages {
        let wanted = expected(holes, traps, page);
        let leaf = map.walk(&frames, Gpa::new(page));
        assert_eq!(leaf.is_some(), wanted.is_some(), "{page:#x}");
        if let (Some(leaf), Some(access)) = (leaf, wanted) {
            assert_eq!(leaf.output, Hpa::new(page));
            assert!(
                is_right(&leaf.attributes, page, access),
                "{page:#x}: {leaf:?}"
            );
        }
    }
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(64))]

    #[test]
    fn a_built_table_is_the_plan_and_takes_what_was_counted(
        holes in prop::collection::vec(crowded(), 0..4),
        traps in prop::collection::vec(trap(), 0..4),
        largest in prop_oneof![Just(PageSize::MiB2), Just(PageSize::GiB1)],
    ) {
        let mtrrs = mtrrs(&ODD);
        holds(ept(largest), &holes, &traps, mtrrs, |attributes, page, access| {
            let memory = mtrrs.memory_type(Hpa::new(page));
            attributes.access == access && attributes.memory == memory
        });
        let npt = Npt::new(Depth::Four, WIDTH, largest);
        holds(npt, &holes, &traps, mtrrs, |attributes, _, access| attributes.access == access);
    }
}
