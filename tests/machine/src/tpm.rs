//! A TPM for a machine, played by swtpm.

use std::fs;
use std::os::unix::fs::DirBuilderExt;
use std::path::PathBuf;
use std::process::{Child, Command, Stdio};
use std::sync::atomic::{AtomicU32, Ordering};
use std::time::{Duration, Instant};

/// How long it may take to be there.
const PATIENCE: Duration = Duration::from_secs(20);

/// How a machine reaches its TPM.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Interface {
    /// By bytes through a queue (TCG PC Client Platform TPM Profile, "TIS").
    Tis,
    /// By commands and answers in a buffer ("CRB").
    Crb,
}

impl Interface {
    /// The kernel's driver for it.
    #[must_use]
    pub fn module(self) -> &'static str {
        match self {
            Self::Tis => "tpm_tis",
            Self::Crb => "tpm_crb",
        }
    }

    /// QEMU's device.
    fn device(self) -> &'static str {
        match self {
            Self::Tis => "tpm-tis",
            Self::Crb => "tpm-crb",
        }
    }
}

/// A TPM 2.0 that nobody has used, for one machine; ends with it or with this value.
#[derive(Debug)]
pub struct Tpm {
    process: Child,
    interface: Interface,
    directory: PathBuf,
}

impl Tpm {
    /// Starts one; `None` if this machine has no swtpm.
    ///
    /// # Panics
    /// If it does not start, or has no socket in time.
    #[must_use]
    pub fn start(interface: Interface) -> Option<Self> {
        static COUNT: AtomicU32 = AtomicU32::new(0);
        let count = COUNT.fetch_add(1, Ordering::Relaxed);
        // Paths of sockets are short by decree, so that the scene's own directory will not do.
        let name = format!("bouncer-tpm-{}-{count}", std::process::id());
        let directory = std::env::temp_dir().join(name);
        let _ = fs::remove_dir_all(&directory);
        let made = fs::DirBuilder::new().mode(0o700).create(&directory);
        made.unwrap_or_else(|error| panic!("{}: {error}", directory.display()));
        let path = directory.display();
        // The kernel's death signal ends it together with whoever tests.
        let process = Command::new("setpriv")
            .args(["--pdeathsig", "KILL", "--", "swtpm", "socket", "--tpm2"])
            .args(["--terminate", "--tpmstate", &format!("dir={path}")])
            .args(["--ctrl", &format!("type=unixio,path={path}/socket")])
            .stdin(Stdio::null())
            .stdout(Stdio::null())
            .stderr(Stdio::null())
            .spawn();
        let process = process.unwrap_or_else(|error| panic!("setpriv: {error}"));
        let mut tpm = Self {
            process,
            interface,
            directory,
        };
        let deadline = Instant::now() + PATIENCE;
        while !tpm.directory.join("socket").exists() {
            if matches!(tpm.process.try_wait(), Ok(Some(_))) {
                return None;
            }
            assert!(Instant::now() < deadline, "swtpm has no socket yet");
            std::thread::sleep(Duration::from_millis(10));
        }
        Some(tpm)
    }

    /// What gives it to a machine.
    #[must_use]
    pub fn arguments(&self) -> [String; 6] {
        let socket = self.directory.join("socket");
        [
            "-chardev".into(),
            format!("socket,id=tpm,path={}", socket.display()),
            "-tpmdev".into(),
            "emulator,id=tpm0,chardev=tpm".into(),
            "-device".into(),
            format!("{},tpmdev=tpm0", self.interface.device()),
        ]
    }
}

impl Drop for Tpm {
    fn drop(&mut self) {
        let _ = self.process.kill();
        let _ = self.process.wait();
        let _ = fs::remove_dir_all(&self.directory);
    }
}
