extern crate std;

use std::vec::Vec;

use super::*;
use crate::fake::{CAP, Event, FakeMemory, FakeUnit, Fault, Power};
use crate::remap::Destinations;
use crate::spec::registers::Cap;

/// A unit that was taken over with tables of its own.
pub(crate) fn running(fake: &FakeUnit, memory: &mut FakeMemory) -> Unit<FakeUnit> {
    take_over(fake, memory).unwrap()
}

fn take_over(fake: &FakeUnit, memory: &mut FakeMemory) -> Result<Unit<FakeUnit>, Failure> {
    let candidate = Candidate::probe(fake.clone())?;
    let tables = ContextTables::new(candidate.capabilities().support(), memory).unwrap();
    let (ring, status) = (memory.take().unwrap(), memory.take().unwrap());
    candidate.take_over(&tables, ring, status, memory)
}

fn fresh() -> (FakeUnit, FakeMemory) {
    let memory = FakeMemory::default();
    (FakeUnit::new(&memory), memory)
}

const CONTEXTS: Event = Event::Forgot([0x11, 0]);
const PAGES: Event = Event::Forgot([0xd2, 0]);
const INTERRUPTS: Event = Event::Forgot([0x4, 0]);

/// After the root-table pointer is set, the context cache and then the IOTLB are invalidated
/// globally, and only then is translation switched on.
#[test]
fn a_unit_that_was_off_is_switched_on_last() {
    let (fake, mut memory) = fresh();
    running(&fake, &mut memory);
    let events = fake.events();
    let [Event::RootTaken(root), Event::Queue(Power::On), rest @ ..] = &events[..] else {
        panic!("{events:?}");
    };
    assert_eq!(rest, [CONTEXTS, PAGES, Event::Translation(Power::On)]);
    // Legacy mode: bits 11:10 are zero.
    assert_eq!(root & 0xfff, 0);
}

/// There is no moment without translation: its bit is not touched.
#[test]
fn a_unit_the_firmware_left_on_never_stops_translating() {
    let (fake, mut memory) = fresh();
    fake.with(|state| {
        state.gsts.set_tes(true);
        state.gsts.set_rtps(true);
        state.rtaddr = 0x9_0000;
    });
    running(&fake, &mut memory);
    let events = fake.events();
    assert!(
        !events
            .iter()
            .any(|event| matches!(event, Event::Translation(_))),
        "{events:?}"
    );
    assert!(events.ends_with(&[CONTEXTS, PAGES]));
    assert!(fake.state().gsts.tes());
}

/// The queue must have run empty before it is switched off; ours starts at slot 0.
#[test]
fn the_firmwares_queue_is_emptied_and_replaced() {
    let (fake, mut memory) = fresh();
    fake.with(|state| {
        state.gsts.set_qies(true);
        state.head = 7;
        state.tail = 7;
    });
    running(&fake, &mut memory);
    let events = fake.events();
    assert_eq!(events[0], Event::Queue(Power::Off));
    assert_eq!(events[2], Event::Queue(Power::On));
}

#[test]
fn a_firmware_queue_that_never_runs_empty_is_an_error() {
    let (fake, mut memory) = fresh();
    fake.with(|state| {
        state.gsts.set_qies(true);
        state.tail = 7;
        state.fault = Some(Fault::IgnoresQueue);
    });
    let error = take_over(&fake, &mut memory).unwrap_err();
    assert_eq!(error, Failure::TimedOut(Step::DrainQueue));
}

#[test]
fn the_firmwares_fault_log_is_switched_off() {
    let (fake, mut memory) = fresh();
    fake.with(|state| state.gsts.set_afls(true));
    running(&fake, &mut memory);
    assert!(fake.events().contains(&Event::FaultLog(Power::Off)));
}

fn with_protected_memory(fake: &FakeUnit) {
    fake.with(|state| {
        let mut cap = Cap(CAP);
        cap.set_plmr(true);
        cap.set_phmr(true);
        state.cap = cap.0;
    });
}

/// RTADDR.TTM cannot change while the unit translates: without a way to hold DMA off meanwhile,
/// the unit is refused and left as it was.
#[test]
fn a_unit_left_in_another_mode_is_refused_where_a_gap_would_open() {
    let (fake, mut memory) = fresh();
    fake.with(|state| {
        state.gsts.set_tes(true);
        state.gsts.set_rtps(true);
        state.rtaddr = 0x9_0400;
    });
    let error = take_over(&fake, &mut memory).unwrap_err();
    assert_eq!(error, Failure::InheritedMode(1));
    assert!(fake.events().is_empty());
}

