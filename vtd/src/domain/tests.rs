extern crate std;

use std::vec::Vec;

use kit::{RecordingFrames, StingyFrames};
use paging::rehearsal::{Deed, rehearse};
use paging::{Entry, Format, Level, PageSize};
use proptest::prelude::*;

use super::*;
use crate::fake::{CAP, Event, FakeMemory, FakeUnit};
use crate::spec::registers::{Cap, Ecap};
use crate::unit::tests::running;

const ALL: [Access; 3] = [Access::Read, Access::Write, Access::ReadWrite];

fn support() -> Support {
    Support::of(Cap(CAP), Ecap(0))
}

fn format() -> SecondStage {
    support().format(48, 39).unwrap()
}

fn number() -> DomainId {
    DomainId::new(7).unwrap()
}

fn at(start: u64, len: u64) -> ByteRange<Iova> {
    ByteRange::new(Iova::new(start), len).unwrap()
}

fn bytes(start: u64, len: u64) -> ByteRange<Hpa> {
    ByteRange::new(Hpa::new(start), len).unwrap()
}

/// Section 9.8: R in bit 0, W in bit 1, page size in bit 7, page in 51:12.
#[test]
fn leaves_grant_exactly_what_is_lent() {
    let page = Hpa::new(0x1234_5000);
    let leaf = |access| format().leaf(page, PageSize::KiB4, access);
    assert_eq!(leaf(Access::Read), 0x1234_5001);
    assert_eq!(leaf(Access::Write), 0x1234_5002);
    assert_eq!(leaf(Access::ReadWrite), 0x1234_5003);
    let large = format().leaf(Hpa::new(0x4000_0000), PageSize::GiB1, Access::Write);
    assert_eq!(large, 0x4000_0082);
}

/// Section 9.8: SNP is a reserved bit where ECAP.SC is clear.
#[test]
fn transfers_are_made_to_snoop_where_the_unit_can() {
    let snoops = Support::of(Cap(CAP), Ecap(1 << 7));
    let page = Hpa::new(0x5000);
    let leaf = |support: Support| {
        let format = support.format(48, 39).unwrap();
        format.leaf(page, PageSize::KiB4, Access::Read)
    };
    assert_eq!(leaf(snoops), 0x5801);
    assert_eq!(leaf(snoops.and(support())), 0x5001);
}

/// Table 9 bits: a table entry takes nothing away, and has no page-size bit.
#[test]
fn table_entries_take_nothing_away() {
    assert_eq!(format().table(Hpa::new(0x7000)), 0x7003);
}

#[test]
fn the_fewest_levels_that_reach_are_chosen() {
    let width = |needed| {
        support()
            .format(needed, 39)
            .map(|format| format.address_width())
    };
    assert_eq!(width(39), Some(AddressWidth::Bits39));
    assert_eq!(width(40), Some(AddressWidth::Bits48));
    assert_eq!(width(49), None);
}

/// The capabilities of the graphics unit of many client machines: four levels, 39 bits.
#[test]
fn a_unit_may_walk_more_levels_than_it_takes_bits() {
    let client = Support::of(Cap(0x01c0_000c_4066_0462), Ecap(0));
    let format = client.format(39, 39).unwrap();
    assert_eq!(format.address_width(), AddressWidth::Bits48);
    assert_eq!(format.geometry().levels(), 4);
    assert_eq!(client.format(40, 39), None);

    let mut frames = RecordingFrames::new();
    let mut domain = Domain::new(number(), format, &mut frames).unwrap();
    let beyond = domain.lend(&mut frames, at(1 << 39, 0x1000), Hpa::new(0), Access::Read);
    assert!(matches!(
        beyond,
        Err(Refused::BeyondInput { width: 39, .. })
    ));
}

#[test]
fn units_without_a_common_width_share_no_domain() {
    let mut cap = Cap(CAP);
    cap.set_sagaw(0b1000);
    assert_eq!(
        support().and(Support::of(cap, Ecap(0))).format(39, 39),
        None
    );
}

/// CAP.ND: 4 + 2 × ND bits; 7 is reserved.
#[test]
fn the_number_of_domains_follows_the_specifications_table() {
    let domains = |nd| {
        let mut cap = Cap(CAP);
        cap.set_nd(nd);
        Support::of(cap, Ecap(0)).domains()
    };
    assert_eq!(
        [domains(0), domains(2), domains(6), domains(7)],
        [16, 256, 65536, 0]
    );
}

