extern crate std;

use std::vec::Vec;

use kit::{Past, RecordingFlush, RecordingFrames};
use proptest::prelude::*;

use super::*;

fn pages(count: u64) -> Vec<Frame> {
    let page = |index| Frame::new(Hpa::new(0x80_0000 + index * PAGE_SIZE)).unwrap();
    (0..count).map(page).collect()
}

fn device() -> Bdf {
    Bdf::new(0, 4, 0).unwrap()
}

fn other() -> Bdf {
    Bdf::new(2, 0, 1).unwrap()
}

struct Bench {
    frames: RecordingFrames,
    table: InterruptTable,
}

impl Bench {
    fn new(destinations: Destinations) -> Self {
        let mut frames = RecordingFrames::new();
        let page = frames.take().unwrap();
        let table = InterruptTable::new([page], destinations).unwrap();
        Self { frames, table }
    }

    fn issue(&mut self, source: Bdf, count: u16) -> Block {
        self.table
            .issue(&mut self.frames, source, count, 256)
            .unwrap()
    }

    fn route(&mut self, block: &Block, number: u16, route: Route) -> Stale<Scope> {
        self.table
            .route(&mut self.frames, block, number, route)
            .unwrap()
    }

    fn retire(&mut self, block: Block) -> (RetiredBlock, Stale<Scope>) {
        self.table.retire(&mut self.frames, block)
    }

    fn words(&self, index: usize) -> [u64; 2] {
        let read = |word| self.frames.read(self.table.base, word);
        [read(index * 2), read(index * 2 + 1)]
    }
}

fn fixed(vector: u8, id: u32) -> Route {
    Route::new(
        vector,
        Delivery::Fixed,
        Trigger::Edge,
        Destination::physical(id),
    )
    .unwrap()
}

/// What hardware does with an interrupt of `index` from `source` (sections 5.1.3 and 9.10):
/// nothing, or (delivery mode, vector, destination). Panics on reserved bits.
fn deliver(past: Past<'_>, base: Hpa, index: usize, source: Bdf) -> Option<(u8, u8, u32)> {
    let low = past.read(base, index * 2);
    let high = past.read(base, index * 2 + 1);
    if low & 1 == 0 {
        return None;
    }
    assert_eq!(low & 0xff00_f000, 0, "reserved");
    assert_eq!(high >> 20, 0, "reserved");
    assert_eq!(
        high >> 16 & 0xf,
        0b0100,
        "all 16 bits of the source are verified"
    );
    (high as u16 == source.requester_id()).then_some((
        (low >> 5 & 7) as u8,
        (low >> 16) as u8,
        (low >> 32) as u32,
    ))
}

/// Section 9.10: P 0, DM 2, RH 3, TM 4, DLM 7:5, V 23:16, DST 63:32; SID 79:64, SVT 83:82.
#[test]
fn a_route_is_an_entry_with_full_source_verification() {
    let mut bench = Bench::new(Destinations::Wide);
    let block = bench.issue(device(), 1);
    let _due = bench.route(&block, 0, fixed(0x41, 0x1_0002));
    assert_eq!(bench.words(0), [0x0001_0002_0041_0101, 0x4_0020]);

    let logical = Route::new(
        0x51,
        Delivery::LowestPriority,
        Trigger::Level,
        Destination::logical(3),
    );
    let _due = bench.route(&block, 0, logical.unwrap());
    assert_eq!(bench.words(0)[0], 0x0000_0003_0051_0135);
}

/// Section 9.10: in xAPIC mode the 8-bit id is in bits 47:40.
#[test]
fn narrow_destinations_are_8_bits_in_their_own_place() {
    let mut bench = Bench::new(Destinations::Narrow);
    let block = bench.issue(device(), 1);
    let _due = bench.route(&block, 0, fixed(0x41, 0x12));
    assert_eq!(bench.words(0)[0] >> 32, 0x1200);
    let wide = bench
        .table
        .route(&mut bench.frames, &block, 0, fixed(0x41, 0x100));
    assert_eq!(wide, Err(Refusal::Destination(0x100)));
}

