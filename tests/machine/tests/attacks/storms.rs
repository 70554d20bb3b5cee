//! A mediated device raises interrupts for nothing: it is found, and others of its kind work all the while.
//!
//! What it raises are NMIs of Bouncer's: no interrupts of the guest's, which could mask them. Its driver in the guest has
//! programmed its interrupt.

use std::time::{Duration, Instant};

use machine::judge::held;
use machine::policies::{EDU_RULE, mediated_edu};
use machine::{Attacker, Scene, heist, loud};
use qemu::{Line, Port, Session};

const MUTE: &str = "@storm bdf=mediated action=mute";
/// A multiple of what a machine takes to its guest's work, and that work.
const PATIENCE: Duration = Duration::from_secs(120);

#[test]
fn a_mediated_device_that_raises_interrupts_for_nothing_is_cut_off() {
    /// How long it goes on.
    const LONG: Duration = Duration::from_secs(15);
    let name = "a_mediated_device_that_raises_interrupts_for_nothing_is_cut_off";
    let scene = Scene::bouncer(name).policy(mediated_edu(100, "quarantine"));
    let scene = scene.append("bouncer.endure=30");
    let (scene, mut session, attacker) = at_work(scene, &["endure"]);
    let quarantine = quarantine_of(&attacker);
    let (mut pulses, began) = (0, Instant::now());
    while heard(&session, &quarantine) == 0 && began.elapsed() < LONG {
        pulse(&attacker, &mut session, &[&quarantine]);
        pulses += 1;
    }
    let outcome = scene.end(session);
    held(name, &outcome, &["message", "endure"]);
    for line in [MUTE, &quarantine] {
        assert!(count(&outcome.bouncer, line) >= 1, "{outcome}");
    }
    loud::tell(name, &format!("cut off after {} at most", pulses * PULSE));
}

#[test]
fn a_mediated_device_that_storms_in_pulses_is_cut_off() {
    /// Silence after each pulse: longer than interrupts are taken back for the first time.
    const SILENCE: Duration = Duration::from_millis(1500);
    const LONG: Duration = Duration::from_secs(60);
    let name = "a_mediated_device_that_storms_in_pulses_is_cut_off";
    let scene = Scene::bouncer(name).policy(mediated_edu(20, "quarantine"));
    let scene = scene.append("bouncer.endure=75");
    let (scene, mut session, attacker) = at_work(scene, &["endure"]);
    let quarantine = quarantine_of(&attacker);
    let began = Instant::now();
    while heard(&session, &quarantine) == 0 && began.elapsed() < LONG {
        attacker.seize(&mut session);
        pulse(&attacker, &mut session, &[&quarantine, MUTE]);
        std::thread::sleep(SILENCE);
    }
    let outcome = scene.end(session);
    held(name, &outcome, &["message", "endure"]);
    assert!(count(&outcome.bouncer, MUTE) >= 1, "{outcome}");
    assert_eq!(count(&outcome.bouncer, &quarantine), 1, "{outcome}");
}

/// The drive beside the attacker, which is mediated, too.
const DRIVE: &str = r#"
[[device]]
name = "drive"
match = { path = "0000:00:10.0/00.0" }
trust = "untrusted"
"#;
/// The first processor has nothing to do, and an idle one is woken without an interrupt command: it leaves the guest for
/// NMIs alone.
const IDLE_FIRST: &str = "isolcpus=0 irqaffinity=1 nohz=off idle=poll";
/// How long interrupts stay away the first time. The drive is bound in less, again and again.
const WHILE: Duration = Duration::from_secs(1);

/// The drive's driver programs its interrupts anew while those of mediated devices are taken back.
#[test]
fn a_drive_is_bound_while_interrupts_of_mediated_devices_stay_away() {
    const CHECK: &str = "nvme-rebind";
    let name = "a_drive_is_bound_while_interrupts_of_mediated_devices_stay_away";
    // Whatever the attacker does is only told.
    let scene = Scene::bouncer(name).policy(mediated_edu(20, "log") + DRIVE);
    let scene = scene.drive(64).processors(2).append(IDLE_FIRST);
    let (scene, mut session, attacker) = at_work(scene, &[CHECK]);
    let began = Instant::now();
    while heard(&session, MUTE) == 0 {
        assert!(began.elapsed() < PATIENCE, "they are never taken back");
        pulse(&attacker, &mut session, &[MUTE]);
    }
    let outcome = scene.end(session);
    held(name, &outcome, &["message", CHECK]);
    let at = |lines: &[Line], text: &str| lines.iter().find(|line| line.text == text).map(|l| l.at);
    let mute = at(&outcome.bouncer, MUTE).expect("it was heard");
    let is_over = at(&outcome.guest, &format!("pass {CHECK}")).expect("it held");
    assert!(is_over > mute + WHILE, "over too soon\n{outcome}");
    let mut lines = outcome.console.iter().map(|line| &line.text);
    // What Linux says of a request that completed and that nobody was told of.
    let lost = lines.find(|text| text.contains("timeout") || text.contains("completion polled"));
    assert_eq!(lost, None, "{outcome}");
}

/// Starts the machine with the attacker, mediated, and waits until its driver has programmed its interrupt and the guest
/// begins with `checks`.
fn at_work(scene: Scene, checks: &[&str]) -> (Scene, Session, Attacker) {
    let scene = scene.arguments(&heist::DEVICE).checks(&["message"]);
    let scene = scene.checks(checks);
    let mut session = scene.begin_mediated(EDU_RULE);
    let begins = format!("start {}", checks[0]);
    let begins = session.wait_for(Port::Guest, &begins, PATIENCE);
    begins.unwrap_or_else(|error| panic!("{error}"));
    let attacker = Attacker::arm(&mut session, &[]);
    (scene, session, attacker)
}

fn quarantine_of(attacker: &Attacker) -> String {
    format!("@storm bdf={} action=quarantine", attacker.name())
}

/// Interrupts of a pulse, at most, and how many there are between two looks at what came of it.
const PULSE: usize = 1_000;
const AT_ONCE: usize = 25;

/// Raises interrupts until Bouncer says one of `lines` anew.
fn pulse(attacker: &Attacker, session: &mut Session, lines: &[&str]) {
    let all = |session: &Session| -> usize { lines.iter().map(|line| heard(session, line)).sum() };
    let before = all(session);
    for _ in 0..PULSE / AT_ONCE {
        for _ in 0..AT_ONCE {
            attacker.interrupt(session);
        }
        // Listens for a moment.
        let _ = session.wait_for(Port::Bouncer, "@nothing", Duration::from_millis(5));
        if all(session) > before {
            return;
        }
    }
}

fn heard(session: &Session, line: &str) -> usize {
    count(session.lines_of(Port::Bouncer), line)
}

fn count(lines: &[Line], text: &str) -> usize {
    lines.iter().filter(|line| line.text == text).count()
}
