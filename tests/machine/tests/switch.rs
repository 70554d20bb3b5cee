//! The single switch, and a machine that cannot do what it asks for.

use std::time::Duration;

use machine::Scene;
use machine::judge::held;
use qemu::Outcome;

const AFTER: Duration = Duration::from_secs(1);
/// A device that the policy does not trust.
const EDU: &[&str] = &["-device", "edu,addr=08.0"];

fn says(outcome: &Outcome, text: &str) -> bool {
    outcome.bouncer.iter().any(|line| line.text.contains(text))
}

#[test]
fn a_machine_without_remapping_hardware_is_refused_while_anything_is_untrusted() {
    let name = "a_machine_without_remapping_hardware_is_refused_while_anything_is_untrusted";
    let scene = Scene::bouncer(name).without_iommu();
    let (line, _) = scene.play_until_bouncer_says("Bouncer does not start: ", AFTER);
    assert!(line.text.contains("require-iommu = false"), "{}", line.text);
}

#[test]
fn a_machine_that_remaps_no_interrupts_is_refused_while_anything_is_untrusted() {
    let name = "a_machine_that_remaps_no_interrupts_is_refused_while_anything_is_untrusted";
    let scene = Scene::bouncer(name).without_iommu();
    let scene = scene.arguments(&["-device", "intel-iommu,intremap=off"]);
    let (line, _) = scene.play_until_bouncer_says("Bouncer does not start: ", AFTER);
    assert!(line.text.contains("cannot remap interrupts"), "{line:?}");
}

/// A DMAR table whose first structure has no length.
#[test]
fn a_broken_table_is_refused_by_name_offset_and_reason() {
    let name = "a_broken_table_is_refused_by_name_offset_and_reason";
    let scene = Scene::bouncer(name).without_iommu();
    let table = scene.file("dmar");
    // Width 39 and interrupt remapping, ten bytes of nothing, then a unit of zero bytes.
    let content = [&[38, 1][..], &[0; 10], &[0; 16]].concat();
    std::fs::write(&table, content).expect("the file can be written");
    let table = format!("sig=DMAR,rev=1,data={}", table.display());
    let scene = scene.arguments(&["-acpitable", &table]);
    let (line, _) = scene.play_until_bouncer_says("Bouncer does not start: ", AFTER);
    let words = "ACPI DMAR table, byte 48: a length is too short";
    assert!(line.text.contains(words), "{line:?}");
}

#[test]
fn it_starts_if_the_policy_allows_it_and_says_what_is_not_enforced() {
    let name = "it_starts_if_the_policy_allows_it_and_says_what_is_not_enforced";
    let scene = Scene::bouncer(name).without_iommu().checks(&["hash"]);
    let outcome = scene.policy("version = 1\nrequire-iommu = false\n").play();
    held(name, &outcome, &["hash"]);
    assert!(says(&outcome, "NOT ENFORCED"), "{outcome}");
    assert!(
        says(&outcome, "@iommu units=0 enforcement=none"),
        "{outcome}"
    );
}

#[test]
fn switched_off_it_leaves_the_hardware_to_the_guest_and_says_so() {
    let name = "switched_off_it_leaves_the_hardware_to_the_guest_and_says_so";
    let scene = Scene::bouncer(name).checks(&["hash"]);
    let outcome = scene.policy("version = 1\nenforcement = \"off\"\n").play();
    held(name, &outcome, &["hash"]);
    assert!(says(&outcome, "NOT ENFORCED"), "{outcome}");
    let remaps = outcome.console.iter();
    let mut remaps = remaps.filter(|line| line.text.contains("DMAR-IR"));
    assert!(
        remaps.next().is_some(),
        "the guest uses VT-d itself\n{outcome}"
    );
}

#[test]
fn an_audit_lets_the_untrusted_through_and_names_what_it_would_have_refused() {
    let name = "an_audit_lets_the_untrusted_through_and_names_what_it_would_have_refused";
    let policy = "version = 1\nenforcement = \"audit\"\n";
    let scene = Scene::bouncer(name).policy(policy).arguments(EDU);
    let outcome = scene.drive(64).checks(&["disk"]).play();
    held(name, &outcome, &["disk"]);
    assert!(says(&outcome, "enforcement=audit"), "{outcome}");
    assert!(says(&outcome, "would-refuse=bus-mastering"), "{outcome}");
    // Each device is counted, once for each time that somebody made it a bus master.
    let counted = outcome.bouncer.iter().filter_map(|line| {
        let (_, count) = line.text.strip_prefix("@audited ")?.split_once(" count=")?;
        count.parse::<u32>().ok()
    });
    let counted: Vec<u32> = counted.collect();
    assert!(!counted.is_empty(), "{outcome}");
    assert!(counted.iter().all(|count| *count > 0), "{counted:?}");
}

#[test]
fn without_a_policy_every_device_is_denied() {
    let name = "without_a_policy_every_device_is_denied";
    let scene = Scene::bouncer(name).arguments(EDU).checks(&["hash"]);
    let outcome = scene.play();
    held(name, &outcome, &["hash"]);
    let lines = outcome.bouncer.iter().map(|line| line.text.as_str());
    let devices: Vec<&str> = lines.filter(|line| line.starts_with("@device ")).collect();
    assert!(devices.len() >= 2, "{outcome}");
    for device in devices {
        assert!(
            device.contains(" protection=denied "),
            "{device}\n{outcome}"
        );
    }
}
