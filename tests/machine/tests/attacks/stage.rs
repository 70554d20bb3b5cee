//! The guest at work, the attacker beside it, and what Bouncer must have said.

use std::collections::HashSet;
use std::time::Duration;

use machine::attacker::Transfer;
use machine::sweeper::DEVICE;
use machine::{Attacker, Scene, Trace};
use qemu::{Outcome, Port, Session};

/// Trusts all but the attacker, and tells each of its faults.
pub(crate) const POLICY: &str = r#"
version = 1
default = "trusted"
bounce-memory = "64KiB"

[[device]]
name = "attacker"
match = { vendor = 0x1234, device = 0x11e8 }
trust = "untrusted"
storm = { faults = 1000000, per = "100ms", then = "log" }
"#;

/// The same for the fast attacker, whose faults are too many to be told one by one.
const POLICY_FOR_SWEEPING: &str = r#"
version = 1
default = "trusted"
bounce-memory = "64KiB"

[[device]]
name = "attacker"
match = { vendor = 0x8086, device = 0x2668 }
trust = "untrusted"
storm = { faults = 1000000, per = "1s", then = "log" }
"#;

/// Memory that the kernel is told not to use: the attacker's buffer is seen through it. The guest works
/// for long enough.
pub(crate) const SCRATCH: u64 = 0x3400_0000;
const SPARED: &str = "mem=768M bouncer.endure=30";

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

/// A guest that works while the fast attacker reaches for all of 256 MiB; `trace` says what the
/// remapping unit did.
pub(crate) fn under_sweep(name: &str, trace: &Trace) -> Scene {
    swept(Scene::bouncer(name).policy(POLICY_FOR_SWEEPING), trace)
        .checks(&["endure"])
        .append(FOR_LONG)
}

/// The same without Bouncer.
pub(crate) fn under_sweep_unguarded(name: &str, trace: &Trace) -> Scene {
    swept(Scene::native(name).append("intel_iommu=off"), trace)
        .checks(&["endure"])
        .append(FOR_LONG)
}

/// A guest that measures its trusted drive beside the fast attacker.
pub(crate) fn under_flood(name: &str, trace: &Trace) -> Scene {
    swept(Scene::bouncer(name).policy(POLICY_FOR_SWEEPING), trace)
        .drive(64)
        .checks(&["disk-rate"])
}

/// A guest on two processors that sends itself NMIs beside the fast attacker, and works on afterwards.
pub(crate) fn under_flood_with_nmis(name: &str, trace: &Trace) -> Scene {
    swept(Scene::bouncer(name).policy(POLICY_FOR_SWEEPING), trace)
        .processors(2)
        .checks(&["nmi", "endure"])
}

/// How long the guest works, and how much memory its kernel uses.
const FOR_LONG: &str = "bouncer.endure=60";

fn swept(scene: Scene, trace: &Trace) -> Scene {
    let trace = trace.arguments();
    let trace: Vec<&str> = trace.iter().map(String::as_str).collect();
    scene
        .memory_mib(256)
        .append("mem=192M")
        .arguments(&DEVICE)
        .arguments(&trace)
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

/// Waits a while for Bouncer to tell of the attempt: the unit has one record, and what comes before that is
/// read is lost.
pub(crate) fn let_be_told(session: &mut Session, who: Attacker, which: Transfer, address: u64) {
    const WHILE: Duration = Duration::from_secs(2);
    let _ = session.wait_for(Port::Bouncer, &line_of(who, which, address), WHILE);
}

fn line_of(who: Attacker, which: Transfer, address: u64) -> String {
    let page = address & !0xfff;
    format!(
        "@fault bdf={} access={which} address={page:#x} ",
        who.name()
    )
}

/// Demands that Bouncer told of the attempt, with the right requester.
pub(crate) fn was_told(outcome: &Outcome, who: Attacker, which: Transfer, address: u64) {
    let line = line_of(who, which, address);
    let is_told = outcome.bouncer.iter().any(|l| l.text.starts_with(&line));
    assert!(is_told, "no line {line:?}\n{outcome}");
}

/// Demands that Bouncer told of faults of `who` and of nobody else.
pub(crate) fn only_was_told(outcome: &Outcome, who: &str) {
    let about = format!("@fault bdf={who} ");
    let faults = outcome.bouncer.iter();
    let faults: Vec<_> = faults
        .filter(|line| line.text.starts_with("@fault "))
        .collect();
    assert!(!faults.is_empty(), "no fault was told\n{outcome}");
    let strangers = faults.iter().find(|line| !line.text.starts_with(&about));
    assert!(strangers.is_none(), "{strangers:?}\n{outcome}");
}

/// How many faults of `who` Bouncer counted.
pub(crate) fn counted(outcome: &Outcome, who: &str) -> u64 {
    let start = format!("@faults bdf={who} count=");
    let counts = outcome.bouncer.iter();
    let mut counts = counts.filter_map(|line| line.text.strip_prefix(&start)?.parse().ok());
    counts.next().unwrap_or(0)
}
