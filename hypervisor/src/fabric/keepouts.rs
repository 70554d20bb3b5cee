//! What no device may be made to decode: memory that is somebody's, and ports.

use boot::memory_map::RegionKind;
use heapless::Vec;
use memory::{ByteRange, Hpa};
use pci::Ports;
use pci::mediation::{KeepoutKind, Keepouts, PortKind, TooManyKeepouts};

use super::Needs;
use crate::machine::IoApic;
use crate::mappings;

/// Ports of the system board, from the first on: no firmware and no system gives them to a device on a bus.
const BOARD: u64 = 0x100;
/// The power-management timer's. ACPI 6.5, section 4.8.3.3.
const TIMER_PORTS: u64 = 4;

/// The list for this machine.
pub(super) fn of(
    needs: &Needs<'_>,
    own: ByteRange<Hpa>,
    holes: &[ByteRange<Hpa>],
) -> Result<Keepouts, TooManyKeepouts> {
    let mut keepouts = Keepouts::new(mappings::physical_width());
    keepouts.protect(own, KeepoutKind::Hypervisor)?;
    let windows = needs.space.windows().iter().map(|window| window.range());
    let windows = windows.chain(needs.unreached.iter().copied());
    let windows: Vec<ByteRange<Hpa>, 8> = windows.map(|window| window.identity()).collect();
    for hole in holes.iter().filter(|hole| **hole != own) {
        let is_io_apic = |io_apic: &IoApic| io_apic.page.identity() == *hole;
        let kind = if windows.contains(hole) {
            KeepoutKind::Ecam
        } else if needs.io_apics.iter().any(is_io_apic) {
            KeepoutKind::IoApic
        } else {
            KeepoutKind::Remapping
        };
        keepouts.protect(*hole, kind)?;
    }
    // Local APICs, and what is written there to raise interrupts. SDM vol. 3A, 12.4.1 and 12.11.1.
    let local = ByteRange::inclusive(Hpa::new(0xfee0_0000), Hpa::new(0xfeef_ffff));
    if let Some(local) = local {
        keepouts.protect(local, KeepoutKind::LocalApic)?;
    }
    for region in needs.handoff.regions() {
        let kind = if region.kind == RegionKind::RESERVED {
            KeepoutKind::Platform
        } else {
            KeepoutKind::Memory
        };
        keepouts.protect(region.range, kind)?;
    }
    protect_ports(needs, &mut keepouts)?;
    Ok(keepouts)
}

/// Ports at which the guest is stopped must lead there and nowhere else, and those that Bouncer reads
/// to what it means to read.
fn protect_ports(needs: &Needs<'_>, keepouts: &mut Keepouts) -> Result<(), TooManyKeepouts> {
    let board = Ports::new(0, BOARD).into_iter();
    let board = board.map(|ports| (ports, PortKind::Board));
    let watched = needs.watched.iter().map(|port| Ports::new(*port, 1));
    let timer = Ports::new(needs.timer.port(), TIMER_PORTS);
    let ours = watched.chain([timer]).flatten();
    let ours = ours.map(|ports| (ports, PortKind::Hypervisor));
    for (ports, kind) in board.chain(ours) {
        keepouts.protect_ports(ports, kind)?;
    }
    Ok(())
}
