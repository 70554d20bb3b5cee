//! One set-up at a time: two commands must not fetch the same thing at once.

use std::fs::File;

use crate::progress::step;
use crate::stop::Stop;
use crate::workspace;

/// Waits for other set-ups in this checkout; the lock ends with the value, or with the process.
pub(super) fn take() -> Result<File, Stop> {
    let directory = workspace::root().join("target");
    workspace::make(&directory)?;
    let path = directory.join("setup.lock");
    let failed = |error| Stop::unready(format!("cannot lock {}: {error}", path.display()));
    let file = File::create(&path).map_err(failed)?;
    step("waiting for another set-up in this checkout", || {
        file.lock()
    })
    .map_err(failed)?;
    Ok(file)
}
