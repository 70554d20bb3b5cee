//! Memory holds what was put into it: 32 MiB in files of odd sizes, written, read back, compared.

use crate::noise::Noise;
use crate::verdict::{Attempt, Figures, Verdict, ensure};
use std::path::{Path, PathBuf};

const TOTAL: usize = 32 << 20;

/// Sizes around every border that matters to a page cache, none a multiple of eight.
const SIZES: [usize; 6] = [1, 4095, 4097, 65_537, 524_287, 2_097_153];

pub(super) fn run(figures: &mut Figures) -> Verdict {
    let directory = Path::new("/tmp/odd-sizes");
    std::fs::create_dir_all(directory).attempt("making a directory in tmpfs")?;
    let files = write(directory)?;
    for (seed, (path, length)) in files.iter().enumerate() {
        verify(path, seed as u64, *length)?;
    }
    figures.tell("tmpfs.files", files.len());
    std::fs::remove_dir_all(directory).attempt("removing the directory")
}

fn write(directory: &Path) -> Result<Vec<(PathBuf, usize)>, crate::verdict::Shortfall> {
    let mut files = Vec::new();
    let mut left = TOTAL;
    for (seed, size) in (0u64..).zip(SIZES.iter().cycle()) {
        if left == 0 {
            break;
        }
        let length = left.min(*size);
        let path = directory.join(format!("{seed}"));
        std::fs::write(&path, Noise::new(seed).bytes(length))
            .attempt(&format!("writing file {seed} of {length} bytes"))?;
        files.push((path, length));
        left -= length;
    }
    Ok(files)
}

fn verify(path: &Path, seed: u64, length: usize) -> Verdict {
    let found = std::fs::read(path).attempt(&format!("reading file {seed}"))?;
    let expected = Noise::new(seed).bytes(length);
    let first = found
        .iter()
        .zip(&expected)
        .position(|(found, expected)| found != expected);
    ensure!(
        found.len() == length && first.is_none(),
        "file {seed}: {} of {length} bytes, first difference at {first:?}",
        found.len()
    );
    Ok(())
}
