//! Every page of the machine, reached for by a device that is fast enough.

use std::collections::HashSet;

use machine::judge::held;
use machine::trace::Refusal;
use machine::{Sweeper, Trace};
use qemu::Session;

use crate::memory::own_memory;
use crate::stage::{at_work, only_was_told, under_sweep, under_sweep_unguarded};

const PAGE: u64 = 4096;
/// The machine's memory, and what of it the kernel is told to spare: there every byte is looked at.
pub(crate) const MEMORY: u64 = 256 << 20;
const SPARED: std::ops::Range<u64> = 192 << 20..240 << 20;
/// What spared memory is filled with: taken for a command, it is one that is answered.
const FILLING: u8 = 0x05;
/// Pages swept at a time; the guest's time passes in between.
const STRIDE: usize = 2048;

/// Where nothing of this machine is: at the borders of what tables translate, and of all addresses.
const BEYOND: [u64; 6] = [
    MEMORY,
    0x1_0000_0000,
    (1 << 39) - PAGE,
    1 << 39,
    1 << 48,
    u64::MAX - (PAGE - 1),
];
/// The remapping unit, an I/O APIC, the timer, the firmware's flash.
const REGISTERS: [u64; 4] = [0xfed9_0000, 0xfec0_0000, 0xfed0_0000, 0xffff_f000];
/// Configuration space, a page for each function of bus 0.
const CONFIGURATION: std::ops::Range<u64> = 0xb000_0000..0xb010_0000;

#[test]
fn a_device_reaches_no_page_of_the_machine() {
    let name = "a_device_reaches_no_page_of_the_machine";
    let trace = Trace::of(name);
    let scene = under_sweep(name, &trace);
    let mut session = at_work(&scene);
    let own = own_memory(&session);
    let before = own_pages(&scene.file("own.before"), &mut session, own);
    fill(&mut session);
    let mut sweeper = Sweeper::arm(&mut session);
    let targets: Vec<u64> = (0..MEMORY)
        .step_by(PAGE as usize)
        .chain(REGISTERS)
        .chain(CONFIGURATION.step_by(PAGE as usize))
        .chain(registers_of_others(&mut session))
        .chain(BEYOND)
        .collect();
    for some in targets.chunks(STRIDE) {
        sweeper.sweep(&mut session, some.iter().copied());
    }
    let kept = dump(&scene.file("spared"), &mut session, SPARED);
    let is_kept = kept.iter().all(|byte| *byte == FILLING);
    assert!(is_kept, "spared memory has changed");
    let after = own_pages(&scene.file("own.after"), &mut session, own);
    let first = targets.iter().position(|target| *target == own.0);
    let first = first.expect("Bouncer's memory is among the targets");
    own_memory_is_kept(&before, &after, first);

    let (source, who) = (sweeper.requester(), sweeper.name());
    let refused: HashSet<Refusal> = trace.refusals().into_iter().collect();
    let strangers: HashSet<u16> = refused.iter().map(|r| r.source).collect();
    assert_eq!(strangers, HashSet::from([source]), "nobody else is blamed");
    let pages: HashSet<(u64, bool)> = refused
        .iter()
        .map(|r| (r.address & !(PAGE - 1), r.is_write))
        .collect();
    for target in &targets {
        for is_write in [false, true] {
            assert!(
                pages.contains(&(*target, is_write)),
                "the unit did not refuse {target:#x}, write: {is_write}"
            );
        }
    }
    assert_eq!(trace.translations(source), 0, "some request led somewhere");
    let outcome = scene.end(session);
    held(name, &outcome, &["endure"]);
    only_was_told(&outcome, &who);
}

#[test]
fn without_bouncer_the_sweep_reaches_every_page_it_is_sent_to() {
    let name = "without_bouncer_the_sweep_reaches_every_page_it_is_sent_to";
    let trace = Trace::of(name);
    let scene = under_sweep_unguarded(name, &trace);
    let mut session = at_work(&scene);
    fill(&mut session);
    let mut sweeper = Sweeper::arm(&mut session);
    let pages: Vec<u64> = SPARED.step_by(PAGE as usize).take(300).collect();
    sweeper.sweep(&mut session, pages.iter().copied());
    for (index, page) in pages.iter().enumerate() {
        let at = page + Sweeper::place(index as u64);
        let bus = session.qtest().expect("the machine has a bus");
        let bytes = bus.read(at, 8).expect("the bus answers");
        assert_eq!(bytes, [0; 8], "page {index}");
    }
    let outcome = scene.end(session);
    held(name, &outcome, &["endure"]);
}

fn fill(session: &mut Session) {
    let bus = session.qtest().expect("the machine has a bus");
    let length = SPARED.end - SPARED.start;
    bus.fill(SPARED.start, length, FILLING)
        .expect("the bus answers");
}

/// The pages at which the base address registers of every function point, but the sweeper's own.
fn registers_of_others(session: &mut Session) -> Vec<u64> {
    let bus = session.qtest().expect("the machine has a bus");
    let mut pages = Vec::new();
    for function in 0..0x400_u64 {
        let at = 0xb000_0000 + (function << 12);
        let mut read = |offset| bus.readl(at + offset).expect("the bus answers");
        if read(0) == u32::MAX || read(0x0c) >> 16 & 0x7f != 0 {
            continue;
        }
        for register in 0..6 {
            let bar = read(0x10 + 4 * register);
            let is_memory = bar & 1 == 0 && bar & !0xf != 0;
            // Not one of the sort that reads its upper half as an address.
            if is_memory && bar >= 0x8000_0000 {
                pages.push(u64::from(bar & !0xfff));
            }
        }
    }
    assert!(pages.len() >= 2, "devices have registers: {pages:x?}");
    pages
}

fn own_pages(file: &std::path::Path, session: &mut Session, own: (u64, u64)) -> Vec<u8> {
    dump(file, session, own.0..own.0 + own.1)
}

fn dump(file: &std::path::Path, session: &mut Session, range: std::ops::Range<u64>) -> Vec<u8> {
    let length = range.end - range.start;
    session
        .qmp()
        .dump_physical(range.start, length, file)
        .unwrap_or_else(|error| panic!("{error}"));
    std::fs::read(file).unwrap_or_else(|error| panic!("{}: {error}", file.display()))
}

/// Demands that no place in Bouncer's memory to which the device wrote zeros has become zeros.
/// `first` is which target its first page was.
fn own_memory_is_kept(before: &[u8], after: &[u8], first: usize) {
    let places = (0..before.len() / PAGE as usize).map(|page| {
        let place = Sweeper::place((first + page) as u64);
        page * PAGE as usize + place as usize
    });
    let eight = |bytes: &[u8], at: usize| bytes.get(at..at + 8) != Some(&[0; 8]);
    let telling: Vec<usize> = places.filter(|at| eight(before, *at)).collect();
    assert!(telling.len() > 8, "places that would show it: {telling:x?}");
    // What counts, and what is a stack, may have come to zero by itself.
    let wiped = telling.iter().filter(|at| !eight(after, **at)).count();
    assert!(wiped * 4 < telling.len(), "{wiped} of {}", telling.len());
}
