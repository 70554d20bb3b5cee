//! Two drives at work at once, each with its own bytes.

use super::drive::{Drive, drop_caches};
use super::load::{Broken, END, Load};
use crate::block::Way;
use crate::noise::Noise;
use crate::verdict::{Attempt, Figures, Verdict, ensure, failed};
use sha2::{Digest, Sha256};
use std::os::unix::fs::FileExt;
use std::time::Duration;

const SERIALS: [&str; 2] = ["bouncer0", "bouncer1"];
const WORKING: Duration = Duration::from_secs(5);
/// What is written to both drives at the same place, different on each.
const LENGTH: usize = 1 << 20;

pub(in super::super) fn run(figures: &mut Figures) -> Verdict {
    let mut drives = Vec::new();
    for serial in SERIALS {
        drives.push(Drive::find(serial)?);
    }
    let content = |index: usize| Noise::new(0x7477_6f00 + index as u64).bytes(LENGTH);
    for (index, drive) in drives.iter().enumerate() {
        let file = drive.open(Way::Buffered)?;
        file.write_all_at(&content(index), END)
            .and_then(|()| file.sync_all())
            .attempt("writing the mark")?;
    }
    let mut loads = Vec::new();
    for (index, drive) in drives.iter().enumerate() {
        loads.push(Load::begin(drive, 0x100 + index as u64)?);
    }
    std::thread::sleep(WORKING);
    for (drive, load) in drives.iter().zip(loads) {
        let requests = load.requests();
        for end in load.end() {
            end.map_err(|broken| match broken {
                Broken::Refused(why) | Broken::Changed(why) => {
                    failed(format!("{}: {why}", drive.serial()))
                }
            })?;
        }
        ensure!(requests > 0, "{} answered nothing", drive.serial());
        figures.tell(&format!("two.{}.requests", drive.serial()), requests);
    }
    drop_caches()?;
    for (index, drive) in drives.iter().enumerate() {
        let mut bytes = vec![0; LENGTH];
        let file = drive.open(Way::Buffered)?;
        file.read_exact_at(&mut bytes, END)
            .attempt("reading the mark")?;
        ensure!(
            Sha256::digest(&bytes) == Sha256::digest(content(index)),
            "{} lost its mark",
            drive.serial()
        );
    }
    Ok(())
}
