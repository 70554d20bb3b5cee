//! An installed Debian system on an untrusted NVMe drive boots under `bouncer.efi` and does not know it: through
//! firmware, GRUB, kernel and systemd to its login prompt. Files keep their bytes, firmware its variables; the system
//! restarts, whereupon firmware starts Bouncer again, and puts another kernel in its kernel's place, beneath which Bouncer
//! stays. At random moments the drive reaches pages of Bouncer's own only.

use std::time::Duration;

use machine::audit::{self, Requester};
use machine::judge::{drive_is_mediated, held, stopped_as};
use machine::policies::{DRIVE_RULE, UNTRUSTED_DRIVE};
use machine::{Scene, loud};
use qemu::{Line, Outcome, Port, Session};

/// How long a start of the system may take: many times what an emulator needs that has a core to itself.
const PATIENCE: Duration = Duration::from_secs(900);

/// The slot of the port that the drive is behind; how often the machine is stopped while it works, and how far apart.
const SLOT: u16 = 0x10;
const STOPS: u32 = 8;
const APART: Duration = Duration::from_millis(600);

/// Starts, and what each ends in.
const ORDERS: &[&str] = &["reboot", "reboot", "kexec", "poweroff"];

#[test]
fn an_installed_system_restarts_and_replaces_its_kernel_on_one_processor() {
    let name = "an_installed_system_restarts_and_replaces_its_kernel_on_one_processor";
    boots_under_bouncer(name, 1, ORDERS);
}

#[test]
fn an_installed_system_restarts_and_replaces_its_kernel_on_four_processors() {
    let name = "an_installed_system_restarts_and_replaces_its_kernel_on_four_processors";
    boots_under_bouncer(name, 4, ORDERS);
}

/// A test of the others: they find the same without Bouncer, but for what is below.
#[test]
fn an_installed_system_does_the_same_without_bouncer() {
    let name = "an_installed_system_does_the_same_without_bouncer";
    let orders = &["poweroff"];
    let scene = Scene::native_from_firmware(name).patience(PATIENCE);
    let Some(scene) = scene.installed(orders) else {
        return;
    };
    let outcome = scene.play();
    system_held(name, &outcome, 1, orders);
    assert_ne!(below(&outcome, 1), BOUNCER, "{name}: {outcome}");
}

/// What CPUID says under Bouncer.
const BOUNCER: &str = "Bouncer VT-d";

fn boots_under_bouncer(name: &str, processors: u32, orders: &[&str]) {
    let scene = Scene::efi(name)
        .policy(UNTRUSTED_DRIVE)
        .processors(processors)
        .patience(PATIENCE * orders.len() as u32);
    let Some(scene) = scene.installed(orders) else {
        return;
    };
    let mut session = scene.begin_mediated(DRIVE_RULE);
    reaches_own_pages_only(name, &mut session);
    let outcome = scene.end(session);
    system_held(name, &outcome, processors, orders);
    stopped_as(&outcome, "poweroff");
    for start in 1..=orders.len() {
        assert_eq!(below(&outcome, start), BOUNCER, "{name}: {outcome}");
    }
    // A kernel that is put in the place of another finds the Bouncer that was there.
    let launches = count(&outcome.bouncer, "@launch ");
    let restarts = orders.iter().filter(|order| **order == "reboot").count();
    assert_eq!(launches, 1 + restarts, "{name}: {outcome}");
    drive_is_mediated(name, &outcome, DRIVE_RULE);
}

/// Demands, at random moments of the first start's work with files, that the drive reaches pages of Bouncer's own
/// and in one direction each.
fn reaches_own_pages_only(name: &str, session: &mut Session) {
    let begun = session.wait_for(Port::Guest, "start files.1", PATIENCE);
    begun.unwrap_or_else(|error| panic!("{name}: {error}"));
    let own = audit::own_memory(session);
    let drive = Requester::behind_port(session, SLOT);
    let seen = audit::at_random(session, STOPS, APART, |session| {
        let reach = audit::reach(session, drive);
        assert_eq!(audit::objections(&reach, own), [""; 0]);
        reach.bytes().unwrap_or(0)
    });
    assert!(seen.iter().all(|bytes| *bytes > 0), "{name}: {seen:?}");
}

/// Demands that each start of a kernel came to a login prompt and found all as it should be.
fn system_held(name: &str, outcome: &Outcome, processors: u32, orders: &[&str]) {
    let mut checks = Vec::new();
    for (start, order) in (1..).zip(orders) {
        let kept = (start > 1).then_some("kept");
        let next = (*order == "kexec").then_some("next-kernel");
        let always = ["files", "packages", "variable", "prompt", "quiet"];
        let all = kept.into_iter().chain(always).chain(next);
        checks.extend(all.map(|check| format!("{check}.{start}")));
        let found = &outcome.report.guest.data[&format!("processors.{start}")];
        assert_eq!(*found, processors.to_string(), "{name}: {outcome}");
    }
    let checks: Vec<_> = checks.iter().map(String::as_str).collect();
    held(name, outcome, &checks);
    let is_first = |line: &Line| line.text.contains("Linux version ");
    let starts: Vec<_> = outcome.console.split(is_first).skip(1).collect();
    assert_eq!(starts.len(), orders.len(), "{name}: {outcome}");
    for said in starts {
        assert_ne!(count(said, "installed login: "), 0, "{name}: {outcome}");
    }
    tell_hand_over(name, outcome);
}

/// What the system found in CPUID at this start.
fn below(outcome: &Outcome, start: usize) -> &str {
    let key = format!("below.{start}");
    outcome.report.guest.data.get(&key).map_or("", |told| told)
}

/// Tells how long it took from the firmware's first hand-over to the system's boot loader, Bouncer's start
/// in it: a figure to compare, on the host's clock.
fn tell_hand_over(name: &str, outcome: &Outcome) {
    let at = |text: &str| {
        let line = outcome.console.iter().find(|line| line.text.contains(text));
        line.map_or(0.0, |line| line.at.as_secs_f64())
    };
    let took = at("Welcome to GRUB!") - at("BdsDxe: starting ");
    loud::tell(
        name,
        &format!("{took:.2} s from firmware's hand-over to GRUB"),
    );
}

fn count(lines: &[Line], text: &str) -> usize {
    lines.iter().filter(|line| line.text.contains(text)).count()
}
