//! `cargo xtask test`: everything, and one line at the end that says how it went.

use std::io::{BufRead, BufReader, Read};
use std::process::{Command, Stdio};
use std::sync::mpsc;
use std::thread;

use clap::Args;
use qemu::Bench;

use crate::build;
use crate::check;
use crate::progress::{say, step};
use crate::setup;
use crate::stop::Stop;
use crate::workspace;

/// What `cargo xtask test` is told.
#[derive(Debug, Args)]
pub(crate) struct Options {
    /// The slow tests and the second kernel, too
    #[arg(long)]
    all: bool,

    /// Only whole-machine tests whose name contains this; nothing else is checked
    filter: Option<String>,
}

/// `cargo xtask test`.
pub(crate) fn run(options: &Options) -> Result<(), Stop> {
    let mut tally = Tally::default();
    let checked = match options.filter {
        // One who asks for one test wants its answer, not everything's.
        Some(_) => Ok(()),
        None => check::run_counting(&mut tally),
    };
    let whole_machines = prepare(options).and_then(|()| machine_tests(options, &mut tally));
    let outcome = checked.and(whole_machines);
    if let Err(stop) = &outcome {
        stop.tell();
        // A phase that broke without naming a test is a failure all the same.
        tally.failed = tally.failed.max(1);
    }
    for skip in &tally.skips {
        say(&format!("skipped {skip}"));
    }
    println!("{}", tally.line());
    match (outcome, tally.failed) {
        (Ok(()), 0) => Ok(()),
        (Ok(()) | Err(Stop::Failed(_)), _) => Err(Stop::failed("")),
        (Err(Stop::Unready(_)), _) => Err(Stop::unready("")),
    }
}

/// Gets and builds all that the whole-machine tests start from, and leaves word of it.
fn prepare(options: &Options) -> Result<(), Stop> {
    setup::meet(&setup::ALL)?;
    let mut kernels = vec![setup::stock_kernel("6.1")?];
    if options.all {
        kernels.push(setup::stock_kernel("6.12")?);
    }
    let directory = workspace::cache("bench");
    workspace::make(&directory)?;
    let firmware = setup::fetch_firmware()?;
    let bench = Bench {
        directory,
        emulators: setup::all_emulators()?,
        bochs: setup::bochs().ok(),
        installed: setup::installed_system(&firmware),
        firmware: Some(firmware),
        secure_boot: Some(setup::fetch_secure_boot()?),
        kernels,
        guest_init: build::guest()?,
        tools: Some(setup::fetch_tools()?),
        bouncer: Some(build::bouncer()?),
    };
    Ok(bench.save()?)
}

fn machine_tests(options: &Options, tally: &mut Tally) -> Result<(), Stop> {
    say("whole machines");
    let mut tests = Command::new("cargo");
    tests
        .args([
            "test",
            "--quiet",
            "--package",
            "machine",
            "--no-fail-fast",
            "--",
        ])
        .arg(format!("--test-threads={}", machines_at_once()));
    tests
        .args(options.all.then_some("--include-ignored"))
        .args(&options.filter);
    cargo_test("whole-machine tests", &mut tests, tally)?;
    match &options.filter {
        Some(name) if tally.is_empty() => Err(Stop::unready(format!(
            "no whole-machine test has a name that contains `{name}`; \
             `cargo test -p machine -- --list` names them"
        ))),
        _ => Ok(()),
    }
}

/// How many machines play at once: each takes one processor of the host's, and most a GiB of its memory.
fn machines_at_once() -> usize {
    const MOST: usize = 4;
    thread::available_parallelism().map_or(1, |count| count.get().min(MOST))
}

/// Runs a `cargo test`, showing what it says and counting what its results say.
pub(crate) fn cargo_test(what: &str, command: &mut Command, tally: &mut Tally) -> Result<(), Stop> {
    command
        .current_dir(workspace::root())
        .stdin(Stdio::null())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped());
    let mut child = command
        .spawn()
        .map_err(|error| Stop::unready(format!("{what}: cannot start cargo: {error}")))?;
    let (sender, lines) = mpsc::channel();
    let readers = [
        child
            .stdout
            .take()
            .map(|stdout| forward(stdout, sender.clone())),
        child.stderr.take().map(|stderr| forward(stderr, sender)),
    ];
    let status = step(what, || {
        for line in lines {
            tally.hear(&line);
            println!("{line}");
        }
        readers
            .into_iter()
            .flatten()
            .for_each(|reader| drop(reader.join()));
        child.wait()
    });
    match status {
        Ok(status) if status.success() => Ok(()),
        Ok(_) => Err(Stop::failed(format!("{what} failed"))),
        Err(error) => Err(Stop::failed(format!("{what}: {error}"))),
    }
}

