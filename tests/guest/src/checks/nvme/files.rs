//! Files of odd sizes on a fresh ext4 survive being unmounted and forgotten.

use super::drive::{Drive, drop_caches};
use super::program::{self, MKFS};
use crate::cmdline;
use crate::noise::Noise;
use crate::verdict::{Attempt, Figures, Verdict, ensure};
use nix::mount::{MsFlags, mount, umount};
use sha2::{Digest, Sha256};
use std::fs::File;
use std::io::{Read, Write};
use std::path::{Path, PathBuf};
use std::time::Duration;

/// MiB written unless `bouncer.files=` says otherwise.
const MEBIBYTES: u64 = 200;
const PLACE: &str = "/mnt";
/// Files are shorter than this.
const LONGEST: u64 = 3 << 20;
/// Files in one directory.
const IN_ONE: u64 = 16;
const SEED: u64 = 0x6578_7434;
const PATIENCE: Duration = Duration::from_secs(240);

pub(in super::super) fn run(figures: &mut Figures) -> Verdict {
    let wanted = cmdline::read().number("bouncer.files", MEBIBYTES) << 20;
    let drive = Drive::asked_for()?;
    let room = drive.bytes()?;
    ensure!(
        wanted + wanted / 4 < room,
        "{} MiB of files on a drive of {}: give it more or set bouncer.files",
        wanted >> 20,
        room >> 20
    );
    let path = drive.path().display().to_string();
    let quietly = ["-F", "-q", &path].map(str::to_owned);
    program::run(MKFS, &quietly, PATIENCE)?;

    mounted(&drive)?;
    let written = write_until(wanted)?;
    umount(PLACE).attempt("unmounting")?;
    drop_caches()?;
    mounted(&drive)?;
    let mut bytes = 0;
    for file in &written {
        let (hash, length) = hash_of(&file.path)?;
        ensure!(
            hash == file.hash && length == file.length,
            "{} came back changed, {length} bytes of {}",
            file.path.display(),
            file.length
        );
        bytes += length;
    }
    umount(PLACE).attempt("unmounting")?;
    figures.tell("files.count", written.len());
    figures.tell("files.bytes", bytes);
    Ok(())
}

struct Written {
    path: PathBuf,
    length: u64,
    hash: [u8; 32],
}

fn mounted(drive: &Drive) -> Verdict {
    let nothing = None::<&str>;
    mount(
        Some(&drive.path()),
        PLACE,
        Some("ext4"),
        MsFlags::empty(),
        nothing,
    )
    .attempt("mounting ext4")
}

/// Writes files until they hold `wanted` bytes together.
fn write_until(wanted: u64) -> Result<Vec<Written>, crate::verdict::Shortfall> {
    let mut sizes = Noise::new(SEED);
    let mut written = Vec::new();
    let mut total = 0;
    while total < wanted {
        let index = written.len() as u64;
        let directory = Path::new(PLACE).join(format!("directory{}", index / IN_ONE));
        std::fs::create_dir_all(&directory).attempt("making a directory")?;
        let path = directory.join(format!("file{index}"));
        // Odd, and as often small as large.
        let most = LONGEST >> (sizes.next() % 8);
        let length = ((sizes.next() % most) | 1).min(wanted - total);
        let content = Noise::new(SEED ^ index << 32).bytes(length as usize);
        let mut file = File::create(&path).attempt("creating a file")?;
        // In two pieces that meet inside a page.
        let (first, second) = content.split_at(content.len() / 3);
        for piece in [first, second] {
            file.write_all(piece)
                .attempt(&format!("writing {}", path.display()))?;
        }
        written.push(Written {
            path,
            length,
            hash: Sha256::digest(&content).into(),
        });
        total += length;
    }
    Ok(written)
}

fn hash_of(path: &Path) -> Result<([u8; 32], u64), crate::verdict::Shortfall> {
    let mut file = File::open(path).attempt(&format!("opening {}", path.display()))?;
    let (mut hash, mut length) = (Sha256::new(), 0);
    let mut chunk = vec![0; 1 << 17];
    loop {
        let read = file
            .read(&mut chunk)
            .attempt(&format!("reading {}", path.display()))?;
        if read == 0 {
            return Ok((hash.finalize().into(), length));
        }
        hash.update(&chunk[..read]);
        length += read as u64;
    }
}
