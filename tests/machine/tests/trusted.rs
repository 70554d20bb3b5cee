//! A trusted device works as if nobody stood between it and the guest.

use std::time::Duration;

use machine::judge::{figure, figures, held};
use machine::{Echo, Scene, loud};
use qemu::{Clock, DrivePace, Outcome};

/// Everything may reach the guest's memory.
const POLICY: &str = "version = 1\ndefault = \"trusted\"\n";
/// MiB of the drive.
const DRIVE: u64 = 64;
/// Exits that the check itself makes when it reads the counters.
const OF_THE_CHECK: &str = "cpuid";
/// Instructions of a read under Bouncer for one without it.
const RATIO: f64 = 1.03;

#[test]
fn a_trusted_drive_is_used_without_an_exit() {
    let name = "a_trusted_drive_is_used_without_an_exit";
    let checks = &["disk", "disk-reads"];
    let scene = Scene::bouncer(name).policy(POLICY).drive(DRIVE);
    let outcome = scene.processors(2).checks(checks).play();
    held(name, &outcome, checks);
    assert!(figure(&outcome, "disk.verified-bytes") > 1e6, "{outcome}");
    // A write to the interrupt command register is two processors' talk, not the drive's.
    no_exit_for_a_request(&outcome, "reads.exits.", &[OF_THE_CHECK, "wrmsr", "nmi"]);
    no_faults(&outcome);
}

#[test]
fn a_trusted_network_card_is_used_without_an_exit() {
    let name = "a_trusted_network_card_is_used_without_an_exit";
    let checks = &["net", "net-exchanges"];
    let echo = Echo::listen();
    let backend = echo.arguments("wire");
    let backend: Vec<&str> = backend.iter().map(String::as_str).collect();
    let card = "virtio-net-pci,netdev=wire,bus=cards,disable-legacy=on,iommu_platform=on,romfile=";
    let outcome = Scene::bouncer(name)
        .policy(POLICY)
        .modules(&["virtio_pci", "virtio_net"])
        .arguments(&backend)
        .arguments(&["-device", "pcie-root-port,id=cards,chassis=21,addr=0x6"])
        .arguments(&["-device", card])
        .checks(checks)
        .play();
    held(name, &outcome, checks);
    assert!(figure(&outcome, "net.verified-bytes") > 1e6, "{outcome}");
    assert!(
        figure(&outcome, "exchanges.verified-bytes") > 1e6,
        "{outcome}"
    );
    // The card was heard by somebody else, who turned every byte round.
    assert!(echo.answered() > 4_000, "{} frames", echo.answered());
    no_exit_for_a_request(&outcome, "exchanges.exits.", &[OF_THE_CHECK]);
    no_faults(&outcome);
}

#[test]
fn a_read_from_a_trusted_drive_takes_at_most_1_03_of_the_native_instructions() {
    let name = "a_read_from_a_trusted_drive_takes_at_most_1_03_of_the_native_instructions";
    // Under Bouncer the guest has no remapping hardware to work for: nor has it here.
    let native = Scene::native_from_loader(&format!("{name}_native")).append("intel_iommu=off");
    let native = work(&native);
    let under = work(&Scene::bouncer(name).policy(POLICY));
    loud::tell(
        name,
        &format!("{under} / {native} instructions = {:.4}", under / native),
    );
    // Much less would mean that it was not the same work.
    assert!(
        under >= native * 0.95,
        "{under} against {native}: these are not the same reads"
    );
    assert!(
        under <= native * RATIO,
        "{under} instructions for a read, and {native} without Bouncer: {:.4}",
        under / native
    );
}

/// What the drive takes for everything: whoever reads from it always waits, so that the work of a read does not depend on
/// whether the drive was quick.
const SLOW_DRIVE: DrivePace = DrivePace::Latency(Duration::from_millis(2));

/// Instructions that a read of 4 KiB takes from others, the median of many: the clock counts
/// instructions; interrupts and exits are counted, what the drive takes is not.
fn work(scene: &Scene) -> f64 {
    // QEMU 10 ends itself ("Bad icount read") when a guest sets its timer by an x2APIC register on
    // a clock that counts instructions: the guest has its ticks from another.
    let outcome = scene
        .clone()
        .clock(Clock::Instructions)
        .append("nolapic_timer")
        .drive(DRIVE)
        .drive_pace(SLOW_DRIVE)
        .checks(&["disk-work"])
        .play();
    held("disk-work", &outcome, &["disk-work"]);
    figure(&outcome, "work.median")
}

/// Demands that no reason to leave the guest is connected with the requests.
/// Those that come now and then for another cause are `others`.
fn no_exit_for_a_request(outcome: &Outcome, prefix: &str, others: &[&str]) {
    let exits = figures(outcome, prefix);
    assert!(!exits.is_empty(), "no figures {prefix}…\n{outcome}");
    for (reason, exits) in exits {
        let is_others = others.contains(&reason.as_str());
        assert!(
            exits == 0.0 || (is_others && exits < 0.05),
            "{exits} exits by {reason} for each request: {outcome}"
        );
    }
}

fn no_faults(outcome: &Outcome) {
    let faults = outcome.bouncer.iter();
    let faults = faults.filter(|line| line.text.starts_with("@fault"));
    assert_eq!(faults.count(), 0, "{outcome}");
}
