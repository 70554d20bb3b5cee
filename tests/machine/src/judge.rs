//! What a test may conclude from an outcome: each demand ends the test with the whole outcome.

use std::collections::BTreeMap;
use std::time::Duration;

use qemu::protocol::BouncerLine;
use qemu::{CheckResult, Ended, Line, Outcome, Port, Session};

use crate::loud;

/// Demands that the guest powered off and that every check in `names` passed; skips are told
/// aloud in the name of `test`, and a check outside `names` may pass or skip.
///
/// # Panics
/// If the outcome is any other.
pub fn held(test: &str, outcome: &Outcome, names: &[&str]) {
    assert!(outcome.verdict().is_success(), "{test}: {outcome}");
    let checks = &outcome.report.guest.checks;
    for (name, result) in checks {
        if let CheckResult::Skip(why) = result {
            loud::tell(test, &format!("check {name} was not made: {why}"));
        }
    }
    for name in names {
        let result = checks.get(*name);
        assert_eq!(
            result,
            Some(&CheckResult::Pass),
            "{test}: check {name}\n{outcome}"
        );
    }
}

/// Demands that the check `name` failed; gives the reason.
///
/// # Panics
/// If it did not.
pub fn reason_of_failure<'a>(outcome: &'a Outcome, name: &str) -> &'a str {
    match outcome.report.guest.checks.get(name) {
        Some(CheckResult::Fail(why)) => why,
        other => panic!("check {name} should have failed and is {other:?}\n{outcome}"),
    }
}

/// Demands a figure; gives it as a number.
///
/// # Panics
/// If the guest did not report it, or not as a number.
#[must_use]
pub fn figure(outcome: &Outcome, key: &str) -> f64 {
    let text = outcome.report.guest.data.get(key);
    let number = text.and_then(|text| text.parse().ok());
    number.unwrap_or_else(|| panic!("no figure {key}, but {text:?}\n{outcome}"))
}

/// The figures whose keys begin with `prefix`, without it.
///
/// # Panics
/// If one is no number.
#[must_use]
pub fn figures(outcome: &Outcome, prefix: &str) -> Vec<(String, f64)> {
    let data = &outcome.report.guest.data;
    let keys = data.keys().filter_map(|key| key.strip_prefix(prefix));
    keys.map(|key| (key.to_owned(), figure(outcome, &format!("{prefix}{key}"))))
        .collect()
}

/// What Bouncer says mediates the device that the rule called `rule` decides; `None` if it names no such device.
#[must_use]
pub fn mediator(session: &Session, rule: &str) -> Option<String> {
    let lines = session.lines_of(Port::Bouncer).iter();
    let mut devices = lines.filter_map(|line| match BouncerLine::parse(&line.text) {
        BouncerLine::Device(device) => Some(device.facts),
        _ => None,
    });
    let is_it = |facts: &BTreeMap<String, String>| {
        let words = facts.get("rule").map(String::as_str).unwrap_or_default();
        words.contains(&format!("`{rule}`")) || words == rule
    };
    let facts = devices.rfind(is_it)?;
    facts.get("mediator").cloned()
}

/// Demands that the drive which the rule called `rule` decides is untrusted and mediated.
///
/// # Panics
/// If it is not, or there is none.
pub fn drive_is_mediated(test: &str, outcome: &Outcome, rule: &str) {
    let mut devices = outcome.report.devices.iter();
    let drive = devices.find(|device| device.rule.contains(rule));
    let drive = drive.unwrap_or_else(|| panic!("{test}: no drive: {outcome}"));
    assert_eq!(
        (drive.trust.as_str(), drive.mediator.as_str()),
        ("untrusted", "nvme"),
        "{test}: {outcome}"
    );
}

/// Demands that the machine was still there when the harness stopped it, `watched` after `line`: it
/// neither reset nor lost its processor.
///
/// # Panics
/// If it ended in another way.
pub fn stayed(test: &str, outcome: &Outcome, line: &Line, watched: Duration) {
    let report = &outcome.report;
    // The announced refusal outweighs a reset in `ended`: the time tells.
    let is_quiet = matches!(report.guest.ended, Ended::Timeout | Ended::Refused);
    let lived = report.seconds.total - line.at.as_secs_f64();
    assert!(
        is_quiet && lived >= watched.as_secs_f64(),
        "{test}: {lived:.1} s after {:?}: {outcome}",
        line.text
    );
}

/// Demands that Bouncer announced the ending `how` (`@ended`) and that nobody had to stop the
/// machine.
///
/// # Panics
/// If it did not.
pub fn stopped_as(outcome: &Outcome, how: &str) {
    let announced = format!("@ended {how}");
    let is_announced = outcome.bouncer.iter().any(|line| line.text == announced);
    assert!(
        is_announced,
        "no line {announced:?} from Bouncer\n{outcome}"
    );
    assert_ne!(outcome.report.guest.ended, Ended::Timeout, "{outcome}");
}
