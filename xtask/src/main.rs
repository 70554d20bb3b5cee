//! The project's commands: run Bouncer, test it, check it, build its disc, set a machine up for all that.
//!
//! This file is the list of commands. What a machine is and how a run is judged, the `qemu` crate knows.
#![forbid(unsafe_code)]

mod bench;
mod build;
mod check;
mod demo;
mod display;
mod image;
mod policy;
mod progress;
mod run;
mod setup;
mod stop;
mod test;
mod workspace;

use std::process::ExitCode;

use clap::{Parser, Subcommand};

/// Bouncer: a thin hypervisor that keeps untrusted devices to the bytes they were given.
///
/// Each command first gets what it needs and lacks (packages, toolchain targets, kernels) and says so.
#[derive(Debug, Parser)]
#[command(
    name = "cargo xtask",
    bin_name = "cargo xtask",
    arg_required_else_help = true,
    max_term_width = 100
)]
struct Cli {
    #[command(subcommand)]
    command: Command,
}

#[derive(Debug, Subcommand)]
enum Command {
    /// Boots a Linux guest under Bouncer in an emulated machine, and tells what happened
    Run(Box<run::Options>),
    /// Sets up, checks, builds, and runs every test, whole machines included
    Test(test::Options),
    /// Measures the same drive under every arrangement: no IOMMU, Linux's, Bouncer's
    Bench(Box<bench::Options>),
    /// Shows an untrusted drive at work and an attack on its guest, with Bouncer and without
    Demo(demo::Options),
    /// Formatting, lints, documentation, host tests, dependency rules
    Check,
    /// Builds a disc that boots Bouncer and a Linux guest
    Image(Box<image::Options>),
    /// Says whether a policy file is valid, and what it means
    #[command(subcommand)]
    Policy(policy::Command),
    /// Gets everything the other commands need
    Setup(setup::Options),
}

fn main() -> ExitCode {
    // Clap itself ends with 2 on wrong use, and with 0 when help was asked for.
    let outcome = match Cli::parse().command {
        Command::Run(options) => run::run(&options),
        Command::Test(options) => test::run(&options),
        Command::Bench(options) => bench::run(&options),
        Command::Demo(options) => demo::run(&options),
        Command::Check => check::run().map(drop),
        Command::Image(options) => image::run(&options),
        Command::Policy(command) => policy::run(&command),
        Command::Setup(options) => setup::run(&options),
    };
    match outcome {
        Ok(()) => ExitCode::SUCCESS,
        Err(stop) => {
            stop.tell();
            stop.exit_code()
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use clap::CommandFactory;

    #[test]
    fn the_commands_are_well_formed() {
        Cli::command().debug_assert();
    }

    #[test]
    fn without_a_command_the_help_is_shown() {
        let error = Cli::try_parse_from(["cargo xtask"]).unwrap_err();
        assert_eq!(
            error.kind(),
            clap::error::ErrorKind::DisplayHelpOnMissingArgumentOrSubcommand
        );
        for command in ["run", "test", "bench", "demo", "check", "image", "setup"] {
            assert!(error.to_string().contains(command), "{command}");
        }
    }
}
