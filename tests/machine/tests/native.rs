//! The tests' own tests: without Bouncer, what demands Bouncer fails, and what demands a machine
//! passes.

use std::time::Duration;

use machine::judge::{figure, held, reason_of_failure};
use machine::{Flaw, Scene};
use qemu::{Ended, Verdict};

#[test]
fn without_bouncer_what_demands_it_fails() {
    // And what nobody wrote, and a machine that is not the one that was asked for.
    let reasons = [
        ("detect", "TCGTCGTCGTCG"),
        ("idle", "no Bouncer"),
        ("hidden", "no Bouncer"),
        ("hidden-flood", "no Bouncer"),
        ("no-such-check", "there is no check"),
        ("cpus", "1 of 2"),
    ];
    let outcome = Scene::native("without_bouncer_what_demands_it_fails")
        .processors(2)
        .append("maxcpus=1")
        .checks(&reasons.map(|(check, _)| check))
        .play();
    for (check, why) in reasons {
        let reason = reason_of_failure(&outcome, check);
        assert!(reason.contains(why), "{check}: {reason}\n{outcome}");
    }
    let mut failed = reasons.map(|(check, _)| check.to_owned());
    failed.sort();
    assert_eq!(
        outcome.verdict(),
        Verdict::Checks(failed.into()),
        "{outcome}"
    );
}

#[test]
fn without_bouncer_everything_else_passes() {
    const CHECKS: &[&str] = &[
        "cpus",
        "hash",
        "fork",
        "tmpfs",
        "timers",
        "ipis",
        "fpu",
        "nmi",
        "hotplug",
        "msr",
        "trap",
        "hidden",
        "hidden-flood",
    ];
    // The attack on Bouncer's memory is rehearsed on a ROM of ones.
    let name = "without_bouncer_everything_else_passes";
    let scene = Scene::native(name)
        .processors(2)
        .modules(&["msr"])
        .rehearsal(None);
    let outcome = scene.checks(CHECKS).play();
    held(name, &outcome, CHECKS);
    assert_eq!(figure(&outcome, "hidden_pages"), 960.0, "{outcome}");
}

#[test]
fn the_attack_on_hidden_memory_notices_one_bit() {
    // The last byte of the last word of some page in the middle.
    let flaw = Flaw {
        offset: 0x12_3fff,
        value: 0xfe,
    };
    let scene = Scene::native("the_attack_on_hidden_memory_notices_one_bit").processors(2);
    let outcome = scene.rehearsal(Some(flaw)).checks(&["hidden"]).play();
    let reason = reason_of_failure(&outcome, "hidden");
    assert!(reason.contains("0xffd23ff8"), "{reason}\n{outcome}");
}

#[test]
fn a_machine_that_resets_has_not_succeeded() {
    let scene = Scene::native("a_machine_that_resets_has_not_succeeded");
    let outcome = scene.checks(&["crash"]).append("reboot=t").play();
    assert_eq!(outcome.verdict(), Verdict::Ended(Ended::Reset), "{outcome}");
}

#[test]
fn a_machine_that_says_nothing_has_failed_at_its_deadline() {
    let scene = Scene::native("a_machine_that_says_nothing_has_failed_at_its_deadline");
    let outcome = scene.patience(Duration::from_secs(2)).play();
    assert_eq!(
        outcome.verdict(),
        Verdict::Ended(Ended::Timeout),
        "{outcome}"
    );
}
