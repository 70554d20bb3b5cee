//! A device in the hands of a guest's program (VFIO): it reaches what the program maps for it, with a mediator and
//! without one.

use std::time::Duration;

use machine::Scene;
use machine::audit::{self, Reach, Requester};
use machine::judge::{figure, held};
use qemu::{Outcome, Port};

const CHECK: &str = "meddle-lent";
const PATIENCE: Duration = Duration::from_secs(180);
/// Bytes of the machine's memory.
const MEMORY: u64 = 1 << 30;
/// What holds a device for a program.
const MODULES: &[&str] = &["vfio_iommu_type1", "vfio-pci"];

/// The educational device, where it is, and what it gets.
fn policy(place: &str, gets: &str) -> String {
    format!(
        r#"
version = 1
default = "trusted"

[[device]]
name = "edu"
match = {{ {place} }}
trust = "untrusted"
pool = "64KiB"
{gets}
"#
    )
}

const EDU: [&str; 2] = ["-device", "edu,addr=0x3,dma_mask=0xffffffffffffffff"];

fn scene(name: &str, gets: &str, words: &str) -> Scene {
    let place = "path = \"0000:00:03.0\"";
    let scene = Scene::bouncer(name).policy(policy(place, gets));
    scene.append(words).arguments(&EDU)
}

/// Bouncer says that the device has this protection.
fn is_protected(outcome: &Outcome, protection: &str) {
    let words = format!(" protection={protection} rule=\"");
    let mut lines = outcome.bouncer.iter().map(|line| &line.text);
    let is_it = |text: &&String| text.starts_with("@device ") && text.contains("`edu`");
    let line = lines.find(is_it).expect("Bouncer names the device");
    assert!(line.contains(&words), "{line}");
}

/// The kernel tells of a refusal as hardware tells it.
fn is_told(outcome: &Outcome, device: &str, kind: &str, key: &str, reason: u8) {
    let at = outcome.report.guest.data.get(key);
    let at = at.expect("the check told it");
    let parts = [
        format!("[DMA {kind}"),
        format!("[{device}]"),
        format!("fault addr {at} "),
        format!("[fault reason {reason:#04x}]"),
    ];
    let is_it = |text: &str| parts.iter().all(|part| text.contains(part));
    let is_there = outcome.console.iter().any(|line| is_it(&line.text));
    assert!(is_there, "no {kind} at {at} for {reason:#04x}\n{outcome}");
}

fn reaches_what_is_mapped(outcome: &Outcome, name: &str, device: &str) {
    held(name, outcome, &[CHECK, "hash"]);
    is_told(outcome, device, "Write", "lent.read-only", 5);
    is_told(outcome, device, "Read", "lent.never", 6);
    is_told(outcome, device, "Write", "lent.unmapped", 5);
    assert!(figure(outcome, "lent.messages") >= 1.0, "{outcome}");
}

fn lent(name: &str, gets: &str) -> Outcome {
    let scene = scene(name, gets, "intel_iommu=on").modules(MODULES);
    let scene = scene.checks(&[CHECK, "hash"]);
    let outcome = scene.play();
    reaches_what_is_mapped(&outcome, name, "00:03.0");
    outcome
}

#[test]
fn without_bouncer_hardware_refuses_the_same() {
    let name = "without_bouncer_hardware_refuses_the_same";
    let scene = Scene::native(name).append("intel_iommu=on").arguments(&EDU);
    let outcome = scene.modules(MODULES).checks(&[CHECK, "hash"]).play();
    reaches_what_is_mapped(&outcome, name, "00:03.0");
}

#[test]
fn a_mediated_device_reaches_what_a_program_maps_for_it() {
    let name = "a_mediated_device_reaches_what_a_program_maps_for_it";
    let outcome = lent(name, "mediator = \"edu\"");
    is_protected(&outcome, "byte");
}

#[test]
fn a_device_without_a_mediator_reaches_what_a_program_maps_for_it() {
    let name = "a_device_without_a_mediator_reaches_what_a_program_maps_for_it";
    let outcome = lent(name, "fallback = \"page\"");
    is_protected(&outcome, "page");
    // It is real hardware that refused it, and Bouncer's ledger has it, too.
    let mut lines = outcome.bouncer.iter().map(|line| &line.text);
    let is_it = |text: &String| text.starts_with("@fault bdf=0000:00:03.0 access=write");
    assert!(lines.any(is_it), "{outcome}");
}

/// The live tables, walked from outside while the program has two pages mapped, or about to be unmapped.
#[test]
fn the_live_tables_lead_to_what_is_mapped_and_nowhere_else() {
    let name = "the_live_tables_lead_to_what_is_mapped_and_nowhere_else";
    let scene = scene(name, "fallback = \"page\"", "intel_iommu=on").modules(MODULES);
    let scene = scene.checks(&[CHECK]);
    let mut session = scene.begin();
    let said = session.wait_for(Port::Guest, "data lent.never ", PATIENCE);
    said.expect("the check maps something");
    let own = audit::own_memory(&session);
    let requester = Requester(3 << 3);
    let reach = audit::standing_still(&mut session, |session| audit::reach(session, requester));
    held(name, &scene.end(session), &[CHECK]);
    let Reach::Pages(pages) = &reach else {
        panic!("it reaches everything: {reach:?}");
    };
    let readable = pages.iter().find(|page| page.iova == 0x1000_0000);
    assert!(readable.is_some_and(|page| !page.is_writable), "{reach:?}");
    for page in pages {
        let is_mapped = [0x1000_0000, 0x1000_5000, 0x2000_7000].contains(&page.iova);
        assert!(is_mapped && page.bytes == 4096, "{reach:?}");
        let is_own = (own.0..own.0 + own.1).contains(&page.address);
        assert!(!is_own && page.address < MEMORY, "{reach:?}");
    }
}

#[test]
fn a_device_for_which_nobody_maps_reaches_nothing() {
    let name = "a_device_for_which_nobody_maps_reaches_nothing";
    let scene = scene(name, "fallback = \"page\"", "intel_iommu=off");
    let outcome = scene.checks(&["meddle-untranslated", "hash"]).play();
    held(name, &outcome, &["meddle-untranslated", "hash"]);
    is_protected(&outcome, "page");
}

#[test]
fn all_behind_a_port_reach_what_a_program_maps_for_them() {
    let name = "all_behind_a_port_reach_what_a_program_maps_for_them";
    let place = "port = \"0000:00:05.0\"";
    let scene = Scene::bouncer(name).policy(policy(place, "fallback = \"page\""));
    let port = "pcie-root-port,id=bay,addr=0x5,chassis=9,slot=9";
    let edu = "edu,bus=bay,dma_mask=0xffffffffffffffff";
    let scene = scene
        .append("intel_iommu=on")
        .arguments(&["-device", port, "-device", edu]);
    let outcome = scene.modules(MODULES).checks(&[CHECK, "hash"]).play();
    reaches_what_is_mapped(&outcome, name, "01:00.0");
}
