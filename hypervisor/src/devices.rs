//! The devices of the machine and what the policy says of each.
//!
//! Read once at boot, while no guest runs.

// UNSAFETY: reads configuration space where the firmware says it is mapped.
#![expect(unsafe_code)]

use boot::handoff::Handoff;
use heapless::Vec;
use pci::topology::{Identity, MAX_HOPS};
use pci::{Address, ConfigSpace, Ecam, FunctionId, Register, Topology, Width};
use policy::{ClassCode, Device, Hop, Place, Policy};

use crate::console::{Console, say};
use crate::refusal::Refusal;

/// Functions of a machine at most.
const MAX_FUNCTIONS: usize = 256;
/// Windows into configuration space at most.
pub(crate) const MAX_WINDOWS: usize = 4;

/// Windows into configuration space that the firmware names.
pub(crate) type Windows = Vec<Ecam, MAX_WINDOWS>;

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

/// Prints the table: where each device sits, what it says of itself, and which line of the policy
/// decides.
pub(crate) fn describe(policy: &Policy, windows: &Windows) {
    let mut topology = Topology::<MAX_FUNCTIONS>::new();
    for window in windows {
        let space = Mapped { window };
        // More functions than there is room for: those found are listed, and the rest is named.
        if let Err(full) = topology.scan(&space, window.segment(), window.first_bus()) {
            say!(
                "more than {MAX_FUNCTIONS} PCI functions: {} and others are not listed",
                full.at
            );
        }
    }
    let found: Vec<Found, MAX_FUNCTIONS> = topology
        .functions()
        .filter_map(|(id, _)| Found::new(&topology, id))
        .collect();
    let devices: Vec<Device<'_>, MAX_FUNCTIONS> = found.iter().map(Found::device).collect();
    // The console does not fail: a port that takes no bytes loses them.
    let _ = policy::explain::devices(policy, &devices, &mut Console);
    for (found, device) in found.iter().zip(&devices) {
        let verdict = policy.verdict(device);
        say!(
            "@device bdf={} trust={} mediator=none protection=none rule=\"{}\"",
            found.at,
            verdict.trust,
            verdict.rule
        );
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

/// Configuration space behind a window that the firmware names.
struct Mapped<'a> {
    window: &'a Ecam,
}

impl ConfigSpace for Mapped<'_> {
    fn read(&self, at: Address, register: Register) -> u32 {
        let place = (at.segment == self.window.segment())
            .then(|| self.window.address_of(at.bdf, register))
            .flatten();
        let Some(place) = place else {
            return register.width().mask();
        };
        // SAFETY: the firmware says that configuration space is mapped there, below 4 GiB, where
        // the loader mapped everything; reading it changes nothing.
        unsafe {
            match register.width() {
                Width::Byte => u32::from((place.raw() as *const u8).read_volatile()),
                Width::Word => u32::from((place.raw() as *const u16).read_volatile()),
                Width::Dword => (place.raw() as *const u32).read_volatile(),
            }
        }
    }

    fn write(&mut self, _: Address, _: Register, _: u32) {
        unreachable!("describing devices writes no configuration space");
    }
}