#[test]
fn large_pages_are_used_only_where_the_unit_has_them() {
    let mut cap = Cap(CAP);
    cap.set_sslps(0b01);
    let format = Support::of(cap, Ecap(0)).format(48, 39).unwrap();
    assert_eq!(format.geometry().largest(), PageSize::MiB2);
    cap.set_sslps(0b10);
    let format = Support::of(cap, Ecap(0)).format(48, 39).unwrap();
    assert_eq!(format.geometry().largest(), PageSize::KiB4);
    // A page-size bit hardware would fault on leads nowhere.
    let gib = PageSize::GiB1.level();
    assert_eq!(format.decode(0x4000_0083, gib), Entry::Absent);
}

#[test]
fn an_identity_domain_lends_everything_but_the_holes() {
    let mut frames = RecordingFrames::new();
    let holes = [
        bytes(0x4000_0800, 1),
        bytes(0, 1),
        bytes(0x4000_0000, 0x900),
        bytes(0xfed9_0000, 0x1000),
    ];
    let domain =
        Domain::identity(number(), format(), &mut frames, bytes(0, 1 << 33), &holes).unwrap();
    let leads = |to: u64| {
        domain
            .translate(&frames, Iova::new(to))
            .map(|leaf| leaf.output)
    };
    for hole in [0, 0xfff, 0x4000_0000, 0x4000_0fff, 0xfed9_0123, 1 << 33] {
        assert_eq!(leads(hole), None, "{hole:#x}");
    }
    for lent in [
        0x1000,
        0x3fff_ffff,
        0x4000_1000,
        0xfed8_ffff,
        0xfed9_1000,
        (1 << 33) - 1,
    ] {
        assert_eq!(leads(lent), Some(Hpa::new(lent)), "{lent:#x}");
    }
    // Far from any hole the largest pages are used.
    let leaf = domain.translate(&frames, Iova::new(5 << 30)).unwrap();
    assert_eq!(
        (leaf.size, leaf.attributes),
        (PageSize::GiB1, Access::ReadWrite)
    );
}

/// Interrupt requests are never translated: no page there is anybody's.
#[test]
fn an_identity_domain_leaves_the_interrupt_range_out() {
    let mut frames = RecordingFrames::new();
    let domain = Domain::identity(number(), format(), &mut frames, bytes(0, 1 << 32), &[]).unwrap();
    for at in [0xfee0_0000, 0xfeef_ffff] {
        assert_eq!(domain.translate(&frames, Iova::new(at)), None);
    }
    assert!(domain.translate(&frames, Iova::new(0xfef0_0000)).is_some());
}

#[test]
fn an_identity_domain_that_is_refused_takes_no_page() {
    let mut frames = StingyFrames::new(RecordingFrames::new(), 2);
    let holes = [bytes(0x4000_0000, 0x1000)];
    let whole = bytes(0, 1 << 33);
    let refused = Domain::identity(number(), format(), &mut frames, whole, &holes);
    assert!(matches!(refused, Err(Refused::OutOfFrames { .. })));
    assert_eq!(frames.left(), 2);
}

#[test]
fn the_first_loan_owes_nothing_and_its_end_owes_a_flush_of_its_pages() {
    let mut frames = RecordingFrames::new();
    let mut domain = Domain::new(number(), format(), &mut frames).unwrap();
    let pages = at(0x20_0000, 0x3000);
    let debt = domain
        .lend(&mut frames, pages, Hpa::new(0x9000), Access::Read)
        .unwrap();
    assert!(debt.is_nothing());
    let debt = domain.revoke(&mut frames, pages).unwrap();
    assert!(!debt.is_nothing());
    assert_eq!(domain.translate(&frames, Iova::new(0x20_0000)), None);
}

/// Revocation is over when the unit has forgotten: the flush names the domain and the pages.
#[test]
fn settling_a_revocation_flushes_every_unit_of_the_domain() {
    let mut memory = FakeMemory::default();
    let fakes = [FakeUnit::new(&memory), FakeUnit::new(&memory)];
    let mut units: Vec<_> = fakes
        .iter()
        .map(|fake| running(fake, &mut memory))
        .collect();
    for fake in &fakes {
        fake.with(|state| state.events.clear());
    }
    let mut domain = Domain::new(number(), format(), &mut memory).unwrap();
    let debt = domain.lend(
        &mut memory,
        at(0x1000, 0x2000),
        Hpa::new(0x9000),
        Access::Write,
    );
    assert!(
        debt.unwrap()
            .settle(&mut units, &mut memory)
            .unwrap()
            .is_none()
    );
    let debt = domain.revoke(&mut memory, at(0x1000, 0x1000)).unwrap();
    assert!(debt.settle(&mut units, &mut memory).unwrap().is_some());
    for fake in &fakes {
        assert_eq!(fake.events(), [Event::Forgot([0x0007_00f2, 0x1000])]);
    }
}

