//! A device in the hands of a guest's program (VFIO): it reaches what the program maps for it, with a mediator and
//! without one.

use machine::Scene;
use machine::judge::{figure, held};
use qemu::Outcome;

const CHECK: &str = "meddle-lent";
/// What holds a device for a program.
const MODULES: &[&str] = &["vfio_iommu_type1", "vfio-pci"];

/// The educational device, and what it gets.
fn policy(gets: &str) -> String {
    format!(
        r#"
version = 1
default = "trusted"

[[device]]
name = "edu"
match = {{ path = "0000:00:03.0" }}
trust = "untrusted"
pool = "64KiB"
{gets}
"#
    )
}

const EDU: [&str; 2] = ["-device", "edu,addr=0x3,dma_mask=0xffffffffffffffff"];

fn scene(name: &str, gets: &str, words: &str) -> Scene {
    let scene = Scene::bouncer(name).policy(policy(gets));
    scene.append(words).arguments(&EDU)
}

/// Bouncer says that the device has this protection.
fn is_protected(outcome: &Outcome, protection: &str) {
    let words = format!(" protection={protection} rule=\"");
    let mut lines = outcome.bouncer.iter().map(|line| &line.text);
    let is_it = |text: &&String| text.starts_with("@device ") && text.contains("`edu`");
    let line = lines.find(is_it).expect("Bouncer names the device");
    assert!(line.contains(&words), "{line}");
}

/// The kernel tells of a refusal as hardware tells it.
fn is_told(outcome: &Outcome, kind: &str, key: &str, reason: u8) {
    let at = outcome.report.guest.data.get(key);
    let at = at.expect("the check told it");
    let parts = [
        format!("[DMA {kind}"),
        "[00:03.0]".into(),
        format!("fault addr {at} "),
        format!("[fault reason {reason:#04x}]"),
    ];
    let is_it = |text: &str| parts.iter().all(|part| text.contains(part));
    let is_there = outcome.console.iter().any(|line| is_it(&line.text));
    assert!(is_there, "no {kind} at {at} for {reason:#04x}\n{outcome}");
}

fn reaches_what_is_mapped(outcome: &Outcome, name: &str) {
    held(name, outcome, &[CHECK, "hash"]);
    is_told(outcome, "Write", "lent.read-only", 5);
    is_told(outcome, "Read", "lent.never", 6);
    is_told(outcome, "Write", "lent.unmapped", 5);
    assert!(figure(outcome, "lent.messages") >= 1.0, "{outcome}");
}

fn lent(name: &str, gets: &str) -> Outcome {
    let scene = scene(name, gets, "intel_iommu=on").modules(MODULES);
    let scene = scene.checks(&[CHECK, "hash"]);
    let outcome = scene.play();
    reaches_what_is_mapped(&outcome, name);
    outcome
}

#[test]
fn without_bouncer_hardware_refuses_the_same() {
    let name = "without_bouncer_hardware_refuses_the_same";
    let scene = Scene::native(name).append("intel_iommu=on").arguments(&EDU);
    let outcome = scene.modules(MODULES).checks(&[CHECK, "hash"]).play();
    reaches_what_is_mapped(&outcome, name);
}

#[test]
fn a_mediated_device_reaches_what_a_program_maps_for_it() {
    let name = "a_mediated_device_reaches_what_a_program_maps_for_it";
    let outcome = lent(name, "mediator = \"edu\"");
    is_protected(&outcome, "byte");
}

#[test]
fn a_device_without_a_mediator_reaches_what_a_program_maps_for_it() {
    let name = "a_device_without_a_mediator_reaches_what_a_program_maps_for_it";
    let outcome = lent(name, "fallback = \"page\"");
    is_protected(&outcome, "page");
    // It is real hardware that refused it, and Bouncer's ledger has it, too.
    let mut lines = outcome.bouncer.iter().map(|line| &line.text);
    let is_it = |text: &String| text.starts_with("@fault bdf=0000:00:03.0 access=write");
    assert!(lines.any(is_it), "{outcome}");
}

#[test]
fn a_device_for_which_nobody_maps_reaches_nothing() {
    let name = "a_device_for_which_nobody_maps_reaches_nothing";
    let scene = scene(name, "fallback = \"page\"", "intel_iommu=off");
    let outcome = scene.checks(&["meddle-untranslated", "hash"]).play();
    held(name, &outcome, &["meddle-untranslated", "hash"]);
    is_protected(&outcome, "page");
}
