//! The processor that a guest sees is the same under every extension: one source of small guests, run
//! under SVM as QEMU emulates it, under SVM as Bochs does, and under VMX with EPT.

#[allow(dead_code, reason = "what attacks use")]
#[path = "../escapes/program.rs"]
mod program;

mod alone;
mod exceptions;
mod together;

use std::time::Duration;

use iced_x86::code_asm::*;
use machine::Scene;
use machine::judge::{figures, held, stayed, stopped_as};
use machine::loud::{self, skip};
use program::{Assembled, Program};
use qemu::{Bochs, Ended, Payload, Verdict};

/// Whose processor, played by whom.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Player {
    QemuSvm,
    BochsSvm,
    BochsVmx,
}

impl Player {
    /// A scene of this player's; `None`, with a loud word, where it is missing.
    fn scene(self, name: &str) -> Option<Scene> {
        let scene = Scene::bouncer(name);
        match self {
            // Its checks want all of Bouncer's memory hidden, and no registers of a unit in it.
            Self::QemuSvm => Some(scene.policy("version = 1\nviommu = false\n")),
            Self::BochsSvm => scene.on_bochs(Bochs::AMD),
            Self::BochsVmx => scene.on_bochs(Bochs::INTEL),
        }
    }

    /// What Bouncer calls the extension.
    fn extension(self) -> &'static str {
        match self {
            Self::QemuSvm | Self::BochsSvm => "SVM with nested paging",
            Self::BochsVmx => "VMX with EPT",
        }
    }
}

/// One test for each player, of the same name and the same source.
macro_rules! on_every_player {
    ($($test:ident => $play:path;)*) => {
        $(mod $test {
            use super::Player;

            #[test]
            fn under_svm_on_qemu() {
                $play(concat!(stringify!($test), "_under_svm_on_qemu"), Player::QemuSvm);
            }

            #[test]
            fn under_svm_on_bochs() {
                $play(concat!(stringify!($test), "_under_svm_on_bochs"), Player::BochsSvm);
            }

            #[test]
            fn under_vmx_on_bochs() {
                $play(concat!(stringify!($test), "_under_vmx_on_bochs"), Player::BochsVmx);
            }
        })*
    };
}

on_every_player! {
    one_processor_is_what_a_guest_expects => super::one_processor;
    two_processors_start_stop_and_call_each_other => super::two_processors;
    a_triple_fault_is_reported_and_ends_the_machine => super::triple_fault;
}

fn one_processor(name: &str, player: Player) {
    passes(name, player, 1, alone::CHECKS, alone::guest);
}

fn two_processors(name: &str, player: Player) {
    passes(name, player, 2, together::CHECKS, together::guest);
}

/// Not under QEMU's SVM, which ends the guest's turn with an error where a fault is due.
#[test]
fn bits_of_extensions_not_offered_are_reserved_under_vmx() {
    let name = "bits_of_extensions_not_offered_are_reserved_under_vmx";
    passes(
        name,
        Player::BochsVmx,
        1,
        &["reserved-bits"],
        alone::reserved_bits,
    );
}

/// "If a VM entry fails due to invalid guest state, the exit reason says so" (Intel SDM volume 3, 27.8),
/// and nothing more: which check it was, Bouncer finds out.
#[test]
fn a_refused_entry_names_the_check_that_failed() {
    let name = "a_refused_entry_names_the_check_that_failed";
    let Some(scene) = Player::BochsVmx.scene(name) else {
        return;
    };
    let guest = Program::kernel("entry", |_| Ok(())).expect("it assembles");
    let outcome = with_guest(scene, &guest).words("rehearse=entry").play();
    let says = |text: &str| outcome.bouncer.iter().any(|line| line.text.contains(text));
    assert!(says("VM entry refused: invalid guest state"), "{outcome}");
    assert!(says("RFLAGS is 0x0: a reserved bit is wrong"), "{outcome}");
    assert!(says("the guest's rip 0x1000200, rflags 0x0"), "{outcome}");
    let stopped =
        "Bouncer stopped: processor 0 did not enter the guest: VMX with EPT code 0x80000021";
    assert!(says(stopped), "{outcome}");
    stopped_as(&outcome, "panic");
}

#[test]
fn a_stock_kernel_under_vmx_on_bochs_reaches_user_space_and_powers_off() {
    let name = "a_stock_kernel_under_vmx_on_bochs_reaches_user_space_and_powers_off";
    stock_kernel(name, Player::BochsVmx, "");
}

#[test]
fn a_stock_kernel_under_svm_on_bochs_reaches_user_space_and_powers_off() {
    let name = "a_stock_kernel_under_svm_on_bochs_reaches_user_space_and_powers_off";
    // Linux waits by MWAITX where there is such an instruction; in Bochs 2.7 a guest never wakes from it.
    stock_kernel(name, Player::BochsSvm, "clearcpuid=mwaitx");
}

