//! A trusted device works as if nobody stood between it and the guest.

use machine::Scene;
use machine::judge::{figure, figures, held};
use qemu::Clock;

/// Everything may reach the guest's memory.
const POLICY: &str = "version = 1\ndefault = \"trusted\"\n";
/// A processor without x2APIC mode: see `cost.rs`.
const MODEL: &str = "max,-x2apic";
/// MiB of the drive.
const DRIVE: u64 = 64;
/// A drive that answers at once, with zeros: no host's disc is in the time that is measured.
const AT_ONCE: &[&str] = &[
    "-blockdev",
    "driver=null-co,node-name=void,size=67108864,read-zeroes=on",
    "-device",
    "pcie-root-port,id=bay,chassis=9,addr=09.0",
    "-device",
    "nvme,drive=void,serial=void,bus=bay",
];
/// How much longer the guest may take for a read of a page than without Bouncer.
const LIMIT: f64 = 1.03;
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

/// Of the processor's time, which under this clock is instructions: how long the guest waits for the
/// emulator's drive says nothing of Bouncer.
#[test]
fn a_read_of_a_trusted_drive_costs_the_guest_no_time() {
    let name = "a_read_of_a_trusted_drive_costs_the_guest_no_time";
    let told = |scene: Scene| {
        let scene = scene.modules(&["nvme"]).arguments(AT_ONCE).cpu(MODEL);
        let scene = scene.clock(Clock::Instructions);
        let outcome = scene.checks(&["disk-reads"]).play();
        held(name, &outcome, &["disk-reads"]);
        figure(&outcome, "reads.cpu-ns")
    };
    let with = told(Scene::bouncer(name).policy(POLICY));
    let without = told(Scene::native_from_loader(&format!("{name}.native")));
    let ratio = with / without;
    println!("{with} ns a read with Bouncer, {without} ns without: {ratio:.4}");
    assert!(ratio <= LIMIT, "{with} ns against {without} ns: {ratio:.4}");
}
