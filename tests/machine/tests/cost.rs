//! What Bouncer costs a guest that does not use it: next to nothing.

use std::time::Duration;

use machine::judge::{figure, figures, held};
use machine::{Scene, loud};
use qemu::{Clock, Outcome};

/// The most exits a second, over two processors, that an idle guest may cause, by Bouncer's name
/// for the reason. A reason that is not named may cause none: the guest's timers, interrupts and
/// sleep are its own.
type Limits = &'static [(&'static str, f64)];

/// CPUID, which the processor forces (the check itself asks it for the counters), and commands
/// from processor to processor, among which a start-up message may be.
const WITH_X2APIC: Limits = &[("cpuid", 10.0), ("wrmsr", 20.0)];

/// Without x2APIC the page that takes such commands must be watched, and every setting of the
/// timer and every end of an interrupt goes there, too: two exits for each of some forty wake-ups.
const WITHOUT_X2APIC: Limits = &[("cpuid", 10.0), ("apic", 250.0)];

/// Instructions under Bouncer for one without it.
const RATIO: f64 = 1.02;

#[test]
fn an_idle_guest_causes_only_the_exits_the_processor_forces() {
    let name = "an_idle_guest_causes_only_the_exits_the_processor_forces";
    // QEMU's own processors have had x2APIC since version 9.
    if let Some(scene) = Scene::bouncer(name).emulator("10") {
        is_left_alone(name, scene, WITH_X2APIC);
    }
}

#[test]
fn an_idle_guest_without_x2apic_exits_for_its_local_apic_only() {
    let name = "an_idle_guest_without_x2apic_exits_for_its_local_apic_only";
    let scene = Scene::bouncer(name).cpu("max,-x2apic");
    is_left_alone(name, scene, WITHOUT_X2APIC);
}

/// Demands that two idle processors cause no more exits than `limits` allow.
fn is_left_alone(name: &str, scene: Scene, limits: Limits) {
    let outcome = scene.processors(2).checks(&["idle"]).play();
    held(name, &outcome, &["idle"]);
    let rates = figures(&outcome, "idle.");
    assert!(!rates.is_empty(), "{outcome}");
    for (reason, rate) in &rates {
        let limit = limits.iter().find(|(name, _)| name == reason);
        let limit = limit.map_or(0.0, |(_, limit)| *limit);
        assert!(
            *rate <= limit,
            "{reason}: {rate} exits a second, at most {limit} expected: {rates:?}\n{outcome}"
        );
    }
}

#[test]
fn cpu_bound_work_takes_at_most_1_02_of_the_native_instruction_count() {
    let name = "cpu_bound_work_takes_at_most_1_02_of_the_native_instruction_count";
    let native = instructions(&Scene::native_from_loader(&format!("{name}_native")));
    let under_bouncer = instructions(&Scene::bouncer(name));
    let ratio = under_bouncer / native;
    loud::tell(
        name,
        &format!("{under_bouncer} / {native} instructions = {ratio:.4}"),
    );
    assert!(
        ratio <= RATIO,
        "{under_bouncer} instructions against {native}: {ratio:.4}"
    );
    // Less than without Bouncer would mean that the clock does not tell instructions.
    assert!(
        ratio >= 0.98,
        "{under_bouncer} instructions against {native}: {ratio:.4}"
    );
}

/// Instructions that the work takes: nanoseconds on a clock that ticks once for each.
fn instructions(scene: &Scene) -> f64 {
    // QEMU 10 ends itself ("Bad icount read") when a guest sets its timer by an x2APIC register on
    // a clock that counts instructions.
    let scene = scene
        .clone()
        .clock(Clock::Instructions)
        .cpu("max,-x2apic")
        .checks(&["sha256-64m"]);
    let outcome: Outcome = scene.patience(Duration::from_secs(300)).play();
    held("sha256-64m", &outcome, &["sha256-64m"]);
    figure(&outcome, "sha256-64m.ns")
}
