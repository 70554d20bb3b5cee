extern crate std;

use kit::{Past, RecordingFlush, RecordingFrames, StingyFrames};
use memory::Stale;

use super::*;
use crate::spec::registers::{Cap, Ecap};

const NUMBER: u16 = 5;

fn support() -> Support {
    Support::of(Cap(0x00d2_008c_222f_0606), Ecap(0x00f0_0f4a))
}

fn bdf(bus: u8, device: u8, function: u8) -> Bdf {
    Bdf::new(bus, device, function).unwrap()
}

struct Bench<F> {
    frames: F,
    tables: ContextTables,
    domain: Domain,
}

impl<F: Frames> Bench<F> {
    fn over(mut frames: F) -> Self {
        let tables = ContextTables::new(support(), &mut frames).unwrap();
        let format = support().format(48, 39).unwrap();
        let id = DomainId::new(NUMBER).unwrap();
        let domain = Domain::new(id, format, &mut frames).unwrap();
        Self {
            frames,
            tables,
            domain,
        }
    }

    fn attach(&mut self, source: Bdf) -> Result<Stale<Scope>, Refusal> {
        self.tables.attach(&mut self.frames, source, &self.domain)
    }

    fn attachment(&self, source: Bdf) -> Attachment {
        self.tables.attachment(&self.frames, source)
    }
}

fn bench() -> Bench<RecordingFrames> {
    Bench::over(RecordingFrames::new())
}

/// What hardware makes of a request: nothing, or (table, width, domain). Reads what chapter 9
/// defines, and panics where reserved bits are set.
fn look_up(past: Past<'_>, root: Hpa, source: Bdf) -> Option<(u64, u8, u16)> {
    let entry = past.read(root, usize::from(source.bus()) * 2);
    assert_eq!(
        past.read(root, usize::from(source.bus()) * 2 + 1),
        0,
        "reserved"
    );
    if entry & 1 == 0 {
        return None;
    }
    assert_eq!(entry & 0xffe, 0, "reserved");
    let table = Hpa::new(entry & !0xfff);
    let low = past.read(table, usize::from(source.devfn()) * 2);
    let high = past.read(table, usize::from(source.devfn()) * 2 + 1);
    if low & 1 == 0 {
        return None;
    }
    assert_eq!(low & 0xff0, 0, "reserved");
    assert_eq!(high & !0x00ff_ffff | high & 0x80, 0, "reserved");
    assert_eq!(low >> 2 & 3, 0, "translated requests must be blocked");
    Some((low & !0xfff, (high & 7) as u8, (high >> 8) as u16))
}

/// Section 9.3: present in bit 0, table in 63:12; width in 66:64, domain in 87:72.
#[test]
fn an_attached_device_has_its_domains_table_width_and_number() {
    let mut bench = bench();
    let _due = bench.attach(bdf(3, 4, 5)).unwrap();
    let past = bench.frames.rewind(bench.frames.stores());
    let seen = look_up(past, bench.tables.root(), bdf(3, 4, 5));
    assert_eq!(seen, Some((bench.domain.root().raw(), 2, NUMBER)));
}

/// Functions of an attached device's bus, and other buses, stay without an entry.
#[test]
fn nobody_else_has_an_entry() {
    let mut bench = bench();
    let _due = bench.attach(bdf(3, 4, 5)).unwrap();
    let past = bench.frames.rewind(bench.frames.stores());
    for id in 0..=u16::MAX {
        let source = Bdf::from_requester_id(id);
        if source != bdf(3, 4, 5) {
            assert_eq!(look_up(past, bench.tables.root(), source), None);
        }
    }
}

/// Hardware may look between any two stores: it finds the old entry or the new one.
#[test]
fn every_moment_of_an_attachments_life_is_before_or_after() {
    let mut bench = bench();
    let source = bdf(0, 4, 0);
    let before = bench.frames.stores();
    let _due = bench.attach(source).unwrap();
    let attached = bench.frames.stores();
    let due = bench.tables.detach(&mut bench.frames, source).unwrap();
    let detached = bench.frames.stores();
    let proof = due.settle(&mut RecordingFlush::new()).unwrap();
    bench.tables.vacate(&mut bench.frames, source, &proof);
    let _due = bench.tables.quarantine(&mut bench.frames, source).unwrap();

    let whole = Some((bench.domain.root().raw(), 2, NUMBER));
    for moment in before..=bench.frames.stores() {
        let seen = look_up(bench.frames.rewind(moment), bench.tables.root(), source);
        assert!(
            seen.is_none() || seen == whole,
            "at store {moment}: {seen:?}"
        );
        assert_eq!(seen.is_some(), (attached..detached).contains(&moment));
    }
}

#[test]
fn a_device_has_one_domain_at_a_time() {
    let mut bench = bench();
    let source = bdf(0, 4, 0);
    let _due = bench.attach(source).unwrap();
    let occupied = Attachment::Attached(bench.domain.id());
    assert_eq!(
        bench.attach(source),
        Err(Refusal::Occupied(source, occupied))
    );
}

