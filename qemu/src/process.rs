//! The QEMU process: started under a guard, ended with its owner.

use core::convert::Infallible;
use std::io::Read;
use std::process::{Child, Command, ExitStatus, Stdio};
use std::sync::mpsc::{self, Receiver, RecvTimeoutError, Sender};
use std::thread::{self, JoinHandle};
use std::time::Duration;

use crate::Error;

const POLL: Duration = Duration::from_millis(10);

/// As much of standard error as is kept.
const LAST_WORDS: u64 = 64 * 1024;

/// A running program that is killed when this value is dropped, and by the kernel when this process dies.
#[derive(Debug)]
pub(crate) struct Process {
    /// Dropping it is the order to kill.
    leash: Option<Sender<Infallible>>,
    keeper: Option<JoinHandle<ExitStatus>>,
    last_words: Option<JoinHandle<String>>,
}

impl Process {
    /// Starts `program` with `arguments`; its standard error is kept, its other streams are closed.
    pub(crate) fn start(program: &std::path::Path, arguments: &[String]) -> Result<Self, Error> {
        // The kernel's death signal follows the *thread* that started the child, so that thread stays: it waits for
        // the child. `setpriv` sets the signal, then becomes the program, keeping its process id.
        let mut command = Command::new("setpriv");
        command
            .args(["--pdeathsig", "KILL", "--"])
            .arg(program)
            .args(arguments);
        command
            .stdin(Stdio::null())
            .stdout(Stdio::null())
            .stderr(Stdio::piped());
        let (leash, slack) = mpsc::channel();
        let (report, started) = mpsc::channel();
        let keeper = thread::spawn(move || match command.spawn() {
            Err(error) => {
                let _ = report.send(Err(error));
                ExitStatus::default()
            }
            Ok(mut child) => {
                let _ = report.send(Ok(child.stderr.take()));
                keep(&mut child, &slack)
            }
        });
        let stderr = started
            .recv()
            .ok()
            .unwrap_or(Ok(None))
            .map_err(|error| Error::Missing {
                what: format!("setpriv ({error})"),
                remedy: "install util-linux, which ends QEMU together with this program".into(),
            })?;
        let last_words = stderr.map(|stderr| {
            thread::spawn(move || {
                let mut said = Vec::new();
                let mut stderr = stderr;
                let _ = stderr.by_ref().take(LAST_WORDS).read_to_end(&mut said);
                let _ = std::io::copy(&mut stderr, &mut std::io::sink());
                String::from_utf8_lossy(&said).into_owned()
            })
        });
        Ok(Self {
            leash: Some(leash),
            keeper: Some(keeper),
            last_words,
        })
    }

    /// Whether it has ended by itself.
    pub(crate) fn has_ended(&self) -> bool {
        self.keeper.as_ref().is_none_or(JoinHandle::is_finished)
    }

    /// Kills it if it still runs; returns how it ended and what it said on standard error.
    pub(crate) fn end(&mut self) -> (ExitStatus, String) {
        let status = self.kill();
        let said = self
            .last_words
            .take()
            .and_then(|reader| reader.join().ok())
            .unwrap_or_default();
        (status, said)
    }

    fn kill(&mut self) -> ExitStatus {
        drop(self.leash.take());
        self.keeper
            .take()
            .and_then(|keeper| keeper.join().ok())
            .unwrap_or_default()
    }
}

impl Drop for Process {
    fn drop(&mut self) {
        self.kill();
    }
}

fn keep(child: &mut Child, slack: &Receiver<Infallible>) -> ExitStatus {
    loop {
        if let Ok(Some(status)) = child.try_wait() {
            return status;
        }
        if slack.recv_timeout(POLL) == Err(RecvTimeoutError::Disconnected) {
            let _ = child.kill();
            return child.wait().unwrap_or_default();
        }
    }
}

#[cfg(test)]
mod tests {
    use std::path::Path;
    use std::time::Instant;

    use super::*;

    fn shell(script: &str) -> Process {
        Process::start(Path::new("/bin/sh"), &["-c".into(), script.into()]).unwrap()
    }

    #[test]
    fn a_program_that_ends_leaves_its_status_and_last_words() {
        let mut process = shell("echo no such device >&2; exit 3");
        while !process.has_ended() {
            thread::sleep(POLL);
        }
        let (status, said) = process.end();
        assert_eq!(
            (status.code(), said.as_str()),
            (Some(3), "no such device\n")
        );
    }

    #[test]
    fn a_program_that_runs_on_is_killed() {
        let start = Instant::now();
        let (status, _) = shell("exec sleep 60").end();
        assert_eq!(status.code(), None);
        assert!(start.elapsed() < Duration::from_secs(10));
    }
}