fn forward(
    stream: impl Read + Send + 'static,
    lines: mpsc::Sender<String>,
) -> thread::JoinHandle<()> {
    thread::spawn(move || {
        let mut reader = BufReader::new(stream);
        let mut line = Vec::new();
        while let Ok(1..) = reader.read_until(b'\n', &mut line) {
            let text = String::from_utf8_lossy(&line).trim_end().to_owned();
            line.clear();
            if lines.send(text).is_err() {
                return;
            }
        }
    })
}

/// How many tests passed, failed, were skipped; and which were skipped, why.
#[derive(Debug, Default, PartialEq, Eq)]
pub(crate) struct Tally {
    passed: usize,
    failed: usize,
    ignored: usize,
    skips: Vec<String>,
}

impl Tally {
    /// Counts a line of a test runner: its results, and `SKIPPED <test>: <why>` from a test that found its machine
    /// lacking. The runner takes the latter for passed.
    fn hear(&mut self, line: &str) {
        if let Some(skip) = line.strip_prefix("SKIPPED ") {
            self.skips.push(skip.to_owned());
        } else if let Some(results) = line.strip_prefix("test result: ") {
            self.passed += count(results, "passed");
            self.failed += count(results, "failed");
            self.ignored += count(results, "ignored");
        }
    }

    /// Notes something other than a test that could not be done.
    pub(crate) fn skip(&mut self, why: String) {
        self.skips.push(why);
        self.passed += 1;
    }

    /// Whether no test was heard of.
    fn is_empty(&self) -> bool {
        self.passed + self.failed + self.ignored == 0
    }

    /// The last line of all. A test may name several reasons; it is one test.
    fn line(&self) -> String {
        let mut names: Vec<_> = self
            .skips
            .iter()
            .map(|skip| skip.split(':').next().unwrap_or(skip))
            .collect();
        names.sort_unstable();
        names.dedup();
        let passed = self.passed.saturating_sub(names.len());
        format!(
            "{passed} passed, {} failed, {} skipped",
            self.failed,
            self.ignored + names.len()
        )
    }
}

/// The number before `word` in `ok. 12 passed; 0 failed; …`.
fn count(results: &str, word: &str) -> usize {
    let part = results
        .split([';', '.'])
        .find_map(|part| part.trim().strip_suffix(word));
    part.and_then(|number| number.trim().parse().ok())
        .unwrap_or(0)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn tally(lines: &[&str]) -> Tally {
        let mut tally = Tally::default();
        lines.iter().for_each(|line| tally.hear(line));
        tally
    }

    #[test]
    fn results_of_several_runners_are_summed() {
        let tally = tally(&[
            "test result: ok. 12 passed; 0 failed; 1 ignored; 0 measured; 3 filtered out; finished in 0.01s",
            "test a_test ... ok",
            "test result: FAILED. 3 passed; 2 failed; 0 ignored; 0 measured; 0 filtered out; finished in 1.20s",
        ]);
        assert_eq!(tally.line(), "15 passed, 2 failed, 1 skipped");
    }

    #[test]
    fn a_test_that_skipped_itself_did_not_pass() {
        let tally = tally(&[
            "SKIPPED vmx_boots: no Bochs",
            "SKIPPED vmx_boots: no BIOS either",
            "test result: ok. 3 passed; 0 failed; 0 ignored; 0 measured; 0 filtered out; finished in 0.01s",
        ]);
        assert_eq!(tally.line(), "2 passed, 0 failed, 1 skipped");
    }

    #[test]
    fn a_phase_that_could_not_be_run_is_skipped_by_name() {
        let mut tally = tally(&["test result: ok. 3 passed; 0 failed; 0 ignored"]);
        tally.skip("cargo-deny: not installed".into());
        assert_eq!(tally.line(), "3 passed, 0 failed, 1 skipped");
    }
}
