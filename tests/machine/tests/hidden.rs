//! The guest cannot reach Bouncer's memory, whatever it tries.

use machine::Scene;
use machine::judge::{figure, held};

/// Little memory is set aside for pools, so that all of Bouncer's memory is attacked in reasonable time.
const POLICY: &str = "version = 1\nbounce-memory = \"64KiB\"\n";

#[test]
fn the_guest_cannot_read_or_write_one_byte_of_bouncer() {
    let name = "the_guest_cannot_read_or_write_one_byte_of_bouncer";
    // The processors' registers, interrupts and memory are looked at again after the attack.
    let checks = &[
        "hidden",
        "hidden-flood",
        "detect",
        "hash",
        "fpu",
        "ipis",
        "tmpfs",
    ];
    let outcome = Scene::bouncer(name)
        .policy(POLICY)
        .processors(2)
        .checks(checks)
        .play();
    held(name, &outcome, checks);

    let report = &outcome.report;
    let (told, own) = (
        figure(&outcome, "hidden_pages") * 4096.0,
        report.resident_bytes,
    );
    assert_eq!(
        own.map(|bytes| bytes as f64),
        Some(told),
        "attacked is all of it: {outcome}"
    );
    assert_eq!(
        report.guest.data.get("hidden_base"),
        report
            .resident_base
            .map(|base| format!("{base:#x}"))
            .as_ref(),
        "attacked where it is: {outcome}"
    );
    assert!(
        figure(&outcome, "hidden.kernel-copies") > 0.0,
        "the kernel has tried, too: {outcome}"
    );
}

#[test]
fn an_access_across_a_border_is_done_on_both_sides() {
    let name = "an_access_across_a_border_is_done_on_both_sides";
    let checks = &["straddle", "hash", "detect"];
    let scene = Scene::bouncer(name)
        .policy(POLICY)
        .processors(2)
        .checks(checks);
    let outcome = scene.play();
    held(name, &outcome, checks);
    assert!(figure(&outcome, "straddle.borders") >= 1.0, "{outcome}");
}
