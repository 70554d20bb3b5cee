//! The audit of the machine as it is: at random moments of a drive's work the machine is stopped and the live tables
//! are walked from the root, without Bouncer's help.

use std::time::Duration;

use machine::audit::{self, Canary, Reach, Requester};
use machine::judge::held;
use machine::policies::{DRIVE_RULE, UNTRUSTED_DRIVE};
use machine::{Attacker, Scene, loud};
use qemu::{Outcome, Port, Session};

/// The drive is the guest's, the attacker nobody's.
const TRUSTED: &str = r#"
version = 1
default = "trusted"

[[device]]
name = "attacker"
match = { vendor = 0x1234, device = 0x11e8 }
trust = "untrusted"
"#;
/// [`UNTRUSTED_DRIVE`] without a unit for the guest, and whole pages of requests are lent in place.
const MAPPED: &str = r#"
version = 1
viommu = false
default = "trusted"

[[device]]
name = "drive"
match = { path = "0000:00:10.0/00.0" }
trust = "untrusted"
pool = "16MiB"
whole-pages = "map"
"#;
/// Requests of which most pages are whole ones.
const LOAD: &str = "bouncer.load=write:131072:8:4000,read:131072:8:4000";
/// The slot of the port that the first drive is behind.
const SLOT: u16 = 0x10;
/// MiB of the drive, seconds of its work, and how often the machine is stopped meanwhile.
const DRIVE: u64 = 64;
const WORK: &str = "bouncer.seconds=8";
const STOPS: u32 = 12;
const APART: Duration = Duration::from_millis(600);
const PATIENCE: Duration = Duration::from_secs(120);

fn scene(name: &str, policy: &str) -> Scene {
    let scene = Scene::bouncer(name)
        .policy(policy)
        .drive(DRIVE)
        .append(WORK);
    scene.processors(2).checks(&["nvme-subpage"])
}

#[test]
fn a_denied_device_has_no_entry_or_empty_tables() {
    let name = "a_denied_device_has_no_entry_or_empty_tables";
    let edu = "edu,addr=08.0,dma_mask=0xffffffffffffffff";
    let scene = scene(name, TRUSTED).arguments(&["-device", edu]);
    let mut session = scene.begin();
    let _ = canary(&mut session);
    let attacker = Attacker::arm(&mut session, &[]);
    let reaches = audit::at_random(&mut session, 4, APART, |session| {
        audit::reach(session, attacker.requester())
    });
    for reach in reaches {
        assert_eq!(reach.bytes(), Some(0), "{reach:?}");
    }
    held(name, &scene.end(session), &["nvme-subpage"]);
}

/// What shows that the audit can find something: a trusted drive does reach the guest's canaries.
#[test]
fn a_trusted_drive_reaches_the_guest_but_not_bouncer() {
    let name = "a_trusted_drive_reaches_the_guest_but_not_bouncer";
    let scene = scene(name, TRUSTED);
    let mut session = scene.begin();
    let (canary, place) = canary(&mut session);
    let (own, own_bytes) = audit::own_memory(&session);
    let drive = Requester::behind_port(&mut session, SLOT);
    let file = scene.file("memory");
    audit::standing_still(&mut session, |session| {
        let reach = audit::reach(session, drive);
        let Reach::Pages(pages) = &reach else {
            panic!("{reach:?}")
        };
        let overlaps =
            |page: &&audit::Page| page.address < own + own_bytes && own < page.address + page.bytes;
        assert_eq!(pages.iter().find(overlaps), None, "Bouncer's own memory");
        let around = pages
            .iter()
            .find(|page| (page.address..page.address + page.bytes).contains(&place))
            .expect("the trusted drive reaches the canaries");
        assert!(around.is_readable && around.is_writable, "{around}");
        // A page of 4 KiB of it is enough to look at.
        let page = audit::Page {
            address: place,
            bytes: 4096,
            ..*around
        };
        let found = audit::holding(session, &Reach::Pages(vec![page]), canary, &file);
        assert_eq!(found, [place], "the canary is where the guest says it is");
        let objections = audit::objections(&reach, (own, own_bytes));
        assert!(!objections.is_empty(), "and the audit objects to all that");
    });
    held(name, &scene.end(session), &["nvme-subpage"]);
}

