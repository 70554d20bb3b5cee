//! What firmware goes on with as Bouncer's guest is the boot loader that the system was installed with: systemd-boot, or
//! shim, which has GRUB and the kernel checked in Secure Boot mode.

use std::time::Duration;

use machine::Scene;
use machine::judge::{held, stopped_as};
use qemu::{Outcome, Port};

const CHECKS: &[&str] = &["cpus", "detect", "hash", "efi-variables"];

/// How long a kernel that is refused may take to be read: a multiple of what an emulator needs.
const PATIENCE: Duration = Duration::from_secs(240);

/// How long nothing may follow a refusal.
const AFTER: Duration = Duration::from_secs(5);

#[test]
fn systemd_boot_starts_the_system_under_bouncer() {
    let name = "systemd_boot_starts_the_system_under_bouncer";
    let outcome = play(name, Scene::efi(name).by_systemd_boot());
    // Its own words, in the firmware's variables: who it is, and what it chose.
    let loader = told(&outcome, "efi.loader");
    assert!(loader.starts_with("systemd-boot "), "{name}: {outcome}");
    assert_eq!(told(&outcome, "efi.entry"), "test.conf", "{outcome}");
}

#[test]
fn shim_starts_the_system_under_bouncer() {
    let name = "shim_starts_the_system_under_bouncer";
    let outcome = play(name, Scene::efi(name).by_shim());
    assert_eq!(told(&outcome, "efi.secure-boot"), "Some([0])", "{outcome}");
    was_shim(name, &outcome);
}

#[test]
fn in_secure_boot_mode_shim_starts_the_system_under_bouncer() {
    let name = "in_secure_boot_mode_shim_starts_the_system_under_bouncer";
    let outcome = play(name, Scene::efi(name).by_shim().secure_boot());
    assert_eq!(told(&outcome, "efi.secure-boot"), "Some([1])", "{outcome}");
    was_shim(name, &outcome);
    let locked_down = "Kernel is locked down from EFI Secure Boot";
    assert!(says(&outcome, locked_down), "{name}: {outcome}");
}

/// A test of the one before: the last link of the chain is checked under Bouncer, too.
#[test]
fn in_secure_boot_mode_a_kernel_that_was_changed_is_not_started_under_bouncer() {
    let name = "in_secure_boot_mode_a_kernel_that_was_changed_is_not_started_under_bouncer";
    let scene = Scene::efi(name).by_shim().secure_boot();
    let mut kernel = std::fs::read(scene.kernel_image()).expect("there is a kernel");
    let middle = kernel.len() / 2;
    kernel[middle] ^= 1;
    let changed = scene.file("vmlinuz");
    std::fs::write(&changed, kernel).expect("it can be written");
    let scene = scene.with_kernel_image(&changed).patience(PATIENCE);
    let mut session = scene.begin();
    let refused = session.wait_for(Port::Console, "bad shim signature", PATIENCE);
    let refused = refused.unwrap_or_else(|error| panic!("{name}: {error}"));
    let outcome = session.run_to_end(refused.at + AFTER);
    assert!(!says(&outcome, "Linux version "), "{name}: {outcome}");
    let launches = outcome.bouncer.iter();
    let launches = launches.filter(|line| line.text.starts_with("@launch "));
    assert_eq!(launches.count(), 1, "{name}: {outcome}");
}

fn play(name: &str, scene: Scene) -> Outcome {
    let outcome = scene.modules(&["efivarfs"]).checks(CHECKS).play();
    held(name, &outcome, CHECKS);
    stopped_as(&outcome, "poweroff");
    outcome
}

/// Demands that shim was there: it leaves word of what it holds to be revoked.
fn was_shim(name: &str, outcome: &Outcome) {
    let revoked = told(outcome, "efi.shim");
    assert!(revoked.starts_with("sbat,1,"), "{name}: {outcome}");
}

fn told<'a>(outcome: &'a Outcome, key: &str) -> &'a str {
    let told = outcome.report.guest.data.get(key);
    told.unwrap_or_else(|| panic!("nothing is told of {key}: {outcome}"))
}

fn says(outcome: &Outcome, text: &str) -> bool {
    outcome.console.iter().any(|line| line.text.contains(text))
}
