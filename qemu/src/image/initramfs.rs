//! The guest's initial file system: one program, the modules it loads, the checks it runs.

use std::fs;
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};

use crate::Error;
use crate::bench::Kernel;
use crate::image::cpio::Archive;
use crate::image::modules;

/// An initial file system to be written.
///
/// `/etc/bouncer/modules` lists the paths of the modules in the order they must be loaded, `/etc/bouncer/checks` the
/// names of the checks to run (empty: all), one a line.
#[derive(Clone, Debug)]
pub struct Initramfs {
    init: PathBuf,
    modules: Option<(PathBuf, Vec<String>)>,
    checks: Vec<String>,
    files: Vec<(String, Vec<u8>)>,
    trees: Vec<PathBuf>,
}

impl Initramfs {
    /// Starts with `init`, a static program that becomes `/init`.
    #[must_use]
    pub fn new(init: &Path) -> Self {
        Self {
            init: init.to_path_buf(),
            modules: None,
            checks: Vec::new(),
            files: Vec::new(),
            trees: Vec::new(),
        }
    }

    /// Puts in the named modules of `kernel` and all that they need; names built into the kernel are fine.
    #[must_use]
    pub fn modules<I: IntoIterator<Item: Into<String>>>(
        mut self,
        kernel: &Kernel,
        names: I,
    ) -> Self {
        let directory = kernel.modules.clone();
        self.modules
            .get_or_insert((directory, Vec::new()))
            .1
            .extend(names.into_iter().map(Into::into));
        self
    }

    /// Names the checks to run; none named means all.
    #[must_use]
    pub fn checks<I: IntoIterator<Item: Into<String>>>(mut self, names: I) -> Self {
        self.checks.extend(names.into_iter().map(Into::into));
        self
    }

    /// Adds a file at an absolute path inside.
    #[must_use]
    pub fn file(mut self, path: impl Into<String>, content: impl Into<Vec<u8>>) -> Self {
        self.files.push((path.into(), content.into()));
        self
    }

    /// Puts in everything below `root`, at the same place below `/`; what the host may execute, the guest may.
    #[must_use]
    pub fn tree(mut self, root: &Path) -> Self {
        self.trees.push(root.to_path_buf());
        self
    }

    /// Writes the archive, uncompressed: under TCG unpacking costs more time than reading saves. Returns `path`.
    ///
    /// # Errors
    /// If init or a module cannot be read, a module does not exist, or `path` cannot be written.
    pub fn write(&self, path: &Path) -> Result<PathBuf, Error> {
        let bytes = self.archive()?;
        // A file that did not change keeps its time, and discs made from it stay as they are.
        if fs::read(path).is_ok_and(|old| old == bytes) {
            return Ok(path.to_path_buf());
        }
        fs::write(path, bytes).map_err(|error| Error::file(path, "write", error))?;
        Ok(path.to_path_buf())
    }

    fn archive(&self) -> Result<Vec<u8>, Error> {
        let init = fs::read(&self.init).map_err(|error| Error::file(&self.init, "read", error))?;
        let mut archive = Archive::default();
        for directory in ["/dev", "/proc", "/sys", "/tmp", "/mnt"] {
            archive.directory(directory);
        }
        archive.character_device("/dev/console", 5, 1);
        archive.program("/init", &init);

        let modules = match &self.modules {
            Some((directory, names)) => modules::with_dependencies(directory, names)?,
            None => Vec::new(),
        };
        let mut list = String::new();
        for module in &modules {
            let path = format!("/lib/modules/{}.ko", module.name);
            archive.file(&path, &module.content);
            list.push_str(&path);
            list.push('\n');
        }
        archive.file("/etc/bouncer/modules", list.as_bytes());
        let checks: String = self.checks.iter().map(|name| format!("{name}\n")).collect();
        archive.file("/etc/bouncer/checks", checks.as_bytes());
        for (path, content) in &self.files {
            archive.file(path, content);
        }
        for root in &self.trees {
            put_in(&mut archive, root, "")?;
        }
        Ok(archive.finish())
    }
}

/// Adds what is in `directory` on the host to the archive, below `path`, in the order of its names.
fn put_in(archive: &mut Archive, directory: &Path, path: &str) -> Result<(), Error> {
    let failed = |error| Error::file(directory, "read", error);
    let entries = fs::read_dir(directory).map_err(failed)?;
    let mut entries = entries.collect::<Result<Vec<_>, _>>().map_err(failed)?;
    entries.sort_by_key(fs::DirEntry::file_name);
    for entry in entries {
        let (from, to) = (
            entry.path(),
            format!("{path}/{}", entry.file_name().display()),
        );
        let metadata = fs::metadata(&from).map_err(|error| Error::file(&from, "read", error))?;
        if metadata.is_dir() {
            put_in(archive, &from, &to)?;
            continue;
        }
        let content = fs::read(&from).map_err(|error| Error::file(&from, "read", error))?;
        if metadata.permissions().mode() & 0o111 == 0 {
            archive.file(&to, &content);
        } else {
            archive.program(&to, &content);
        }
    }
    Ok(())
}
