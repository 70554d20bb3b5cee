//! A mediated device raises interrupts for nothing, in pulses: others of its kind work all the while, and it is found.

use std::time::{Duration, Instant};

use machine::judge::held;
use machine::{Attacker, Scene, heist};
use qemu::{Outcome, Port, Session};

/// Both are mediated. The attacker's driver has programmed its interrupt; whatever it does is only told.
const BESIDE_A_DRIVE: &str = r#"
version = 1
viommu = false
default = "trusted"

[[device]]
name = "edu"
match = { path = "0000:00:08.0" }
trust = "untrusted"
mediator = "edu"
storm = { faults = 20, per = "1s", then = "log" }

[[device]]
name = "drive"
match = { path = "0000:00:10.0/00.0" }
trust = "untrusted"
"#;
/// The first processor has nothing to do, and an idle one is woken without an interrupt command: it leaves the guest for
/// NMIs alone.
const IDLE_FIRST: &str = "isolcpus=0 irqaffinity=1 nohz=off idle=poll bouncer.rounds=10";
const MUTE: &str = "@storm bdf=mediated action=mute";
const PATIENCE: Duration = Duration::from_secs(120);

/// The drive's driver programs its interrupts anew while those of mediated devices are taken back.
#[test]
fn a_drive_is_bound_while_interrupts_of_mediated_devices_stay_away() {
    let name = "a_drive_is_bound_while_interrupts_of_mediated_devices_stay_away";
    let scene = Scene::bouncer(name).policy(BESIDE_A_DRIVE);
    let scene = scene
        .drive(64)
        .processors(2)
        .arguments(&heist::DEVICE)
        .checks(&["message", "nvme-rebind"])
        .append(IDLE_FIRST);
    let mut session = scene.begin_mediated("edu");
    wait_for(&mut session, Port::Guest, "start nvme-rebind");
    let attacker = Attacker::arm(&mut session, &[]);
    let began = Instant::now();
    while pulse(&attacker, &mut session, &[MUTE]).is_none() {
        assert!(began.elapsed() < PATIENCE, "they are never taken back");
    }
    let outcome = scene.end(session);
    held(name, &outcome, &["message", "nvme-rebind"]);
    let mut lines = outcome.console.iter().map(|line| &line.text);
    // What Linux says of a request that completed and that nobody was told of.
    let lost = lines.find(|text| text.contains("timeout") || text.contains("completion polled"));
    assert_eq!(lost, None, "{outcome}");
}

/// More than this in a second is a storm.
const IN_PULSES: &str = r#"
version = 1
viommu = false
default = "trusted"

[[device]]
name = "edu"
match = { path = "0000:00:08.0" }
trust = "untrusted"
mediator = "edu"
storm = { faults = 20, per = "1s", then = "quarantine" }
"#;
/// Silence after each pulse: longer than interrupts are taken back for the first time.
const SILENCE: Duration = Duration::from_millis(1500);
const LONG: Duration = Duration::from_secs(60);

#[test]
fn a_mediated_device_that_storms_in_pulses_is_cut_off() {
    let name = "a_mediated_device_that_storms_in_pulses_is_cut_off";
    let scene = Scene::bouncer(name).policy(IN_PULSES);
    let scene = scene
        .arguments(&heist::DEVICE)
        .checks(&["message", "endure"])
        .append("bouncer.endure=75");
    let mut session = scene.begin_mediated("edu");
    wait_for(&mut session, Port::Guest, "start endure");
    let attacker = Attacker::arm(&mut session, &[]);
    let quarantine = format!("@storm bdf={} action=quarantine", attacker.name());
    let began = Instant::now();
    while began.elapsed() < LONG {
        attacker.seize(&mut session);
        if pulse(&attacker, &mut session, &[&quarantine, MUTE]) == Some(0) {
            break;
        }
        std::thread::sleep(SILENCE);
    }
    let outcome = scene.end(session);
    held(name, &outcome, &["message", "endure"]);
    assert!(said(&outcome, MUTE) >= 1, "{outcome}");
    assert_eq!(said(&outcome, &quarantine), 1, "{outcome}");
}

/// Interrupts of a pulse, at most, and how many there are between two looks at what came of it.
const MOST: usize = 1_000;
const AT_ONCE: usize = 25;

/// Raises interrupts until Bouncer says one of `lines` anew. Returns which.
fn pulse(attacker: &Attacker, session: &mut Session, lines: &[&str]) -> Option<usize> {
    let before: Vec<usize> = lines.iter().map(|line| heard(session, line)).collect();
    for _ in 0..MOST / AT_ONCE {
        for _ in 0..AT_ONCE {
            attacker.interrupt(session);
        }
        // Listens for a moment.
        let _ = session.wait_for(Port::Bouncer, "@nothing", Duration::from_millis(5));
        let mut each = lines.iter().zip(&before);
        let new = each.position(|(line, before)| heard(session, line) > *before);
        if new.is_some() {
            return new;
        }
    }
    None
}

fn heard(session: &Session, line: &str) -> usize {
    let lines = session.lines_of(Port::Bouncer).iter();
    lines.filter(|heard| heard.text == line).count()
}

fn wait_for(session: &mut Session, port: Port, line: &str) {
    session
        .wait_for(port, line, PATIENCE)
        .unwrap_or_else(|error| panic!("{error}"));
}

fn said(outcome: &Outcome, line: &str) -> usize {
    let lines = outcome.bouncer.iter();
    lines.filter(|said| said.text == line).count()
}
