//! Devices behind a bridge from PCI Express to PCI, which speak with the bridge's name.

use std::time::Duration;

use machine::audit::{self, Reach, Requester};
use machine::judge::held;
use machine::{Attacker, Scene};
use qemu::{Port, Session};
use serde_json::json;

use crate::stage::{POLICY, at_work};

const PORT: &str = "pcie-root-port,id=bay,chassis=9,slot=9,addr=09.0";
const BRIDGE: &str = "pcie-pci-bridge,id=bridge,bus=bay";
const EDU: &str = "edu,bus=bridge,addr=1,dma_mask=0xffffffffffffffff";
const DEVICES: [&str; 6] = ["-device", PORT, "-device", BRIDGE, "-device", EDU];
/// The port's own registers tell the guest of removals, and not ACPI.
const NATIVE: &str = "ICH9-LPC.acpi-pci-hotplug-with-bridge-support=off";
/// Where the firmware puts the last one.
const PLACE: &str = "0000:02:01.0";
const PATIENCE: Duration = Duration::from_secs(30);

/// The requester id that the bridge puts in place of those behind it: "the secondary bus number, device 0,
/// function 0". PCI Express to PCI/PCI-X Bridge 1.0, section 2.3.
fn name_behind(attacker: Attacker) -> Requester {
    Requester(attacker.requester().0 & 0xff00)
}

fn reach(session: &mut Session, requester: Requester) -> Reach {
    audit::standing_still(session, |session| audit::reach(session, requester))
}

#[test]
fn whoever_leaves_from_behind_a_bridge_takes_the_bridges_name_along() {
    let name = "whoever_leaves_from_behind_a_bridge_takes_the_bridges_name_along";
    let scene = Scene::bouncer(name).policy(POLICY).arguments(&DEVICES);
    let scene = scene.arguments(&["-global", NATIVE]);
    let scene = scene.checks(&["endure"]).append("bouncer.endure=40");
    let mut session = at_work(&scene);
    let attacker = Attacker::arm(&mut session, &[]);
    assert_eq!(attacker.name(), PLACE);
    for name in [attacker.requester(), name_behind(attacker)] {
        let before = reach(&mut session, name);
        assert_eq!(before, Reach::Pages(Vec::new()), "{name:x?} in its domain");
    }
    session
        .qmp()
        .execute("device_del", json!({ "id": "bridge" }))
        .unwrap_or_else(|error| panic!("{error}"));
    // With the slot's power the bridge loses its bus numbers, and those behind it theirs.
    let left = session.wait_for(Port::Bouncer, "@left bdf=0000:01:00.0", PATIENCE);
    let names = [attacker.requester(), name_behind(attacker)];
    let after = names.map(|name| reach(&mut session, name));
    let outcome = scene.end(session);
    held(name, &outcome, &["endure"]);
    assert!(left.is_ok(), "{outcome}");
    for reach in after {
        assert!(matches!(reach, Reach::Nothing(_)), "{reach:?}\n{outcome}");
    }
}

/// A unit checks the source of a message, and that is the bridge.
#[test]
fn a_message_from_behind_a_bridge_arrives() {
    let name = "a_message_from_behind_a_bridge_arrives";
    let policy = "version = 1\ndefault = \"trusted\"\n";
    let scene = Scene::bouncer(name).policy(policy).arguments(&DEVICES);
    let scene = scene.checks(&["message", "endure"]);
    let scene = scene.append(&format!("bouncer.message={PLACE}"));
    let mut session = scene.begin();
    session
        .wait_for(Port::Guest, "start endure", PATIENCE)
        .unwrap_or_else(|error| panic!("{error}"));
    let attacker = Attacker::arm(&mut session, &[]);
    assert_eq!(attacker.name(), PLACE);
    attacker.interrupt(&mut session);
    let outcome = scene.end(session);
    held(name, &outcome, &["message", "endure"]);
    let mut console = outcome.console.iter();
    // What Linux says of a vector that it expects of nobody.
    let arrived = console.any(|line| line.text.contains("No irq handler for vector"));
    let refused = outcome.bouncer.iter();
    let refused = refused.filter(|line| line.text.starts_with("@fault "));
    assert!(arrived && refused.count() == 0, "{outcome}");
}
