//! The sockets a session listens on, and the directory they live in.

use std::fs;
use std::os::unix::fs::DirBuilderExt;
use std::os::unix::net::UnixListener;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicU32, Ordering};

use crate::Error;
use crate::machine::Wiring;

/// Listening sockets, one for each channel of the machine. None of them blocks.
#[derive(Debug)]
pub(crate) struct Listeners {
    pub(crate) console: UnixListener,
    pub(crate) guest: UnixListener,
    pub(crate) bouncer: UnixListener,
    pub(crate) qmp: UnixListener,
    pub(crate) qtest: UnixListener,
}

impl Listeners {
    /// Listens on all of them.
    pub(crate) fn bind(wiring: &Wiring) -> Result<Self, Error> {
        let bind = |socket: &Path| {
            let listener = UnixListener::bind(socket)
                .map_err(|error| Error::file(socket, "listen on", error))?;
            listener
                .set_nonblocking(true)
                .map_err(|error| Error::file(socket, "configure", error))?;
            Ok(listener)
        };
        Ok(Self {
            console: bind(&wiring.console)?,
            guest: bind(&wiring.guest)?,
            bouncer: bind(&wiring.bouncer)?,
            qmp: bind(&wiring.qmp)?,
            qtest: bind(&wiring.qtest)?,
        })
    }
}

/// A private directory for the sockets, removed with the session. Socket paths are short by decree (108 bytes), so
/// it is made among the system's temporary files.
#[derive(Debug)]
pub(crate) struct Directory(PathBuf);

impl Directory {
    /// Makes a new one, readable by its owner alone.
    pub(crate) fn create() -> Result<Self, Error> {
        static COUNT: AtomicU32 = AtomicU32::new(0);
        let count = COUNT.fetch_add(1, Ordering::Relaxed);
        let path = std::env::temp_dir().join(format!("bouncer-{}-{count}", std::process::id()));
        let _ = fs::remove_dir_all(&path);
        sweep();
        fs::DirBuilder::new()
            .mode(0o700)
            .create(&path)
            .map_err(|error| Error::file(&path, "create", error))?;
        Ok(Self(path))
    }
}

impl Directory {
    /// Where it is.
    pub(crate) fn path(&self) -> &Path {
        &self.0
    }
}

impl Drop for Directory {
    fn drop(&mut self) {
        let _ = fs::remove_dir_all(&self.0);
    }
}

/// Removes what sessions left behind whose process was killed before it could.
fn sweep() {
    let Ok(entries) = fs::read_dir(std::env::temp_dir()) else {
        return;
    };
    for entry in entries.flatten() {
        let owner = entry.file_name().to_str().and_then(owner);
        if owner.is_some_and(|owner| !Path::new("/proc").join(owner.to_string()).exists()) {
            let _ = fs::remove_dir_all(entry.path());
        }
    }
}

/// The process a directory of this name belongs to: 12 for `bouncer-12-0`.
fn owner(name: &str) -> Option<u32> {
    let (process, count) = name.strip_prefix("bouncer-")?.split_once('-')?;
    count.parse::<u32>().ok()?;
    process.parse().ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_directories_of_sessions_have_an_owner() {
        assert_eq!(owner("bouncer-12-0"), Some(12));
        for other in ["bouncer-12", "bouncer-12-disc", "bouncer-x-0", "bash-12-0"] {
            assert_eq!(owner(other), None, "{other}");
        }
    }

    #[test]
    fn a_directory_goes_with_its_session_and_not_before() {
        let first = Directory::create().unwrap();
        let second = Directory::create().unwrap();
        assert!(first.path().exists() && second.path().exists());
        let path = first.path().to_path_buf();
        drop(first);
        assert!(!path.exists());
    }
}
