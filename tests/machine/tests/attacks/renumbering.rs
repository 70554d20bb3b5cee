//! A device whose bus gets another number, and its old one back, while it attacks.

use std::time::Duration;

use machine::attacker::{REACH, Transfer};
use machine::judge::held;
use machine::{Attacker, Scene};
use qemu::Port;

use crate::stage::{POLICY, SCRATCH, at_work, mark, shows_mark, was_told};

/// Events that the guest tells, and the attacker's bus from then on; the machine starts with the last.
const EVENTS: [(&str, &str); 2] = [("moved", "0a"), ("back", "01")];

#[test]
fn a_device_reaches_nothing_under_any_bus_number() {
    let name = "a_device_reaches_nothing_under_any_bus_number";
    let port = "pcie-root-port,id=foes,chassis=20,addr=0x5";
    let scene = Scene::bouncer(name)
        .policy(POLICY)
        .append("mem=768M")
        .checks(&["meddle-renumber"])
        .arguments(&["-device", port])
        .arguments(&["-device", "edu,bus=foes,dma_mask=0xffffffffffffffff"]);
    let mut session = at_work(&scene);
    let mut attackers = Vec::new();
    for (event, bus) in EVENTS {
        session
            .wait_for(
                Port::Guest,
                &format!("data renumber.{event} "),
                Duration::from_secs(60),
            )
            .unwrap_or_else(|error| panic!("{error}"));
        let attacker = Attacker::arm(&mut session, &[]);
        assert_eq!(attacker.name(), format!("0000:{bus}:00.0"));
        attacker.load(&mut session, SCRATCH, &mark());
        let target = SCRATCH + 0x1000;
        for which in [Transfer::Write, Transfer::Read] {
            attacker.transfer(&mut session, which, target, REACH);
        }
        let bus = session.qtest().expect("the machine has a bus");
        let bytes = bus.read(target, REACH as usize).expect("the bus answers");
        assert!(
            !shows_mark(&bytes),
            "the device wrote as {}",
            attacker.name()
        );
        attackers.push((attacker, target));
    }
    let outcome = scene.end(session);
    held(name, &outcome, &["meddle-renumber"]);
    for (attacker, target) in attackers {
        for which in [Transfer::Write, Transfer::Read] {
            was_told(&outcome, attacker, which, target);
        }
    }
}
