//! Under UEFI firmware, a TPM tells which hypervisor guards the machine, and by which policy.

use machine::judge::held;
use machine::loud::skip;
use machine::policies::BOOT_DRIVES;
use machine::{Scene, Tpm};
use qemu::Outcome;
use sha2::{Digest, Sha256};

const CHECKS: &[&str] = &["measured"];

#[test]
fn the_tpm_tells_hypervisor_options_and_policy() {
    let name = "the_tpm_tells_hypervisor_options_and_policy";
    let other = format!("{BOOT_DRIVES}\n# Another policy, if only by its text.\n");
    for policy in [BOOT_DRIVES, &other] {
        let scene = Scene::efi(name).policy(policy);
        let parts = [
            std::fs::read(scene.hypervisor()).expect("the hypervisor was built"),
            scene.options().into_bytes(),
            policy.into(),
        ];
        let Some(outcome) = play(name, scene) else {
            return;
        };
        assert_eq!(told(&outcome), register(&parts), "{outcome}");
    }
}

#[test]
fn the_tpm_tells_that_bouncer_was_passed_over() {
    let name = "the_tpm_tells_that_bouncer_was_passed_over";
    let scene = Scene::efi(name).keep_variables().modules(&["efivarfs"]);
    let wishing = scene.clone().append("bouncer.variable=BouncerSkip:1");
    let outcome = wishing.checks(&["efi-variables"]).play();
    held(name, &outcome, &["efi-variables"]);
    let Some(outcome) = play(name, scene) else {
        return;
    };
    assert_eq!(told(&outcome), register(&[b"once".to_vec()]), "{outcome}");
}

/// Plays the scene with a TPM of its own; `None`, with a loud word, if there is none.
fn play(name: &str, scene: Scene) -> Option<Outcome> {
    let Some(tpm) = Tpm::start() else {
        skip(name, "no swtpm here");
        return None;
    };
    let arguments = tpm.arguments();
    let arguments: Vec<_> = arguments.iter().map(String::as_str).collect();
    let scene = scene.arguments(&arguments).modules(&["tpm_tis"]);
    let outcome = scene.checks(CHECKS).play();
    held(name, &outcome, CHECKS);
    Some(outcome)
}

/// What the register holds.
fn told(outcome: &Outcome) -> &str {
    let told = outcome.report.guest.data.get("measured");
    told.unwrap_or_else(|| panic!("no register is told: {outcome}"))
}

/// What a register holds after these parts were measured, one after the other (TCG TPM 2.0 Library, part 1, 17.2).
fn register(parts: &[Vec<u8>]) -> String {
    let value = parts.iter().fold([0; 32], |value, part| {
        let both = [value, Sha256::digest(part).into()];
        Sha256::digest(both.as_flattened()).into()
    });
    hexadecimal(&value)
}

fn hexadecimal(bytes: &[u8]) -> String {
    bytes.iter().map(|byte| format!("{byte:02x}")).collect()
}
