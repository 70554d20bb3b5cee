//! Firmware in Secure Boot mode starts a Bouncer that is signed, and none that is not.

use machine::Scene;
use machine::judge::held;
use qemu::Outcome;

#[test]
fn firmware_that_demands_signatures_starts_a_signed_bouncer() {
    const CHECKS: &[&str] = &["detect", "hash", "efi-variables"];
    let name = "firmware_that_demands_signatures_starts_a_signed_bouncer";
    let scene = Scene::efi(name).secure_boot().modules(&["efivarfs"]);
    let outcome = scene.checks(CHECKS).play();
    held(name, &outcome, CHECKS);
    demands_signatures(&outcome);
}

#[test]
fn firmware_that_demands_signatures_starts_no_unsigned_bouncer() {
    const CHECKS: &[&str] = &["hash", "efi-variables"];
    let name = "firmware_that_demands_signatures_starts_no_unsigned_bouncer";
    let scene = Scene::efi(name).secure_boot_without_bouncers_signature();
    let outcome = scene.modules(&["efivarfs"]).checks(CHECKS).play();
    held(name, &outcome, CHECKS);
    demands_signatures(&outcome);
    assert!(outcome.bouncer.is_empty(), "{name}: {outcome}");
}

/// Demands that the firmware was in Secure Boot mode, as it tells the system.
fn demands_signatures(outcome: &Outcome) {
    let told = outcome.report.guest.data.get("efi.secure-boot");
    assert_eq!(told.map(String::as_str), Some("Some([1])"), "{outcome}");
}
