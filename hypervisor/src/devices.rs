//! The devices of the machine and what the policy says of each.

// UNSAFETY: takes the policy's text from where the loader put it.
#![expect(unsafe_code)]

use boot::handoff::Handoff;
use heapless::Vec;
use pci::topology::{Identity, MAX_HOPS};
use pci::{Address, FunctionId, Topology};
use policy::{ClassCode, Device, Hop, Place, Policy, Verdict};

use crate::console::{Console, say};
use crate::fabric::{MAX_FUNCTIONS, Space};
use crate::refusal::Refusal;

/// Reads the policy that the loader brought; without one, every device is untrusted.
pub(crate) fn policy(handoff: &'static Handoff) -> Result<Policy, Refusal> {
    let Some(range) = handoff.policy.range() else {
        return Ok(Policy::default());
    };
    // SAFETY: the validated hand-over put the text into Bouncer's own memory, where nobody writes it.
    let text = unsafe {
        core::slice::from_raw_parts(range.start().raw() as *const u8, range.len() as usize)
    };
    Policy::parse(text).map_err(|error| {
        say!("{}", error.rendered("policy.toml", text));
        Refusal::Policy {
            line: error.at.line,
            column: error.at.column,
        }
    })
}

/// Finds the functions of the machine.
pub(crate) fn scan(space: &Space) -> Topology<MAX_FUNCTIONS> {
    let mut topology = Topology::new();
    for (segment, bus) in space.roots() {
        // More functions than there is room for: those found are guarded, and the rest is hidden.
        if let Err(full) = topology.scan(space, segment, bus) {
            say!(
                "more than {MAX_FUNCTIONS} PCI functions: {} and others are hidden from the guest",
                full.at
            );
        }
    }
    topology
}

/// What the policy says of `id`: the strictest verdict on any function whose requests cannot be told
/// from its own.
pub(crate) fn verdict<'p>(
    policy: &'p Policy,
    topology: &Topology<MAX_FUNCTIONS>,
    id: FunctionId,
) -> Option<Verdict<'p>> {
    let own = policy.verdict(&Found::new(topology, id)?.device());
    let alias = topology.alias(id);
    let shared = topology.functions().filter(|(other, _)| {
        *other != id
            && topology.alias(*other) == alias
            && topology.segment(*other) == topology.segment(id)
    });
    let verdicts = shared.filter_map(|(other, _)| {
        let found = Found::new(topology, other)?;
        Some(policy.verdict(&found.device()))
    });
    Some(verdicts.fold(own, Verdict::shared_with))
}

/// Prints the table: where each device sits, what it says of itself, which line of the policy
/// decides, and what it really gets.
pub(crate) fn describe(
    policy: &Policy,
    topology: &Topology<MAX_FUNCTIONS>,
    mediator: impl Fn(FunctionId) -> Option<&'static str>,
    protection: impl Fn(FunctionId) -> &'static str,
) {
    let found: Vec<(FunctionId, Found), MAX_FUNCTIONS> = topology
        .functions()
        .filter_map(|(id, _)| Some((id, Found::new(topology, id)?)))
        .collect();
    let devices: Vec<Device<'_>, MAX_FUNCTIONS> =
        found.iter().map(|(_, found)| found.device()).collect();
    // The console does not fail: a port that takes no bytes loses them.
    let _ = policy::explain::devices(policy, &devices, &mut Console);
    for (id, found) in &found {
        if let Some(verdict) = verdict(policy, topology, *id) {
            let (mediator, protection) = (mediator(*id), protection(*id));
            if let Some(mediator) = mediator {
                say!(
                    "device {}: mediated as {mediator}; it reaches {} of Bouncer's own and nothing else",
                    found.at,
                    verdict.pool
                );
            }
            say!(
                "@device bdf={} trust={} mediator={} protection={protection} rule=\"{}\"",
                found.at,
                verdict.trust,
                mediator.unwrap_or("none"),
                verdict.rule
            );
        }
    }
}

/// A device as the policy wants to see it.
struct Found {
    at: Address,
    segment: u16,
    root_bus: u8,
    hops: Vec<Hop, MAX_HOPS>,
    identity: Identity,
}

impl Found {
    fn new<const N: usize>(topology: &Topology<N>, id: FunctionId) -> Option<Self> {
        let path = topology.path(id)?;
        Some(Self {
            at: topology.address(id)?,
            segment: path.segment,
            root_bus: path.bus,
            hops: path.hops.iter().map(|hop| Hop::from_devfn(hop.0)).collect(),
            identity: topology.function(id)?.identity,
        })
    }

    fn device(&self) -> Device<'_> {
        let class = self.identity.class;
        Device {
            place: Place {
                segment: self.segment,
                root_bus: self.root_bus,
                hops: &self.hops,
            },
            class: ClassCode::new(class.base(), class.subclass(), class.interface()),
            vendor: self.identity.vendor,
            device: self.identity.device,
        }
    }
}
