//! What our driver lends through a unit whose tables are carried over is lent, and nothing else.

use kit::SparseMemory;
use memory::{ByteRange, Gpa, GuestMemory, Iova};
use viommu::Access::{Read, Write};
use viommu::{Loans, Mode, Scope, Shadow, Translations};
use vtd::domain;
use vtd::spec::registers::{Cap, Ecap, offset};

use crate::driver::{Stage, stage_on};
use crate::hostile::Dice;
use crate::stage::{Board, DEVICE, Lent, limits};

const LENT: u64 = 0x4000_0000;
const PAGE: u64 = 0x7000_3000;
const LARGE: u64 = 0x20_0000;

fn stage() -> Stage {
    stage_on(Board::carried())
}

impl Stage {
    fn finds(&self, at: u64, access: viommu::Access) -> Option<u64> {
        self.board.lent.borrow().find(at, access)
    }

    fn revoke(&mut self, at: u64, bytes: u64) {
        let range = ByteRange::new(Iova::new(at), bytes).unwrap();
        let debt = self.domain.revoke(&mut self.frames, range).unwrap();
        debt.settle(&mut self.units, &mut self.frames).unwrap();
    }
}

#[test]
fn it_says_that_absences_are_remembered_and_that_nothing_passes_through() {
    let board = Board::carried();
    assert!(Cap(board.read64(offset::CAP)).cm());
    assert!(!Ecap(board.read64(offset::ECAP)).pt());
}

#[test]
fn what_is_lent_is_carried_over_and_what_is_revoked_is_gone() {
    let mut stage = stage();
    assert!(stage.board.lent.borrow().is_nothing());
    stage.lend_page(LENT, 0x2000, PAGE, domain::Access::ReadWrite);
    assert_eq!(stage.finds(LENT + 0x1123, Read), Some(PAGE + 0x1123));
    assert_eq!(stage.finds(LENT + 0x1123, Write), Some(PAGE + 0x1123));
    assert_eq!(stage.finds(LENT + 0x2000, Read), None);
    stage.revoke(LENT, 0x1000);
    assert_eq!(stage.finds(LENT, Read), None);
    assert_eq!(stage.finds(LENT + 0x1000, Read), Some(PAGE + 0x1000));
}

#[test]
fn a_loan_keeps_its_direction_and_changes_with_it() {
    let mut stage = stage();
    stage.lend_page(LENT, 0x1000, PAGE, domain::Access::Read);
    assert_eq!(stage.finds(LENT, Read), Some(PAGE));
    assert_eq!(stage.finds(LENT, Write), None);
    stage.lend_page(LENT, 0x1000, PAGE, domain::Access::Write);
    assert_eq!(stage.finds(LENT, Read), None);
    assert_eq!(stage.finds(LENT, Write), Some(PAGE));
}

#[test]
fn what_is_no_memory_is_not_lent_and_replaces_what_was() {
    let mut stage = stage();
    stage.lend_page(LENT, 0x1000, PAGE, domain::Access::ReadWrite);
    stage.lend_page(LENT, 0x1000, 0xfed9_0000, domain::Access::ReadWrite);
    assert_eq!(stage.finds(LENT, Read), None);
}

#[test]
fn a_device_without_an_entry_or_translation_reaches_nothing() {
    let mut stage = stage();
    stage.lend_page(LENT, LARGE, PAGE & !(LARGE - 1), domain::Access::ReadWrite);
    assert!(stage.finds(LENT, Write).is_some());
    let debt = stage.tables.detach(&mut stage.frames, DEVICE).unwrap();
    assert!(stage.finds(LENT, Write).is_some(), "not told yet");
    let proof = debt.settle(&mut stage.units[0].invalidator(&mut stage.frames));
    assert!(stage.board.lent.borrow().is_nothing());
    stage
        .tables
        .vacate(&mut stage.frames, DEVICE, &proof.unwrap());
    let due = stage
        .tables
        .attach(&mut stage.frames, DEVICE, &stage.domain);
    due.unwrap()
        .settle(&mut stage.units[0].invalidator(&mut stage.frames))
        .unwrap();
    assert!(stage.finds(LENT, Write).is_some());
    // Translation off; the queue stays on.
    stage.board.write32(offset::GCMD, 1 << 26);
    assert!(stage.board.lent.borrow().is_nothing());
}

/// Tables for the device in memory from 0 on: root, context, and those of three levels from 0x2000 on.
struct Tables(SparseMemory);

const DOMAIN: u16 = 5;

impl Tables {
    fn new() -> Self {
        let range = ByteRange::new(Gpa::new(0), 0x1_0000).unwrap();
        let this = Self(SparseMemory::new().with(range));
        this.put(3 * 16, 0x1001);
        this.put(0x1000 + 0x20 * 16, 0x2001);
        this.put(0x1000 + 0x20 * 16 + 8, u64::from(DOMAIN) << 8 | 1);
        this
    }

    fn put(&self, at: u64, word: u64) {
        self.0.write(Gpa::new(at), &word.to_le_bytes()).unwrap();
    }
}

fn shadow() -> Shadow {
    Shadow::new(DEVICE, limits(), Mode::Tables(Gpa::new(0)))
}

