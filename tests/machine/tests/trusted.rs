//! A trusted device works as if nobody stood between it and the guest.

use machine::Scene;
use machine::judge::{figure, figures, held};

/// Everything may reach the guest's memory.
const POLICY: &str = "version = 1\ndefault = \"trusted\"\n";
/// MiB of the drive.
const DRIVE: u64 = 64;
/// Exits that the check itself makes when it reads the counters.
const OF_THE_CHECK: &str = "cpuid";

#[test]
fn a_trusted_drive_is_used_without_an_exit() {
    let name = "a_trusted_drive_is_used_without_an_exit";
    let checks = &["disk", "disk-reads"];
    let scene = Scene::bouncer(name).policy(POLICY).drive(DRIVE);
    let outcome = scene.processors(2).checks(checks).play();
    held(name, &outcome, checks);
    assert!(figure(&outcome, "disk.verified-bytes") > 1e6, "{outcome}");
    for (reason, exits) in figures(&outcome, "reads.exits.") {
        // A write to the interrupt command register is two processors' talk, not the drive's.
        let is_idle = reason == OF_THE_CHECK || reason == "wrmsr" || reason == "nmi";
        assert!(
            exits == 0.0 || (is_idle && exits < 0.05),
            "{exits} exits by {reason} for each request: {outcome}"
        );
    }
    let denied = outcome.bouncer.iter();
    let faults = denied
        .filter(|line| line.text.starts_with("@fault"))
        .count();
    assert_eq!(faults, 0, "{outcome}");
}
