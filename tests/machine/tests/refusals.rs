//! What Bouncer cannot run, it refuses in a sentence; it never resets the machine over it.

use std::fs;
use std::time::Duration;

use machine::Scene;
use machine::judge::stayed;
use qemu::{Outcome, Payload};

/// How long the machine is watched after the refusal: a reset would come within it.
const AFTER: Duration = Duration::from_secs(2);

/// How long a refusal may take: the boot loader's time, mostly.
const PATIENCE: Duration = Duration::from_secs(90);

/// Every refusal begins so.
const REFUSAL: &str = "Bouncer does not start: ";

#[test]
fn a_truncated_kernel_is_refused() {
    let scene = Scene::bouncer("a_truncated_kernel_is_refused");
    let kernel = fs::read(scene.kernel_image()).expect("the kernel can be read");
    refuses_kernel(
        "a_truncated_kernel_is_refused",
        scene,
        &kernel[..kernel.len() / 2],
    );
}

#[test]
fn a_kernel_cut_within_its_header_is_refused() {
    let scene = Scene::bouncer("a_kernel_cut_within_its_header_is_refused");
    let kernel = fs::read(scene.kernel_image()).expect("the kernel can be read");
    refuses_kernel(
        "a_kernel_cut_within_its_header_is_refused",
        scene,
        &kernel[..0x210],
    );
}

#[test]
fn garbage_in_place_of_a_kernel_is_refused() {
    let garbage: Vec<u8> = (0..100_000u32)
        .map(|n| (n.wrapping_mul(2_654_435_761) >> 24) as u8)
        .collect();
    refuses_kernel(
        "garbage_in_place_of_a_kernel_is_refused",
        Scene::bouncer("garbage_in_place_of_a_kernel_is_refused"),
        &garbage,
    );
}

#[test]
fn a_start_without_a_kernel_is_refused() {
    refuses_alone(
        "a_start_without_a_kernel_is_refused",
        "serial=0x3e8",
        "no kernel module",
    );
}

#[test]
fn a_word_that_bouncer_does_not_know_is_refused() {
    refuses_alone(
        "a_word_that_bouncer_does_not_know_is_refused",
        "serial=0x3e8 enforcement=off",
        "unknown word",
    );
}

#[test]
fn a_policy_that_is_not_text_is_refused_with_the_place() {
    let name = "a_policy_that_is_not_text_is_refused_with_the_place";
    let policy = b"version = 1 # \xffere\n";
    refuses(name, Scene::bouncer(name).policy(policy), "offset 14");
}

#[test]
fn a_policy_with_an_unknown_key_is_refused_with_line_and_column() {
    let name = "a_policy_with_an_unknown_key_is_refused_with_line_and_column";
    let scene = Scene::bouncer(name).policy("version = 1\n\n  colour = \"red\"\n");
    let outcome = refuses(name, scene, "policy.toml is wrong at line 3, column 3");
    let said: Vec<_> = outcome.bouncer.iter().map(|line| &*line.text).collect();
    let place = said
        .iter()
        .position(|line| line.contains("policy.toml:3:3"));
    let place = place.unwrap_or_else(|| panic!("no place is shown\n{outcome}"));
    // Below it the line itself, and below that a caret under the key's first letter.
    let below = &said[place + 1..];
    let source = below.iter().find_map(|line| line.find("colour"));
    let caret = below.iter().find_map(|line| line.find('^'));
    assert!(source.is_some(), "{outcome}");
    assert_eq!(caret, source, "{outcome}");
}

#[test]
fn too_little_memory_is_refused() {
    let name = "too_little_memory_is_refused";
    refuses(name, Scene::bouncer(name).memory_mib(40), "memory");
}

#[test]
fn a_processor_without_svm_is_refused() {
    let name = "a_processor_without_svm_is_refused";
    refuses(
        name,
        Scene::bouncer(name).cpu("qemu64,-svm"),
        "no hardware virtualization",
    );
}

#[test]
fn a_processor_without_nested_paging_is_refused() {
    let name = "a_processor_without_nested_paging_is_refused";
    refuses(
        name,
        Scene::bouncer(name).cpu("max,-npt"),
        "no nested paging",
    );
}

fn refuses_kernel(name: &str, scene: Scene, kernel: &[u8]) {
    let file = scene.file("kernel");
    fs::write(&file, kernel).expect("the scratch directory can be written");
    let payload = Payload::linux(&file, &scene.initial_file_system());
    refuses(name, scene.payload(payload), "kernel");
}

/// Bouncer as the only thing on the disc: loaded as somebody's payload, without a module.
fn refuses_alone(name: &str, words: &str, why: &str) {
    let scene = Scene::native_from_loader(name);
    let alone = Payload::Multiboot2(scene.bouncer_image().to_path_buf());
    refuses(name, scene.payload(alone).command_line(words), why);
}

/// Demands a refusal that says `why`, and silence after it; gives all that was said.
fn refuses(name: &str, scene: Scene, why: &str) -> Outcome {
    let scene = scene.patience(PATIENCE);
    let (line, outcome) = scene.play_until_bouncer_says(REFUSAL, AFTER);
    assert!(
        line.text.contains(why),
        "{name}: {:?} does not say {why:?}",
        line.text
    );
    stayed(name, &outcome, &line, AFTER);
    outcome
}
