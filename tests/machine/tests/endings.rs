//! However a guest ends, the machine ends with it and Bouncer says how.

use machine::Scene;
use machine::judge::stopped_as;
use qemu::{Ended, Verdict};

#[test]
fn a_guest_triple_fault_is_reported_and_resets() {
    let scene = Scene::bouncer("a_guest_triple_fault_is_reported_and_resets")
        .checks(&["hash", "crash"])
        .append("reboot=t");
    let outcome = scene.play();
    assert_eq!(
        outcome.verdict(),
        Verdict::Ended(Ended::TripleFault),
        "{outcome}"
    );
    stopped_as(&outcome, "triple-fault");
}

#[test]
fn a_guest_that_reboots_resets_the_machine() {
    let outcome = Scene::bouncer("a_guest_that_reboots_resets_the_machine")
        .processors(2)
        .checks(&["hash", "reboot"])
        .play();
    assert_eq!(outcome.verdict(), Verdict::Ended(Ended::Reset), "{outcome}");
    stopped_as(&outcome, "reset");
}