/// Until caches have forgotten the last domain the device could use both.
#[test]
fn a_detached_device_is_not_attached_again_before_caches_forgot() {
    let mut bench = bench();
    let source = bdf(0, 4, 0);
    let _due = bench.attach(source).unwrap();
    let due = bench.tables.detach(&mut bench.frames, source).unwrap();
    assert_eq!(
        *due.scope(),
        Scope::Device {
            source,
            domain: bench.domain.id()
        }
    );
    let leaving = Attachment::Leaving(bench.domain.id());
    assert_eq!(
        bench.attach(source),
        Err(Refusal::Occupied(source, leaving))
    );

    let proof = due.settle(&mut RecordingFlush::new()).unwrap();
    bench.tables.vacate(&mut bench.frames, source, &proof);
    assert_eq!(bench.attachment(source), Attachment::None);
    assert!(bench.attach(source).is_ok());
}

#[test]
fn vacating_does_not_touch_an_attached_device() {
    let mut bench = bench();
    let source = bdf(0, 4, 0);
    let due = bench.attach(source).unwrap();
    let proof = due.settle(&mut RecordingFlush::new()).unwrap();
    bench.tables.vacate(&mut bench.frames, source, &proof);
    assert_eq!(
        bench.attachment(source),
        Attachment::Attached(bench.domain.id())
    );
}

#[test]
fn a_device_that_was_never_attached_cannot_be_detached() {
    let mut bench = bench();
    assert_eq!(bench.tables.detach(&mut bench.frames, bdf(0, 1, 0)), None);
}

/// Section 9.3: of an entry that is not present hardware looks at FPD alone.
#[test]
fn a_quarantined_device_reaches_nothing_is_silent_and_stays_out() {
    let mut bench = bench();
    let source = bdf(0, 4, 0);
    let _due = bench.attach(source).unwrap();
    let due = bench.tables.quarantine(&mut bench.frames, source).unwrap();
    let entry = bench.frames.read(bench.tables.root(), 0) & !0xfff;
    assert_eq!(bench.frames.read(Hpa::new(entry), 4 * 8 * 2), 0b10);
    let proof = due.settle(&mut RecordingFlush::new()).unwrap();
    bench.tables.vacate(&mut bench.frames, source, &proof);
    assert_eq!(bench.attachment(source), Attachment::Quarantined);
    assert!(bench.attach(source).is_err());
}

/// Somebody else in its place has what is his: the entry is all zeros again.
#[test]
fn a_quarantine_that_is_ended_leaves_no_entry() {
    let mut bench = bench();
    let source = bdf(0, 4, 0);
    assert_eq!(bench.tables.release(&mut bench.frames, source), None);
    let _due = bench.attach(source).unwrap();
    assert_eq!(bench.tables.release(&mut bench.frames, source), None);
    let due = bench.tables.quarantine(&mut bench.frames, source).unwrap();
    let proof = due.settle(&mut RecordingFlush::new()).unwrap();
    bench.tables.vacate(&mut bench.frames, source, &proof);
    let owed = bench.tables.release(&mut bench.frames, source).unwrap();
    assert_eq!(*owed.scope(), Scope::Translations);
    assert_eq!(bench.attachment(source), Attachment::None);
    assert!(bench.attach(source).is_ok());
}

#[test]
fn a_pool_that_runs_out_refuses_and_changes_nothing() {
    let mut bench = Bench::over(StingyFrames::new(RecordingFrames::new(), 2));
    let stores = bench.frames.pool().stores();
    let source = bdf(0, 4, 0);
    assert_eq!(bench.attach(source), Err(Refusal::OutOfFrames(source)));
    assert_eq!(bench.frames.pool().stores(), stores);
}

#[test]
fn a_domain_wider_than_the_unit_walks_is_refused() {
    let mut bench = bench();
    let mut cap = Cap(0x00d2_008c_222f_0606);
    cap.set_sagaw(0b010);
    let narrow = Support::of(cap, Ecap(0));
    bench.tables = ContextTables::new(narrow, &mut bench.frames).unwrap();
    let source = bdf(0, 4, 0);
    assert_eq!(bench.attach(source), Err(Refusal::Width(source)));
}

#[test]
fn a_domain_beyond_the_units_numbers_is_refused() {
    let mut bench = bench();
    let mut cap = Cap(0x00d2_008c_222f_0606);
    cap.set_nd(0);
    let few = Support::of(cap, Ecap(0));
    bench.tables = ContextTables::new(few, &mut bench.frames).unwrap();
    let source = bdf(0, 4, 0);
    assert!(bench.attach(source).is_ok());
    let id = DomainId::new(16).unwrap();
    bench.domain = Domain::new(id, support().format(48, 39).unwrap(), &mut bench.frames).unwrap();
    let source = bdf(0, 5, 0);
    assert_eq!(bench.attach(source), Err(Refusal::Number(source, id)));
}
