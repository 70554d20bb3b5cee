//! Under UEFI firmware, a TPM tells which hypervisor guards the machine, and by which policy; firmware's log says what
//! each value comes from.
//!
//! Linux has the log from its EFI stub, which systemd-boot starts; Debian 12's GRUB starts it in Secure Boot mode only.

use machine::event_log::{self, Event, Sha256Digest};
use machine::judge::held;
use machine::loud::skip;
use machine::policies::BOOT_DRIVES;
use machine::{Scene, Tpm, tpm};
use qemu::Outcome;
use sha2::{Digest, Sha256};

const CHECKS: &[&str] = &["measured"];

/// The register that Bouncer extends.
const REGISTER: u32 = 14;

/// The register that Linux extends with what it measures itself, of which it keeps a log of its own.
const OF_LINUX: &str = "register.10";

/// A log has far fewer events than this, and more than a few.
const EVENTS: std::ops::Range<usize> = 20..2000;

#[test]
fn the_tpm_tells_hypervisor_options_and_policy() {
    let name = "the_tpm_tells_hypervisor_options_and_policy";
    let other = format!("{BOOT_DRIVES}\n# Another policy, if only by its text.\n");
    let tries = [
        (tpm::Interface::Tis, BOOT_DRIVES),
        (tpm::Interface::Crb, &other),
    ];
    for (interface, policy) in tries {
        let scene = Scene::efi(name).by_systemd_boot().policy(policy);
        let hypervisor = std::fs::read(scene.hypervisor()).expect("the hypervisor was built");
        let options = scene.options().into_bytes();
        let parts = [
            ("Bouncer's hypervisor", hypervisor),
            ("Bouncer's options.txt", options),
            ("Bouncer's policy.toml", policy.into()),
        ];
        let Some(outcome) = play(name, scene, interface) else {
            return;
        };
        assert_eq!(ours(&log(&outcome)), words_and_digests(&parts), "{outcome}");
        assert_eq!(told(&outcome), register(&parts), "{outcome}");
    }
}

#[test]
fn the_tpm_tells_that_bouncer_was_passed_over() {
    let name = "the_tpm_tells_that_bouncer_was_passed_over";
    let scene = Scene::efi(name).by_systemd_boot().keep_variables();
    let scene = scene.modules(&["efivarfs"]);
    let wishing = scene.clone().append("bouncer.variable=BouncerSkip:1");
    let outcome = wishing.checks(&["efi-variables"]).play();
    held(name, &outcome, &["efi-variables"]);
    let Some(outcome) = play(name, scene, tpm::Interface::Tis) else {
        return;
    };
    let parts = [("Bouncer was passed over", b"once".to_vec())];
    assert_eq!(ours(&log(&outcome)), words_and_digests(&parts), "{outcome}");
    assert_eq!(told(&outcome), register(&parts), "{outcome}");
}

#[test]
fn the_log_tells_by_whose_word_each_program_was_started_in_secure_boot_mode() {
    let name = "the_log_tells_by_whose_word_each_program_was_started_in_secure_boot_mode";
    let scene = Scene::efi(name).by_shim().secure_boot();
    let Some(outcome) = play(name, scene, tpm::Interface::Tis) else {
        return;
    };
    let log = log(&outcome);
    // Bouncer's, shim's, GRUB's.
    let authorities = [
        "SnakeOil",
        "Microsoft Corporation UEFI CA 2011",
        "Debian Secure Boot CA",
    ];
    let at = authorities.map(|name| log.iter().position(|event| event.is_authority(name)));
    assert!(
        at.iter().all(Option::is_some) && at.is_sorted(),
        "{at:?}: {outcome}"
    );
    // shim's own words follow ours.
    let ours = ours(&log);
    let begins: Vec<_> = ours
        .iter()
        .take(3)
        .map(|(words, _)| words.as_str())
        .collect();
    assert!(
        begins.iter().all(|words| words.starts_with("Bouncer's ")),
        "{ours:?}"
    );
    assert!(ours.len() > 3, "{ours:?}");
}

/// Plays the scene with a TPM of its own; `None`, with a loud word, if there is none.
fn play(name: &str, scene: Scene, interface: tpm::Interface) -> Option<Outcome> {
    let Some(tpm) = Tpm::start(interface) else {
        skip(name, "no swtpm here");
        return None;
    };
    let arguments = tpm.arguments();
    let arguments: Vec<_> = arguments.iter().map(String::as_str).collect();
    let scene = scene.arguments(&arguments).modules(&[interface.module()]);
    let outcome = scene.checks(CHECKS).play();
    held(name, &outcome, CHECKS);
    Some(outcome)
}

/// The log, whose events make the registers what they are.
fn log(outcome: &Outcome) -> Vec<Event> {
    let data = &outcome.report.guest.data;
    let pieces = data.iter().filter(|(key, _)| key.starts_with("log."));
    let text: String = pieces.map(|(_, piece)| piece.as_str()).collect();
    let bytes = bytes(&text).unwrap_or_else(|| panic!("no log is told: {outcome}"));
    let log = event_log::read(&bytes).unwrap_or_else(|why| panic!("{why}: {outcome}"));
    assert!(
        EVENTS.contains(&log.len()),
        "{} events: {outcome}",
        log.len()
    );
    for (key, value) in data.iter().filter(|(key, _)| *key != OF_LINUX) {
        if let Some(number) = key.strip_prefix("register.") {
            let replayed = event_log::replay(&log, number.parse().expect("a number"));
            assert_eq!(hexadecimal(&replayed), *value, "{key}: {outcome}");
        }
    }
    log
}

/// What the log says of our register: words and digests.
fn ours(log: &[Event]) -> Vec<(String, Sha256Digest)> {
    let ours = log.iter().filter(|event| event.register == REGISTER);
    ours.map(|event| (event.text(), event.digest)).collect()
}

fn words_and_digests(parts: &[(&str, Vec<u8>)]) -> Vec<(String, Sha256Digest)> {
    let parts = parts.iter();
    parts
        .map(|(words, part)| ((*words).to_owned(), Sha256::digest(part).into()))
        .collect()
}

/// What our register holds.
fn told(outcome: &Outcome) -> &str {
    let told = outcome.report.guest.data.get("register.14");
    told.unwrap_or_else(|| panic!("no register is told: {outcome}"))
}

/// What a register holds after these parts were measured, one after the other (TCG TPM 2.0 Library, part 1, 17.2).
fn register(parts: &[(&str, Vec<u8>)]) -> String {
    let value = parts.iter().fold([0; 32], |value, (_, part)| {
        let both = [value, Sha256::digest(part).into()];
        Sha256::digest(both.as_flattened()).into()
    });
    hexadecimal(&value)
}

fn hexadecimal(bytes: &[u8]) -> String {
    bytes.iter().map(|byte| format!("{byte:02x}")).collect()
}

/// Reads what [`hexadecimal`] writes; `None` if it is empty, or anything else.
fn bytes(text: &str) -> Option<Vec<u8>> {
    let (pairs, []) = text.as_bytes().as_chunks::<2>() else {
        return None;
    };
    let byte = |pair: &[u8; 2]| u8::from_str_radix(str::from_utf8(pair).ok()?, 16).ok();
    let bytes: Option<Vec<_>> = pairs.iter().map(byte).collect();
    bytes.filter(|bytes| !bytes.is_empty())
}