#[test]
fn a_large_page_goes_whole_when_a_part_of_it_is_forgotten() {
    let (tables, mut shadow, mut lent) = (Tables::new(), shadow(), Lent::default());
    tables.put(0x2000, 0x3003);
    tables.put(0x3000 + 8, 0x20_0083);
    assert!(shadow.carry_on(&tables.0, &mut lent, &mut 10_000));
    assert_eq!(lent.find(LARGE + 0x5000, Write), Some(0x20_5000));
    tables.put(0x3000 + 8, 0);
    let run = |domain, mask| Scope::Run {
        domain,
        first: 0x207,
        mask,
    };
    shadow.forget(run(DOMAIN + 1, 18));
    assert!(shadow.carry_on(&tables.0, &mut lent, &mut 10_000));
    assert!(lent.find(LARGE, Write).is_some(), "another domain's");
    shadow.forget(run(DOMAIN, 0));
    assert!(shadow.carry_on(&tables.0, &mut lent, &mut 10_000));
    assert!(lent.is_nothing());
}

#[test]
fn what_one_exit_does_not_finish_the_next_ones_do() {
    let (tables, mut shadow, mut lent) = (Tables::new(), shadow(), Lent::default());
    tables.put(0x2000, 0x3003);
    tables.put(0x3000, 0x4003);
    for page in 0..512 {
        tables.put(0x4000 + page * 8, 0x10_0003 + page * 0x2000);
    }
    let mut exits = 1;
    while !shadow.carry_on(&tables.0, &mut lent, &mut 100) {
        exits += 1;
        assert!(exits < 1_000, "it comes to an end");
    }
    assert!(exits > 10, "{exits}");
    for page in 0..512 {
        assert_eq!(lent.find(page << 12, Read), Some(0x10_0000 + page * 0x2000));
    }
    assert!(shadow.carry_on(&tables.0, &mut lent, &mut 0), "all is done");
}

#[test]
fn a_page_goes_alone_from_among_many_that_hardware_has_as_one() {
    let (tables, mut shadow, mut lent) = (Tables::new(), shadow(), Lent::default());
    tables.put(0x2000, 0x3003);
    tables.put(0x3000, 0x4003);
    for page in 0..512 {
        tables.put(0x4000 + page * 8, 0x20_0003 + (page << 12));
    }
    assert!(shadow.carry_on(&tables.0, &mut lent, &mut 100_000));
    assert_eq!(lent.lent(Iova::new(0)).map(|page| page.len()), Some(LARGE));
    tables.put(0x4000 + 400 * 8, 0);
    let run = Scope::Run {
        domain: DOMAIN,
        first: 400,
        mask: 0,
    };
    shadow.forget(run);
    let mut exits = 1;
    while !shadow.carry_on(&tables.0, &mut lent, &mut 4096) {
        exits += 1;
        assert!(exits < 10, "it comes to an end");
    }
    assert!(exits > 1, "one exit is not enough for so many pages");
    for page in 0..512 {
        let wanted = Some(0x20_0000 + (page << 12)).filter(|_| page != 400);
        assert_eq!(lent.find(page << 12, Write), wanted, "page {page}");
    }
}

/// An index near the beginning or the end of a table.
fn index(dice: &mut Dice) -> u64 {
    [dice.below(4), 508 + dice.below(4)][dice.below(2) as usize]
}

#[test]
fn whatever_the_tables_hold_what_is_lent_is_what_a_walk_finds() {
    for seed in 0..200 {
        let mut dice = Dice(seed * 2 + 1);
        let (tables, mut shadow, mut lent) = (Tables::new(), shadow(), Lent::default());
        for _ in 0..4 {
            for _ in 0..24 {
                let at = ((2 + dice.below(4)) << 12) + index(&mut dice) * 8;
                let word = match dice.below(8) {
                    0 => dice.roll(),
                    1 => 0,
                    2 => (1 + dice.below(3)) << 30 | 0x80 | dice.below(4),
                    3 => (1 + dice.below(63)) << 21 | 0x80 | dice.below(4),
                    4 => dice.below(64) << 12 | dice.below(4),
                    _ => (3 + dice.below(4)) << 12 | dice.below(4),
                };
                tables.put(at, word);
            }
            shadow.forget(Scope::Pages);
            let mut exits = 0;
            while !shadow.carry_on(&tables.0, &mut lent, &mut 500) {
                exits += 1;
                assert!(exits < 100_000, "seed {seed}: it comes to an end");
            }
            let mut fresh = Translations::new(DEVICE, Mode::Tables(Gpa::new(0)));
            for _ in 0..200 {
                let at = index(&mut dice) << 30 | index(&mut dice) << 21 | index(&mut dice) << 12;
                for access in [Read, Write] {
                    let found = fresh.translate(&tables.0, Iova::new(at), access);
                    let wanted = found.ok().map(Gpa::raw);
                    let got = lent.find(at, access);
                    // A large page that is not memory from end to end is not lent at all.
                    let is_lendable =
                        wanted.is_some_and(|to| (LARGE..Lent::MEMORY.end).contains(&to));
                    if got.is_some() || is_lendable {
                        assert_eq!(got, wanted, "seed {seed}: {at:#x}");
                    }
                }
            }
        }
    }
}
