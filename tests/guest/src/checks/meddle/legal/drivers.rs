//! Drivers at work while their devices' interrupts, bindings and very presence change.

use std::fs::File;
use std::os::unix::fs::FileExt;
use std::path::Path;
use std::time::{Duration, Instant};

use super::super::buses::read_drive;
use super::super::function::Function;
use super::super::mastering::Pages;
use super::super::parties::{self, register};
use super::super::roads::Roads;
use crate::block::{self, Use, Way};
use crate::cpus;
use crate::verdict::{Attempt, Figures, Shortfall, Verdict, ensure, failed, skipped};

/// Times an interrupt is moved.
const MOVES: usize = 12;
/// How long a device may take to come, with its driver.
const PATIENCE: Duration = Duration::from_secs(20);

/// Moves the drive's and the disc controller's interrupts from processor to processor while both
/// are read: MSI-X entries and an MSI capability are rewritten under load.
pub(in super::super::super) fn affinity(figures: &mut Figures) -> Verdict {
    let online = cpus::online()?;
    if online.len() < 2 {
        return Err(skipped("one processor: nowhere to move an interrupt"));
    }
    let drive = interrupts_of(parties::of_class(parties::NVME)?)?;
    let disc = interrupts_of(parties::of_class(parties::AHCI)?)?;
    let reader = Disc::open()?;
    let before = total(&disc)?;
    let (mut moved, mut kept) = (0, 0);
    for turn in 0..MOVES {
        let cpu = online[turn % online.len()];
        for line in drive.iter().chain(&disc) {
            // The kernel keeps the affinity of a queue's own interrupt to itself.
            match std::fs::write(
                format!("/proc/irq/{line}/smp_affinity_list"),
                cpu.to_string(),
            ) {
                Ok(()) => moved += 1,
                Err(_) => kept += 1,
            }
        }
        for &from in &online {
            cpus::on(from, || {
                read_drive()?;
                reader.read(turn as u64)
            })?;
        }
    }
    let came = total(&disc)? - before;
    figures.tell("legal.affinity.moved", moved);
    figures.tell("legal.affinity.kept", kept);
    figures.tell("legal.affinity.disc-interrupts", came);
    ensure!(
        moved >= 2 * MOVES,
        "only {moved} times an interrupt could be moved, of {} lines of the drive and {} of the disc controller",
        drive.len(),
        disc.len()
    );
    ensure!(came > 0, "the disc was read and sent no interrupt");
    Ok(())
}

/// Takes the drive from its driver and gives it back, twice.
pub(in super::super::super) fn rebind(figures: &mut Figures) -> Verdict {
    let drive = parties::of_class(parties::NVME)?;
    read_drive()?;
    let mut resets = 0;
    for turn in 1..=2 {
        let tell = |path: &str, text: &str| {
            std::fs::write(path, text).attempt(&format!("turn {turn}: {path} of {drive}"))
        };
        tell("/sys/bus/pci/drivers/nvme/unbind", &drive.to_string())?;
        // A function-level reset, where the device has one: everything must come from the driver.
        let reset = format!("{}/reset", drive.directory());
        if Path::new(&reset).exists() {
            tell(&reset, "1")?;
            resets += 1;
        }
        tell("/sys/bus/pci/drivers/nvme/bind", &drive.to_string())?;
        read_drive()?;
    }
    figures.tell("legal.rebind.resets", resets);
    Ok(())
}

/// Removes the drive and the trusted educational device and finds them again.
pub(in super::super::super) fn rescan(figures: &mut Figures) -> Verdict {
    let gone = [parties::of_class(parties::NVME)?, parties::friend()?];
    read_drive()?;
    for function in gone {
        std::fs::write(format!("{}/remove", function.directory()), "1")
            .attempt(&format!("removing {function}"))?;
        ensure!(
            !Path::new(&function.directory()).exists(),
            "{function} was removed and is still there"
        );
    }
    std::fs::write("/sys/bus/pci/rescan", "1").attempt("rescanning")?;
    for function in gone {
        wait_for(&function.directory())?;
    }
    read_drive()?;
    let roads = Roads::open()?;
    let friend = parties::friend()?;
    let edu = parties::wake(&roads, friend)?;
    let command = roads.word(friend, register::COMMAND);
    roads.put_word(friend, register::COMMAND, command | register::MASTER);
    Pages::new()?.obey(&edu)?;
    roads.put_word(friend, register::COMMAND, command);
    figures.tell("legal.rescan.found", gone.len());
    Ok(())
}

/// The numbers of a function's message interrupts.
fn interrupts_of(function: Function) -> Result<Vec<u32>, Shortfall> {
    let path = format!("{}/msi_irqs", function.directory());
    let entries = std::fs::read_dir(&path).attempt(&format!("listing {path}"))?;
    let lines: Vec<u32> = entries
        .filter_map(|entry| entry.ok()?.file_name().to_str()?.parse().ok())
        .collect();
    if lines.is_empty() {
        return Err(failed(format!("{function} has no message interrupts")));
    }
    Ok(lines)
}

/// How often these interrupts came, on all processors.
fn total(lines: &[u32]) -> Result<u64, Shortfall> {
    let mut sum = 0;
    for line in lines {
        sum += cpus::interrupts(&line.to_string())?.iter().sum::<u64>();
    }
    Ok(sum)
}

/// The disc the machine was started from.
struct Disc(File);

impl Disc {
    fn open() -> Result<Self, Shortfall> {
        block::open(Path::new("/dev/sr0"), Use::Read, Way::Direct).map(Self)
    }

    fn read(&self, block: u64) -> Verdict {
        let mut buffer = vec![0u8; 2 * 4096];
        let start = buffer.as_ptr().align_offset(4096);
        self.0
            .read_exact_at(&mut buffer[start..start + 4096], block * 4096)
            .attempt("reading /dev/sr0")
    }
}

fn wait_for(path: &str) -> Verdict {
    let began = Instant::now();
    while !Path::new(path).exists() {
        ensure!(began.elapsed() < PATIENCE, "{path} does not come");
        std::thread::sleep(Duration::from_millis(10));
    }
    Ok(())
}