#[test]
fn an_issued_entry_lets_nothing_through_before_it_is_routed() {
    let mut bench = Bench::new(Destinations::Wide);
    let _block = bench.issue(device(), 4);
    let now = bench.frames.rewind(bench.frames.stores());
    for index in 0..256 {
        assert_eq!(deliver(now, bench.table.base, index, device()), None);
    }
}

/// An interrupt is the device's it was issued to.
#[test]
fn an_entry_serves_no_other_device() {
    let mut bench = Bench::new(Destinations::Wide);
    let block = bench.issue(device(), 1);
    let _due = bench.route(&block, 0, fixed(0x41, 0));
    let now = bench.frames.rewind(bench.frames.stores());
    assert!(deliver(now, bench.table.base, 0, device()).is_some());
    for id in (0..=u16::MAX).filter(|&id| id != device().requester_id()) {
        let source = Bdf::from_requester_id(id);
        assert_eq!(deliver(now, bench.table.base, 0, source), None);
    }
}

/// The unit reads entries between any two stores: a changed route is the old or the new one.
#[test]
fn every_moment_of_an_entrys_life_is_before_or_after() {
    let mut bench = Bench::new(Destinations::Wide);
    let start = bench.frames.stores();
    let block = bench.issue(device(), 1);
    let _due = bench.route(&block, 0, fixed(0x41, 1));
    let _due = bench.route(&block, 0, fixed(0x52, 2));
    let due = bench.table.silence(&mut bench.frames, &block, 0).unwrap();
    assert!(due.settle(&mut RecordingFlush::new()).is_ok());
    let _due = bench.route(&block, 0, Route::nmi_of_our_own(Destination::physical(0)));
    let (retired, due) = bench.retire(block);
    let proof = due.settle(&mut RecordingFlush::new()).unwrap();
    bench.table.release(&mut bench.frames, retired, &proof);
    let block = bench.issue(other(), 1);
    let _due = bench.route(&block, 0, fixed(0x63, 3));

    let mut seen = std::vec![None];
    for moment in start..=bench.frames.stores() {
        let past = bench.frames.rewind(moment);
        let of_device = deliver(past, bench.table.base, 0, device());
        let of_other = deliver(past, bench.table.base, 0, other());
        assert!(of_device.is_none() || of_other.is_none());
        let now = of_device.or(of_other);
        if seen.last() != Some(&now) {
            seen.push(now);
        }
    }
    assert_eq!(
        seen,
        [
            None,
            Some((0, 0x41, 1)),
            Some((0, 0x52, 2)),
            None,
            Some((4, 0, 0)),
            None,
            Some((0, 0x63, 3)),
        ]
    );
}

#[test]
fn every_change_owes_the_entry_cache_its_entries() {
    let mut bench = Bench::new(Destinations::Wide);
    let _first = bench.issue(device(), 1);
    let block = bench.issue(device(), 4);
    let due = bench.route(&block, 1, fixed(0x41, 0));
    assert_eq!(*due.scope(), Scope::InterruptEntries { first: 5, count: 1 });
    let (_, due) = bench.retire(block);
    assert_eq!(*due.scope(), Scope::InterruptEntries { first: 4, count: 4 });
}

#[test]
fn entries_are_issued_again_only_after_caches_forgot() {
    let mut bench = Bench::new(Destinations::Wide);
    let block = bench.issue(device(), 1);
    let (retired, due) = bench.retire(block);
    assert_eq!(bench.issue(other(), 1).first, 1);
    let proof = due.settle(&mut RecordingFlush::new()).unwrap();
    bench.table.release(&mut bench.frames, retired, &proof);
    assert_eq!(bench.issue(other(), 1).first, 0);
}

#[test]
fn a_device_gets_no_more_than_its_quota() {
    let mut bench = Bench::new(Destinations::Wide);
    let issue =
        |bench: &mut Bench, source, count| bench.table.issue(&mut bench.frames, source, count, 4);
    let held = issue(&mut bench, device(), 3).unwrap();
    let refused = Refusal::Quota {
        source: device(),
        held: 3,
        quota: 4,
    };
    assert_eq!(issue(&mut bench, device(), 2), Err(refused));
    assert!(issue(&mut bench, other(), 4).is_ok());
    // What is leaving still counts: it is not free yet.
    let _leaving = bench.retire(held);
    assert_eq!(issue(&mut bench, device(), 2), Err(refused));
}

