//! Where things are: the checkout, what is fetched, what is built.

use std::fs;
use std::path::{Path, PathBuf};

use crate::stop::Stop;

/// The checkout's root.
pub(crate) fn root() -> &'static Path {
    Path::new(env!("CARGO_MANIFEST_DIR"))
        .parent()
        .expect("xtask is a folder of the workspace")
}

/// What is fetched, kept between runs: under the checkout whatever directory cargo builds in.
pub(crate) fn cache(name: &str) -> PathBuf {
    root().join("target").join(name)
}

/// Where cargo puts what it builds.
pub(crate) fn built() -> PathBuf {
    std::env::var_os("CARGO_TARGET_DIR")
        .map_or_else(|| root().join("target"), |directory| root().join(directory))
}

/// Makes a directory and those above it.
pub(crate) fn make(directory: &Path) -> Result<(), Stop> {
    fs::create_dir_all(directory)
        .map_err(|error| Stop::unready(format!("cannot create {}: {error}", directory.display())))
}

/// Writes a file.
pub(crate) fn write(path: &Path, content: impl AsRef<[u8]>) -> Result<(), Stop> {
    fs::write(path, content)
        .map_err(|error| Stop::unready(format!("cannot write {}: {error}", path.display())))
}
