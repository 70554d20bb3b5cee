//! Who is in the machine: the hostile devices, the trusted one, the drive, the bridges.
//!
//! Owns the search in sysfs. Trust is Bouncer's to know; the command line repeats to the guest
//! which educational device the policy trusts (`bouncer.trusted-edu=0000:00:04.0`).

use super::edu::{self, Edu};
use super::function::Function;
use super::roads::Roads;
use crate::cmdline;
use crate::verdict::{Attempt, Shortfall, ensure, failed, skipped};

/// Offsets and bits of configuration space (PCI Local Bus 3.0, chapter 6).
pub(super) mod register {
    /// Command, with status above it.
    pub(crate) const COMMAND: u16 = 0x04;
    /// Command: I/O space.
    pub(crate) const IO: u16 = 1;
    /// Command: memory space.
    pub(crate) const MEMORY: u16 = 1 << 1;
    /// Command: bus master.
    pub(crate) const MASTER: u16 = 1 << 2;
    /// Command: no INTx.
    pub(crate) const NO_INTX: u16 = 1 << 10;
    /// The cache line size.
    pub(crate) const CACHE_LINE: u16 = 0x0c;
    /// The latency timer.
    pub(crate) const LATENCY: u16 = 0x0d;
    /// The interrupt line: software's own note.
    pub(crate) const INTERRUPT_LINE: u16 = 0x3c;
    /// The first base address register.
    pub(crate) const BAR: u16 = 0x10;
    /// An endpoint's expansion ROM.
    pub(crate) const ROM: u16 = 0x30;
    /// Where the list of capabilities begins.
    pub(crate) const CAPABILITIES: u16 = 0x34;
    /// A bridge's primary, secondary and subordinate bus.
    pub(crate) const BUSES: u16 = 0x18;
    /// A bridge's control register.
    pub(crate) const BRIDGE_CONTROL: u16 = 0x3e;
    /// Bridge control: reset of everything behind it.
    pub(crate) const BUS_RESET: u16 = 1 << 6;
    /// A bridge's window for ports.
    pub(crate) const PORT_WINDOW: u16 = 0x1c;
    /// A bridge's window for memory.
    pub(crate) const WINDOW: u16 = 0x20;
}

/// Capabilities by their numbers.
pub(super) mod capability {
    /// Power management.
    pub(crate) const POWER: u8 = 0x01;
    /// Message signalled interrupts.
    pub(crate) const MSI: u8 = 0x05;
    /// The same with a table.
    pub(crate) const MSIX: u8 = 0x11;
}

/// NVM Express (class code 010802h) and SATA with AHCI (010601h).
pub(super) const NVME: u32 = 0x01_0802;
/// See [`NVME`].
pub(super) const AHCI: u32 = 0x01_0601;

/// Every function the kernel sees, in order.
pub(super) fn functions() -> Result<Vec<Function>, Shortfall> {
    let path = "/sys/bus/pci/devices";
    let entries = std::fs::read_dir(path).attempt(&format!("listing {path}"))?;
    let mut functions: Vec<Function> = entries
        .filter_map(|entry| entry.ok()?.file_name().to_str()?.parse().ok())
        .collect();
    functions.sort_by_key(|function| function.requester_id());
    Ok(functions)
}

/// The first function of a class.
pub(super) fn of_class(class: u32) -> Result<Function, Shortfall> {
    let is_it = |function: &Function| {
        let path = format!("{}/class", function.directory());
        let text = std::fs::read_to_string(path).unwrap_or_default();
        u32::from_str_radix(text.trim().trim_start_matches("0x"), 16) == Ok(class)
    };
    let found = functions()?.into_iter().find(is_it);
    found.ok_or_else(|| skipped(format!("no device of class {class:06x}")))
}

/// The trusted educational device.
pub(super) fn friend() -> Result<Function, Shortfall> {
    let cmdline = cmdline::read();
    let named = cmdline
        .value("bouncer.trusted-edu")
        .ok_or_else(|| skipped("no bouncer.trusted-edu= on the command line"))?;
    named
        .parse()
        .map_err(|_| failed(format!("{named:?} names no function")))
}

/// The educational devices that nobody trusts.
pub(super) fn foes(roads: &Roads) -> Result<Vec<Function>, Shortfall> {
    let friend = friend().ok();
    let foes: Vec<Function> = functions()?
        .into_iter()
        .filter(|&function| roads.dword(function, 0) == edu::IDENTITY)
        .filter(|&function| Some(function) != friend)
        .collect();
    if foes.is_empty() {
        return Err(skipped("no untrusted educational device"));
    }
    Ok(foes)
}

/// The bridge whose secondary bus `function` is on.
pub(super) fn bridge_of(roads: &Roads, function: Function) -> Result<Function, Shortfall> {
    let is_it = |&bridge: &Function| {
        let header = roads.dword(bridge, 0x0c) >> 16 & 0x7f;
        header == 1 && (roads.dword(bridge, register::BUSES) >> 8) as u8 == function.bus
    };
    let found = functions()?.into_iter().find(is_it);
    found.ok_or_else(|| failed(format!("{function} is behind no bridge")))
}

/// Switches on memory decoding, and nothing else, and reaches for its registers.
pub(super) fn wake(roads: &Roads, function: Function) -> Result<Edu, Shortfall> {
    let command = roads.word(function, register::COMMAND);
    roads.put_word(
        function,
        register::COMMAND,
        command | register::MEMORY | register::NO_INTX,
    );
    Edu::at(u64::from(roads.dword(function, register::BAR) & !0xf))
}

/// Where the first capability `id` of `function` is.
pub(super) fn capability_of(roads: &Roads, function: Function, id: u8) -> Result<u16, Shortfall> {
    let mut at = (roads.dword(function, register::CAPABILITIES) & 0xfc) as u16;
    // 192 bytes hold no more than 48 capabilities.
    for _ in 0..48 {
        if at < 0x40 {
            break;
        }
        let [found, next] = roads.word(function, at).to_le_bytes();
        if found == id {
            return Ok(at);
        }
        at = u16::from(next & 0xfc);
    }
    Err(failed(format!("{function} has no capability {id:#x}")))
}

/// Demands that `function` answers with the identity of an educational device.
pub(super) fn demand_edu(roads: &Roads, function: Function) -> Result<(), Shortfall> {
    let identity = roads.dword(function, 0);
    ensure!(
        identity == edu::IDENTITY,
        "{function} has become {identity:#010x}"
    );
    Ok(())
}
