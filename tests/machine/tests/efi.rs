//! UEFI firmware starts `bouncer.efi`, and goes on as its first guest with what it finds next: a stock boot
//! loader and a stock kernel, which know of nothing.

use std::time::Duration;

use machine::Scene;
use machine::judge::{held, stopped_as};
use machine::policies::{DRIVE_RULE, UNTRUSTED_DRIVE};
use qemu::Ended;

/// How long a refusal may take: the firmware's time, mostly.
const PATIENCE: Duration = Duration::from_secs(120);

/// How long after its words a machine that is refused may take to be off: they can be read for ten seconds.
const OFF: Duration = Duration::from_secs(30);

#[test]
fn firmware_goes_on_as_bouncers_guest_on_one_processor() {
    const CHECKS: &[&str] = &["cpus", "detect", "hash", "timers", "hidden", "msr"];
    let name = "firmware_goes_on_as_bouncers_guest_on_one_processor";
    let outcome = Scene::efi(name).modules(&["msr"]).checks(CHECKS).play();
    held(name, &outcome, CHECKS);
    stopped_as(&outcome, "poweroff");
}

#[test]
fn firmware_goes_on_as_bouncers_guest_on_two_processors() {
    const CHECKS: &[&str] = &["cpus", "detect", "hash", "ipis", "nmi", "hidden"];
    let name = "firmware_goes_on_as_bouncers_guest_on_two_processors";
    let outcome = Scene::efi(name).processors(2).checks(CHECKS).play();
    held(name, &outcome, CHECKS);
}

#[test]
fn firmware_boots_the_system_from_an_untrusted_drive() {
    const CHECKS: &[&str] = &["cpus", "detect", "hash"];
    let name = "firmware_boots_the_system_from_an_untrusted_drive";
    let outcome = Scene::efi(name)
        .policy(UNTRUSTED_DRIVE)
        .system_on_nvme()
        .modules(&["nvme"])
        .checks(CHECKS)
        .play();
    held(name, &outcome, CHECKS);
    let drive = outcome
        .report
        .devices
        .iter()
        .find(|device| device.rule.contains(DRIVE_RULE));
    let drive = drive.unwrap_or_else(|| panic!("{name}: no drive: {outcome}"));
    assert_eq!(
        (drive.trust.as_str(), drive.mediator.as_str()),
        ("untrusted", "nvme"),
        "{outcome}"
    );
}

#[test]
fn a_wrong_policy_beside_bouncer_is_refused_with_its_place_and_nothing_is_started() {
    let name = "a_wrong_policy_beside_bouncer_is_refused_with_its_place_and_nothing_is_started";
    let policy = "version = 1\ndefault = \"untrusted\"\nviommu = maybe\n";
    refuses(
        name,
        Scene::efi(name).policy(policy),
        "policy.toml is wrong at line 3, column 10",
    );
}

#[test]
fn without_a_policy_beside_bouncer_nothing_is_started() {
    let name = "without_a_policy_beside_bouncer_nothing_is_started";
    refuses(
        name,
        Scene::efi(name).without_policy(),
        "there is no policy.toml",
    );
}

/// Demands a refusal that says `why` on Bouncer's line and the firmware's console, and that the machine is off
/// after it without a kernel having been started.
fn refuses(name: &str, scene: Scene, why: &str) {
    let scene = scene.patience(PATIENCE);
    let (line, outcome) = scene.play_until_bouncer_says("Bouncer does not start", OFF);
    assert!(
        line.text.contains(why),
        "{name}: {:?} does not say {why:?}",
        line.text
    );
    let console: Vec<_> = outcome.console.iter().map(|line| &line.text).collect();
    assert!(
        console
            .iter()
            .any(|line| line.contains("Bouncer does not start")),
        "{name}: the firmware's console does not say it: {outcome}"
    );
    let kernel = console.iter().any(|line| line.contains("Linux version"));
    assert!(!kernel, "{name}: a kernel was started: {outcome}");
    let read_for = outcome.report.seconds.total - line.at.as_secs_f64();
    assert!(
        outcome.report.guest.ended == Ended::Refused
            && (10.0..OFF.as_secs_f64()).contains(&read_for),
        "{name}: off after {read_for:.1} s: {outcome}"
    );
}
