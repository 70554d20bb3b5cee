extern crate std;

use std::string::ToString;
use std::vec::Vec;

use super::*;
use crate::fake::{CAP, FakeMemory, FakeUnit};
use crate::spec::registers::Cap;
use crate::unit::tests::running;

fn bench(records: u8) -> (FakeUnit, Unit<FakeUnit>) {
    let mut memory = FakeMemory::default();
    let fake = FakeUnit::new(&memory);
    fake.with(|state| {
        let mut cap = Cap(CAP);
        cap.set_nfr(records - 1);
        state.cap = cap.0;
        state.records = std::vec![[0; 2]; records.into()];
    });
    let unit = running(&fake, &mut memory);
    (fake, unit)
}

fn told(unit: &mut Unit<FakeUnit>) -> (Vec<Fault>, Told) {
    let mut faults = Vec::new();
    let told = unit.tell_faults(|fault| faults.push(fault));
    (faults, told)
}

/// A read by 00:04.0 of a page that is not mapped: type in bit 126, reason in 103:96, source in
/// 79:64.
const READ: [u64; 2] = [0x4000_0000, 1 << 62 | 6 << 32 | 0x20];

#[test]
fn a_fault_says_who_what_where_and_why() {
    let (fake, mut unit) = bench(1);
    fake.record(READ[0], READ[1]);
    let (faults, all) = told(&mut unit);
    assert_eq!(all, Told::All);
    assert_eq!(
        faults,
        [Fault {
            source: Bdf::new(0, 4, 0).unwrap(),
            attempt: Attempt::Read(Iova::new(0x4000_0000)),
            reason: Reason::READ_DENIED,
        }]
    );
    assert_eq!(
        faults[0].to_string(),
        "device 00:04.0 may not read 0x40000000: no permission to read"
    );
}

/// Section 9.9: for interrupt requests, bits 63:48 of the record hold the interrupt index.
#[test]
fn an_interrupt_fault_names_its_index() {
    let (fake, mut unit) = bench(1);
    fake.record(0x0123 << 48, 0x26 << 32 | 0x20);
    let (faults, _) = told(&mut unit);
    assert_eq!(faults[0].attempt, Attempt::Interrupt(0x123));
    assert_eq!(faults[0].reason, Reason::INTERRUPT_WRONG_SOURCE);
}

#[test]
fn a_told_fault_makes_room_for_the_next() {
    let (fake, mut unit) = bench(1);
    for _ in 0..3 {
        fake.record(READ[0], READ[1]);
        assert_eq!(told(&mut unit).0.len(), 1);
        assert_eq!(told(&mut unit).0.len(), 0);
    }
}

#[test]
fn records_are_told_from_the_oldest_on() {
    let (fake, mut unit) = bench(3);
    for page in 0..3 {
        fake.record(page << 12, READ[1]);
    }
    fake.with(|state| state.fsts.set_fri(2));
    let (faults, _) = told(&mut unit);
    let pages: Vec<_> = faults.iter().map(|fault| fault.attempt).collect();
    let read = |page: u64| Attempt::Read(Iova::new(page << 12));
    assert_eq!(pages, [read(2), read(0), read(1)]);
}

/// Fault Status Register: while PFO is set hardware records no further fault.
#[test]
fn an_overflow_is_told_and_ended() {
    let (fake, mut unit) = bench(1);
    fake.record(READ[0], READ[1]);
    fake.record(READ[0], READ[1] ^ 8);
    let (faults, all) = told(&mut unit);
    assert_eq!((faults.len(), all), (1, Told::Some));
    fake.record(READ[0], READ[1]);
    assert_eq!(told(&mut unit).0.len(), 1);
}

/// The error bits of the invalidation queue in the same register belong to `invalidate`.
#[test]
fn clearing_an_overflow_clears_nothing_else() {
    let (fake, mut unit) = bench(1);
    fake.with(|state| {
        state.fsts.set_pfo(true);
        state.fsts.set_iqe(true);
    });
    let _lost = unit.tell_faults(|_| {});
    assert!(fake.state().fsts.iqe());
    assert!(!fake.state().fsts.pfo());
}

#[test]
fn a_record_index_beyond_the_records_is_survived() {
    let (fake, mut unit) = bench(2);
    fake.record(READ[0], READ[1]);
    fake.with(|state| state.fsts.set_fri(255));
    assert_eq!(told(&mut unit).0.len(), 1);
}

#[test]
fn every_reason_has_words() {
    for reason in 0..=u8::MAX {
        assert!(!Reason(reason).to_string().is_empty());
    }
    assert_eq!(Reason(0x77).to_string(), "fault reason 0x77");
}

/// The fault event changes only while it is masked: data, address, upper address, then unmask.
#[test]
fn faults_are_announced_to_any_processor() {
    use crate::remap::Destination;
    use crate::spec::registers::offset::{FEADDR, FEDATA, FEUADDR};

    let (fake, mut unit) = bench(1);
    unit.announce_faults(Route::nmi_of_our_own(Destination::physical(0x12345)));
    let state = fake.state();
    assert_eq!(state.fectl, 0);
    let register = |at| state.announcement[&at];
    assert_eq!(register(FEDATA), 0x400);
    assert_eq!(register(FEADDR), 0xfee4_5000);
    assert_eq!(register(FEUADDR), 0x1_2300);
}
