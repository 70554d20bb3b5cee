//! A stock kernel boots under Bouncer and every processor works.

use machine::Scene;
use machine::judge::{held, stopped_as};

/// What the guest runs when it is asked for nothing in particular, of which one processor skips
/// what needs two. The attack of several on hidden memory is a test of its own (`hidden`).
const ON_ONE: &[&str] = &[
    "cpus", "detect", "hash", "fork", "tmpfs", "timers", "fpu", "msr", "trap", "hidden",
];
const ON_SEVERAL: &[&str] = &[
    "cpus", "detect", "hash", "fork", "tmpfs", "timers", "ipis", "fpu", "nmi", "msr", "trap",
];

/// Little memory is set aside for pools, so that all of Bouncer's memory is attacked in reasonable time.
const POLICY: &str = "version = 1\nbounce-memory = \"64KiB\"\n";

#[test]
fn a_stock_kernel_reaches_user_space_and_powers_off_on_one_processor() {
    let name = "a_stock_kernel_reaches_user_space_and_powers_off_on_one_processor";
    let outcome = Scene::bouncer(name).policy(POLICY).modules(&["msr"]).play();
    held(name, &outcome, ON_ONE);
    stopped_as(&outcome, "poweroff");
    assert!(
        !outcome.report.exits.is_empty(),
        "the exits are reported: {outcome}"
    );
}

#[test]
fn a_stock_kernel_reaches_user_space_and_powers_off_on_two_processors() {
    let name = "a_stock_kernel_reaches_user_space_and_powers_off_on_two_processors";
    let outcome = Scene::bouncer(name)
        .policy(POLICY)
        .processors(2)
        .modules(&["msr"])
        .checks(ON_SEVERAL)
        .play();
    held(name, &outcome, ON_SEVERAL);
}

#[test]
fn a_stock_kernel_reaches_user_space_and_powers_off_on_four_processors() {
    const CHECKS: &[&str] = &["cpus", "detect", "hash", "timers", "fpu"];
    let name = "a_stock_kernel_reaches_user_space_and_powers_off_on_four_processors";
    held(
        name,
        &Scene::bouncer(name)
            .policy(POLICY)
            .processors(4)
            .checks(CHECKS)
            .play(),
        CHECKS,
    );
}

#[test]
fn a_stock_kernel_reaches_user_space_and_powers_off_on_eight_processors() {
    const CHECKS: &[&str] = &["cpus", "detect", "hash", "fpu", "nmi"];
    let name = "a_stock_kernel_reaches_user_space_and_powers_off_on_eight_processors";
    held(
        name,
        &Scene::bouncer(name)
            .policy(POLICY)
            .processors(8)
            .checks(CHECKS)
            .play(),
        CHECKS,
    );
}

#[test]
fn processors_go_offline_and_come_back() {
    const CHECKS: &[&str] = &["hotplug", "ipis", "nmi", "fpu", "cpus"];
    let name = "processors_go_offline_and_come_back";
    held(
        name,
        &Scene::bouncer(name)
            .policy(POLICY)
            .processors(3)
            .checks(CHECKS)
            .play(),
        CHECKS,
    );
}

#[test]
fn qemu_7_2_boots_debian_6_1() {
    let name = "qemu_7_2_boots_debian_6_1";
    let scene = Scene::bouncer(name)
        .policy(POLICY)
        .emulator("7.2")
        .and_then(|scene| scene.kernel("6.1"));
    smoke(name, scene);
}

#[test]
fn qemu_10_boots_debian_6_1() {
    let name = "qemu_10_boots_debian_6_1";
    let scene = Scene::bouncer(name)
        .policy(POLICY)
        .emulator("10")
        .and_then(|scene| scene.kernel("6.1"));
    smoke(name, scene);
}

#[test]
#[ignore = "needs the second kernel: cargo xtask test --all"]
fn debian_6_12_boots() {
    let name = "debian_6_12_boots";
    smoke(name, Scene::bouncer(name).policy(POLICY).kernel("6.12"));
}

/// A few seconds' worth of everything on two processors; nothing on a machine that lacks what
/// the scene needs, which has been said aloud.
fn smoke(name: &str, scene: Option<Scene>) {
    if let Some(scene) = scene {
        let outcome = scene.processors(2).checks(&["smoke", "nmi"]).play();
        held(name, &outcome, &["cpus", "detect", "hash", "tmpfs", "nmi"]);
    }
}
