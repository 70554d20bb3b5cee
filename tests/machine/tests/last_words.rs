//! When Bouncer itself dies it says what happened and where, and everything stops.

use std::time::Duration;

use machine::Scene;
use qemu::{Ended, Outcome};

/// How long dying may take: the boot loader's time, mostly.
const PATIENCE: Duration = Duration::from_secs(90);

#[test]
fn a_panic_prints_registers_and_a_symbolised_backtrace_and_stops_every_processor() {
    let name = "a_panic_prints_registers_and_a_symbolised_backtrace_and_stops_every_processor";
    let outcome = dies(name, "rehearse=panic", "a rehearsed panic");
    says(&outcome, " at hypervisor/src/main.rs:");
    for register in ["rip", "rsp", "rbp"] {
        says(&outcome, &format!("  {register} 0000"));
    }
}

#[test]
fn an_exception_prints_the_same() {
    let name = "an_exception_prints_the_same";
    // Intel SDM volume 3, 6.3.1: vector 6 is the invalid opcode, of which UD2 is one by contract.
    let outcome = dies(name, "rehearse=fault", "exception 6");
    const REGISTERS: [&str; 17] = [
        "rip", "rsp", "rax", "rcx", "rdx", "rbx", "rbp", "rsi", "rdi", "r8 ", "r9 ", "r10", "r11",
        "r12", "r13", "r14", "r15",
    ];
    for register in REGISTERS {
        says(&outcome, &format!("  {register} "));
    }
    says(&outcome, "flags ");
}

/// Lets Bouncer die on two processors, as `words` on its command line ask, and demands last words
/// that say `why`, the chain of callers by name, and that the guest never began.
fn dies(name: &str, words: &str, why: &str) -> Outcome {
    let scene = Scene::bouncer(name).processors(2).words(words);
    let outcome = scene.patience(PATIENCE).play();
    assert_eq!(outcome.report.guest.ended, Ended::Panic, "{outcome}");
    let last_words = outcome.report.panic.as_deref().unwrap_or_default();
    assert!(last_words.contains(why), "{last_words:?}\n{outcome}");
    says(&outcome, "All processors are stopped.");

    let frames = outcome.report.frames.join("\n");
    // From the place of death to the hypervisor's first function, with files and lines.
    for function in [
        "hypervisor::rehearse",
        "hypervisor/src/main.rs:",
        "hypervisor::run_on",
    ] {
        assert!(
            frames.contains(function),
            "no {function} in {frames}\n{outcome}"
        );
    }
    assert_eq!(outcome.report.guest.kernel, "", "{outcome}");
    assert!(outcome.guest.is_empty(), "{outcome}");
    outcome
}

fn says(outcome: &Outcome, text: &str) {
    let is_said = outcome.bouncer.iter().any(|line| line.text.contains(text));
    assert!(is_said, "Bouncer does not say {text:?}\n{outcome}");
}
