//! QEMU's monitor in JSON (QMP): commands with bounded waits, and the events that came meanwhile.

use std::os::unix::net::UnixStream;
use std::path::Path;
use std::time::Duration;

use serde_json::{Value, json};

use crate::Error;
use crate::wait::{self, Lines, NoLine};

const PATIENCE: Duration = Duration::from_secs(30);

/// A monitor ready for commands.
#[derive(Debug)]
pub struct Qmp {
    lines: Lines,
    events: Vec<Value>,
}

impl Qmp {
    /// Connects to a monitor that QEMU serves at `socket`, and greets it.
    ///
    /// # Errors
    /// If nothing answers there within 30 seconds.
    pub fn connect(socket: &Path) -> Result<Self, Error> {
        Self::over(wait::connect(socket, PATIENCE)?)
    }

    /// Greets the monitor at the other end of `stream`.
    ///
    /// # Errors
    /// If it does not greet back within 30 seconds.
    pub fn over(stream: UnixStream) -> Result<Self, Error> {
        let mut qmp = Self {
            lines: Lines::over(stream, PATIENCE),
            events: Vec::new(),
        };
        let greeting = qmp.message("QMP's greeting")?;
        if greeting.get("QMP").is_none() {
            return Err(Error::malformed("QMP's greeting", greeting));
        }
        qmp.execute("qmp_capabilities", json!({}))?;
        Ok(qmp)
    }

    /// Executes `command` and returns its `return` value.
    ///
    /// # Errors
    /// [`Error::Refused`] with QEMU's own description, [`Error::TimedOut`] after 30 seconds.
    pub fn execute(&mut self, command: &str, arguments: Value) -> Result<Value, Error> {
        let request = json!({ "execute": command, "arguments": arguments });
        self.lines
            .send(&request.to_string())
            .map_err(|none| none.while_waiting_for(command, PATIENCE))?;
        loop {
            let mut message = self.message(command)?;
            if message.get("event").is_some() {
                self.events.push(message);
            } else if let Some(error) = message.get("error") {
                let answer = error["desc"]
                    .as_str()
                    .unwrap_or("no description")
                    .to_owned();
                return Err(Error::Refused {
                    command: command.to_owned(),
                    answer,
                });
            } else if let Some(answer) = message.get_mut("return") {
                return Ok(answer.take());
            }
        }
    }

    /// Writes `bytes` of physical memory from `address` to `file`, on the host.
    ///
    /// # Errors
    /// As [`Qmp::execute`].
    pub fn dump_physical(&mut self, address: u64, bytes: u64, file: &Path) -> Result<(), Error> {
        let arguments =
            json!({ "val": address, "size": bytes, "filename": file.display().to_string() });
        self.execute("pmemsave", arguments).map(drop)
    }

    /// Takes the events seen so far.
    pub fn events(&mut self) -> Vec<Value> {
        std::mem::take(&mut self.events)
    }

    /// Why QEMU shut down, read from what it sent before it closed the connection: `guest-shutdown`, `guest-reset`…
    pub(crate) fn shutdown_reason(&mut self) -> Option<String> {
        while let Ok(line) = self.lines.receive(Duration::from_secs(1)) {
            if let Ok(message) = serde_json::from_str(&line) {
                self.events.push(message);
            }
        }
        let shutdown = self
            .events
            .iter()
            .rev()
            .find(|event| event["event"] == "SHUTDOWN")?;
        shutdown["data"]["reason"].as_str().map(str::to_owned)
    }

    fn message(&mut self, waiting_for: &str) -> Result<Value, Error> {
        let patience = self.lines.patience();
        let line = self
            .lines
            .receive(patience)
            .map_err(|none: NoLine| none.while_waiting_for(waiting_for, patience))?;
        serde_json::from_str(&line)
            .map_err(|error| Error::malformed(format!("QMP's message {line:?}"), error))
    }
}

#[cfg(test)]
mod tests {
    use std::io::{BufRead, BufReader, Write};
    use std::thread;

    use super::*;

    /// A monitor that plays `answers`, one for each line it reads, after the greeting.
    fn monitor(answers: &'static [&'static str]) -> UnixStream {
        let (ours, theirs) = UnixStream::pair().unwrap();
        thread::spawn(move || {
            let mut writer = theirs.try_clone().unwrap();
            writeln!(writer, r#"{{"QMP": {{"version": {{}}}}}}"#).unwrap();
            let mut reader = BufReader::new(theirs).lines();
            for answer in answers {
                reader.next().unwrap().unwrap();
                writeln!(writer, "{answer}").unwrap();
            }
        });
        ours
    }

    #[test]
    fn an_answer_is_told_from_the_events_before_it() {
        let stream = monitor(&[
            r#"{"return": {}}"#,
            "{\"event\": \"RESUME\"}\n{\"return\": {\"running\": true}}",
        ]);
        let mut qmp = Qmp::over(stream).unwrap();
        assert_eq!(
            qmp.execute("query-status", json!({})).unwrap()["running"],
            true
        );
        assert_eq!(qmp.events().len(), 1);
    }

    #[test]
    fn a_refusal_carries_qemus_own_words() {
        let stream = monitor(&[
            r#"{"return": {}}"#,
            r#"{"error": {"class": "GenericError", "desc": "no such file"}}"#,
        ]);
        let error = Qmp::over(stream)
            .unwrap()
            .dump_physical(0, 4096, Path::new("/x"))
            .unwrap_err();
        assert_eq!(
            error.to_string(),
            "the machine refused `pmemsave`: no such file"
        );
    }

    #[test]
    fn the_reason_of_the_end_is_in_what_was_sent_last() {
        let stream = monitor(&[
            "{\"return\": {}}\n{\"event\": \"SHUTDOWN\", \"data\": {\"guest\": true, \"reason\": \"guest-reset\"}}",
        ]);
        assert_eq!(
            Qmp::over(stream).unwrap().shutdown_reason().as_deref(),
            Some("guest-reset")
        );
    }

    #[test]
    fn a_closed_monitor_is_an_error_at_once() {
        let stream = monitor(&[r#"{"return": {}}"#]);
        let error = Qmp::over(stream)
            .unwrap()
            .execute("stop", json!({}))
            .unwrap_err();
        assert!(matches!(error, Error::Refused { .. }), "{error}");
    }
}
