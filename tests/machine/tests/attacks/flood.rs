//! Faults without end.

use std::time::Duration;

use machine::Attacker;
use machine::attacker::{REACH, Transfer};
use machine::judge::held;

use crate::stage::{SCRATCH, at_work, scene};

/// A few faults in a while are a storm here.
const STRICT: &str = r#"
version = 1
default = "trusted"

[[device]]
match = { vendor = 0x1234, device = 0x11e8 }
trust = "untrusted"
storm = { faults = 5, per = "60s", then = "quarantine" }
"#;

#[test]
fn a_device_that_goes_on_faulting_is_cut_off() {
    let name = "a_device_that_goes_on_faulting_is_cut_off";
    let scene = scene(name).policy(STRICT);
    let mut session = at_work(&scene);
    let attacker = Attacker::arm(&mut session, &[]);
    for _ in 0..24 {
        attacker.transfer(&mut session, Transfer::Write, SCRATCH, REACH);
        // Bouncer switches bus mastering off; this attacker switches it on again.
        attacker.seize(&mut session);
        std::thread::sleep(Duration::from_millis(10));
    }
    let outcome = scene.end(session);
    held(name, &outcome, &["endure"]);
    for action in ["mastering-off", "quarantine"] {
        let line = format!("@storm bdf={} action={action}", attacker.name());
        assert!(outcome.bouncer.iter().any(|l| l.text == line), "{outcome}");
    }
    let told = outcome.bouncer.iter();
    let told = told.filter(|line| line.text.starts_with("@fault ")).count();
    assert!(told <= 8, "{told} lines\n{outcome}");
}
