//! Attacks by interrupts: none that was not issued passes.

use std::time::Duration;

use machine::Attacker;
use machine::attacker::{REACH, Transfer};
use machine::judge::held;

use crate::stage::{at_work, scene};

/// Messages in remappable format: handles 0 to 31, which are others' or nobody's.
const HANDLES: u32 = 32;

#[test]
fn a_device_raises_no_interrupt_of_anybody_elses() {
    let name = "a_device_raises_no_interrupt_of_anybody_elses";
    let scene = scene(name);
    let mut session = at_work(&scene);
    let attacker = Attacker::arm(&mut session, &[]);
    for handle in 0..HANDLES {
        let address = 0xfee0_0010 | u64::from(handle) << 5;
        attacker.program_message(&mut session, address, 0);
        attacker.interrupt(&mut session);
        // Four of a device are told in a tenth of a second of the guest's, which may pass slowly.
        std::thread::sleep(Duration::from_millis(200));
    }
    // Messages in compatibility format are blocked by hardware (GSTS.CFIS = 0); QEMU lets them pass, so
    // that they show nothing here. Nor does it tell who wrote to the window of messages by DMA: the unit
    // hears of requester ff:1f.7.
    attacker.transfer(&mut session, Transfer::Write, 0xfee0_1000, REACH);
    let outcome = scene.end(session);
    held(name, &outcome, &["endure"]);
    for handle in 0..HANDLES {
        let who = attacker.name();
        let line = format!("@fault bdf={who} access=interrupt address={handle:#x} ");
        let is_told = outcome.bouncer.iter().any(|l| l.text.starts_with(&line));
        assert!(is_told, "no line {line:?}\n{outcome}");
    }
}
