//! Accesses to the watched ports: power, reset, the keyboard controller, configuration space, and
//! Bouncer's own serial line.

use processor::legacy;
use processor::power::Request;

use crate::backend::{Backend, Direction, PortAccess};
use crate::console::say;
use crate::exits::end;
use crate::limit::Once;
use crate::power;
use crate::run::Runner;

/// Sleep types whose refusal has been reported.
static REFUSED: Once<u8, 8> = Once::new();

/// Answers an access.
pub(crate) fn answer<B: Backend>(runner: &mut Runner<B>, access: PortAccess) {
    let covers = |port: u16| {
        (u32::from(access.port)..u32::from(access.port) + u32::from(access.bytes))
            .contains(&u32::from(port))
    };
    if write_or_read_configuration(runner, access) {
        runner.cpu.skip(access.instruction_len);
        return;
    }
    let is_legacy = legacy::PORTS.into_iter().any(covers);
    let is_power = is_legacy || runner.machine.power.ports().any(covers);
    // Bouncer's serial line: reads show all ones, as where there is no device; writes go nowhere. A
    // string instruction, which no operating system uses on these ports, does nothing at all: it moves
    // nothing, and its registers stay as they are.
    let is_absent = !is_power || access.is_string;
    let rax = runner.cpu.state().general[0];
    match access.direction {
        Direction::In => {
            let value = match is_absent {
                true => u32::MAX,
                false => power::read_for_guest(access.port, access.bytes),
            };
            if !access.is_string {
                runner.cpu.state().general[0] = merged(rax, value, access.bytes);
            }
        }
        Direction::Out if is_absent => {}
        Direction::Out if is_legacy => write_legacy(runner, access, rax as u32),
        Direction::Out => write(runner, access, rax as u32),
    }
    runner.cpu.skip(access.instruction_len);
}

/// Answers an access to configuration space by its ports, where devices are confined. Returns whether
/// it was one.
fn write_or_read_configuration<B: Backend>(runner: &mut Runner<B>, access: PortAccess) -> bool {
    let Some(fabric) = runner.machine.fabric.filter(|_| !access.is_string) else {
        return false;
    };
    let rax = runner.cpu.state().general[0];
    match access.direction {
        Direction::Out => fabric
            .lock()
            .write_port(access.port, access.bytes, rax as u32),
        Direction::In => {
            let value = fabric.lock().read_port(access.port, access.bytes);
            if let Some(value) = value {
                runner.cpu.state().general[0] = merged(rax, value, access.bytes);
            }
            value.is_some()
        }
    }
}

fn write<B: Backend>(runner: &mut Runner<B>, access: PortAccess, value: u32) {
    match runner
        .machine
        .power
        .request(access.port, access.bytes, value)
    {
        Request::Ordinary => {}
        Request::PowerOff => end::report(runner.machine, end::Ending::PowerOff),
        Request::Reset => end::guest_reset(runner.machine),
        Request::Sleep { kind } => {
            if REFUSED.is_new(kind) {
                say!(
                    "guest asked for sleep state type {kind}: refused, because the firmware would wake \
                     it without Bouncer; turn the machine off instead"
                );
            }
            return;
        }
    }
    power::write_for_guest(access.port, access.bytes, value);
}

/// Writes byte by byte, as the old devices at these ports see it.
fn write_legacy<B: Backend>(runner: &mut Runner<B>, access: PortAccess, value: u32) {
    for (index, byte) in value
        .to_le_bytes()
        .into_iter()
        .take(access.bytes.into())
        .enumerate()
    {
        let port = access.port.wrapping_add(index as u16);
        let outcome = runner.machine.keyboard.lock().write(port, byte);
        let byte = match outcome {
            legacy::Outcome::Write(byte) => byte,
            legacy::Outcome::Reset => end::guest_reset(runner.machine),
            legacy::Outcome::Drop => continue,
        };
        power::write_for_guest(port, 1, u32::from(byte));
    }
}

/// What IN leaves in RAX: 8 and 16 bits keep the rest, 32 bits clear the upper half.
fn merged(rax: u64, value: u32, bytes: u8) -> u64 {
    match bytes {
        1 => rax & !0xff | u64::from(value as u8),
        2 => rax & !0xffff | u64::from(value as u16),
        _ => u64::from(value),
    }
}
