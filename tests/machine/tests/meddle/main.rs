//! A guest that programs configuration space, messages and chip set with evil intent gets nowhere,
//! and one that does so as systems do notices nothing.
//!
//! The attacks are the guest's own checks; an oracle tells it what its devices were really given.

mod oracle;

use std::collections::{BTreeMap, BTreeSet};

use machine::Scene;
use machine::judge::{figure, held, reason_of_failure};
use oracle::Oracle;
use qemu::{Ended, Outcome};

/// Only the educational devices at 00:03.0 and behind the port 00:05.0 are untrusted.
const POLICY: &str = r#"
version = 1
default = "trusted"
bounce-memory = "64KiB"
viommu = false

[[device]]
name = "foe on the root bus"
match = { path = "0000:00:03.0" }
trust = "untrusted"

[[device]]
name = "foe behind a port"
match = { path = "0000:00:05.0/00.0" }
trust = "untrusted"
"#;

/// The trusted educational device, and the untrusted ones by their names in Bouncer's lines.
const FRIEND: &str = "0000:00:04.0";
const FOE_ON_ROOT: &str = "0000:00:03.0";

const ATTACKS: &[&str] = &[
    "meddle-dmar",
    "meddle-unit",
    "meddle-capabilities",
    "meddle-rom",
    "meddle-master",
    "meddle-forms",
    "meddle-trusted",
    "meddle-sizing",
    "meddle-bars",
    "meddle-windows",
    "meddle-buses",
    "meddle-msi",
    "meddle-msix",
    "meddle-moved-table",
    "meddle-woken-table",
    "meddle-race",
    "meddle-init",
    "meddle-firmware",
    "meddle-ports",
    "meddle-chipset",
];

const LEGAL: &[&str] = &[
    "meddle-sizing",
    "legal-bars",
    "legal-latency",
    "legal-affinity",
    "legal-rebind",
    "legal-rescan",
];

#[test]
fn a_lawful_guest_notices_nothing_and_a_meddling_one_reaches_nothing() {
    let name = "a_lawful_guest_notices_nothing_and_a_meddling_one_reaches_nothing";
    let oracle = Oracle::consult();
    let arguments = oracle.arguments();
    let arguments: Vec<&str> = arguments.iter().map(String::as_str).collect();
    let after = ["hash", "detect"];
    let checks = [LEGAL, ATTACKS, &after].concat();
    let outcome = inhabited(Scene::bouncer(name), name)
        .policy(POLICY)
        .arguments(&arguments)
        .append(oracle::WORDS)
        .checks(&checks)
        .play();
    held(name, &outcome, &checks);
    assert_eq!(
        outcome.report.guest.data.get("meddle.bars.oracle"),
        Some(&"true".to_owned()),
        "the guest has asked the oracle: {outcome}"
    );
    assert!(
        figure(&outcome, "meddle.capabilities.concealed") >= 1.0,
        "some capability was there to conceal: {outcome}"
    );

    let lawful = until_attacked(&outcome);
    let is_blame = |line: &&&qemu::Line| line.text.starts_with("@fault");
    let blame = lawful.iter().find(is_blame);
    assert!(blame.is_none(), "{blame:?} of a lawful device\n{outcome}");

    // What the trusted device could not reach, it is blamed for; what the untrusted one was told in
    // vain, Bouncer says.
    blamed(&outcome, "@fault", FRIEND, "access=write");
    blamed(&outcome, "@fault", FRIEND, "access=read");
    blamed(&outcome, "@refused", FOE_ON_ROOT, "bus mastering");
    blamed(&outcome, "@refused", FRIEND, "delivery mode");
    // Refused messages leave the device with its own entry, which is void. Those of others, had a
    // guessed handle been used, would show as faults at more than one.
    let void: BTreeSet<&str> = outcome.bouncer.iter().filter_map(void_entry).collect();
    assert!(
        void.len() <= 1,
        "a handle that was guessed was used: {void:?}\n{outcome}"
    );
}

