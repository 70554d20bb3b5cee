//! Attacks on memory and on what is mapped like memory.

use std::time::Duration;

use machine::Attacker;
use machine::attacker::{REACH, Transfer};
use machine::judge::held;
use qemu::{Port, Session};

use crate::stage::{
    SCRATCH, at_work, counted, let_be_told, mark, scene, shows_mark, unguarded, was_told,
};

/// The guest's memory, sampled: real mode's, the kernel's, the rest, its last page.
const RAM: [u64; 8] = [
    0x1000,
    0x9_f000,
    0x10_0000,
    0x100_0000,
    0x1fe_d000,
    0x1234_5000,
    0x2fff_f000,
    0x3000_0000,
];
/// Registers: the remapping unit, an I/O APIC, configuration space, the timer.
const REGISTERS: [u64; 4] = [0xfed9_0000, 0xfec0_0000, 0xb000_0000, 0xfed0_0000];
/// Addresses beyond the machine's, at the borders of what tables translate.
const BEYOND: [u64; 4] = [0x1_0000_0000, (1 << 39) - 0x1000, 1 << 48, u64::MAX - 0xfff];

#[test]
fn a_device_reaches_no_page_that_was_not_given() {
    let name = "a_device_reaches_no_page_that_was_not_given";
    let scene = scene(name);
    let mut session = at_work(&scene);
    let attacker = Attacker::arm(&mut session, &[]);
    let own = own_memory(&session);
    attacker.load(&mut session, SCRATCH, &mark());
    wipe(&mut session, SCRATCH);

    let mut targets: Vec<u64> = RAM.into_iter().chain(REGISTERS).chain(BEYOND).collect();
    targets.extend((0..4).map(|quarter| own.0 + quarter * own.1 / 4));
    targets.push(SCRATCH);
    // Writes first: a read that is refused leaves zeros in the device's buffer.
    for target in &targets {
        attacker.transfer(&mut session, Transfer::Write, *target, REACH);
        let_be_told(&mut session, attacker, Transfer::Write, *target);
    }
    // Across the border of two pages, into Bouncer's memory from outside and out of it again, across
    // the first 4 GiB, and from the last address to the first.
    let borders = [
        SCRATCH + 0xff0,
        own.0 - 0x10,
        own.0 + own.1 - 0x10,
        0xffff_fff0,
        u64::MAX - 0xf,
    ];
    for border in borders {
        attacker.transfer(&mut session, Transfer::Write, border, 0x20);
        let_be_told(&mut session, attacker, Transfer::Write, border);
    }
    let kept = attacker.loot(&mut session, SCRATCH);
    assert!(kept == mark(), "the device had something to write");
    wipe(&mut session, SCRATCH);
    for target in &targets {
        attacker.transfer(&mut session, Transfer::Read, *target, REACH);
        let_be_told(&mut session, attacker, Transfer::Read, *target);
    }
    for target in RAM.into_iter().chain([SCRATCH, SCRATCH + 0x1000, own.0]) {
        let bytes = read(&mut session, target);
        assert!(!shows_mark(&bytes), "the device wrote to {target:#x}");
    }
    for offset in (0..own.1).step_by(4096) {
        let bytes = read(&mut session, own.0 + offset);
        assert!(
            !shows_mark(&bytes),
            "{:#x} in Bouncer's memory",
            own.0 + offset
        );
    }
    let loot = attacker.loot(&mut session, SCRATCH);
    // QEMU's device has zeros where a read was refused; what it never has is anybody's memory.
    let is_empty = loot.iter().all(|byte| *byte == 0 || *byte == 0xff);
    assert!(is_empty || loot == mark(), "the device read something");

    let outcome = scene.end(session);
    held(name, &outcome, &["endure"]);
    for border in borders {
        was_told(&outcome, attacker, Transfer::Write, border);
    }
    for target in targets {
        for which in [Transfer::Write, Transfer::Read] {
            was_told(&outcome, attacker, which, target);
        }
    }
}

#[test]
fn without_bouncer_the_same_device_reaches_all_memory() {
    let name = "without_bouncer_the_same_device_reaches_all_memory";
    let scene = unguarded(name);
    let mut session = at_work(&scene);
    let attacker = Attacker::arm(&mut session, &[]);
    attacker.load(&mut session, SCRATCH, &mark());
    let target = SCRATCH + 0x5000;
    attacker.transfer(&mut session, Transfer::Write, target, REACH);
    assert!(read(&mut session, target) == mark(), "the device writes");
    let kernel = read(&mut session, 0x100_0000);
    attacker.transfer(&mut session, Transfer::Read, 0x100_0000, REACH);
    let loot = attacker.loot(&mut session, SCRATCH);
    assert!(loot == kernel, "the device reads the kernel");
    let outcome = scene.end(session);
    held(name, &outcome, &["endure"]);
}

#[test]
fn a_device_that_arrives_reaches_nothing_before_and_after() {
    let name = "a_device_that_arrives_reaches_nothing_before_and_after";
    let port = "pcie-root-port,id=bay,chassis=9,slot=9,addr=09.0";
    let scene = scene(name).arguments(&["-device", port]);
    let mut session = at_work(&scene);
    let resident = Attacker::arm(&mut session, &[]);
    let arguments = serde_json::json!({
        "driver": "edu", "id": "newcomer", "bus": "bay", "dma_mask": u64::MAX,
    });
    session
        .qmp()
        .execute("device_add", arguments)
        .unwrap_or_else(|error| panic!("{error}"));
    session
        .wait_for(Port::Bouncer, "@arrived bdf=", Duration::from_secs(60))
        .unwrap_or_else(|error| panic!("{error}"));
    // The guest gives it a place in memory a moment later.
    std::thread::sleep(Duration::from_secs(2));
    let newcomer = Attacker::arm(&mut session, &[resident]);
    for attacker in [resident, newcomer] {
        for which in [Transfer::Write, Transfer::Read] {
            attacker.transfer(&mut session, which, SCRATCH, REACH);
        }
    }
    assert!(!shows_mark(&read(&mut session, SCRATCH)));
    let outcome = scene.end(session);
    held(name, &outcome, &["endure"]);
    for attacker in [resident, newcomer] {
        was_told(&outcome, attacker, Transfer::Write, SCRATCH);
        assert!(counted(&outcome, &attacker.name()) >= 2, "{outcome}");
    }
    let line = format!(
        "@arrived bdf={} trust=untrusted protection=denied",
        newcomer.name()
    );
    assert!(outcome.bouncer.iter().any(|l| l.text == line), "{outcome}");
}

/// Where Bouncer says its memory is, and how long it is.
pub(crate) fn own_memory(session: &Session) -> (u64, u64) {
    let lines = session.lines_of(Port::Bouncer).iter();
    let mut found = lines.filter_map(|line| {
        let rest = line.text.strip_prefix("@own base=0x")?;
        let (base, rest) = rest.split_once(" bytes=")?;
        let (bytes, _) = rest.split_once(' ')?;
        Some((u64::from_str_radix(base, 16).ok()?, bytes.parse().ok()?))
    });
    found.next_back().expect("Bouncer says where its memory is")
}

fn read(session: &mut Session, at: u64) -> Vec<u8> {
    let bus = session.qtest().expect("the machine has a bus");
    bus.read(at, REACH as usize).expect("the bus answers")
}

fn wipe(session: &mut Session, at: u64) {
    let bus = session.qtest().expect("the machine has a bus");
    bus.write(at, &[0; REACH as usize])
        .expect("the bus answers");
}