/// A table that is out of use may be cached as such: the flush covers all it stood for.
#[test]
fn revoking_the_last_page_flushes_what_its_tables_stood_for() {
    let mut memory = FakeMemory::default();
    let fake = FakeUnit::new(&memory);
    let mut units = [running(&fake, &mut memory)];
    let mut domain = Domain::new(number(), format(), &mut memory).unwrap();
    let page = at(0x1000, 0x1000);
    let taken = memory.taken();
    let _nothing = domain
        .lend(&mut memory, page, Hpa::new(0x9000), Access::Write)
        .unwrap();
    let debt = domain.revoke(&mut memory, page).unwrap();
    assert!(debt.settle(&mut units, &mut memory).is_ok());
    assert_eq!(fake.forgotten().last(), Some(&[0x0007_00e2, 0]));
    assert_eq!(memory.taken(), taken, "tables out of use went back");
}

#[test]
fn a_flush_that_fails_hands_the_whole_debt_back() {
    let mut memory = FakeMemory::default();
    let fake = FakeUnit::new(&memory);
    let mut units = [running(&fake, &mut memory)];
    let mut domain = Domain::new(number(), format(), &mut memory).unwrap();
    let pages = at(0x1000, 0x1000);
    let _nothing = domain
        .lend(&mut memory, pages, Hpa::new(0x9000), Access::Write)
        .unwrap();
    let debt = domain.revoke(&mut memory, pages).unwrap();
    fake.with(|state| state.fault = Some(crate::fake::Fault::IgnoresQueue));
    let (debt, TimedOut) = debt.settle(&mut units, &mut memory).unwrap_err();
    assert!(!debt.is_nothing());
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(24))]

    /// Encoding and decoding are inverse, and no reserved bit is ever set.
    #[test]
    fn entries_round_trip(page in 0u64..1 << 27, size in 0usize..3, access in 0usize..3) {
        let size = [PageSize::KiB4, PageSize::MiB2, PageSize::GiB1][size];
        let page = Hpa::new((page << 12) / size.bytes() * size.bytes());
        let word = format().leaf(page, size, ALL[access]);
        prop_assert_eq!(format().decode(word, size.level()), Entry::Leaf(page, ALL[access]));
        prop_assert_eq!(word & !0x0000_007f_ffff_f083, 0);
        let table = format().table(page);
        prop_assert_eq!(format().decode(table, size.level().max(PageSize::MiB2.level())), Entry::Table(page));
    }

    /// Between any two stores of any changes the unit finds the old answer or the new one.
    #[test]
    fn every_moment_of_every_change_is_before_or_after(
        dice in prop::collection::vec(any::<[u64; 4]>(), 1..5),
        width in 0u32..2,
    ) {
        let format = support().format([39, 48][width as usize], 46).unwrap();
        let deeds: Vec<_> = dice
            .into_iter()
            .map(|dice| Deed::drawn(format.geometry(), dice, &ALL))
            .collect();
        rehearse(format, &deeds);
    }

    /// Any word of a table decodes to something; only present words lead anywhere.
    #[test]
    fn any_word_decodes(word: u64, level in 0usize..3) {
        let level: Level = [PageSize::KiB4, PageSize::MiB2, PageSize::GiB1][level].level();
        if word & 0b11 == 0 {
            prop_assert_eq!(format().decode(word, level), Entry::Absent);
        } else {
            let _ = format().decode(word, level);
        }
    }

    /// A byte belongs to the domain exactly if its page touches no hole.
    #[test]
    fn holes_of_any_shape_are_left_out(
        holes in prop::collection::vec((0u64..1 << 24, 1u64..1 << 16), 0..8),
        probes in prop::collection::vec(0u64..1 << 24, 16),
    ) {
        let holes: Vec<_> = holes.into_iter().map(|(start, len)| bytes(start, len)).collect();
        let mut frames = RecordingFrames::new();
        let domain =
            Domain::identity(number(), format(), &mut frames, bytes(0, 1 << 24), &holes).unwrap();
        for probe in probes {
            let page = bytes(probe & !0xfff, 0x1000);
            let is_free = !holes.iter().any(|hole| hole.overlaps(&page));
            let leads = domain.translate(&frames, Iova::new(probe)).is_some();
            prop_assert_eq!(leads, is_free, "{:#x}", probe);
        }
    }
}