#[test]
fn a_full_table_refuses() {
    let mut bench = Bench::new(Destinations::Wide);
    for _ in 0..8 {
        bench.issue(device(), 32);
    }
    let full = bench.table.issue(&mut bench.frames, other(), 1, 256);
    assert_eq!(full, Err(Refusal::Full));
}

#[test]
fn blocks_of_none_or_of_too_many_are_refused() {
    let mut bench = Bench::new(Destinations::Wide);
    for count in [0, 33, u16::MAX] {
        let refused = bench
            .table
            .issue(&mut bench.frames, device(), count, u16::MAX);
        assert_eq!(refused, Err(Refusal::Count(count)));
    }
}

#[test]
fn a_block_ends_where_it_ends() {
    let mut bench = Bench::new(Destinations::Wide);
    let block = bench.issue(device(), 3);
    let outside = bench
        .table
        .route(&mut bench.frames, &block, 3, fixed(0x41, 0));
    assert_eq!(outside, Err(Refusal::Outside(3)));
    assert_eq!(block.message(3), None);
}

#[test]
fn a_table_is_a_power_of_two_of_neighbouring_pages() {
    let table = |pages: Vec<Frame>| InterruptTable::new(pages, Destinations::Wide);
    assert_eq!(table(pages(0)).unwrap_err(), NotATable);
    assert_eq!(table(pages(3)).unwrap_err(), NotATable);
    assert_eq!(table(pages(257)).unwrap_err(), NotATable);
    let mut gap = pages(4);
    gap.remove(1);
    gap.pop();
    assert_eq!(table(gap).unwrap_err(), NotATable);
    let whole = table(pages(256)).unwrap();
    assert_eq!((whole.entries(), whole.address().s()), (65536, 15));
    let one = table(pages(1)).unwrap();
    assert_eq!((one.entries(), one.address().s()), (256, 7));
}

/// Section 5.1.2.2: handle 14:0 in address bits 19:5, handle 15 in bit 2, SHV in 3, format in 4.
#[test]
fn messages_are_in_remappable_format() {
    let block = Block {
        source: device(),
        first: 0x8123,
        count: 2,
    };
    let message = block.message(1).unwrap();
    assert_eq!(message.address, 0xfee0_0000 | 0x124 << 5 | 0b1_0100);
    assert_eq!(message.data, 0);
    assert_eq!(
        block.messages().address,
        0xfee0_0000 | 0x123 << 5 | 0b1_1100
    );
}

/// Section 5.1.5.1: format in bit 48, handle 14:0 in 63:49, handle 15 in 11; vector and trigger
/// mode as in the entry.
#[test]
fn a_redirection_entry_agrees_with_its_route() {
    let block = Block {
        source: device(),
        first: 0x8001,
        count: 1,
    };
    let route = Route::new(
        0x30,
        Delivery::Fixed,
        Trigger::Level,
        Destination::physical(0),
    );
    let entry = block.redirection(0, route.unwrap(), Polarity::ActiveLow);
    assert_eq!(
        entry.unwrap().0,
        1 << 49 | 1 << 48 | 1 << 15 | 1 << 13 | 1 << 11 | 0x30
    );
}

proptest! {
    /// No two blocks share an entry, and each starts where its index mask can name it.
    #[test]
    fn blocks_do_not_overlap(counts in prop::collection::vec(1u16..=32, 1..40)) {
        let mut bench = Bench::new(Destinations::Wide);
        let mut taken = std::collections::BTreeSet::new();
        for count in counts {
            let Ok(block) = bench.table.issue(&mut bench.frames, device(), count, 256) else {
                continue;
            };
            prop_assert!(block.first.is_multiple_of(count.next_power_of_two()));
            for index in block.indices() {
                prop_assert!(index < 256 && taken.insert(index));
            }
        }
    }
}
