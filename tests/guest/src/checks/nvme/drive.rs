//! One NVMe drive, found by its serial number: its names, its files, its attributes.

use crate::block::{self, Use, Way};
use crate::cmdline;
use crate::verdict::{Attempt, Shortfall, ensure};
use std::fs::{File, OpenOptions};
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

const CONTROLLERS: &str = "/sys/class/nvme";
/// The drive that is used unless `bouncer.drive=` names another.
const FIRST: &str = "bouncer0";
/// How long the driver may take to find the drive.
const PATIENCE: Duration = Duration::from_secs(60);

/// A drive that is there and alive.
#[derive(Debug, Clone)]
pub(super) struct Drive {
    serial: String,
    /// The controller's name, such as `nvme0`.
    controller: String,
    /// The namespace's, such as `nvme0n1`.
    namespace: String,
}

impl Drive {
    /// The drive that the command line names, or the first.
    pub(super) fn asked_for() -> Result<Self, Shortfall> {
        Self::find(cmdline::read().value("bouncer.drive").unwrap_or(FIRST))
    }

    /// The drive of this serial number, once its driver has found it.
    pub(super) fn find(serial: &str) -> Result<Self, Shortfall> {
        let began = Instant::now();
        loop {
            if let Some(drive) = Self::among_controllers(serial) {
                return Ok(drive);
            }
            ensure!(
                began.elapsed() < PATIENCE,
                "no drive with serial number {serial} within {PATIENCE:?}"
            );
            std::thread::sleep(Duration::from_millis(20));
        }
    }

    fn among_controllers(serial: &str) -> Option<Self> {
        for entry in std::fs::read_dir(CONTROLLERS).ok()?.flatten() {
            let controller = entry.file_name().into_string().ok()?;
            let text = |name: &str| std::fs::read_to_string(entry.path().join(name));
            let is_it = text("serial").is_ok_and(|text| text.trim() == serial);
            if !is_it || text("state").is_ok_and(|state| state.trim() != "live") {
                continue;
            }
            let inside = std::fs::read_dir(entry.path()).ok()?.flatten();
            let names = inside.filter_map(|inside| inside.file_name().into_string().ok());
            let namespace = names.filter_map(|name| namespace(&name)).min();
            let has_file = |name: &String| Path::new("/dev").join(name).exists();
            if let Some(namespace) = namespace.filter(has_file) {
                return Some(Self {
                    serial: serial.to_owned(),
                    controller,
                    namespace,
                });
            }
        }
        None
    }

    /// Its serial number.
    pub(super) fn serial(&self) -> &str {
        &self.serial
    }

    /// The file of its first namespace.
    pub(super) fn path(&self) -> PathBuf {
        Path::new("/dev").join(&self.namespace)
    }

    /// The drive's file, to be read and written.
    pub(super) fn open(&self, way: Way) -> Result<File, Shortfall> {
        block::open(&self.path(), Use::ReadAndWrite, way)
    }

    /// The controller's own file, for commands of administration.
    pub(super) fn open_controller(&self) -> Result<File, Shortfall> {
        let path = Path::new("/dev").join(&self.controller);
        let file = OpenOptions::new().read(true).write(true).open(&path);
        file.attempt(&format!("opening {}", path.display()))
    }

    /// An attribute of the controller, without the blanks around it.
    pub(super) fn attribute(&self, name: &str) -> Result<String, Shortfall> {
        read(&Path::new(CONTROLLERS).join(&self.controller).join(name))
    }

    /// An attribute of the namespace's block device.
    pub(super) fn block_attribute(&self, name: &str) -> Result<String, Shortfall> {
        read(&Path::new("/sys/block").join(&self.namespace).join(name))
    }

    /// Writes an attribute of the controller.
    pub(super) fn write_attribute(&self, name: &str, value: &str) -> Result<(), Shortfall> {
        let path = Path::new(CONTROLLERS).join(&self.controller).join(name);
        std::fs::write(&path, value).attempt(&format!("writing {}", path.display()))
    }

    /// Its size.
    pub(super) fn bytes(&self) -> Result<u64, Shortfall> {
        let sectors: u64 = self.block_attribute("size")?.parse().attempt("the size")?;
        Ok(sectors * 512)
    }

    /// The directory of its PCI function, whose name is the function's address.
    pub(super) fn function(&self) -> Result<PathBuf, Shortfall> {
        let link = Path::new(CONTROLLERS).join(&self.controller).join("device");
        link.canonicalize()
            .attempt(&format!("following {}", link.display()))
    }

    /// The alignment that a buffer of direct input and output needs, in bytes.
    pub(super) fn alignment(&self) -> Result<usize, Shortfall> {
        let mask: usize = self
            .block_attribute("queue/dma_alignment")?
            .parse()
            .attempt("the alignment")?;
        Ok(mask + 1)
    }
}

/// The block device behind an entry of a controller's directory: `nvme0n1`, or the same for `nvme0c1n1`, the path to it
/// by one of several controllers; `None` for what is no namespace.
fn namespace(entry: &str) -> Option<String> {
    let (above, number) = entry.strip_prefix("nvme")?.split_once('n')?;
    let subsystem = above.split('c').next()?;
    let is_number = |text: &str| !text.is_empty() && text.bytes().all(|byte| byte.is_ascii_digit());
    (is_number(subsystem) && is_number(number)).then(|| format!("nvme{subsystem}n{number}"))
}

/// Forgets what the page cache holds, so that reading means reading.
pub(super) fn drop_caches() -> Result<(), Shortfall> {
    nix::unistd::sync();
    std::fs::write("/proc/sys/vm/drop_caches", "3").attempt("dropping caches")
}

fn read(path: &Path) -> Result<String, Shortfall> {
    let text = std::fs::read_to_string(path).attempt(&format!("reading {}", path.display()))?;
    Ok(text.trim().to_owned())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_namespace_has_one_name_by_whichever_controller() {
        assert_eq!(namespace("nvme0n1").as_deref(), Some("nvme0n1"));
        assert_eq!(namespace("nvme0c3n12").as_deref(), Some("nvme0n12"));
        for other in ["serial", "nvme0", "ng0n1", "nvmen1", "nvme0nx", "hwmon1"] {
            assert_eq!(namespace(other), None, "{other}");
        }
    }
}
