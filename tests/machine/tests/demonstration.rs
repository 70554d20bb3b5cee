//! The demonstration: the same attack on the same guest finds every secret without Bouncer, and none with it.

use std::time::Duration;

use machine::heist::{self, Loot, Secret};
use machine::judge::held;
use machine::{Scene, loud};

/// MiB of the drive, of the machine's memory.
const DRIVE: u64 = 64;
const MEMORY: u64 = 1024;
const CHECKS: [&str; 2] = ["nvme-files", "nvme-subpage"];
const WORK: &str = "bouncer.files=16 bouncer.seconds=60";
const PATIENCE: Duration = Duration::from_secs(240);

fn attacked(name: &str, scene: Scene) -> Loot {
    let scene = scene
        .tools()
        .modules(&["ext4"])
        .drive(DRIVE)
        .memory_mib(MEMORY)
        .checks(&CHECKS)
        .append(WORK)
        .arguments(&heist::DEVICE)
        .patience(PATIENCE);
    let mut session = scene.begin();
    let secret = Secret::told(&mut session, PATIENCE).unwrap_or_else(|why| panic!("{why}"));
    let scratch = scene.file("memory");
    let loot = heist::steal(&mut session, secret, MEMORY << 20, &scratch);
    loud::tell(name, &format!("{}: {loot}", loot.reach()));
    held(name, &scene.end(session), &CHECKS);
    loot
}

#[test]
fn without_bouncer_a_second_device_reads_every_secret() {
    let name = "without_bouncer_a_second_device_reads_every_secret";
    let loot = attacked(name, Scene::native(name).append("intel_iommu=off"));
    assert_eq!(loot.bytes, None, "{loot:?}");
    assert!(loot.is_within_reach && loot.with_secret > 0, "{loot:?}");
}

#[test]
fn a_second_device_in_the_drives_domain_reads_no_secret() {
    let name = "a_second_device_in_the_drives_domain_reads_no_secret";
    let loot = attacked(name, Scene::bouncer(name).policy(heist::POLICY));
    assert!(loot.bytes.is_some_and(|bytes| bytes > 0), "{loot:?}");
    assert!(!loot.is_within_reach && loot.with_secret == 0, "{loot:?}");
    // It did read: each page of the domain's, beside those of the guest's.
    assert!(loot.asked > 64, "{loot:?}");
}
