//! The line protocol on the second serial port.
//!
//! `bouncer-guest 1`, then for each check `start NAME` and one of `pass NAME`, `fail NAME WHY`,
//! `skip NAME WHY`, with `data KEY VALUE` in between, and `done` at the end. Owns the port and
//! the spelling of the lines; knows no check. [`crate::trial`] decides what is said.

use std::fmt::Display;
use std::fs::{File, OpenOptions};
use std::io::Write;
use std::os::unix::fs::OpenOptionsExt;

use nix::sys::termios;

/// The version of the line protocol, told in the greeting.
const VERSION: u32 = 1;

/// Where reports go, best first: the port the harness reads, then any place a person may look.
const PORTS: [&str; 3] = ["/dev/ttyS1", "/dev/console", "/dev/kmsg"];

/// The open report: every line is written whole and at once.
#[derive(Debug)]
pub(crate) struct Report {
    // None on a machine with no port at all: the checks still run, the harness sees silence.
    port: Option<File>,
}

impl Report {
    /// Opens the report port, raw, or the best substitute the machine has.
    pub(crate) fn open() -> Self {
        Self {
            port: PORTS.iter().find_map(|path| open_raw(path).ok()),
        }
    }

    /// Reports into a file.
    #[cfg(test)]
    pub(crate) fn into_file(file: File) -> Self {
        Self { port: Some(file) }
    }

    /// Says which protocol follows.
    pub(crate) fn greet(&mut self) {
        self.line(&format!("bouncer-guest {VERSION}"));
    }

    /// Says that the check `name` begins.
    pub(crate) fn start(&mut self, name: &str) {
        self.line(&format!("start {name}"));
    }

    /// Says that the check `name` held.
    pub(crate) fn pass(&mut self, name: &str) {
        self.line(&format!("pass {name}"));
    }

    /// Says that the check `name` did not hold, and why.
    pub(crate) fn fail(&mut self, name: &str, why: &str) {
        self.line(&format!("fail {name} {why}"));
    }

    /// Says that the check `name` could not be made on this machine, and what is missing.
    pub(crate) fn skip(&mut self, name: &str, why: &str) {
        self.line(&format!("skip {name} {why}"));
    }

    /// Reports one figure; blanks in the key become dashes.
    pub(crate) fn tell(&mut self, key: &str, value: impl Display) {
        self.line(&format!("data {} {value}", one_word(key)));
    }

    /// Says that nothing follows, and waits until the port has sent everything.
    pub(crate) fn finish(&mut self) {
        self.line("done");
        if let Some(port) = &self.port {
            // A port that cannot drain (the console's substitute) has nothing to wait for.
            let _ = termios::tcdrain(port);
        }
    }

    fn line(&mut self, text: &str) {
        if let Some(port) = &mut self.port {
            // There is nobody left to tell when the report itself cannot be written.
            let _ = port.write_all(one_line(text).as_bytes());
        }
    }
}

/// Opens a terminal without adopting it and stops the kernel from rewriting line ends.
fn open_raw(path: &str) -> std::io::Result<File> {
    let port = OpenOptions::new()
        .write(true)
        .custom_flags(libc::O_NOCTTY)
        .open(path)?;
    if let Ok(mut settings) = termios::tcgetattr(&port) {
        termios::cfmakeraw(&mut settings);
        termios::tcsetattr(&port, termios::SetArg::TCSANOW, &settings)?;
    }
    Ok(port)
}

/// The text as exactly one line: control characters become blanks, a line feed ends it.
fn one_line(text: &str) -> String {
    let mut line: String = text
        .chars()
        .map(|character| {
            if character.is_control() {
                ' '
            } else {
                character
            }
        })
        .collect();
    line.push('\n');
    line
}

/// The text as one word, so that the value after it is told apart.
fn one_word(text: &str) -> String {
    text.split_whitespace().collect::<Vec<_>>().join("-")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_reason_of_several_lines_stays_on_one_line() {
        assert_eq!(one_line("fail hash a\nb\tc"), "fail hash a b c\n");
    }

    #[test]
    fn a_key_is_one_word() {
        assert_eq!(
            one_word("exits.nested page fault"),
            "exits.nested-page-fault"
        );
    }
}
