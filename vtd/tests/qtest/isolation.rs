//! What devices reach, and what is said when they try more.

use memory::{ByteRange, Hpa, Iova};
use vtd::context::Attachment;
use vtd::domain::{Access, Domain, DomainId};
use vtd::fault::{Attempt, Fault, Told};
use vtd::invalidate::Scope;
use vtd::spec::fault::Reason;

use crate::machine::{DEVICE, OTHER};
use crate::stage::{LENT, SECRET, Stage, VICTIM, page};

/// Nobody is attached, so nobody reaches anything, from the moment of the take-over.
#[test]
fn a_unit_taken_over_denies_everybody() {
    let Some(mut stage) = Stage::set("denies") else {
        return;
    };
    assert!(!stage.writes(VICTIM));
    let fault = Fault {
        source: DEVICE,
        attempt: Attempt::Write(Iova::new(VICTIM)),
        reason: Reason::ROOT_NOT_PRESENT,
    };
    assert_eq!(stage.only_fault(), fault);

    stage.attach(OTHER);
    assert!(!stage.writes(VICTIM));
    let reason = Reason::CONTEXT_NOT_PRESENT;
    assert_eq!(stage.only_fault(), Fault { reason, ..fault });
}

#[test]
fn a_device_reaches_what_it_is_lent_and_nothing_else() {
    let Some(mut stage) = Stage::set("reaches") else {
        return;
    };
    stage.attach(DEVICE);
    stage.lend(Access::ReadWrite);
    assert_eq!(stage.reads(LENT), SECRET);
    assert!(stage.writes(LENT));
    assert_eq!(stage.faults(), []);
    // The page behind, and the memory's own address.
    for (at, page) in [(LENT + 0x1000, LENT + 0x1000), (VICTIM + 8, VICTIM)] {
        assert!(!stage.writes(at));
        let fault = stage.only_fault();
        assert_eq!(fault.attempt, Attempt::Write(Iova::new(page)));
        assert_eq!(fault.reason, Reason::WRITE_DENIED);
    }
}

/// A device cannot write what it may read, nor read what it may write.
#[test]
fn loans_have_a_direction() {
    let Some(mut stage) = Stage::set("direction") else {
        return;
    };
    stage.attach(DEVICE);
    stage.lend(Access::Read);
    assert_eq!(stage.reads(LENT), SECRET);
    stage.forget(&Scope::Domain(stage.domain.id()));
    assert!(!stage.writes(LENT));
    assert_eq!(stage.only_fault().reason, Reason::WRITE_DENIED);

    stage.lend(Access::Write);
    assert!(stage.writes(LENT));
    stage.forget(&Scope::Domain(stage.domain.id()));
    assert_ne!(stage.reads(LENT), SECRET);
    assert_eq!(stage.only_fault().reason, Reason::READ_DENIED);
}

/// Beyond the domain's width.
#[test]
fn addresses_beyond_the_domain_are_refused() {
    let Some(mut stage) = Stage::set("beyond") else {
        return;
    };
    stage.attach(DEVICE);
    stage.machine.device_tries_to_read(DEVICE, 1 << 39);
    assert_eq!(stage.only_fault().reason, Reason::BEYOND_WIDTH);
}

/// Clearing the entry is not enough; the debt is real, and settling it ends the access.
#[test]
fn a_revoked_page_is_reached_until_the_debt_is_settled() {
    let Some(mut stage) = Stage::set("revoked") else {
        return;
    };
    stage.attach(DEVICE);
    stage.lend(Access::ReadWrite);
    assert!(stage.writes(LENT));
    let debt = stage.domain.revoke(&mut stage.frames, page(LENT)).unwrap();
    assert!(stage.writes(LENT), "QEMU caches translations");
    let proof = debt.settle(&mut stage.units, &mut stage.frames).unwrap();
    assert!(proof.is_some());
    assert!(!stage.writes(LENT));
    assert_eq!(stage.only_fault().reason, Reason::WRITE_DENIED);
}

