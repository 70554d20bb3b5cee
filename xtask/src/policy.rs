//! `cargo xtask policy`: a policy file judged on the host, by the parser that judges it at boot.
//!
//! Owns what is printed and the exit status. What a policy means, the `policy` crate knows; where a machine's
//! functions sit, the `pci` crate does; here the two meet over a machine that `dump` or `machine` has read.

mod dump;
mod machine;

use std::fmt::{self, Write as _};
use std::fs;
use std::io::Write as _;
use std::path::{Path, PathBuf};

use ::policy::{Policy, explain};
use clap::{Args, Subcommand};

use crate::stop::Stop;
use machine::Machine;

/// What `cargo xtask policy` is told.
#[derive(Debug, Subcommand)]
pub(crate) enum Command {
    /// Says whether a policy file is valid, and if not, where and why
    Check {
        /// The policy file
        #[arg(value_name = "FILE")]
        policy: PathBuf,
    },
    /// Says what a policy file means, of itself or for each device of a machine
    Explain(Explain),
}

/// What `cargo xtask policy explain` is told.
#[derive(Debug, Args)]
pub(crate) struct Explain {
    /// The policy file
    #[arg(value_name = "FILE")]
    policy: PathBuf,

    /// Explain it for the machine where `lspci -Dnnx` printed this
    #[arg(long, value_name = "DUMP", conflicts_with = "this_machine")]
    machine: Option<PathBuf>,

    /// Explain it for the machine this runs on
    #[arg(long)]
    this_machine: bool,
}

/// `cargo xtask policy`: status 2 if the policy or the machine cannot be read.
pub(crate) fn run(command: &Command) -> Result<(), Stop> {
    match command {
        Command::Check { policy } => {
            let text = read(policy)?;
            print(&summary(policy, &parsed(policy, &text)?));
        }
        Command::Explain(options) => {
            let text = read(&options.policy)?;
            let policy = parsed(&options.policy, &text)?;
            print(&match machine(options)? {
                Some(machine) => explained_for(&policy, &machine)?,
                None => explained(&policy),
            });
        }
    }
    Ok(())
}

/// The machine asked about, if any.
fn machine(options: &Explain) -> Result<Option<Machine>, Stop> {
    if options.this_machine {
        return machine::this().map(Some);
    }
    let Some(path) = &options.machine else {
        return Ok(None);
    };
    match dump::parse(&read(path)?) {
        Ok(machine) => Ok(Some(machine)),
        Err(error) => Err(Stop::unready(format!("{}:{error}", path.display()))),
    }
}

fn read(path: &Path) -> Result<Vec<u8>, Stop> {
    fs::read(path)
        .map_err(|error| Stop::unready(format!("cannot read {}: {error}", path.display())))
}

/// The policy, or an error that begins on a line of its own, so that the caret stands under its place and editors find
/// file, line and column.
fn parsed(path: &Path, text: &[u8]) -> Result<Policy, Stop> {
    Policy::parse(text).map_err(|error| {
        let rendered = error
            .rendered(&path.display().to_string(), text)
            .to_string();
        Stop::unready(format!(
            "this policy would stop the boot\n{}",
            rendered.trim_end()
        ))
    })
}

/// One line, and one for each thing to look at twice.
fn summary(path: &Path, policy: &Policy) -> String {
    let rules = match policy.rules().len() {
        1 => "1 rule".into(),
        count => format!("{count} rules"),
    };
    let path = path.display();
    let mut text = format!(
        "{path}: valid, {rules}, default {}, enforcement {}\n",
        policy.default_trust(),
        policy.enforcement()
    );
    for warning in policy.warnings() {
        line(&mut text, format_args!("{path}: warning: {warning}"));
    }
    text
}

/// Every key with its default, then the rules as they are tried, every key of theirs spelt out.
fn explained(policy: &Policy) -> String {
    let mut text = String::new();
    explain::keys(&mut text).expect("a String takes all");
    line(
        &mut text,
        format_args!("\nThis policy: the first rule that matches decides"),
    );
    for (number, rule) in policy.lines() {
        line(&mut text, format_args!("line {number}"));
        for key in rule.to_string().lines().filter(|key| *key != "[[device]]") {
            line(&mut text, format_args!("  {key}"));
        }
    }
    let default = policy.default_trust();
    line(
        &mut text,
        format_args!("any other device\n  trust = \"{default}\""),
    );
    for warning in policy.warnings() {
        line(&mut text, format_args!("{warning}"));
    }
    text
}

/// A row for every device of `machine`, then those without one, and why.
fn explained_for(policy: &Policy, machine: &Machine) -> Result<String, Stop> {
    let survey = machine
        .survey()
        .map_err(|full| Stop::failed(full.to_string()))?;
    let devices: Vec<_> = survey.found.iter().map(machine::Found::device).collect();
    let mut text = String::new();
    explain::devices(policy, &devices, &mut text).expect("a String takes all");
    for unjudged in &survey.unjudged {
        line(&mut text, format_args!("{unjudged}"));
    }
    Ok(text)
}

fn line(text: &mut String, content: fmt::Arguments<'_>) {
    writeln!(text, "{content}").expect("a String takes all");
}

/// A closed pipe on standard output is the reader's business.
fn print(text: &str) {
    let _ = std::io::stdout().lock().write_all(text.as_bytes());
}

#[cfg(test)]
mod tests;
