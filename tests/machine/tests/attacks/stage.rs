//! The guest at work, the attacker beside it, and what Bouncer must have said.

use std::collections::HashSet;
use std::time::Duration;

use machine::attacker::Transfer;
use machine::{Attacker, Scene};
use qemu::{Outcome, Port, Session};

/// Trusts all but the attacker, and tells each of its faults.
const POLICY: &str = r#"
version = 1
default = "trusted"

[[device]]
name = "attacker"
match = { vendor = 0x1234, device = 0x11e8 }
trust = "untrusted"
storm = { faults = 1000000, per = "100ms", then = "log" }
"#;

/// Memory that the kernel is told not to use: the attacker's buffer is seen through it.
pub(crate) const SCRATCH: u64 = 0x3400_0000;
const SPARED: &str = "mem=768M";

/// How long machine and guest take until there is something to attack.
const PATIENCE: Duration = Duration::from_secs(120);

/// A guest that works for a while, on a machine with an attacker on bus 0.
pub(crate) fn scene(name: &str) -> Scene {
    dressed(Scene::bouncer(name).policy(POLICY))
}

/// The same without Bouncer, and without the guest's own use of VT-d.
pub(crate) fn unguarded(name: &str) -> Scene {
    dressed(Scene::native(name)).append("intel_iommu=off")
}

fn dressed(scene: Scene) -> Scene {
    scene
        .checks(&["endure"])
        .append(SPARED)
        .arguments(&["-device", EDU])
}

/// The attacker, which may name any address.
const EDU: &str = "edu,addr=08.0,dma_mask=0xffffffffffffffff";

/// Starts the machine and waits until the guest is at work.
pub(crate) fn at_work(scene: &Scene) -> Session {
    let mut session = scene.begin();
    session
        .wait_for(Port::Console, "as init process", PATIENCE)
        .unwrap_or_else(|error| panic!("{error}"));
    session
}

/// Something to recognise: no memory has these bytes in this order by chance.
pub(crate) fn mark() -> Vec<u8> {
    let mut state = 0x6d61_726b_u32;
    (0..4096)
        .map(|_| {
            state = state.wrapping_mul(1_664_525).wrapping_add(1_013_904_223);
            (state >> 24) as u8
        })
        .collect()
}

/// Whether some of the mark is in `bytes`, wherever it begins.
pub(crate) fn shows_mark(bytes: &[u8]) -> bool {
    let mark = mark();
    // Any sixteen bytes of the mark hold a piece of it that begins at a multiple of eight.
    let pieces: HashSet<&[u8]> = mark.chunks_exact(8).collect();
    bytes.windows(8).any(|window| pieces.contains(window))
}

/// Demands that Bouncer told of the attempt, with the right requester.
pub(crate) fn was_told(outcome: &Outcome, who: Attacker, which: Transfer, address: u64) {
    let page = address & !0xfff;
    let line = format!(
        "@fault bdf={} access={which} address={page:#x} ",
        who.name()
    );
    let is_told = outcome.bouncer.iter().any(|l| l.text.starts_with(&line));
    assert!(is_told, "no line {line:?}\n{outcome}");
}

/// How many faults of `who` Bouncer counted.
pub(crate) fn counted(outcome: &Outcome, who: Attacker) -> u64 {
    let start = format!("@faults bdf={} count=", who.name());
    let counts = outcome.bouncer.iter();
    let mut counts = counts.filter_map(|line| line.text.strip_prefix(&start)?.parse().ok());
    counts.next().unwrap_or(0)
}