#[test]
fn an_untrusted_drive_reaches_pages_of_bouncers_own_only() {
    let name = "an_untrusted_drive_reaches_pages_of_bouncers_own_only";
    let (seen, outcome) = reaches_no_secret(name, UNTRUSTED_DRIVE);
    loud::tell(name, &format!("bytes within the drive's reach: {seen:?}"));
    assert!(seen.iter().all(|bytes| *bytes > 0), "{seen:?}");
    assert_eq!(faults(&outcome), 0, "{outcome}");
}

#[test]
fn a_drive_that_maps_reaches_no_page_that_a_request_covers_in_part() {
    let name = "a_drive_that_maps_reaches_no_page_that_a_request_covers_in_part";
    reaches_no_secret(name, MAPPED);
}

/// Lets a mediated drive work amid secrets, and demands at random moments that it reaches none of them and
/// only what an untrusted device may; the bytes within its reach each time.
fn reaches_no_secret(name: &str, policy: &str) -> (Vec<u64>, Outcome) {
    let scene = scene(name, policy);
    let mut session = scene.begin_mediated(DRIVE_RULE);
    let (canary, _) = canary(&mut session);
    let own = audit::own_memory(&session);
    let drive = Requester::behind_port(&mut session, SLOT);
    let file = scene.file("memory");
    let seen = audit::at_random(&mut session, STOPS, APART, |session| {
        let reach = audit::reach(session, drive);
        assert_eq!(audit::objections(&reach, own), [""; 0]);
        let holding = audit::holding(session, &reach, canary, &file);
        assert_eq!(holding, [0_u64; 0], "a canary within the drive's reach");
        reach.bytes().unwrap_or(u64::MAX)
    });
    let outcome = scene.end(session);
    held(name, &outcome, &["nvme-subpage"]);
    (seen, outcome)
}

#[test]
fn a_drive_that_maps_reaches_pages_of_the_guests_in_one_direction_and_for_a_while() {
    let name = "a_drive_that_maps_reaches_pages_of_the_guests_in_one_direction_and_for_a_while";
    let scene = Scene::bouncer(name).policy(MAPPED).drive(DRIVE).tools();
    let scene = scene.append(LOAD).processors(2).checks(&["nvme-load"]);
    let mut session = scene.begin_mediated(DRIVE_RULE);
    let _ = session.wait_for(Port::Guest, "data load.drive", PATIENCE);
    let (own, own_bytes) = audit::own_memory(&session);
    let drive = Requester::behind_port(&mut session, SLOT);
    let seen = audit::at_random(&mut session, 2 * STOPS, APART / 2, |session| {
        let Reach::Pages(pages) = audit::reach(session, drive) else {
            panic!("the drive has pages of its own")
        };
        let both = pages
            .iter()
            .find(|page| page.is_readable && page.is_writable);
        assert_eq!(both, None, "for both directions");
        let is_own = |page: &&audit::Page| (own..own + own_bytes).contains(&page.address);
        pages.len() - pages.iter().filter(is_own).count()
    });
    loud::tell(
        name,
        &format!("pages of the guest's within reach: {seen:?}"),
    );
    let outcome = scene.end(session);
    held(name, &outcome, &["nvme-load"]);
    assert!(seen.iter().any(|pages| *pages > 0), "never lent: {seen:?}");
    assert_eq!(faults(&outcome), 0, "{outcome}");
}

/// The guest's canary and where it says one is, once it is at work.
fn canary(session: &mut Session) -> (Canary, u64) {
    let mut figure = |key: &str| {
        let line = session
            .wait_for(Port::Guest, key, PATIENCE)
            .unwrap_or_else(|error| panic!("{error}"));
        line.text.rsplit(' ').next().unwrap_or_default().to_owned()
    };
    let canary = Canary::parse(&figure("data subpage.canary ")).expect("sixteen bytes");
    let page = figure("data subpage.page ");
    let page = page.strip_prefix("0x").expect("a hexadecimal address");
    let page = u64::from_str_radix(page, 16).expect("an address");
    (canary, page)
}

fn faults(outcome: &Outcome) -> usize {
    let lines = outcome.bouncer.iter();
    lines
        .filter(|line| line.text.starts_with("@fault "))
        .count()
}
