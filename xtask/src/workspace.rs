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

/// Has `fill` fill a directory aside, and puts it at `place`, whatever was there: an interrupted set-up leaves nothing
/// half done.
pub(crate) fn put_whole(
    place: &Path,
    fill: impl FnOnce(&Path) -> Result<(), Stop>,
) -> Result<(), Stop> {
    let name = place.file_name().unwrap_or_default().to_string_lossy();
    let aside = place.with_file_name(format!(".{name}.making"));
    let _ = fs::remove_dir_all(&aside);
    make(&aside)?;
    fill(&aside)?;
    let _ = fs::remove_dir_all(place);
    fs::rename(&aside, place)
        .map_err(|error| Stop::unready(format!("cannot create {}: {error}", place.display())))
}

/// Writes a file.
pub(crate) fn write(path: &Path, content: impl AsRef<[u8]>) -> Result<(), Stop> {
    fs::write(path, content)
        .map_err(|error| Stop::unready(format!("cannot write {}: {error}", path.display())))
}
