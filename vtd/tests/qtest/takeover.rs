//! Units as firmware may leave them.

use memory::Hpa;
use vtd::domain::Access;
use vtd::spec::fault::Reason;
use vtd::unit::Candidate;

use crate::machine::{DEVICE, Machine};
use crate::stage::{LENT, SECRET, Stage, VICTIM, page, take_over};

/// A unit that translates goes on translating: the device keeps its domain over the take-over.
#[test]
fn a_unit_left_on_is_taken_over_while_it_translates() {
    let Some(mut stage) = Stage::set("left-on") else {
        return;
    };
    stage.attach(DEVICE);
    stage.lend(Access::Read);
    assert_eq!(stage.reads(LENT), SECRET);

    let candidate = Candidate::probe(stage.machine.bus()).unwrap();
    assert!(candidate.inherited().tes() && candidate.inherited().qies());
    let (unit, tables) = take_over(&stage.machine);
    stage.units = [unit];
    stage.tables = tables;
    stage.machine.device_tries_to_read(DEVICE, LENT);
    assert_eq!(stage.only_fault().reason, Reason::ROOT_NOT_PRESENT);
    stage.attach(DEVICE);
    assert_eq!(stage.reads(LENT), SECRET);
}

/// In caching mode the unit remembers that there was no entry.
#[test]
fn absences_a_unit_remembers_are_forgotten() {
    let Some(mut stage) = Stage::set_with("absences", "intremap=on,caching-mode=on") else {
        return;
    };
    assert!(stage.units[0].capabilities().caches_absences());
    stage.lend(Access::Read);
    stage.machine.device_tries_to_read(DEVICE, LENT);
    assert_eq!(stage.only_fault().source, DEVICE);
    stage.attach(DEVICE);
    assert_eq!(stage.reads(LENT), SECRET);
    assert_eq!(stage.faults(), []);

    let next = LENT + 0x1000;
    stage.machine.device_tries_to_read(DEVICE, next);
    assert_eq!(stage.only_fault().reason, Reason::READ_DENIED);
    let debt = stage.domain.lend(
        &mut stage.frames,
        page(next),
        Hpa::new(VICTIM),
        Access::Read,
    );
    debt.unwrap()
        .settle(&mut stage.units, &mut stage.frames)
        .unwrap();
    assert_eq!(stage.reads(next), SECRET);
}

/// An emulated unit without DMA translation is no unit for us.
#[test]
fn a_unit_that_only_remaps_interrupts_is_refused() {
    let options = "intremap=on,dma-translation=off";
    let Some(machine) = Machine::start("no-dma", options) else {
        return;
    };
    let refused = Candidate::probe(machine.bus()).unwrap_err();
    assert_eq!(refused, vtd::unit::Failure::NoTranslation);
}
