//! Whatever device and guest do, only the bytes of requests move, and no page is lost.

use drive::{Parties, Play, Tally};
use proptest::prelude::*;

/// Both parties, each honest or not.
const PARTIES: [(bool, bool); 4] = [(false, false), (true, false), (false, true), (true, true)];

fn parties((device_lies, guest_harms): (bool, bool), seed: u64) -> Parties {
    Parties {
        seed,
        device_lies,
        guest_harms,
    }
}

fn play(who: (bool, bool), seeds: core::ops::Range<u64>, acts: u64) -> Tally {
    let mut tally = Tally::default();
    for seed in seeds {
        tally += Play::run(parties(who, seed), acts);
    }
    tally
}

#[test]
fn honest_parties_get_every_byte() {
    let tally = play((false, false), 0..60, 100);
    assert!(
        tally.verified > 1 << 20 && tally.answers > 1000,
        "{tally:?}"
    );
    assert!(tally.held_back > 0, "pages never ran out: {tally:?}");
    assert!(tally.reached > 0, "no window led anywhere: {tally:?}");
    assert!(tally.unannounced > 50, "every one was announced: {tally:?}");
    assert_eq!((tally.unfit, tally.cut_off), (0, 0));
}

#[test]
fn a_device_that_lies_moves_no_byte_but_those_of_requests() {
    let tally = play((true, false), 0..80, 100);
    assert!(
        tally.answers > 100 && tally.cut_off > 10 && tally.unfit > 0,
        "{tally:?}"
    );
}

#[test]
fn a_driver_that_means_harm_moves_no_byte_but_what_it_named() {
    let tally = play((false, true), 0..40, 200);
    assert_eq!((tally.unfit, tally.cut_off), (0, 0), "the device is honest");
    assert!(tally.given > 200 && tally.moved > 1 << 16, "{tally:?}");
}

#[test]
fn both_at_once_move_no_byte_but_what_the_guest_named() {
    let tally = play((true, true), 0..80, 100);
    assert!(tally.cut_off > 0, "{tally:?}");
}

proptest! {
    #![proptest_config(ProptestConfig { failure_persistence: None, ..ProptestConfig::with_cases(24) })]

    /// The number of acts shrinks to the one that fails.
    #[test]
    fn any_play_holds(seed: u64, who in 0_usize..4, acts in 1_u64..200) {
        Play::run(parties(PARTIES[who], seed), acts);
    }
}

/// A million acts of each pair of parties; `DRIVE_FROM` chooses other seeds.
#[test]
#[ignore = "minutes; cargo test --release -p drive -- --ignored --nocapture"]
fn four_million_acts() {
    let from = std::env::var("DRIVE_FROM").ok();
    let from = from.and_then(|text| text.parse().ok()).unwrap_or(0_u64);
    for who in PARTIES {
        let tally = play(who, from..from + 5000, 200);
        println!("device lies, guest harms: {who:?}: {tally:?}");
    }
}
