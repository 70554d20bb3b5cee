//! Who is behind a remapping unit that the kernel drives: drives, and others, each counted as a figure.

use std::path::Path;

use crate::verdict::{Attempt, Figures, Verdict};

const DEVICES: &str = "/sys/bus/pci/devices";
/// Mass storage, non-volatile memory. PCI Code and ID Assignment 1.14, 1.2.
const DRIVE: &str = "0x0108";

pub(super) fn run(figures: &mut Figures) -> Verdict {
    let (mut drives, mut others) = (0, 0);
    for entry in std::fs::read_dir(DEVICES).attempt("listing the devices")? {
        let path = entry.attempt("listing the devices")?.path();
        if !has_group(&path) {
            continue;
        }
        let class = std::fs::read_to_string(path.join("class")).attempt("reading a class")?;
        if class.starts_with(DRIVE) {
            drives += 1;
        } else {
            others += 1;
        }
    }
    figures.tell("groups.drives", drives);
    figures.tell("groups.others", others);
    Ok(())
}

fn has_group(device: &Path) -> bool {
    device.join("iommu_group").exists()
}