#[test]
fn a_unit_left_in_another_mode_is_switched_under_protected_memory() {
    let (fake, mut memory) = fresh();
    with_protected_memory(&fake);
    fake.with(|state| {
        state.gsts.set_tes(true);
        state.gsts.set_rtps(true);
        state.rtaddr = 0x9_0c00;
    });
    running(&fake, &mut memory);
    let switches: Vec<_> = fake
        .events()
        .into_iter()
        .filter(|event| matches!(event, Event::Translation(_) | Event::Protection(_)))
        .collect();
    assert_eq!(
        switches,
        [
            Event::Protection(Power::Off),
            Event::Protection(Power::On),
            Event::Translation(Power::Off),
            Event::Translation(Power::On),
            Event::Protection(Power::Off),
        ]
    );
}

/// Section "Protected Low-Memory Limit Register": bits below the granule count as ones.
#[test]
fn protected_memory_covers_at_least_what_was_asked_until_translation_is_on() {
    let (fake, mut memory) = fresh();
    with_protected_memory(&fake);
    let mut candidate = Candidate::probe(fake.clone()).unwrap();
    let range = ByteRange::inclusive(Hpa::new(0x1234_5678), Hpa::new(0x1_4321_0000)).unwrap();
    candidate.protect_memory(range).unwrap();
    {
        let state = fake.state();
        let region = |at| state.protected[&at];
        use crate::spec::registers::offset::{PHMBASE, PHMLIMIT, PLMBASE, PLMLIMIT};
        assert_eq!(
            (region(PLMBASE), region(PLMLIMIT)),
            (0x1220_0000, 0xffe0_0000)
        );
        assert_eq!(
            (region(PHMBASE), region(PHMLIMIT)),
            (0x1_0000_0000, 0x1_4320_0000)
        );
        assert_eq!(state.pmen, 0x8000_0001);
    }
    let tables = ContextTables::new(candidate.capabilities().support(), &mut memory).unwrap();
    let (ring, status) = (memory.take().unwrap(), memory.take().unwrap());
    candidate
        .take_over(&tables, ring, status, &mut memory)
        .unwrap();
    assert!(
        fake.events()
            .ends_with(&[Event::Translation(Power::On), Event::Protection(Power::Off)])
    );
}

/// A limit below its base makes a region empty.
#[test]
fn a_region_nothing_was_asked_of_is_empty() {
    let (fake, _) = fresh();
    with_protected_memory(&fake);
    let mut candidate = Candidate::probe(fake.clone()).unwrap();
    let range = ByteRange::new(Hpa::new(0x20_0000), 0x1000).unwrap();
    candidate.protect_memory(range).unwrap();
    let state = fake.state();
    use crate::spec::registers::offset::{PHMBASE, PHMLIMIT};
    assert!(state.protected[&PHMLIMIT] < state.protected[&PHMBASE]);
}

/// A table without structures, and with these flags.
fn dmar(flags: u8) -> [u8; 48] {
    let mut bytes = [0; 48];
    bytes[..4].copy_from_slice(b"DMAR");
    bytes[4] = 48;
    bytes[37] = flags;
    bytes
}

#[test]
fn firmware_that_says_it_confines_devices_is_belied_by_a_unit_that_is_off() {
    const INTR_REMAP: u8 = 1 << 0;
    const OPT_IN: u8 = 1 << 2;
    let (fake, _) = fresh();
    let belies = |flags| {
        let candidate = Candidate::probe(fake.clone()).unwrap();
        candidate.belies(&Dmar::parse(&dmar(flags)).unwrap())
    };
    assert!(belies(INTR_REMAP | OPT_IN));
    assert!(!belies(INTR_REMAP), "it says nothing");
    // Protected memory holds DMA off, too; on a unit that has none the register says nothing.
    fake.with(|state| state.pmen = 1);
    assert!(belies(OPT_IN));
    with_protected_memory(&fake);
    assert!(!belies(OPT_IN));
    fake.with(|state| state.pmen = 0);
    assert!(belies(OPT_IN));
    fake.with(|state| state.gsts.set_tes(true));
    assert!(!belies(OPT_IN));
}

#[test]
fn memory_that_cannot_be_protected_is_not_said_to_be() {
    let (fake, _) = fresh();
    let mut candidate = Candidate::probe(fake.clone()).unwrap();
    let range = ByteRange::new(Hpa::new(0), 0x1000).unwrap();
    assert_eq!(
        candidate.protect_memory(range),
        Err(Failure::NoProtectedMemory)
    );
    with_protected_memory(&fake);
    fake.with(|state| state.fault = Some(Fault::IgnoresProtection));
    let mut candidate = Candidate::probe(fake).unwrap();
    assert_eq!(
        candidate.protect_memory(range),
        Err(Failure::TimedOut(Step::ProtectMemory))
    );
}

#[test]
fn a_unit_that_ignores_commands_is_given_up_by_the_name_of_the_command() {
    let (fake, mut memory) = fresh();
    fake.with(|state| state.fault = Some(Fault::IgnoresCommands));
    let error = take_over(&fake, &mut memory).unwrap_err();
    assert_eq!(error, Failure::TimedOut(Step::SetRoot));
    assert!(fake.state().polls < 200);
}

