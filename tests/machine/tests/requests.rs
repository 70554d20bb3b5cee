//! What a request to an untrusted drive costs in exits, where requests are under way together as they are with flash: the
//! drive takes its time for each, and any number at once.

use std::time::Duration;

use machine::judge::{figure, figures, held};
use machine::policies::{DRIVE_RULE, UNTRUSTED_DRIVE};
use machine::{Scene, loud};
use qemu::{DrivePace, Outcome};

/// MiB of the drive.
const DRIVE: u64 = 64;
/// A request takes the drive as long as the guest needs for dozens, also on a host that does other work.
const FLASH: DrivePace = DrivePace::Latency(Duration::from_millis(80));
/// What one at a time takes the drive matters to nobody.
const QUICK: DrivePace = DrivePace::Latency(Duration::from_millis(1));
/// A multiple of the minute that it takes.
const PATIENCE: Duration = Duration::from_secs(300);
/// Exits that the check itself and fio's start make: they ask the processor what it is.
const OF_THE_CHECK: &str = "cpuid";
/// A doorbell; a completion.
const OF_REQUESTS: [&str; 2] = ["nested", "nmi"];

/// Requests of each load that the drive has `depth` of at once.
fn requests(depth: u32) -> u32 {
    if depth == 1 { 200 } else { 1000 }
}

/// A life in which fio reads and writes blocks of 4 KiB, `depth` at once.
fn load(name: &str, depth: u32, policy: &str, words: &str) -> Outcome {
    let requests = requests(depth);
    let scene = Scene::bouncer(name)
        .policy(policy)
        .patience(PATIENCE)
        .drive(DRIVE)
        .drive_pace(if depth == 1 { QUICK } else { FLASH })
        .tools()
        // What the kernel tells a remapping unit is no request.
        .append("intel_iommu=off")
        .append(&format!(
            "bouncer.load=read:4096:{depth}:{requests},write:4096:{depth}:{requests} {words}"
        ))
        .checks(&["nvme-load"]);
    let session = scene.begin_mediated(DRIVE_RULE);
    let outcome = scene.end(session);
    held(name, &outcome, &["nvme-load"]);
    outcome
}

/// Demands that no request of either direction costs more than `most` exits, and none of another kind.
fn cost_at_most(name: &str, outcome: &Outcome, depth: u32, most: f64) {
    let requests = f64::from(requests(depth));
    for direction in ["read", "write"] {
        let prefix = format!("load.{direction}.4096.{depth}.");
        assert_eq!(
            figure(outcome, &format!("{prefix}requests")),
            requests,
            "{outcome}"
        );
        let mut exits = 0.0;
        for (reason, count) in figures(outcome, &format!("{prefix}counts.")) {
            let is_known = OF_REQUESTS.contains(&reason.as_str());
            assert!(
                count == 0.0 || is_known || reason == OF_THE_CHECK,
                "{count} exits by {reason}\n{outcome}"
            );
            exits += if is_known { count } else { 0.0 };
        }
        let exits = exits / requests;
        loud::tell(
            name,
            &format!("{direction}s of 4 KiB, depth {depth}: {exits} exits each"),
        );
        // None at all would mean that nobody is between the guest and its drive.
        assert!(exits > 0.0 && exits <= most, "{exits}\n{outcome}");
    }
}

#[test]
fn one_request_at_a_time_costs_at_most_three_exits() {
    let name = "one_request_at_a_time_costs_at_most_three_exits";
    let outcome = load(name, 1, UNTRUSTED_DRIVE, "");
    cost_at_most(name, &outcome, 1, 3.0);
}

#[test]
fn thirty_two_at_once_cost_less_than_a_third_of_an_exit_each() {
    let name = "thirty_two_at_once_cost_less_than_a_third_of_an_exit_each";
    let outcome = load(name, 32, UNTRUSTED_DRIVE, "");
    cost_at_most(name, &outcome, 32, 0.3);
}

#[test]
fn without_shadow_doorbells_batches_cost_half_an_exit_a_request_at_most() {
    let name = "without_shadow_doorbells_batches_cost_half_an_exit_a_request_at_most";
    let policy = format!("{UNTRUSTED_DRIVE}shadow-doorbells = false\n");
    let outcome = load(name, 32, &policy, "bouncer.load-batch=16");
    cost_at_most(name, &outcome, 32, 0.5);
}
