//! The remapping unit that the guest sees: a stock kernel drives it, in each of its modes, while an untrusted drive
//! works behind it.

use std::time::Duration;

use machine::judge::{figure, held, reason_of_failure};
use machine::policies::{DRIVE_RULE, UNTRUSTED_DRIVE};
use machine::{Scene, loud};
use qemu::{Clock, Outcome};

/// MiB of the drive, and less work than the checks do unless told.
const DRIVE: u64 = 256;
const SMALL: &str = "bouncer.files=48 bouncer.fio=8";
const CHECKS: &[&str] = &["iommu-groups", "nvme-files", "nvme-fio"];
/// A multiple of the minute that it takes on an idle host.
const PATIENCE: Duration = Duration::from_secs(600);

/// A drive under verified load in a kernel that is told `words`.
fn loaded(name: &str, policy: &str, words: &str) -> Scene {
    Scene::bouncer(name)
        .policy(policy)
        .patience(PATIENCE)
        .drive(DRIVE)
        .processors(2)
        .modules(&["ext4"])
        .tools()
        .append(SMALL)
        .append(words)
        .checks(CHECKS)
}

fn load(name: &str, words: &str) -> Outcome {
    let scene = loaded(name, UNTRUSTED_DRIVE, words);
    let session = scene.begin_mediated(DRIVE_RULE);
    let outcome = scene.end(session);
    held(name, &outcome, CHECKS);
    complains_of_nothing(&outcome);
    outcome
}

/// The kernel says nothing of the unit but what it has of it, and warns of nothing.
fn complains_of_nothing(outcome: &Outcome) {
    let is_complaint = |text: &str| {
        if text.contains("WARNING:") {
            return true;
        }
        let is_of_unit = text.contains("DMAR") || text.contains("iommu");
        let words = [
            "[DMA",
            "fault reason",
            "Fault",
            "fail",
            "Fail",
            "error",
            "timed out",
            "Invalid",
            "BUG",
        ];
        is_of_unit && words.iter().any(|word| text.contains(word))
    };
    let mut lines = outcome.console.iter().map(|line| &line.text);
    let complaint = lines.find(|text| is_complaint(text));
    assert_eq!(complaint, None, "{outcome}");
}

/// What the kernel says on its console.
fn says(outcome: &Outcome, words: &str) -> bool {
    outcome.console.iter().any(|line| line.text.contains(words))
}

/// The number behind `key=` in Bouncer's last words about the first unit.
fn counted(outcome: &Outcome, key: &str) -> f64 {
    counted_of(outcome, key, "@viommu reads=")
}

/// The same in the first line that has these words.
fn counted_of(outcome: &Outcome, key: &str, words: &str) -> f64 {
    let mut lines = outcome.bouncer.iter();
    let line = lines.find(|line| line.text.contains(words));
    let fact = line.and_then(|line| {
        let mut words = line.text.split_whitespace();
        words.find_map(|word| word.strip_prefix(&format!("{key}=")))
    });
    let number = fact.and_then(|fact| fact.parse().ok());
    number.unwrap_or_else(|| panic!("Bouncer counted no {key}\n{outcome}"))
}

fn groups(outcome: &Outcome) -> (f64, f64) {
    let drives = figure(outcome, "groups.drives");
    (drives, figure(outcome, "groups.others"))
}

#[test]
fn a_drive_works_behind_a_strict_kernels_tables() {
    let name = "a_drive_works_behind_a_strict_kernels_tables";
    let outcome = load(name, "intel_iommu=on iommu.strict=1");
    assert_eq!(groups(&outcome), (1.0, 0.0), "{outcome}");
    assert!(
        says(&outcome, "DMAR-IR: Enabled IRQ remapping"),
        "{outcome}"
    );
    // Of what is mapped nobody hears: there is at most one write for what is unmapped.
    let (writes, forgotten) = (counted(&outcome, "writes"), counted(&outcome, "forgotten"));
    assert!(forgotten > 1e3 && writes < 1.05 * forgotten, "{outcome}");
    assert!(counted(&outcome, "refused") == 0.0, "{outcome}");
}

