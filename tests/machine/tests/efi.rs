//! UEFI firmware starts `bouncer.efi`, and goes on as its first guest with what it finds next: a stock boot
//! loader and a stock kernel, which know of nothing.

use machine::Scene;
use machine::judge::{drive_is_mediated, held, stopped_as};
use machine::policies::{DRIVE_RULE, UNTRUSTED_DRIVE};

#[test]
fn firmware_goes_on_as_bouncers_guest_on_one_processor() {
    const CHECKS: &[&str] = &["cpus", "detect", "hash", "timers", "hidden", "msr"];
    let name = "firmware_goes_on_as_bouncers_guest_on_one_processor";
    let outcome = Scene::efi(name).modules(&["msr"]).checks(CHECKS).play();
    held(name, &outcome, CHECKS);
    stopped_as(&outcome, "poweroff");
    // What each device gets, and why, stands on the firmware's console as on Bouncer's line.
    for ports in [&outcome.console, &outcome.bouncer] {
        assert!(
            ports.iter().any(|line| line.text.contains("boot drives")),
            "{name}: {outcome}"
        );
    }
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
    drive_is_mediated(name, &outcome, DRIVE_RULE);
}
