//! Interrupts that wander from processor to processor while the drive works, as irqbalance has them wander.
//!
//! Moves every interrupt of the machine that lets itself be moved. Of the drive's that is the one for commands of
//! administration; the kernel keeps those of its other queues where it wants them, so that processors leave and
//! come back for their sake.

use super::buffers::{PAGE, Pages};
use super::drive::Drive;
use super::load::{Broken, Load};
use super::passthrough::{Question, Queue, ask};
use crate::cpus;
use crate::verdict::{Attempt, Figures, Shortfall, Verdict, ensure, failed, skipped};
use std::path::Path;

const IDENTIFY: u8 = 0x06;
/// Times that each interrupt is moved.
const ROUNDS: usize = 40;
/// Every so many rounds a processor leaves and comes back.
const LEAVES: usize = 10;

pub(in super::super) fn run(figures: &mut Figures) -> Verdict {
    let online = cpus::online()?;
    let [_, .., last] = online[..] else {
        return Err(skipped("one processor: nowhere to move an interrupt"));
    };
    let drive = Drive::asked_for()?;
    let own = numbers_in(&drive.function()?.join("msi_irqs"))?;
    let controller = drive.open_controller()?;
    let load = Load::begin(&drive, 0xaff1)?;
    let (mut moved, mut moved_of_drive) = (0, 0);
    for round in 0..ROUNDS {
        if round % LEAVES == LEAVES - 1 {
            set_online(last, "0")?;
            identify(&controller)?;
            set_online(last, "1")?;
        }
        for line in numbers_in(Path::new("/proc/irq"))? {
            let cpu = online[(round + line as usize) % online.len()];
            let path = format!("/proc/irq/{line}/smp_affinity_list");
            // Some stay where they are: the timer's, and those of the drive's queues.
            if std::fs::write(path, cpu.to_string()).is_ok() {
                moved += 1;
                moved_of_drive += usize::from(own.contains(&line));
            }
        }
        identify(&controller)?;
    }
    let requests = load.requests();
    for end in load.end() {
        end.map_err(|broken| match broken {
            Broken::Refused(why) | Broken::Changed(why) => failed(why),
        })?;
    }
    figures.tell("affinity.moved", moved);
    figures.tell("affinity.moved-of-drive", moved_of_drive);
    figures.tell("affinity.requests", requests);
    ensure!(requests > 0, "the drive answered nothing");
    ensure!(
        moved_of_drive >= ROUNDS,
        "only {moved_of_drive} times an interrupt of the drive's was moved, of {} lines",
        own.len()
    );
    Ok(())
}

fn identify(controller: &std::fs::File) -> Verdict {
    let mut pages = Pages::new(PAGE);
    let question = Question {
        opcode: IDENTIFY,
        words: [1, 0, 0, 0, 0, 0],
        ..Question::default()
    };
    let answer = ask(controller, Queue::Admin, question, pages.part(0, PAGE))?;
    ensure!(
        answer.is_success(),
        "identify controller: status {:#06x}",
        answer.status
    );
    Ok(())
}

fn set_online(cpu: usize, value: &str) -> Verdict {
    let path = format!("/sys/devices/system/cpu/cpu{cpu}/online");
    std::fs::write(&path, value).attempt(&format!("{value} to {path}"))
}

/// The names in a directory that are numbers.
fn numbers_in(path: &Path) -> Result<Vec<u32>, Shortfall> {
    let entries = std::fs::read_dir(path).attempt(&format!("listing {}", path.display()))?;
    let names = entries.filter_map(|entry| entry.ok()?.file_name().into_string().ok());
    Ok(names.filter_map(|name| name.parse().ok()).collect())
}
