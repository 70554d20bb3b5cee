//! Ranges that are not a device's registers: the windows of a bridge, the ports of a device.
//!
//! A window over memory or over a unit's registers would pass there what belongs elsewhere; ports
//! of a device over those that Bouncer uses itself would come between Bouncer and the machine.

use super::function::Function;
use super::parties::{self, register};
use super::roads::{Road, Roads};
use super::truth::Truth;
use super::vitals::{UNIT, Vitals};
use crate::bouncer;
use crate::verdict::{Figures, Shortfall, Verdict, ensure, failed};

const MEBIBYTE: u64 = 1 << 20;

/// The system management bus controller of QEMU's q35, whose fifth register is of ports.
const SMBUS: Function = Function::new(0, 0x1f, 3);
const SMBUS_PORTS: u16 = 0x20;
const SMBUS_COUNT: u32 = 0x40;

/// Sets the memory window of the untrusted device's port over what is nobody's to pass.
pub(in super::super) fn bridges(figures: &mut Figures) -> Verdict {
    let roads = Roads::open()?;
    let truth = Truth::open()?;
    let vitals = Vitals::watch()?;
    let foes = parties::foes(&roads)?;
    let foe = foes.into_iter().find(|foe| foe.bus != 0);
    let foe = foe.ok_or_else(|| failed("no untrusted device is behind a bridge"))?;
    let bridge = parties::bridge_of(&roads, foe)?;
    let home = roads.dword(bridge, register::WINDOW);
    let mut targets = vec![
        ("memory", vitals.canary()),
        ("the remapping unit", UNIT),
        ("the local APIC", 0xfee0_0000),
        ("the I/O APIC", 0xfec0_0000),
        ("configuration space", roads.window_base()),
    ];
    if bouncer::is_there() {
        targets.push(("Bouncer", bouncer::own_memory().base));
    }
    let mut attempts = 0;
    for (name, target) in targets {
        for road in Road::ALL {
            let what = format!("the window of {bridge} over {name} by {road:?}");
            let base = (target & !(MEBIBYTE - 1)) >> 16;
            let window = (base << 16 | base) as u32;
            // Limit first: a mixture of old and new must not open either.
            for (offset, half) in [(2, window >> 16), (0, window & 0xffff)] {
                roads.write(road, bridge, register::WINDOW + offset, 2, half)?;
            }
            let outcome = (|| {
                let seen = roads.dword(bridge, register::WINDOW);
                ensure!(
                    seen & 0xfff0_fff0 == window & 0xfff0_fff0,
                    "{what}: {window:#010x} was written and {seen:#010x} is read back"
                );
                is_closed_or_elsewhere(&roads, &truth, bridge, target, &what)?;
                vitals.hold(&what)
            })();
            roads.put(bridge, register::WINDOW, home);
            outcome?;
            attempts += 1;
        }
    }
    parties::wake(&roads, foe)?;
    figures.tell("meddle.windows.attempts", attempts);
    Ok(())
}

fn is_closed_or_elsewhere(
    roads: &Roads,
    truth: &Truth,
    bridge: Function,
    target: u64,
    what: &str,
) -> Verdict {
    let Some(window) = truth.config(roads, bridge, register::WINDOW)? else {
        return Ok(());
    };
    let window = u64::from(window);
    let first = (window & 0xfff0) << 16;
    let last = (window >> 20 & 0xfff) << 20 | 0xf_ffff;
    ensure!(
        !(first..=last).contains(&target),
        "{what}: the bridge passes {first:#x} to {last:#x}"
    );
    Ok(())
}

/// Sets the ports of a trusted device over Bouncer's serial line, over those of configuration
/// space, over power management and over the keyboard controller.
pub(in super::super) fn ports(figures: &mut Figures) -> Verdict {
    let roads = Roads::open()?;
    let truth = Truth::open()?;
    let vitals = Vitals::watch()?;
    let home = roads.dword(SMBUS, SMBUS_PORTS);
    ensure!(home & 1 == 1, "{SMBUS} has no register of ports: {home:#x}");
    let command = roads.word(SMBUS, register::COMMAND);
    let mut covered = Vec::new();
    let mut targets = vec![
        ("Bouncer's serial line", 0x3c0),
        ("configuration space", 0xcc0),
        ("power management", 0x600),
        ("the firmware's configuration", 0x500),
        ("the keyboard controller", 0x40),
    ];
    if let Ok(drive) = parties::of_class(parties::AHCI) {
        let taken = roads.dword(drive, SMBUS_PORTS) & !(SMBUS_COUNT - 1);
        targets.push(("another device", taken));
    }
    for &(name, place) in &targets {
        // By the window alone: the other roads may lead nowhere meanwhile.
        roads.put(SMBUS, SMBUS_PORTS, place);
        roads.put_word(SMBUS, register::COMMAND, command | register::IO);
        let outcome = decodes(&roads, &truth, place);
        roads.put_word(SMBUS, register::COMMAND, command & !register::IO);
        roads.put(SMBUS, SMBUS_PORTS, home);
        roads.put_word(SMBUS, register::COMMAND, command);
        if outcome? {
            covered.push(name);
        }
        vitals.hold(name)?;
    }
    figures.tell("meddle.ports.attempts", targets.len());
    ensure!(
        covered.is_empty(),
        "{SMBUS} decodes the ports of {}",
        covered.join(", ")
    );
    passed_ports(&roads, &truth)
}

/// Sets the ports that a bridge passes down over the first 4096, in which Bouncer's are.
fn passed_ports(roads: &Roads, truth: &Truth) -> Verdict {
    let foes = parties::foes(roads)?;
    let Some(foe) = foes.into_iter().find(|foe| foe.bus != 0) else {
        return Ok(());
    };
    let bridge = parties::bridge_of(roads, foe)?;
    let home = roads.word(bridge, register::PORT_WINDOW);
    let command = roads.word(bridge, register::COMMAND);
    roads.put_word(bridge, register::COMMAND, command | register::IO);
    roads.put_word(bridge, register::PORT_WINDOW, 0);
    let seen = roads.word(bridge, register::PORT_WINDOW) & 0xf0f0;
    let real = truth.config(roads, bridge, register::PORT_WINDOW);
    roads.put_word(bridge, register::PORT_WINDOW, home);
    roads.put_word(bridge, register::COMMAND, command);
    ensure!(
        seen == 0,
        "{bridge}: a window of ports from 0 on reads back {seen:#06x}"
    );
    let real = real?.map_or(u32::MAX, |real| real & 0xf0f0);
    // Base in bits 7:4, limit in bits 15:12.
    let is_closed = real >> 4 & 0xf > real >> 12 & 0xf || real == u32::MAX;
    ensure!(
        is_closed,
        "{bridge} passes the first 4096 ports: {real:#06x}"
    );
    Ok(())
}

fn decodes(roads: &Roads, truth: &Truth, place: u32) -> Result<bool, Shortfall> {
    let command = truth.config(roads, SMBUS, register::COMMAND)?;
    let ports = truth.config(roads, SMBUS, SMBUS_PORTS)?;
    let is_on = command.is_some_and(|command| command as u16 & register::IO != 0);
    Ok(is_on && ports.is_some_and(|ports| ports & !3 == place))
}
