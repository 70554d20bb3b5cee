//! A program of the initial file system, run to its end or its deadline.

use crate::verdict::{Attempt, Shortfall, failed, skipped};
use std::fs::File;
use std::path::Path;
use std::process::{Command, Stdio};
use std::time::{Duration, Instant};

/// The load generator.
pub(super) const FIO: &str = "/usr/bin/fio";
/// The maker of file systems.
pub(super) const MKFS: &str = "/sbin/mkfs.ext4";

/// Where a program's words go: a pipe would have to be emptied while it runs.
const OUTPUT: &str = "/tmp/output";
const COMPLAINTS: &str = "/tmp/complaints";
/// How much of them a failure quotes.
const QUOTED: usize = 600;

/// Runs `program` and gives what it said on standard output; a check that needs a program that is not there is skipped.
pub(super) fn run(
    program: &str,
    arguments: &[String],
    patience: Duration,
) -> Result<String, Shortfall> {
    if !Path::new(program).exists() {
        return Err(skipped(format!("no {program} in this initial file system")));
    }
    let output = File::create(OUTPUT).attempt(OUTPUT)?;
    let complaints = File::create(COMPLAINTS).attempt(COMPLAINTS)?;
    let mut child = Command::new(program)
        .args(arguments)
        .stdin(Stdio::null())
        .stdout(output)
        .stderr(complaints)
        .spawn()
        .attempt(&format!("starting {program}"))?;
    let began = Instant::now();
    let status = loop {
        match child
            .try_wait()
            .attempt(&format!("waiting for {program}"))?
        {
            Some(status) => break status,
            None if began.elapsed() > patience => {
                let _ = child.kill();
                let _ = child.wait();
                return Err(failed(format!(
                    "{program} not finished within {patience:?}: {}",
                    words()
                )));
            }
            None => std::thread::sleep(Duration::from_millis(10)),
        }
    };
    if !status.success() {
        return Err(failed(format!(
            "{program} {}: {status}: {}",
            arguments.join(" "),
            words()
        )));
    }
    std::fs::read_to_string(OUTPUT).attempt("reading its output")
}

/// The last of what was said, complaints first.
fn words() -> String {
    let read = |path| std::fs::read_to_string(path).unwrap_or_default();
    let text = format!("{} {}", read(COMPLAINTS), read(OUTPUT));
    let text: Vec<&str> = text.split_whitespace().collect();
    let text = text.join(" ");
    let cut = text.len().saturating_sub(QUOTED);
    let cut = (cut..text.len()).find(|at| text.is_char_boundary(*at));
    text[cut.unwrap_or(text.len())..].to_owned()
}