#[test]
fn a_drive_works_behind_a_lazy_kernels_tables() {
    let name = "a_drive_works_behind_a_lazy_kernels_tables";
    let outcome = load(name, "intel_iommu=on iommu.strict=0");
    assert_eq!(groups(&outcome), (1.0, 0.0), "{outcome}");
    // All that was unmapped in 10 ms, or 256 times, is forgotten at once, by one write and no read.
    let (writes, forgotten) = (counted(&outcome, "writes"), counted(&outcome, "forgotten"));
    assert!(writes < 3e3 && writes < forgotten + 200.0, "{outcome}");
    assert!(counted(&outcome, "reads") < 100.0, "{outcome}");
    assert!(counted(&outcome, "refused") == 0.0, "{outcome}");
}

/// Unmaps for one exit to the unit, at least.
const UNMAPS_AN_EXIT: f64 = 250.0;
/// Requests of 4 KiB, each of which is unmapped for itself, from four processors.
const UNMAPS: f64 = 100_000.0;

#[test]
fn a_lazy_kernel_leaves_for_the_unit_at_most_once_in_250_unmaps() {
    let name = "a_lazy_kernel_leaves_for_the_unit_at_most_once_in_250_unmaps";
    // The kernel forgets what it unmapped every 10 ms: how much that is depends on how much the guest does in the time,
    // which is 10 million instructions here. Where they are counted, QEMU 10 ends itself if the timer of a local APIC is set
    // by an x2APIC register.
    let scene = Scene::bouncer(name)
        .policy(UNTRUSTED_DRIVE)
        .patience(PATIENCE)
        .clock(Clock::Instructions)
        .cpu("max,-x2apic")
        .drive(DRIVE)
        .processors(4)
        .tools()
        .append("intel_iommu=on iommu.strict=0")
        .append("bouncer.load=read:4096:32:100000 bouncer.load-batch=16 bouncer.load-jobs=4")
        .checks(&["iommu-groups", "nvme-load"]);
    let session = scene.begin_mediated(DRIVE_RULE);
    let outcome = scene.end(session);
    held(name, &outcome, &["iommu-groups", "nvme-load"]);
    complains_of_nothing(&outcome);
    assert_eq!(groups(&outcome), (1.0, 0.0), "{outcome}");
    let exits = counted(&outcome, "writes") + counted(&outcome, "reads");
    let forgotten = counted(&outcome, "forgotten");
    loud::tell(
        name,
        &format!(
            "{UNMAPS} unmaps, forgotten in {forgotten} times, {exits} exits, the kernel's start among them"
        ),
    );
    assert!(
        forgotten > 1.0 && exits * UNMAPS_AN_EXIT <= UNMAPS,
        "{outcome}"
    );
}

#[test]
fn a_drive_works_where_the_kernel_remaps_no_interrupts() {
    let name = "a_drive_works_where_the_kernel_remaps_no_interrupts";
    let outcome = load(name, "intel_iommu=on iommu.strict=0 intremap=off");
    assert_eq!(groups(&outcome), (1.0, 0.0), "{outcome}");
    assert!(!says(&outcome, "Enabled IRQ remapping"), "{outcome}");
    assert!(counted(&outcome, "forgotten") > 100.0, "{outcome}");
    assert!(counted(&outcome, "refused") == 0.0, "{outcome}");
}

#[test]
fn a_drive_works_where_the_kernel_passes_addresses_through() {
    let name = "a_drive_works_where_the_kernel_passes_addresses_through";
    let outcome = load(name, "intel_iommu=on iommu=pt");
    assert_eq!(groups(&outcome), (1.0, 0.0), "{outcome}");
    assert!(counted(&outcome, "refused") == 0.0, "{outcome}");
}

/// The drive has no mediator, and reaches what the kernel maps.
const PAGED: &str = r#"
version = 1
default = "trusted"

[[device]]
name = "drive"
match = { path = "0000:00:10.0/00.0" }
trust = "untrusted"
mediator = "none"
fallback = "page"
"#;