/// The same for the device's entry.
#[test]
fn a_detached_device_reaches_its_domain_until_the_debt_is_settled() {
    let Some(mut stage) = Stage::set("detached") else {
        return;
    };
    stage.attach(DEVICE);
    stage.lend(Access::ReadWrite);
    assert!(stage.writes(LENT));
    let due = stage.tables.detach(&mut stage.frames, DEVICE).unwrap();
    assert!(stage.writes(LENT), "QEMU caches devices' entries");
    let proof = due
        .settle(&mut stage.units[0].invalidator(&mut stage.frames))
        .unwrap();
    assert!(!stage.writes(LENT));
    assert_eq!(stage.only_fault().reason, Reason::CONTEXT_NOT_PRESENT);

    stage.tables.vacate(&mut stage.frames, DEVICE, &proof);
    stage.attach(DEVICE);
    assert!(stage.writes(LENT));
}

/// A quarantined device reaches nothing and cannot fill the records.
#[test]
fn a_quarantined_device_is_cut_off_and_silent() {
    let Some(mut stage) = Stage::set("quarantined") else {
        return;
    };
    stage.attach(DEVICE);
    stage.lend(Access::ReadWrite);
    assert!(stage.writes(LENT));
    let due = stage.tables.quarantine(&mut stage.frames, DEVICE).unwrap();
    due.settle(&mut stage.units[0].invalidator(&mut stage.frames))
        .unwrap();
    assert!(!stage.writes(LENT));
    assert_eq!(stage.faults(), []);
    let state = stage.tables.attachment(&stage.frames, DEVICE);
    assert_eq!(state, Attachment::Quarantined);
}

/// QEMU has one record; a second source overflows it.
#[test]
fn lost_faults_are_said_to_be_lost() {
    let Some(mut stage) = Stage::set("lost") else {
        return;
    };
    stage.machine.device_tries_to_read(DEVICE, VICTIM);
    stage.machine.device_tries_to_read(OTHER, VICTIM);
    let mut sources = Vec::new();
    let told = stage.units[0].tell_faults(|fault| sources.push(fault.source));
    assert_eq!((sources, told), (vec![DEVICE], Told::Some));

    stage.machine.device_tries_to_read(OTHER, VICTIM);
    assert_eq!(stage.only_fault().source, OTHER);
}

#[test]
fn large_pages_translate() {
    let Some(mut stage) = Stage::set("large") else {
        return;
    };
    stage.attach(DEVICE);
    let two_mib = ByteRange::new(Iova::new(LENT), 2 << 20).unwrap();
    let debt = stage
        .domain
        .lend(&mut stage.frames, two_mib, Hpa::new(VICTIM), Access::Read);
    debt.unwrap()
        .settle(&mut stage.units, &mut stage.frames)
        .unwrap();
    let leaf = stage
        .domain
        .translate(&stage.frames, Iova::new(LENT))
        .unwrap();
    assert_eq!(leaf.size, paging::PageSize::MiB2);
    assert_eq!(stage.reads(LENT), SECRET);

    let one_gib = ByteRange::new(Iova::new(LENT), 1 << 30).unwrap();
    let debt = stage
        .domain
        .lend(&mut stage.frames, one_gib, Hpa::new(0), Access::Read);
    debt.unwrap()
        .settle(&mut stage.units, &mut stage.frames)
        .unwrap();
    let leaf = stage
        .domain
        .translate(&stage.frames, Iova::new(LENT))
        .unwrap();
    assert_eq!(leaf.size, paging::PageSize::GiB1);
    assert_eq!(stage.reads(LENT + VICTIM), SECRET);
}

/// What is left out of the trusted devices' domain is out of their reach too.
#[test]
fn a_trusted_device_reaches_everything_but_the_holes() {
    let Some(mut stage) = Stage::set("trusted") else {
        return;
    };
    let whole = ByteRange::new(Hpa::new(0), 1 << 32).unwrap();
    let hole = ByteRange::new(Hpa::new(VICTIM), 0x1000).unwrap();
    let format = stage.units[0]
        .capabilities()
        .support()
        .format(39, 39)
        .unwrap();
    let id = DomainId::new(9).unwrap();
    stage.domain = Domain::identity(id, format, &mut stage.frames, whole, &[hole]).unwrap();
    stage.attach(DEVICE);
    stage.machine.store(VICTIM + 0x1000, SECRET);
    assert_eq!(stage.reads(VICTIM + 0x1000), SECRET);
    assert_ne!(stage.reads(VICTIM), SECRET);
    assert_eq!(stage.only_fault().reason, Reason::READ_DENIED);
}
