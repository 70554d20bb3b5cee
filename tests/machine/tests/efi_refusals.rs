//! Under UEFI firmware, too, what Bouncer cannot run it refuses in a sentence: on the firmware's console and on the
//! serial line, and nothing is started without Bouncer unless somebody has allowed that.

use std::time::Duration;

use machine::Scene;
use machine::judge::held;
use machine::policies::BOOT_DRIVES;
use qemu::{Ended, Outcome};

/// How long a refusal may take: the firmware's time, mostly.
const PATIENCE: Duration = Duration::from_secs(120);

/// How long after its words a machine that is refused may take to be off: they can be read for ten seconds.
const OFF: Duration = Duration::from_secs(30);

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

#[test]
fn a_policy_that_cannot_be_read_is_refused_and_nothing_is_started() {
    let name = "a_policy_that_cannot_be_read_is_refused_and_nothing_is_started";
    let mut policy = BOOT_DRIVES.as_bytes().to_vec();
    policy.resize(256 << 10, b'\n');
    refuses(
        name,
        Scene::efi(name).policy(policy),
        "policy.toml beside bouncer.efi cannot be read",
    );
}

#[test]
fn a_processor_that_bouncer_cannot_use_is_refused_and_nothing_is_started() {
    let name = "a_processor_that_bouncer_cannot_use_is_refused_and_nothing_is_started";
    refuses(name, Scene::efi(name).cpu("max,svm=off"), WITHOUT_SVM);
}

#[test]
fn a_machine_that_cannot_confine_devices_is_refused_and_nothing_is_started() {
    let name = "a_machine_that_cannot_confine_devices_is_refused_and_nothing_is_started";
    refuses(
        name,
        Scene::efi(name).without_iommu(),
        "untrusted devices cannot be confined",
    );
}

#[test]
fn what_is_refused_starts_unprotected_only_if_a_variable_allows_it() {
    let name = "what_is_refused_starts_unprotected_only_if_a_variable_allows_it";
    let scene = Scene::efi(name).keep_variables().modules(&["efivarfs"]);
    let allowing = scene
        .clone()
        .append("bouncer.variable=BouncerUnprotected:1");
    let outcome = allowing.checks(&["detect", "efi-variables"]).play();
    held(name, &outcome, &["detect", "efi-variables"]);

    let unusable = scene.cpu("max,svm=off").checks(&["hash", "efi-variables"]);
    let outcome = unusable.play();
    held(name, &outcome, &["hash", "efi-variables"]);
    // A refusal is no start that failed: it never comes to lead past Bouncer by itself.
    let tries = outcome.report.guest.data.get("efi.BouncerTries");
    assert_eq!(tries, None, "{name}: {outcome}");
    told_on_both(name, &outcome, WITHOUT_SVM);
    told_on_both(name, &outcome, "goes on WITHOUT Bouncer");

    refuses(name, unusable.words("way-back=off"), WITHOUT_SVM);
}

/// What they would say of the way back, nobody knows; nor of the port to speak on, which is the first then.
#[test]
fn options_that_cannot_be_read_take_the_way_back_away() {
    let name = "options_that_cannot_be_read_take_the_way_back_away";
    let scene = Scene::efi(name).keep_variables().modules(&["efivarfs"]);
    let allowing = scene
        .clone()
        .append("bouncer.variable=BouncerUnprotected:1");
    let outcome = allowing.checks(&["efi-variables"]).play();
    held(name, &outcome, &["efi-variables"]);
    let outcome = scene
        .words(&" ".repeat(256 << 10))
        .patience(PATIENCE)
        .play();
    let console = |what: &str| outcome.console.iter().any(|line| line.text.contains(what));
    assert!(
        console("options.txt beside bouncer.efi cannot be read") && !console("Linux version"),
        "{name}: {outcome}"
    );
}

const WITHOUT_SVM: &str = "this processor has no hardware virtualization";

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
    told_on_both(name, &outcome, "Bouncer does not start");
    let kernel = console.iter().any(|line| line.contains("Linux version"));
    assert!(!kernel, "{name}: a kernel was started: {outcome}");
    let read_for = outcome.report.seconds.total - line.at.as_secs_f64();
    assert!(
        outcome.report.guest.ended == Ended::Refused
            && (10.0..OFF.as_secs_f64()).contains(&read_for),
        "{name}: off after {read_for:.1} s: {outcome}"
    );
}

/// Demands that Bouncer's line and the firmware's console say `what`.
fn told_on_both(name: &str, outcome: &Outcome, what: &str) {
    for lines in [&outcome.bouncer, &outcome.console] {
        let is_told = lines.iter().any(|line| line.text.contains(what));
        assert!(is_told, "{name}: {what:?} is not told: {outcome}");
    }
}
