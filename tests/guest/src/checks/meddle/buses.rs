//! Bus numbers changed under a device's feet, so that it speaks with another's name.
//!
//! A requester id is a bus number that software assigns. An untrusted device moved to a number
//! nobody uses, and to a trusted device's, must not come to memory by either; and when everything
//! is put back, the trusted device works on.

use std::os::unix::fs::FileExt;
use std::path::Path;
use std::time::Duration;

use super::edu;
use super::function::Function;
use super::mastering::{Pages, is_really_off};
use super::parties::{self, register};
use super::roads::{Road, Roads};
use super::truth::Truth;
use super::vitals::Vitals;
use crate::block::{self, Use, Way};
use crate::verdict::{Attempt, Figures, Verdict, ensure, failed};

/// The trusted drive.
const DRIVE: &str = "/dev/nvme0n1";

/// A number that no firmware gives out on a small machine.
const UNUSED: u8 = 0x40;

/// Renumbers the bus of an untrusted device, by every road.
pub(in super::super) fn run(figures: &mut Figures) -> Verdict {
    let roads = Roads::open()?;
    let truth = Truth::open()?;
    let vitals = Vitals::watch()?;
    let pages = Pages::new()?;
    let foes = parties::foes(&roads)?;
    let foe = foes
        .into_iter()
        .find(|foe| foe.bus != 0)
        .ok_or_else(|| failed("no untrusted device is behind a bridge"))?;
    let drive = parties::of_class(parties::NVME)?;
    let bridge = parties::bridge_of(&roads, foe)?;
    let home = roads.dword(bridge, register::BUSES);
    read_drive()?;

    let edu = parties::wake(&roads, foe)?;
    let mut moves = 0;
    for road in Road::ALL {
        for bus in [UNUSED, drive.bus, 0] {
            let what = format!("{foe} on bus {bus:#x} by {road:?}");
            let buses = home & 0xff00_00ff | u32::from(bus) << 8 | u32::from(bus) << 16;
            roads.write(road, bridge, register::BUSES, 4, buses)?;
            let seen = roads.dword(bridge, register::BUSES);
            let outcome = (|| {
                ensure!(
                    seen & 0x00ff_ffff == buses & 0x00ff_ffff,
                    "{what}: the bus numbers read back {seen:#010x}"
                );
                if bus == UNUSED {
                    let moved = foe.on_bus(bus);
                    parties::demand_edu(&roads, moved)?;
                    command_all(&roads, moved)?;
                }
                if bus == drive.bus {
                    impostor(&roads, foe.on_bus(bus))?;
                }
                // Whatever it is called now, its registers are where they were.
                pages.resist(&edu, &what)?;
                if bus == UNUSED {
                    is_really_off(&roads, &truth, foe.on_bus(bus))?;
                }
                vitals.hold(&what)
            })();
            roads.put(bridge, register::BUSES, home);
            outcome?;
            parties::demand_edu(&roads, foe)?;
            let back = roads.dword(bridge, register::BUSES);
            ensure!(back == home, "{what}: put back, reads {back:#010x}");
            moves += 1;
        }
        pages.resist(&edu, &format!("{foe} at home again"))?;
    }
    reset_behind(&roads, bridge, foe)?;
    command_all(&roads, foe)?;
    pages.resist(&edu, &format!("{foe} after a reset of its bus"))?;
    is_really_off(&roads, &truth, foe)?;
    read_drive()?;
    vitals.hold("with every bus at home")?;
    ensure!(edu.id() == edu::ID, "{foe} no longer answers");
    figures.tell("meddle.buses.moves", moves);
    Ok(())
}

/// Resets the bus, which takes every register from the device, and gives it its place again.
fn reset_behind(roads: &Roads, bridge: Function, foe: Function) -> Verdict {
    let place = roads.dword(foe, register::BAR);
    let buses = roads.dword(bridge, register::BUSES);
    let control = roads.word(bridge, register::BRIDGE_CONTROL);
    for control in [control | register::BUS_RESET, control] {
        roads.put_word(bridge, register::BRIDGE_CONTROL, control);
        std::thread::sleep(Duration::from_millis(20));
    }
    let kept = roads.dword(bridge, register::BUSES);
    ensure!(
        kept == buses,
        "a reset behind {bridge} has changed its own bus numbers to {kept:#010x}"
    );
    parties::demand_edu(roads, foe)?;
    roads.put(foe, register::BAR, place);
    parties::wake(roads, foe).map(drop)
}

/// Switches bus mastering on by every road that leads to a function the kernel does not know.
fn command_all(roads: &Roads, function: Function) -> Verdict {
    for road in [Road::Ecam, Road::Ports] {
        let command = roads.read(road, function, register::COMMAND, 2)?;
        let wanted = command | u32::from(register::MASTER | register::MEMORY);
        roads.write(road, function, register::COMMAND, 2, wanted)?;
    }
    Ok(())
}

/// Two functions have one name now: a guest that looks for the wrong one finds either, and
/// switches bus mastering on in it, which the drive has on already.
fn impostor(roads: &Roads, function: Function) -> Verdict {
    let identity = roads.dword(function, 0);
    if identity == edu::IDENTITY {
        command_all(roads, function)?;
    }
    Ok(())
}

/// Demands that the drive still reads; it may just have got its driver back, and take a moment.
pub(super) fn read_drive() -> Verdict {
    // Directly: from the drive, not from the kernel's memory of it; the buffer must be aligned.
    let drive = block::open(Path::new(DRIVE), Use::Read, Way::Direct)?;
    let mut buffer = vec![0u8; 2 * 4096];
    let start = buffer.as_ptr().align_offset(4096);
    drive
        .read_exact_at(&mut buffer[start..start + 4096], 0)
        .attempt(&format!("reading {DRIVE}"))
}
