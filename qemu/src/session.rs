//! One life of a machine: started, watched, ended.
//!
//! The session listens, QEMU connects: no port loses a byte and no socket is polled for. Every wait has a bound.

use core::ops::ControlFlow::{self, Break, Continue};
use std::fs::File;
use std::os::unix::net::{UnixListener, UnixStream};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::mpsc::{self, Receiver, RecvTimeoutError, Sender};
use std::time::{Duration, Instant};

use crate::Error;
use crate::bochs::{self, Bochs};
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

/// Between two looks at whether Bochs still runs.
const LOOK: Duration = Duration::from_millis(100);

/// How long the channels may take to run dry after QEMU has ended.
const DRAIN: Duration = Duration::from_secs(5);

/// A running machine. Dropping it kills the emulator.
#[derive(Debug)]
pub struct Session {
    process: Process,
    start: Instant,
    events: Receiver<Event>,
    switch: Sender<Event>,
    stopped: bool,
    open_channels: usize,
    controls: Controls,
    heard: Heard,
    over_since: Option<Instant>,
    directory: Directory,
}

/// What the emulator lets a session do besides listening.
#[derive(Debug)]
enum Controls {
    Qemu {
        console: UnixStream,
        qmp: Qmp,
        qtest: Option<QtestBus>,
    },
    /// Nothing; but it must be told to those who follow its files when it has ended.
    Bochs { has_ended: Arc<AtomicBool> },
}

impl Session {
    /// Starts `machine`: returns when its serial ports and monitor are connected.
    ///
    /// # Errors
    /// [`Error::DiedAtStart`] with QEMU's last words if it refuses its command line; [`Error::TimedOut`] if it does
    /// not open its ports within a minute.
    pub fn start(machine: &Machine) -> Result<Self, Error> {
        match &machine.bochs {
            Some(bochs) => Self::start_bochs(bochs, machine),
            None => Self::start_qemu(machine),
        }
    }

    /// Bochs writes its serial ports to files and has no other channel.
    fn start_bochs(bochs: &Bochs, machine: &Machine) -> Result<Self, Error> {
        let directory = Directory::create()?;
        let arguments = Bochs::prepare(machine, directory.path())?;
        let start = Instant::now();
        let process = Process::start(&bochs.program, &arguments)?;
        let has_ended = Arc::new(AtomicBool::new(false));
        let (sender, events) = mpsc::channel();
        for (port, name) in Port::ALL.into_iter().zip(bochs::PORTS) {
            let path = directory.path().join(name);
            let file = File::open(&path).map_err(|error| Error::file(path, "read", error))?;
            channel::follow(port, file, has_ended.clone(), start, sender.clone());
        }
        Ok(Self {
            process,
            start,
            events,
            switch: sender,
            stopped: false,
            open_channels: Port::ALL.len(),
            controls: Controls::Bochs { has_ended },
            heard: Heard::new(machine.vcpus),
            over_since: None,
            directory,
        })
    }

    fn start_qemu(machine: &Machine) -> Result<Self, Error> {
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
                    controls: Controls::Qemu {
                        console,
                        qmp,
                        qtest,
                    },
                    heard,
                    over_since: None,
                    directory,
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
    ///
    /// # Panics
    /// On Bochs, which has none.
    pub fn qmp(&mut self) -> &mut Qmp {
        match &mut self.controls {
            Controls::Qemu { qmp, .. } => qmp,
            Controls::Bochs { .. } => panic!("Bochs has no monitor"),
        }
    }

    /// The machine's bus.
    ///
    /// # Errors
    /// [`Error::Missing`] unless the machine was built with [`Qtest::Harness`].
    pub fn qtest(&mut self) -> Result<&mut QtestBus, Error> {
        let qtest = match &mut self.controls {
            Controls::Qemu { qtest, .. } => qtest.as_mut(),
            Controls::Bochs { .. } => None,
        };
        qtest.ok_or_else(|| Error::Missing {
            what: "the machine's qtest channel".into(),
            remedy: "build the machine for QEMU with `qtest: Qtest::Harness`".into(),
        })
    }

    /// A handle that types into the guest's console.
    ///
    /// # Errors
    /// If the system has no file descriptor left; on Bochs, whose console only writes.
    pub fn keyboard(&self) -> Result<UnixStream, Error> {
        let Controls::Qemu { console, .. } = &self.controls else {
            return Err(Error::Missing {
                what: "a console to type into".into(),
                remedy: "run the machine on QEMU".into(),
            });
        };
        console
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
        let has_powered_off = Bochs::has_powered_off(self.directory.path());
        let Self {
            mut controls,
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
        let ended = match &mut controls {
            Controls::Qemu { qmp, .. } => cut_short.unwrap_or_else(|| seen_by(qmp)),
            // A reset machine would start again, so that it was stopped: the word counts.
            Controls::Bochs { .. } => match (has_powered_off, heard.report.announced()) {
                (true, _) => Ended::PowerOff,
                (false, Some(Ended::Reset)) => Ended::Reset,
                _ => cut_short.unwrap_or(Ended::Emulator),
            },
        };
        heard.into_outcome(ended, total, emulator)
    }

    /// Waits a little for a QEMU whose channels are closed, kills one that runs on; returns its last words.
    fn let_end(&mut self) -> String {
        let patience = Instant::now() + DRAIN;
        while self.open_channels == 0 && !self.process.has_ended() && Instant::now() < patience {
            std::thread::sleep(Duration::from_millis(5));
        }
        let said = self.process.end().1;
        if let Controls::Bochs { has_ended } = &self.controls {
            has_ended.store(true, Ordering::Release);
        }
        said
    }

    /// Whether the machine, though it still runs, is not to be waited for any longer.
    fn is_over(&self) -> bool {
        let report = &self.heard.report;
        let is_bochs = matches!(self.controls, Controls::Bochs { .. });
        report.is_over() || is_bochs && report.announced().is_some()
    }

    /// Hears one event; breaks when the machine has ended, has panicked, or the deadline has come.
    fn step(&mut self, deadline: Instant, watch: &mut dyn Watch) -> ControlFlow<()> {
        if self.is_over() {
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
        let patience = match &self.controls {
            Controls::Qemu { .. } => patience,
            // Files do not close: the process is looked at now and then.
            Controls::Bochs { has_ended } => {
                has_ended.store(self.process.has_ended(), Ordering::Release);
                patience.min(LOOK)
            }
        };
        match self.events.recv_timeout(patience) {
            Ok(Event::Bytes { port, at, bytes }) => self.heard.bytes(port, at, &bytes, watch),
            Ok(Event::Closed) => self.open_channels -= 1,
            Ok(Event::Stop) => self.stopped = true,
            // Whether the deadline has come is asked first thing the next time.
            Err(RecvTimeoutError::Timeout) => {}
            Err(RecvTimeoutError::Disconnected) => return Break(()),
        }
        Continue(())
    }
}

/// How QEMU says that it ended.
fn seen_by(qmp: &mut Qmp) -> Ended {
    match qmp.shutdown_reason().as_deref() {
        Some("guest-shutdown") => Ended::PowerOff,
        Some("guest-reset") => Ended::Reset,
        Some("guest-panic") => Ended::TripleFault,
        _ => Ended::Emulator,
    }
}
