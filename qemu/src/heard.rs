//! What a session has heard: bytes made into lines, lines kept, counted in the report and shown to a watcher.

use std::time::Duration;

use crate::channel::{Assembly, Line, Port};
use crate::outcome::Outcome;
use crate::protocol::BouncerLine;
use crate::report::{Ended, Report};

/// Sees what a session hears, as it hears it.
pub trait Watch {
    /// Bytes came from `port`, in whatever pieces.
    fn bytes(&mut self, port: Port, bytes: &[u8]) {
        let _ = (port, bytes);
    }

    /// A line is complete.
    fn line(&mut self, line: &Line) {
        let _ = line;
    }
}

/// Watches nothing.
impl Watch for () {}

/// Everything heard so far.
#[derive(Debug)]
pub(crate) struct Heard {
    pub(crate) report: Report,
    console: Vec<Line>,
    guest: Vec<Line>,
    bouncer: Vec<Line>,
    assemblies: [Assembly; 3],
}

impl Heard {
    pub(crate) fn new(vcpus: u32) -> Self {
        Self {
            report: Report::new(vcpus),
            console: Vec::new(),
            guest: Vec::new(),
            bouncer: Vec::new(),
            assemblies: Default::default(),
        }
    }

    pub(crate) fn lines_of(&self, port: Port) -> &[Line] {
        match port {
            Port::Console => &self.console,
            Port::Guest => &self.guest,
            Port::Bouncer => &self.bouncer,
        }
    }

    pub(crate) fn bytes(&mut self, port: Port, at: Duration, bytes: &[u8], watch: &mut dyn Watch) {
        watch.bytes(port, bytes);
        for text in self.assemblies[port as usize].push(bytes) {
            self.line(Line { port, at, text }, watch);
        }
    }

    pub(crate) fn flush(&mut self, at: Duration, watch: &mut dyn Watch) {
        for port in Port::ALL {
            if let Some(text) = self.assemblies[port as usize].flush() {
                self.line(Line { port, at, text }, watch);
            }
        }
    }

    /// Closes the books.
    pub(crate) fn into_outcome(
        mut self,
        ended: Ended,
        total: Duration,
        emulator: String,
    ) -> Outcome {
        self.report.end(ended, total.as_secs_f64());
        let Self {
            report,
            console,
            guest,
            bouncer,
            ..
        } = self;
        Outcome {
            report,
            console,
            guest,
            bouncer,
            emulator,
        }
    }

    fn line(&mut self, line: Line, watch: &mut dyn Watch) {
        watch.line(&line);
        match line.port {
            Port::Console => {
                self.report.hear_console(&line.text);
                self.console.push(line);
            }
            Port::Guest => {
                self.report.hear_guest(&line.text);
                self.guest.push(line);
            }
            Port::Bouncer => {
                self.report.hear_bouncer(BouncerLine::parse(&line.text));
                self.bouncer.push(line);
            }
        }
    }
}