fn stock_kernel(name: &str, player: Player, words: &str) {
    const CHECKS: &[&str] = &["detect", "hash", "msr", "idle"];
    let Some(scene) = player.scene(name) else {
        return;
    };
    let scene = scene
        .memory_mib(256)
        .modules(&["msr"])
        .append(words)
        .patience(Duration::from_secs(1200));
    let outcome = scene.checks(CHECKS).play();
    held(name, &outcome, CHECKS);
    assert!(
        outcome
            .bouncer
            .iter()
            .any(|line| line.text.ends_with(player.extension())),
        "{outcome}"
    );
    // Neither extension can let a guest read CPUID, nor, without a virtual one, use a local APIC in memory.
    let rates = figures(&outcome, "idle.");
    assert!(
        rates.iter().any(|(reason, _)| reason == "apic"),
        "{outcome}"
    );
    let is_forced = |reason: &str| matches!(reason, "cpuid" | "apic");
    for (reason, rate) in rates.iter().filter(|(reason, _)| !is_forced(reason)) {
        assert!(*rate == 0.0, "{reason}: {rate} exits a second: {outcome}");
    }
    loud::tell(name, &format!("exits a second of an idle guest: {rates:?}"));
}

/// Every refusal begins so.
const REFUSAL: &str = "Bouncer does not start: ";

#[test]
fn a_processor_without_ept_is_refused() {
    // The Core 2 has VMX and no EPT.
    let name = "a_processor_without_ept_is_refused";
    refuses(name, "core2_penryn_t9600", "no nested paging");
}

#[test]
fn a_processor_without_unrestricted_guest_is_refused() {
    // The first Core i5 has EPT and no unrestricted guest.
    let name = "a_processor_without_unrestricted_guest_is_refused";
    refuses(name, "corei5_lynnfield_750", "no unrestricted guest");
}

#[test]
fn without_vtd_a_machine_is_refused_unless_the_policy_allows_it() {
    let name = "without_vtd_a_machine_is_refused_unless_the_policy_allows_it";
    let Some(scene) = Player::BochsVmx.scene(name) else {
        return;
    };
    let scene = scene.policy("version = 1\n");
    demand_refusal(name, &scene, "require-iommu = false");
}

fn refuses(name: &str, model: &str, why: &str) {
    if let Some(scene) = Scene::bouncer(name).on_bochs(model) {
        demand_refusal(name, &scene, why);
    }
}

fn demand_refusal(name: &str, scene: &Scene, why: &str) {
    const AFTER: Duration = Duration::from_secs(2);
    let guest = Program::kernel("refused", |_| Ok(())).expect("it assembles");
    let scene = with_guest(scene.clone(), &guest);
    let (line, outcome) = scene.play_until_bouncer_says(REFUSAL, AFTER);
    assert!(line.text.contains(why), "{name}: {:?}", line.text);
    stayed(name, &outcome, &line, AFTER);
}

fn triple_fault(name: &str, player: Player) {
    if player == Player::BochsSvm {
        skip(name, "Bochs itself dies of a triple fault under SVM");
        return;
    }
    let guest = Program::kernel("triple-fault", |guest| {
        let nothing = guest.room(16);
        guest.code.lidt(ptr(nothing))?;
        guest.code.int3()
    });
    let Some(scene) = scene(name, player, &guest.expect("it assembles")) else {
        return;
    };
    let outcome = scene.play();
    assert_eq!(
        outcome.verdict(),
        Verdict::Ended(Ended::TripleFault),
        "{outcome}"
    );
    stopped_as(&outcome, "triple-fault");
}

/// Demands that every check of the guest passes, under the extension meant.
fn passes(
    name: &str,
    player: Player,
    processors: u32,
    checks: &[&'static str],
    guest: impl FnOnce(&mut Program) -> Assembled,
) {
    let kernel = Program::kernel(checks[0], guest).expect("it assembles");
    let Some(scene) = scene(name, player, &kernel) else {
        return;
    };
    let outcome = scene.processors(processors).play();
    held(name, &outcome, checks);
    let is_meant = |text: &str| text.ends_with(player.extension());
    assert!(
        outcome.bouncer.iter().any(|line| is_meant(&line.text)),
        "{outcome}"
    );
}

fn scene(name: &str, player: Player, kernel: &[u8]) -> Option<Scene> {
    Some(with_guest(player.scene(name)?, kernel))
}

fn with_guest(scene: Scene, kernel: &[u8]) -> Scene {
    let file = scene.file("guest");
    std::fs::write(&file, kernel).expect("the scratch directory can be written");
    let payload = Payload::Linux {
        kernel: file,
        initrd: None,
    };
    scene.payload(payload)
}