#[test]
fn a_unit_that_does_not_forget_is_not_switched_on() {
    let (fake, mut memory) = fresh();
    fake.with(|state| state.fault = Some(Fault::IgnoresQueue));
    let error = take_over(&fake, &mut memory).unwrap_err();
    assert_eq!(error, Failure::Invalidation(Trouble::TimedOut));
    assert!(!fake.state().gsts.tes());
}

/// CAP.RWBF: software flushes the write buffer itself before tables are looked at.
#[test]
fn a_unit_with_a_write_buffer_has_it_flushed_before_it_looks() {
    let (fake, mut memory) = fresh();
    fake.with(|state| {
        let mut cap = Cap(CAP);
        cap.set_rwbf(true);
        state.cap = cap.0;
    });
    let mut unit = running(&fake, &mut memory);
    let events = fake.events();
    let flushed = events
        .iter()
        .position(|event| *event == Event::WriteBufferFlushed);
    let taken = events
        .iter()
        .position(|event| matches!(event, Event::RootTaken(_)));
    assert!(flushed.unwrap() < taken.unwrap());
    fake.with(|state| state.events.clear());
    unit.show(&Scope::Translations, &mut memory).unwrap();
    assert_eq!(fake.events(), [Event::WriteBufferFlushed]);
}

/// CAP.CM: in caching mode, entries that become present need an invalidation too.
#[test]
fn new_entries_are_shown_to_a_unit_that_remembers_absences() {
    let (fake, mut memory) = fresh();
    let mut unit = running(&fake, &mut memory);
    fake.with(|state| state.events.clear());
    unit.show(&Scope::Interrupts, &mut memory).unwrap();
    assert_eq!(fake.events(), []);

    fake.with(|state| state.cap |= 1 << 7);
    let mut unit = running(&fake, &mut memory);
    fake.with(|state| state.events.clear());
    unit.show(&Scope::Interrupts, &mut memory).unwrap();
    assert_eq!(fake.events(), [INTERRUPTS]);
}

#[test]
fn what_cannot_work_is_refused_before_anything_is_touched() {
    let refused = |change: fn(&mut crate::fake::State)| {
        let (fake, _) = fresh();
        fake.with(change);
        let failure = Candidate::probe(fake.clone()).unwrap_err();
        assert!(fake.events().is_empty());
        failure
    };
    assert_eq!(refused(|state| state.version = u32::MAX), Failure::Absent);
    assert_eq!(refused(|state| state.cap = u64::MAX), Failure::Absent);
    assert_eq!(refused(|state| state.cap = 0), Failure::Absent);
    // An emulated unit with DMA translation switched off.
    assert_eq!(
        refused(|state| state.cap &= !0x1f00),
        Failure::NoTranslation
    );
    assert_eq!(refused(|state| state.ecap &= !0b10), Failure::NoQueue);
    assert_eq!(
        refused(|state| state.cap |= 0x3ff << 24),
        Failure::OutsideWindow
    );
}

fn table(memory: &mut FakeMemory, destinations: Destinations) -> InterruptTable {
    InterruptTable::new([memory.take().unwrap()], destinations).unwrap()
}

/// Queue on, table set, entry cache forgotten, compatibility format off, remapping on.
#[test]
fn interrupts_are_remapped_from_a_table_nothing_remembers_another_of() {
    let (fake, mut memory) = fresh();
    let mut unit = running(&fake, &mut memory);
    fake.with(|state| {
        state.gsts.set_cfis(true);
        state.events.clear();
    });
    let table = table(&mut memory, Destinations::Wide);
    unit.remap_interrupts(&table, &mut memory).unwrap();
    let irta = table.address().0;
    assert_eq!(irta & 0xfff, 0x807, "256 entries, extended mode");
    assert_eq!(
        fake.events(),
        [
            Event::InterruptTableTaken(irta),
            INTERRUPTS,
            Event::Compatibility(Power::Off),
            Event::InterruptRemapping(Power::On),
        ]
    );
}

#[test]
fn interrupt_remapping_the_firmware_left_on_never_stops() {
    let (fake, mut memory) = fresh();
    let mut unit = running(&fake, &mut memory);
    fake.with(|state| {
        state.gsts.set_irtps(true);
        state.gsts.set_ires(true);
        state.events.clear();
    });
    let table = table(&mut memory, Destinations::Narrow);
    unit.remap_interrupts(&table, &mut memory).unwrap();
    assert_eq!(
        fake.events(),
        [Event::InterruptTableTaken(table.address().0), INTERRUPTS]
    );
}

#[test]
fn wide_destinations_need_a_unit_that_has_them() {
    let (fake, mut memory) = fresh();
    fake.with(|state| state.ecap &= !0b1_0000);
    let mut unit = running(&fake, &mut memory);
    let table = table(&mut memory, Destinations::Wide);
    let error = unit.remap_interrupts(&table, &mut memory).unwrap_err();
    assert_eq!(error, Failure::NoInterruptRemapping);
    assert!(!fake.state().gsts.ires());
}
