//! The driver leaves and comes back, the controller is reset, the machine sleeps, all under load.

use super::drive::Drive;
use super::load::{Broken, END, Load};
use crate::block::Way;
use crate::cmdline;
use crate::noise::Noise;
use crate::verdict::{Attempt, Figures, Shortfall, Verdict, ensure, failed, skipped};
use std::os::unix::fs::FileExt;
use std::path::Path;
use std::time::{Duration, Instant};

/// How often, unless `bouncer.rounds=` says otherwise.
const ROUNDS: u64 = 20;
const DRIVER: &str = "/sys/bus/pci/drivers/nvme";
/// Requests that must have been answered before something is done to the drive.
const WARMING: u64 = 40;
/// How long that may take.
const PATIENCE: Duration = Duration::from_secs(30);
/// What nobody touches meanwhile.
const MARK: usize = 64 << 10;
const SEED: u64 = 0x6d61_726b;

/// Unbinds and binds the driver; what was written before is there afterwards.
pub(in super::super) fn rebind(figures: &mut Figures) -> Verdict {
    let rounds = cmdline::read().number("bouncer.rounds", ROUNDS);
    let mut drive = Drive::asked_for()?;
    let serial = drive.serial().to_owned();
    let function = drive.function()?;
    let address = function.file_name().unwrap_or_default().to_string_lossy();
    leave_mark(&drive)?;
    let mut requests = 0;
    for round in 1..=rounds {
        let load = under_load(&drive, round)?;
        for attribute in ["unbind", "bind"] {
            std::fs::write(Path::new(DRIVER).join(attribute), &*address)
                .attempt(&format!("round {round}, {attribute} {address}"))?;
        }
        requests += load.requests();
        // A drive that is taken away refuses; it never gives wrong bytes.
        let ends = load.end();
        ensure!(
            ends.iter().any(Result::is_err),
            "round {round}: the load never noticed that the drive went"
        );
        for end in ends {
            if let Err(Broken::Changed(why)) = end {
                return Err(failed(format!("round {round}: {why}")));
            }
        }
        drive = Drive::find(&serial)?;
        find_mark(&drive, round)?;
    }
    figures.tell("rebind.rounds", rounds);
    figures.tell("rebind.requests", requests);
    Ok(())
}

/// Resets the controller; the load notices nothing but a pause.
pub(in super::super) fn reset(figures: &mut Figures) -> Verdict {
    let rounds = cmdline::read().number("bouncer.rounds", ROUNDS);
    let drive = Drive::asked_for()?;
    leave_mark(&drive)?;
    let load = under_load(&drive, 0)?;
    for round in 1..=rounds {
        drive.write_attribute("reset_controller", "1")?;
        is_live(&drive, &format!("round {round}"))?;
        answers(&load, WARMING, &format!("round {round}"))?;
    }
    let requests = load.requests();
    unbroken(load)?;
    find_mark(&drive, rounds)?;
    figures.tell("reset.rounds", rounds);
    figures.tell("reset.requests", requests);
    Ok(())
}

/// Sends the machine's devices to sleep and wakes them, by the kernel's own rehearsal of it.
pub(in super::super) fn suspend(figures: &mut Figures) -> Verdict {
    const REHEARSAL: &str = "/sys/power/pm_test";
    const STATE: &str = "/sys/power/state";
    const TIMES: u64 = 2;
    let levels = std::fs::read_to_string(REHEARSAL).unwrap_or_default();
    if !levels.contains("devices") {
        return Err(skipped("this kernel cannot rehearse sleep (pm_test)"));
    }
    let drive = Drive::asked_for()?;
    leave_mark(&drive)?;
    std::fs::write(REHEARSAL, "devices").attempt("choosing the rehearsal")?;
    let load = under_load(&drive, 1)?;
    for round in 1..=TIMES {
        std::fs::write(STATE, "freeze").attempt(&format!("round {round}: going to sleep"))?;
        is_live(&drive, &format!("round {round}"))?;
        answers(&load, WARMING, &format!("round {round}"))?;
    }
    let requests = load.requests();
    unbroken(load)?;
    find_mark(&drive, TIMES)?;
    figures.tell("suspend.rounds", TIMES);
    figures.tell("suspend.requests", requests);
    Ok(())
}

/// A load of which every thread has got answers.
fn under_load(drive: &Drive, seed: u64) -> Result<Load, Shortfall> {
    let load = Load::begin(drive, SEED ^ seed << 8)?;
    answers(&load, WARMING, "before anything is done")?;
    Ok(load)
}

/// Waits until `more` requests have been answered.
fn answers(load: &Load, more: u64, when: &str) -> Verdict {
    let (began, goal) = (Instant::now(), load.requests() + more);
    while load.requests() < goal {
        ensure!(
            began.elapsed() < PATIENCE,
            "{when}: the load stands still at {} requests",
            load.requests()
        );
        std::thread::sleep(Duration::from_millis(5));
    }
    Ok(())
}

fn is_live(drive: &Drive, when: &str) -> Verdict {
    let began = Instant::now();
    loop {
        let state = drive.attribute("state")?;
        if state == "live" {
            return Ok(());
        }
        ensure!(
            began.elapsed() < PATIENCE,
            "{when}: the controller is {state} after {PATIENCE:?}"
        );
        std::thread::sleep(Duration::from_millis(5));
    }
}

fn unbroken(load: Load) -> Verdict {
    for end in load.end() {
        end.map_err(|broken| match broken {
            Broken::Refused(why) | Broken::Changed(why) => failed(why),
        })?;
    }
    Ok(())
}

fn leave_mark(drive: &Drive) -> Verdict {
    let file = drive.open(Way::Buffered)?;
    file.write_all_at(&Noise::new(SEED).bytes(MARK), END)
        .and_then(|()| file.sync_all())
        .attempt("writing the mark")
}

fn find_mark(drive: &Drive, round: u64) -> Verdict {
    super::drive::drop_caches()?;
    let mut bytes = vec![0; MARK];
    drive
        .open(Way::Buffered)?
        .read_exact_at(&mut bytes, END)
        .attempt(&format!("round {round}: reading the mark"))?;
    ensure!(
        bytes == Noise::new(SEED).bytes(MARK),
        "round {round}: the mark has changed"
    );
    Ok(())
}
