//! `cargo xtask check`: what every change must pass before it meets a machine.

mod dependencies;

use std::process::Command;

use crate::build;
use crate::progress::{self, say};
use crate::setup::{self, Need, Target};
use crate::stop::Stop;
use crate::test::{self, Tally};
use crate::workspace;

/// Crates that run on the host, tests and all: every member but these.
const NOT_ON_HOST: [&str; 3] = ["hypervisor", "guest", "efi"];

/// `cargo xtask check`: all of it; the first failure does not hide the others.
pub(crate) fn run() -> Result<(), Stop> {
    run_counting(&mut Tally::default())
}

/// As [`run`], adding what was tested and what had to be skipped to `tally`.
pub(crate) fn run_counting(tally: &mut Tally) -> Result<(), Stop> {
    setup::meet(&[
        Need::Rust(Target::BareMetal),
        Need::Rust(Target::Guest),
        Need::Rust(Target::Uefi),
    ])?;
    let mut failures = Vec::new();
    for (name, arguments) in steps() {
        note(&mut failures, cargo(name, &arguments));
    }
    note(&mut failures, dependencies::check());
    note(&mut failures, deny(tally));
    let mut tests = Command::new("cargo");
    note(
        &mut failures,
        test::cargo_test(
            "host tests",
            tests.args(["test", "--quiet", "--no-fail-fast"]),
            tally,
        ),
    );
    match failures.len() {
        0 => {
            say("check: all is well");
            Ok(())
        }
        count => {
            failures.iter().for_each(Stop::tell);
            Err(Stop::failed(format!("check: {count} of its steps failed")))
        }
    }
}

fn note(failures: &mut Vec<Stop>, outcome: Result<(), Stop>) {
    failures.extend(outcome.err());
}

/// Everything that is one call of cargo.
fn steps() -> Vec<(&'static str, Vec<&'static str>)> {
    let mut lint_host = vec!["clippy", "--quiet", "--workspace", "--all-targets"];
    let mut document = vec!["doc", "--quiet", "--workspace", "--no-deps"];
    for name in NOT_ON_HOST {
        lint_host.extend(["--exclude", name]);
        document.extend(["--exclude", name]);
    }
    lint_host.extend(["--", "-D", "warnings"]);
    let lint = |package: &'static str, target: Target| {
        vec![
            "clippy",
            "--quiet",
            "--package",
            package,
            "--target",
            target.triple(),
            "--",
            "-D",
            "warnings",
        ]
    };
    let bare_metal = Target::BareMetal.triple();
    vec![
        ("formatting", vec!["fmt", "--all", "--check"]),
        ("lints (host)", lint_host),
        ("lints (hypervisor)", lint("hypervisor", Target::BareMetal)),
        (
            "lints (loader)",
            vec![
                "clippy",
                "--quiet",
                "--package",
                "boot",
                "--bin",
                "multiboot",
                "--features",
                "multiboot",
                "--target",
                bare_metal,
                "--",
                "-D",
                "warnings",
            ],
        ),
        ("lints (bouncer.efi)", lint("efi", Target::Uefi)),
        ("lints (guest)", lint("guest", Target::Guest)),
        ("documentation", document),
        (
            "documentation (hypervisor)",
            vec![
                "doc",
                "--quiet",
                "--package",
                "hypervisor",
                "--no-deps",
                "--document-private-items",
                "--target",
                bare_metal,
            ],
        ),
    ]
}

fn cargo(name: &str, arguments: &[&str]) -> Result<(), Stop> {
    let mut command = Command::new("cargo");
    command
        .args(arguments)
        .env("RUSTDOCFLAGS", "-D warnings")
        .current_dir(workspace::root());
    // A lint looks at the loader's code, not at the hypervisor inside it: any file stands in for that.
    command.env(build::HYPERVISOR, workspace::root().join("Cargo.toml"));
    progress::command(name, &mut command).map(drop)
}

/// Licences, bans and sources by cargo-deny. Advisories need the network and are left to whoever has it.
fn deny(tally: &mut Tally) -> Result<(), Stop> {
    let is_installed = Command::new("cargo")
        .args(["deny", "--version"])
        .output()
        .is_ok_and(|output| output.status.success());
    if !is_installed {
        say("SKIPPED cargo-deny: not installed; `cargo install --locked cargo-deny` gets it");
        tally.skip("cargo-deny: not installed".into());
        return Ok(());
    }
    cargo(
        "licences, bans, sources",
        &["deny", "--offline", "check", "bans", "licenses", "sources"],
    )
}
