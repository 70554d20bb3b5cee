//! Under UEFI firmware there is a way back: a key, a variable, and starts that fail lead to a machine without
//! Bouncer, which says so; and whoever does not want that takes the way away.

use std::time::{Duration, Instant};

use machine::Scene;
use machine::judge::held;
use qemu::{Outcome, Port};

/// How long a machine may take to be passed over: the firmware's time, mostly.
const PATIENCE: Duration = Duration::from_secs(120);

const WITHOUT: &str = "goes on WITHOUT Bouncer";

#[test]
fn a_key_at_the_start_leaves_bouncer_out() {
    const CHECKS: &[&str] = &["hash"];
    let name = "a_key_at_the_start_leaves_bouncer_out";
    let scene = Scene::efi(name).checks(CHECKS);
    let mut session = scene.begin();
    // As a person does who wants the machine back: again and again, from the moment it is switched on.
    let deadline = Instant::now() + PATIENCE;
    let key = serde_json::json!({ "keys": [{ "type": "qcode", "data": "b" }] });
    loop {
        let pressed = session.qmp().execute("send-key", key.clone());
        pressed.unwrap_or_else(|error| panic!("{name}: {error}"));
        let heard = session.wait_for(Port::Bouncer, WITHOUT, Duration::from_millis(100));
        if heard.is_ok() || Instant::now() > deadline {
            break;
        }
    }
    let outcome = scene.end(session);
    held(name, &outcome, CHECKS);
    passed_over(name, &outcome, "somebody pressed b");
}

#[test]
fn a_variable_leaves_bouncer_out_once() {
    let name = "a_variable_leaves_bouncer_out_once";
    let scene = variables(name);
    let outcome = wishing(&scene, "BouncerSkip:1").checks(&["detect"]).play();
    held(name, &outcome, &["detect", "efi-variables"]);

    let outcome = scene.play();
    held(name, &outcome, &["efi-variables"]);
    passed_over(name, &outcome, "asks for one such start");
    assert_eq!(variable(&outcome, "BouncerSkip"), None, "{name}: {outcome}");

    let outcome = scene.checks(&["detect"]).play();
    held(name, &outcome, &["detect", "efi-variables"]);
    // A start that led to a system does not count.
    assert_eq!(
        variable(&outcome, "BouncerTries"),
        None,
        "{name}: {outcome}"
    );
}

#[test]
fn three_starts_that_lead_to_no_system_are_followed_by_one_without_bouncer() {
    let name = "three_starts_that_lead_to_no_system_are_followed_by_one_without_bouncer";
    let failing = variables(name).words("rehearse=panic");
    for _ in 0..3 {
        let outcome = failing.play();
        let has_died = |line: &qemu::Line| line.text.contains("a rehearsed panic");
        assert!(outcome.bouncer.iter().any(has_died), "{name}: {outcome}");
    }
    let outcome = failing.play();
    held(name, &outcome, &["efi-variables"]);
    passed_over(name, &outcome, "led to no operating system");
    assert_eq!(
        variable(&outcome, "BouncerTries"),
        None,
        "{name}: {outcome}"
    );
}

#[test]
fn where_the_way_back_is_taken_away_no_variable_leads_back() {
    let name = "where_the_way_back_is_taken_away_no_variable_leads_back";
    let scene = variables(name).words("way-back=off").checks(&["detect"]);
    let outcome = wishing(&scene, "BouncerSkip:2").play();
    held(name, &outcome, &["detect", "efi-variables"]);

    let outcome = scene.play();
    held(name, &outcome, &["detect", "efi-variables"]);
    assert!(variable(&outcome, "BouncerSkip").is_some(), "{outcome}");
    let offers = |line: &qemu::Line| line.text.contains("press b");
    assert!(!outcome.bouncer.iter().any(offers), "{name}: {outcome}");
}

/// A machine that keeps its firmware's variables, and tells of Bouncer's.
fn variables(name: &str) -> Scene {
    let scene = Scene::efi(name).keep_variables().modules(&["efivarfs"]);
    scene.checks(&["efi-variables"])
}

/// The same, whose guest sets a variable.
fn wishing(scene: &Scene, wish: &str) -> Scene {
    scene.clone().append(&format!("bouncer.variable={wish}"))
}

/// A variable of Bouncer's, as the guest found it.
fn variable<'a>(outcome: &'a Outcome, name: &str) -> Option<&'a String> {
    outcome.report.guest.data.get(&format!("efi.{name}"))
}

/// Demands that the machine was started without Bouncer, which said so and why.
fn passed_over(name: &str, outcome: &Outcome, why: &str) {
    let says = |what: &str| outcome.bouncer.iter().any(|line| line.text.contains(what));
    assert!(
        says(WITHOUT) && says(why) && !says("@launch"),
        "{name}: {outcome}"
    );
    let console = |what: &str| outcome.console.iter().any(|line| line.text.contains(what));
    assert!(console(WITHOUT), "{name}: {outcome}");
}
