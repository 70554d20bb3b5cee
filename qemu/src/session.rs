//! One life of a machine: started, watched, ended.
//!
//! The session listens, QEMU connects: no port loses a byte and no socket is polled for. Every wait has a bound.

use core::ops::ControlFlow::{self, Break, Continue};
use std::os::unix::net::{UnixListener, UnixStream};
use std::sync::mpsc::{self, Receiver, RecvTimeoutError, Sender};
use std::time::{Duration, Instant};

use crate::Error;
use crate::channel::{self, Event, Line, Port};
use crate::heard::{Heard, Watch};
use crate::machine::{Machine, Qtest, Wiring};
use crate::outcome::Outcome;
use crate::process::Process;
use crate::qmp::Qmp;
use crate::qtest::QtestBus;
use crate::report::Ended;
use crate::sockets::{Directory, Listeners};
use crate::wait;

/// How long QEMU may take to open its ports.
const START_PATIENCE: Duration = Duration::from_secs(60);

/// How long the machine is left running after Bouncer's last words, for its backtrace to arrive.
const GRACE: Duration = Duration::from_secs(3);

/// How long the channels may take to run dry after QEMU has ended.
const DRAIN: Duration = Duration::from_secs(5);

/// A running machine. Dropping it kills QEMU.
#[derive(Debug)]
pub struct Session {
    process: Process,
    start: Instant,
    events: Receiver<Event>,
    switch: Sender<Event>,
    stopped: bool,
    open_channels: usize,
    console: UnixStream,
    qmp: Qmp,
    qtest: Option<QtestBus>,
    heard: Heard,
    over_since: Option<Instant>,
    _directory: Directory,
}

impl Session {
    /// Starts `machine`: returns when its serial ports and monitor are connected.
    ///
    /// # Errors
    /// [`Error::DiedAtStart`] with QEMU's last words if it refuses its command line; [`Error::TimedOut`] if it does
    /// not open its ports within a minute.
    pub fn start(machine: &Machine) -> Result<Self, Error> {
        let directory = Directory::create()?;
        let wiring = Wiring::within(directory.path());
        let listeners = Listeners::bind(&wiring)?;
        let start = Instant::now();
        let mut process =
            Process::start(&machine.emulator.program, &machine.command_line(&wiring))?;
        match Self::connect(machine, &listeners, &process) {
            Ok((streams, qmp, qtest)) => {
                let (sender, events) = mpsc::channel();
                let console = streams[0]
                    .try_clone()
                    .map_err(|error| Error::file(&wiring.console, "clone", error))?;
                for (port, stream) in Port::ALL.into_iter().zip(streams) {
                    channel::listen(port, stream, start, sender.clone());
                }
                let heard = Heard::new(machine.vcpus);
                let open_channels = Port::ALL.len();
                Ok(Self {
                    process,
                    start,
                    events,
                    switch: sender,
                    stopped: false,
                    open_channels,
                    console,
                    qmp,
                    qtest,
                    heard,
                    over_since: None,
                    _directory: directory,
                })
            }
            Err(Error::DiedAtStart { .. }) => Err(Error::DiedAtStart {
                said: process.end().1,
            }),
            Err(error) => Err(error),
        }
    }

    fn connect(
        machine: &Machine,
        listeners: &Listeners,
        process: &Process,
    ) -> Result<([UnixStream; 3], Qmp, Option<QtestBus>), Error> {
        let accept = |listener: &UnixListener, name: &str| {
            let died = || {
                process.has_ended().then(|| Error::DiedAtStart {
                    said: String::new(),
                })
            };
            wait::accept(listener, name, START_PATIENCE, died)
        };
        let console = accept(&listeners.console, "console")?;
        let guest = accept(&listeners.guest, "guest")?;
        let bouncer = accept(&listeners.bouncer, "bouncer")?;
        // QEMU greets on the monitor only once the machine exists, which is also when it can still refuse to.
        let monitor = accept(&listeners.qmp, "qmp")?;
        let qtest = match machine.qtest {
            Qtest::Harness => Some(QtestBus::over(accept(&listeners.qtest, "qtest")?)),
            Qtest::Off | Qtest::Socket(_) => None,
        };
        let qmp = Qmp::over(monitor).map_err(|error| match error {
            Error::Refused { .. } => Error::DiedAtStart {
                said: String::new(),
            },
            error => error,
        })?;
        Ok(([console, guest, bouncer], qmp, qtest))
    }

    /// The machine's monitor.
    pub fn qmp(&mut self) -> &mut Qmp {
        &mut self.qmp
    }

    /// The machine's bus.
    ///
    /// # Errors
    /// [`Error::Missing`] unless the machine was built with [`Qtest::Harness`].
    pub fn qtest(&mut self) -> Result<&mut QtestBus, Error> {
        self.qtest.as_mut().ok_or_else(|| Error::Missing {
            what: "the machine's qtest channel".into(),
            remedy: "build the machine with `qtest: Qtest::Harness`".into(),
        })
    }