#[test]
fn without_bouncer_the_lawful_checks_hold_and_the_attacks_succeed() {
    // Each attack succeeds for its own reason: none passes because it was never made.
    let reasons = BTreeMap::from([
        ("meddle-dmar", "has the DMAR table"),
        ("meddle-unit", "register"),
        ("meddle-capabilities", "shows ATS"),
        ("meddle-rom", "its ROM register reads"),
        ("meddle-bars", "the device decodes"),
        ("meddle-windows", "the bridge passes"),
        ("meddle-master", "has read the guest's memory"),
        ("meddle-forms", "is a bus master in truth"),
        ("meddle-buses", "has read the guest's memory"),
        ("meddle-msi", "non-maskable interrupts came"),
        ("meddle-msix", "as the guest wrote it"),
        ("meddle-moved-table", "as the guest wrote it"),
        ("meddle-woken-table", "as the guest wrote it"),
        ("meddle-ports", "decodes the ports"),
        ("meddle-chipset", "moved: PCIEXBAR"),
    ]);
    let name = "without_bouncer_the_lawful_checks_hold_and_the_attacks_succeed";
    let oracle = Oracle::consult();
    let arguments = oracle.arguments();
    let arguments: Vec<&str> = arguments.iter().map(String::as_str).collect();
    // The one that moves the machine's own registers comes last.
    let (last, rest): (Vec<&str>, Vec<&str>) =
        reasons.keys().partition(|name| **name == "meddle-chipset");
    let outcome = inhabited(Scene::native_from_loader(name), name)
        .arguments(&arguments)
        .append(oracle::WORDS)
        .append("intel_iommu=off intremap=off")
        .checks(&[LEGAL, &rest, &last].concat())
        .play();
    for lawful in LEGAL {
        let result = outcome.report.guest.checks.get(*lawful);
        assert_eq!(
            result,
            Some(&qemu::CheckResult::Pass),
            "{lawful}\n{outcome}"
        );
    }
    for (attack, why) in reasons {
        let reason = reason_of_failure(&outcome, attack);
        assert!(reason.contains(why), "{attack}: {reason}\n{outcome}");
    }
    assert_eq!(outcome.report.guest.ended, Ended::PowerOff, "{outcome}");
}

/// A machine with three educational devices, a drive, a network card that offers address
/// translation services, and a disc, on two processors.
fn inhabited(scene: Scene, name: &str) -> Scene {
    // No signature: the firmware leaves it alone.
    let rom = scene.file("option.rom");
    std::fs::write(&rom, [0xa7; 4096]).unwrap_or_else(|error| panic!("{name}: {error}"));
    let edu = |place: &str| format!("edu,{place},dma_mask=0xffffffffffffffff");
    let with_rom = format!("{},romfile={}", edu("addr=0x3"), rom.display());
    scene
        .processors(2)
        .drive(8)
        .modules(&["virtio_pci", "virtio_net", "ahci", "sr_mod"])
        .append(&format!("bouncer.trusted-edu={FRIEND}"))
        .arguments(&["-device", &with_rom])
        .arguments(&["-device", &edu("addr=0x4")])
        .arguments(&["-device", "pcie-root-port,id=foes,chassis=20,addr=0x5"])
        .arguments(&["-device", &edu("bus=foes")])
        .arguments(&["-device", "pcie-root-port,id=cards,chassis=21,addr=0x6"])
        .arguments(&["-netdev", "hubport,id=hub,hubid=0"])
        .arguments(&[
            "-device",
            "virtio-net-pci,netdev=hub,bus=cards,ats=on,romfile=",
        ])
}

/// What Bouncer said before the guest's first attack.
fn until_attacked(outcome: &Outcome) -> Vec<&qemu::Line> {
    let first = format!("start {}", ATTACKS[0]);
    let attacked = outcome.guest.iter().find(|line| line.text == first);
    let attacked = attacked.unwrap_or_else(|| panic!("no line {first:?}\n{outcome}"));
    let is_before = |line: &&qemu::Line| line.at < attacked.at;
    outcome.bouncer.iter().filter(is_before).collect()
}

/// Demands a line that begins with `word`, is about `bdf`, and holds `fact`.
fn blamed(outcome: &Outcome, word: &str, bdf: &str, fact: &str) {
    let prefix = format!("{word} bdf={bdf} ");
    let is_it = |line: &qemu::Line| line.text.starts_with(&prefix) && line.text.contains(fact);
    assert!(
        outcome.bouncer.iter().any(is_it),
        "no line {prefix}… with {fact:?}\n{outcome}"
    );
}

/// The entry at which the trusted device's interrupt was refused by the remapping unit.
fn void_entry(line: &qemu::Line) -> Option<&str> {
    let prefix = format!("@fault bdf={FRIEND} access=interrupt address=");
    let (_, rest) = line.text.split_once(&prefix)?;
    rest.split(' ').next()
}