#[test]
fn a_drive_without_a_mediator_works_by_what_the_kernel_maps() {
    let name = "a_drive_without_a_mediator_works_by_what_the_kernel_maps";
    let outcome = loaded(name, PAGED, "intel_iommu=on").play();
    held(name, &outcome, CHECKS);
    complains_of_nothing(&outcome);
    assert_eq!(groups(&outcome), (1.0, 0.0), "{outcome}");
    let of = |key| counted_of(&outcome, key, " carries=1");
    // Each map and each unmap is one write, and nothing is read.
    assert!(
        of("writes") < 1.05 * of("forgotten") && of("reads") < 100.0,
        "{outcome}"
    );
    assert!(of("forgotten") > 1e3 && of("refused") == 0.0, "{outcome}");
}

/// The educational device has a mediator, and nobody in the kernel maps anything for it.
const EDUCATIONAL: &str = r#"
version = 1
default = "trusted"

[[device]]
name = "edu"
match = { path = "0000:00:03.0" }
trust = "untrusted"
pool = "64KiB"
mediator = "edu"
"#;

fn untranslated(name: &str, words: &str) -> Outcome {
    let edu = "edu,addr=0x3,dma_mask=0xffffffffffffffff";
    let scene = Scene::bouncer(name).policy(EDUCATIONAL).append(words);
    let scene = scene.arguments(&["-device", edu]);
    let scene = scene.checks(&["meddle-untranslated", "hash"]);
    let session = scene.begin_mediated("edu");
    scene.end(session)
}

#[test]
fn what_the_kernel_has_not_mapped_is_refused_and_told_as_hardware_tells_it() {
    let name = "what_the_kernel_has_not_mapped_is_refused_and_told_as_hardware_tells_it";
    let outcome = untranslated(name, "intel_iommu=on");
    held(name, &outcome, &["meddle-untranslated", "hash"]);
    for (kind, key, reason) in [
        ("Read", "untranslated.read", "fault reason 0x06"),
        ("Write", "untranslated.written", "fault reason 0x05"),
    ] {
        let at = outcome
            .report
            .guest
            .data
            .get(key)
            .expect("the check told it");
        let is_told = |text: &str| {
            text.contains(&format!("[DMA {kind}"))
                && text.contains("[00:03.0]")
                && text.contains(&format!("fault addr {at} "))
                && text.contains(reason)
        };
        let is_told = outcome.console.iter().any(|line| is_told(&line.text));
        assert!(is_told, "no {kind} at {at} for {reason}\n{outcome}");
    }
}

#[test]
fn without_translation_the_same_device_is_told_physical_addresses() {
    let name = "without_translation_the_same_device_is_told_physical_addresses";
    let outcome = untranslated(name, "intel_iommu=off");
    let reason = reason_of_failure(&outcome, "meddle-untranslated");
    assert!(reason.contains("has written the page"), "{reason}");
}

#[test]
fn a_drive_works_where_the_kernel_leaves_the_unit_alone() {
    let name = "a_drive_works_where_the_kernel_leaves_the_unit_alone";
    let outcome = load(name, "intel_iommu=off intremap=off");
    assert_eq!(groups(&outcome), (0.0, 0.0), "{outcome}");
    assert!(!says(&outcome, "DMAR-IR: Enabled"), "{outcome}");
}

fn wandering(scene: Scene) -> Scene {
    let scene = scene.patience(PATIENCE).drive(DRIVE).processors(2);
    scene.append("intel_iommu=on").checks(&["nvme-affinity"])
}

#[test]
fn interrupts_wander_on_a_bare_machine() {
    let name = "interrupts_wander_on_a_bare_machine";
    let outcome = wandering(Scene::native(name)).play();
    held(name, &outcome, &["nvme-affinity"]);
}

#[test]
fn interrupts_wander_while_a_drive_works() {
    let name = "interrupts_wander_while_a_drive_works";
    let scene = wandering(Scene::bouncer(name).policy(UNTRUSTED_DRIVE));
    let session = scene.begin_mediated(DRIVE_RULE);
    let outcome = scene.end(session);
    held(name, &outcome, &["nvme-affinity"]);
    complains_of_nothing(&outcome);
    assert!(
        says(&outcome, "DMAR-IR: Enabled IRQ remapping"),
        "{outcome}"
    );
    // Each move is an entry that is read again.
    let moved = figure(&outcome, "affinity.moved-of-drive");
    assert!(counted(&outcome, "interrupts") >= moved, "{outcome}");
}