    /// A handle that types into the guest's console.
    ///
    /// # Errors
    /// If the system has no file descriptor left.
    pub fn keyboard(&self) -> Result<UnixStream, Error> {
        self.console
            .try_clone()
            .map_err(|error| Error::file("the console", "clone", error))
    }

    /// A switch that stops the machine from another thread.
    pub fn switch(&self) -> impl FnOnce() + Send + use<> {
        let switch = self.switch.clone();
        move || {
            // A session that is over needs no stopping.
            let _ = switch.send(Event::Stop);
        }
    }

    /// Waits until a line that contains `text` has come from `port`, now or earlier in this session.
    ///
    /// # Errors
    /// [`Error::TimedOut`] after `patience`, or as soon as the machine has ended without saying it.
    pub fn wait_for(&mut self, port: Port, text: &str, patience: Duration) -> Result<Line, Error> {
        let deadline = Instant::now() + patience;
        let mut from = 0;
        loop {
            let lines = self.heard.lines_of(port);
            if let Some(line) = lines[from..].iter().find(|line| line.text.contains(text)) {
                return Ok(line.clone());
            }
            from = lines.len();
            if self.step(deadline, &mut ()).is_break() {
                let waiting_for = format!("{text:?} on the {port} port");
                return Err(Error::TimedOut {
                    waiting_for,
                    after: patience,
                });
            }
        }
    }

    /// What has been heard so far on `port`.
    #[must_use]
    pub fn lines_of(&self, port: Port) -> &[Line] {
        self.heard.lines_of(port)
    }

    /// Lets the machine run until it ends, or kills it `deadline` after its start.
    #[must_use]
    pub fn run_to_end(self, deadline: Duration) -> Outcome {
        self.run_watched(deadline, &mut ())
    }

    /// As [`Session::run_to_end`], showing `watch` everything as it comes.
    #[must_use]
    pub fn run_watched(mut self, deadline: Duration, watch: &mut dyn Watch) -> Outcome {
        let deadline = self.start + deadline;
        while self.step(deadline, watch).is_continue() {}
        let total = self.start.elapsed();
        // The channels close when QEMU ends; only a machine that was cut short still has them open.
        let interrupted = if self.stopped {
            Ended::Stopped
        } else {
            Ended::Timeout
        };
        let cut_short = (self.open_channels > 0).then_some(interrupted);
        let emulator = self.let_end();
        let Self {
            mut qmp,
            mut heard,
            events,
            mut open_channels,
            ..
        } = self;
        while open_channels > 0 {
            match events.recv_timeout(DRAIN) {
                Ok(Event::Bytes { port, at, bytes }) => heard.bytes(port, at, &bytes, watch),
                Ok(Event::Closed) => open_channels -= 1,
                Ok(Event::Stop) => {}
                Err(RecvTimeoutError::Timeout | RecvTimeoutError::Disconnected) => break,
            }
        }
        heard.flush(total, watch);
        let ended = cut_short.unwrap_or_else(|| match qmp.shutdown_reason().as_deref() {
            Some("guest-shutdown") => Ended::PowerOff,
            Some("guest-reset") => Ended::Reset,
            Some("guest-panic") => Ended::TripleFault,
            _ => Ended::Emulator,
        });
        heard.into_outcome(ended, total, emulator)
    }

    /// Waits a little for a QEMU whose channels are closed, kills one that runs on; returns its last words.
    fn let_end(&mut self) -> String {
        let patience = Instant::now() + DRAIN;
        while self.open_channels == 0 && !self.process.has_ended() && Instant::now() < patience {
            std::thread::sleep(Duration::from_millis(5));
        }
        self.process.end().1
    }

    /// Hears one event; breaks when the machine has ended, has panicked, or the deadline has come.
    fn step(&mut self, deadline: Instant, watch: &mut dyn Watch) -> ControlFlow<()> {
        if self.heard.report.is_over() {
            self.over_since.get_or_insert_with(Instant::now);
        }
        let deadline = self
            .over_since
            .map_or(deadline, |since| deadline.min(since + GRACE));
        let patience = deadline.saturating_duration_since(Instant::now());
        // A port that never falls silent must not outrun the deadline.
        if self.open_channels == 0 || self.stopped || patience.is_zero() {
            return Break(());
        }
        match self.events.recv_timeout(patience) {
            Ok(Event::Bytes { port, at, bytes }) => self.heard.bytes(port, at, &bytes, watch),
            Ok(Event::Closed) => self.open_channels -= 1,
            Ok(Event::Stop) => self.stopped = true,
            Err(RecvTimeoutError::Timeout | RecvTimeoutError::Disconnected) => return Break(()),
        }
        Continue(())
    }
}
