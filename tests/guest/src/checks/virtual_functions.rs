//! A network card is divided into virtual functions, and each is a card of its own.

use std::fs;
use std::path::Path;
use std::time::{Duration, Instant};

use crate::verdict::{Attempt, Figures, Shortfall, Verdict, ensure, failed};

const DEVICES: &str = "/sys/bus/pci/devices";
const COUNT: usize = 2;
/// How long drivers may take to find what is there.
const PATIENCE: Duration = Duration::from_secs(30);

/// Has two virtual functions appear, and their driver make interfaces of them; then sends them away,
/// and back again.
pub(super) fn run(figures: &mut Figures) -> Verdict {
    let owner = wait_for("a device that can be divided", || {
        let devices = fs::read_dir(DEVICES).ok()?;
        let mut devices = devices.filter_map(|entry| Some(entry.ok()?.path()));
        devices.find(|device| device.join("sriov_numvfs").exists())
    })?;
    for round in 0..2 {
        divide(&owner, COUNT)?;
        for number in 0..COUNT {
            let link = owner.join(format!("virtfn{number}"));
            let function = fs::canonicalize(&link).attempt(&format!("{}", link.display()))?;
            let name = function.file_name().unwrap_or_default().to_owned();
            let interface = wait_for("an interface of a virtual function", || {
                let mut names = fs::read_dir(function.join("net")).ok()?;
                names.next()?.ok()
            })?;
            figures.tell(
                &format!("virtual.{round}.{number}"),
                format!(
                    "{} {}",
                    name.to_string_lossy(),
                    interface.file_name().to_string_lossy()
                ),
            );
        }
        divide(&owner, 0)?;
        ensure!(
            !owner.join("virtfn0").exists(),
            "a virtual function stayed behind"
        );
    }
    Ok(())
}

fn divide(owner: &Path, count: usize) -> Verdict {
    let file = owner.join("sriov_numvfs");
    fs::write(&file, count.to_string()).attempt(&format!("{count} to {}", file.display()))
}

fn wait_for<T>(what: &str, mut found: impl FnMut() -> Option<T>) -> Result<T, Shortfall> {
    let began = Instant::now();
    while began.elapsed() < PATIENCE {
        if let Some(found) = found() {
            return Ok(found);
        }
        std::thread::sleep(Duration::from_millis(50));
    }
    Err(failed(format!("{what}: none within {PATIENCE:?}")))
}
