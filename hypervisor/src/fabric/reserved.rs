//! Memory that firmware reserved for devices: honoured for trusted ones, told where it is not as it
//! should be.

use boot::memory_map::RegionKind;
use memory::{ByteRange, Hpa};
use vtd::dmar::{Bridges, Dmar, Flaw, ReservedRegion};

use super::MAX_FUNCTIONS;
use super::takeover::{Needs, Obstacle};
use crate::console::say;
use crate::devices;
use pci::Topology;
use policy::{Policy, Treatment};

/// Looks at every reserved region. Trusted devices reach theirs by the domain that they share, which is
/// all that units translate but Bouncer's own; untrusted ones reach none.
///
/// # Errors
/// If a trusted device expects Bouncer's memory.
pub(super) fn look(
    table: &Dmar<'_>,
    needs: &Needs<'_>,
    bridges: &impl Bridges,
    own: ByteRange<Hpa>,
    reach: ByteRange<Hpa>,
) -> Result<(), Obstacle> {
    let reserved = needs
        .handoff
        .regions()
        .filter(|region| [RegionKind::RESERVED, RegionKind::ACPI_NVS].contains(&region.kind))
        .map(|region| region.range);
    for region in table.reserved_regions() {
        let Some(flaw) = region.flaw(own, reach, reserved.clone()) else {
            continue;
        };
        let is_trusted = is_of_a_trusted_device(&region, needs.policy, &needs.topology, bridges);
        if let (Flaw::Hypervisor(range), true) = (flaw, is_trusted) {
            return Err(Obstacle::Reserved(range));
        }
        say!("remapping    {flaw}");
    }
    Ok(())
}

fn is_of_a_trusted_device(
    region: &ReservedRegion<'_>,
    policy: &Policy,
    topology: &Topology<MAX_FUNCTIONS>,
    bridges: &impl Bridges,
) -> bool {
    topology.functions().any(|(id, _)| {
        let verdict = devices::verdict(policy, topology, id);
        let is_trusted = verdict.is_some_and(|v| v.treatment() != Treatment::Confined);
        let at = topology.address(id).filter(|_| is_trusted);
        at.is_some_and(|at| region.belongs_to(at, bridges))
    })
}
