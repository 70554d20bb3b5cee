//! Faults without end: the device is cut off where the policy says so, and otherwise disturbs nobody.

use std::time::Duration;

use machine::attacker::{REACH, Transfer};
use machine::judge::{figures, held};
use machine::sweeper::ACCESSES;
use machine::{Attacker, Sweeper, Trace, loud};
use qemu::Port;

use crate::stage::{
    SCRATCH, at_work, counted, only_was_told, scene, under_flood, under_flood_with_nmis,
};

/// A few faults in a while are a storm here.
const STRICT: &str = r#"
version = 1
default = "trusted"
bounce-memory = "64KiB"

[[device]]
match = { vendor = 0x1234, device = 0x11e8 }
trust = "untrusted"
storm = { faults = 5, per = "60s", then = "quarantine" }
"#;

#[test]
fn a_device_that_goes_on_faulting_is_cut_off() {
    let name = "a_device_that_goes_on_faulting_is_cut_off";
    let scene = scene(name).policy(STRICT);
    let mut session = at_work(&scene);
    let attacker = Attacker::arm(&mut session, &[]);
    for _ in 0..24 {
        attacker.transfer(&mut session, Transfer::Write, SCRATCH, REACH);
        // Bouncer switches bus mastering off; this attacker switches it on again.
        attacker.seize(&mut session);
        std::thread::sleep(Duration::from_millis(10));
    }
    let outcome = scene.end(session);
    held(name, &outcome, &["endure"]);
    for action in ["mastering-off", "quarantine"] {
        let line = format!("@storm bdf={} action={action}", attacker.name());
        assert!(outcome.bouncer.iter().any(|l| l.text == line), "{outcome}");
    }
    let told = outcome.bouncer.iter();
    let told = told.filter(|line| line.text.starts_with("@fault ")).count();
    assert!(told <= 8, "{told} lines\n{outcome}");
}

/// Faults of the flood, at least.
const FLOOD: u64 = 100_000;
/// Windows of time in which the guest measures, every other one under the flood. The first is for
/// the guest to warm up, and tells nothing.
const WINDOWS: u64 = 24;
/// Portions of the flood in a window, and the time between them.
const PORTIONS: u64 = 4;
const PAUSE: Duration = Duration::from_millis(90);
/// Reads of the drive under the flood for one without it.
const LEAST: f64 = 0.8;
/// What Bouncer may say of it all.
const MOST_LINES: usize = 200;

#[test]
fn a_hundred_thousand_faults_leave_the_trusted_drive_four_fifths_of_its_rate() {
    let name = "a_hundred_thousand_faults_leave_the_trusted_drive_four_fifths_of_its_rate";
    let trace = Trace::of(name);
    let scene = under_flood(name, &trace);
    let mut session = at_work(&scene);
    let mut sweeper = Sweeper::arm(&mut session);
    let portion = FLOOD / ACCESSES / (WINDOWS / 2 - 1) / PORTIONS + 1;
    for window in 1..WINDOWS {
        let began = format!("data rate.{:02}", window - 1);
        session
            .wait_for(Port::Guest, &began, Duration::from_secs(120))
            .unwrap_or_else(|error| panic!("{error}"));
        for _ in 0..PORTIONS {
            if is_flooded(window) {
                sweeper.flood(&mut session, 0x10_0000, portion);
            }
            std::thread::sleep(PAUSE);
        }
    }
    let who = sweeper.name();
    let outcome = scene.end(session);
    held(name, &outcome, &["disk-rate"]);
    only_was_told(&outcome, &who);
    let refused = trace.refusals();
    let refused = refused.iter().filter(|r| r.source == sweeper.requester());
    let refused = refused.count() as u64;
    assert!(refused >= FLOOD, "{refused} requests were refused");

    let (mut calm, mut flooded) = (Vec::new(), Vec::new());
    for (window, rate) in figures(&outcome, "rate.") {
        match window.parse().expect("a number") {
            0 => {}
            window if is_flooded(window) => flooded.push(rate),
            _ => calm.push(rate),
        }
    }
    let (calm, flooded) = (median(calm), median(flooded));
    loud::tell(
        name,
        &format!(
            "{refused} refused, {} of them recorded; {flooded} reads a second, {calm} without: {:.3}",
            counted(&outcome, &who),
            flooded / calm
        ),
    );
    assert!(
        flooded >= calm * LEAST,
        "{flooded} reads a second, {calm} without\n{outcome}"
    );
    let lines = outcome.bouncer.iter();
    let lines = lines.filter(|line| line.text.contains("fault")).count();
    assert!(lines <= MOST_LINES, "{lines} lines\n{outcome}");
}

/// How long faults go on while the guest sends NMIs, and how often.
const SPELL: Duration = Duration::from_secs(8);
const OFTEN: Duration = Duration::from_millis(5);

/// Faults are announced by NMIs to the first processor, where the guest's own arrive, too: none of
/// these is lost, and the guest hears of none of those.
#[test]
fn the_guests_own_nmis_arrive_while_faults_are_announced() {
    let name = "the_guests_own_nmis_arrive_while_faults_are_announced";
    let trace = Trace::of(name);
    let scene = under_flood_with_nmis(name, &trace);
    let mut session = at_work(&scene);
    let mut sweeper = Sweeper::arm(&mut session);
    let began = std::time::Instant::now();
    while began.elapsed() < SPELL {
        sweeper.flood(&mut session, 0x10_0000, 1);
        std::thread::sleep(OFTEN);
    }
    let who = sweeper.name();
    let outcome = scene.end(session);
    held(name, &outcome, &["nmi", "endure"]);
    only_was_told(&outcome, &who);
    assert!(counted(&outcome, &who) > 50, "{outcome}");
    // What Linux says of one that nobody sent.
    let stray = outcome.console.iter();
    let stray = stray.filter(|line| line.text.contains("NMI received for unknown reason"));
    assert_eq!(stray.count(), 0, "{outcome}");
}

fn is_flooded(window: u64) -> bool {
    window % 2 == 1
}

fn median(mut rates: Vec<f64>) -> f64 {
    rates.sort_by(f64::total_cmp);
    rates[rates.len() / 2]
}
