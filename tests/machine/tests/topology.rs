//! What hangs on what: ports that keep their devices apart, devices that divide themselves.

use machine::Scene;
use machine::judge::held;
use qemu::{Outcome, Session};
use std::time::Duration;

/// Configuration space of a q35 machine.
const ECAM: u64 = 0xb000_0000;
/// The first extended capability, and the identity of access control services.
const EXTENDED: u64 = 0x100;
const ACS: u32 = 0x0d;
/// Source validation, translation blocking, request and completion redirect, upstream forwarding; what
/// lets requests pass between peers, by a vector or as translated, is not among them. PCI Express Base
/// 6.0, section 7.7.11.3.
const ISOLATION: u16 = 0x001f;
const PEERS: u16 = 0x0060;

/// Ports that have the services: QEMU's other ports have none.
const PORTS: [&str; 4] = [
    "-device",
    "pcie-root-port,id=one,chassis=31,addr=0x5",
    "-device",
    "pcie-root-port,id=two,chassis=32,addr=0x6",
];

#[test]
fn ports_keep_their_devices_apart() {
    let name = "ports_keep_their_devices_apart";
    let policy = "version = 1\ndefault = \"trusted\"\n";
    let guarded = services(&Scene::bouncer(name).policy(policy));
    // Each store of the guest has been seen by then, and none has switched a service off.
    for (at, control) in &guarded {
        assert_eq!(control & ISOLATION, ISOLATION, "port {at:#x}: {control:#x}");
        assert_eq!(control & PEERS, 0, "port {at:#x}: {control:#x}");
    }
    assert_eq!(guarded.len(), 2, "{guarded:x?}");
    // Nobody else does it.
    let native = Scene::native(&format!("{name}_native")).append("intel_iommu=off");
    let native = services(&native);
    assert_eq!(native.len(), 2, "{native:x?}");
    assert!(
        native.iter().all(|(_, control)| control & ISOLATION == 0),
        "{native:x?}"
    );
}

/// The access control of every port of the root bus that has it, once the guest is up.
fn services(scene: &Scene) -> Vec<(u16, u16)> {
    let scene = scene.clone().arguments(&PORTS).checks(&["endure"]);
    let mut session = scene.begin();
    session
        .wait_for(
            qemu::Port::Console,
            "as init process",
            Duration::from_secs(120),
        )
        .unwrap_or_else(|error| panic!("{error}"));
    let found = read_services(&mut session);
    let outcome = scene.end(session);
    held("services", &outcome, &["endure"]);
    found
}

fn read_services(session: &mut Session) -> Vec<(u16, u16)> {
    let bus = session.qtest().expect("the machine has a bus");
    let mut found = Vec::new();
    for id in 0..0x100_u16 {
        let at = ECAM + (u64::from(id) << 12);
        let mut read = |offset| bus.readl(at + offset).expect("the bus answers");
        if read(0) == u32::MAX {
            continue;
        }
        let mut offset = EXTENDED;
        // As many as there is room for.
        for _ in 0..96 {
            let header = read(offset);
            if header & 0xffff == ACS {
                found.push((id, (read(offset + 4) >> 16) as u16));
            }
            offset = u64::from(header >> 20);
            if offset < EXTENDED {
                break;
            }
        }
    }
    found
}

/// Trusts all, or all but one of the two virtual functions.
const TRUSTING: &str = "version = 1\ndefault = \"trusted\"\n";
const DISCERNING: &str = r#"
version = 1
default = "trusted"
bounce-memory = "64KiB"

[[device]]
name = "the second virtual function"
match = { path = "0000:00:05.0/10.2" }
trust = "untrusted"
"#;

#[test]
fn virtual_functions_of_a_trusted_card_work() {
    let name = "virtual_functions_of_a_trusted_card_work";
    let outcome = divided(Scene::bouncer(name).policy(TRUSTING)).play();
    held(name, &outcome, &["virtual-functions"]);
    for function in ["10.0", "10.2"] {
        arrived(&outcome, function, "trusted", "none");
    }
    let fault = outcome
        .bouncer
        .iter()
        .find(|line| line.text.starts_with("@fault "));
    assert!(fault.is_none(), "{fault:?}\n{outcome}");
}

#[test]
fn a_virtual_function_that_is_not_trusted_is_denied_while_its_neighbour_works() {
    let name = "a_virtual_function_that_is_not_trusted_is_denied_while_its_neighbour_works";
    let outcome = divided(Scene::bouncer(name).policy(DISCERNING)).play();
    arrived(&outcome, "10.0", "trusted", "none");
    arrived(&outcome, "10.2", "untrusted", "denied");
    // The first one has its interface; the second masters nothing, so that its driver gives up.
    let first = outcome.report.guest.data.get("virtual.0.0");
    assert!(first.is_some(), "{outcome}");
}

/// A card that divides itself, behind a port.
fn divided(scene: Scene) -> Scene {
    scene
        .modules(&["igb", "igbvf"])
        .arguments(&["-device", "pcie-root-port,id=cards,chassis=21,addr=0x5"])
        .arguments(&["-netdev", "hubport,id=hub,hubid=0"])
        .arguments(&["-device", "igb,netdev=hub,bus=cards,romfile="])
        .checks(&["virtual-functions"])
}

/// Demands that Bouncer judged the virtual function before anybody could hear of it.
fn arrived(outcome: &Outcome, function: &str, trust: &str, protection: &str) {
    let line = format!("@arrived bdf=0000:01:{function} trust={trust} protection={protection}");
    assert!(
        outcome.bouncer.iter().any(|l| l.text == line),
        "no line {line:?}\n{outcome}"
    );
}
