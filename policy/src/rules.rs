//! A policy in memory: a few switches and an ordered list of rules.
//!
//! Everything has a fixed size, so that a policy can be read before there is an allocator and
//! kept for as long as the machine runs. It is made by the parser alone, which keeps the promise
//! that no rule gives reach for what a device claims to be.

use heapless::{String, Vec};

use crate::{
    ClassPattern, Device, Enforcement, Fallback, Mediators, Path, Period, PoolSize, StormAction,
    Trust, WholePages,
};

/// The version of the format this crate reads.
pub const VERSION: u16 = 1;

/// How many `[[device]]` rules a policy can hold.
pub const MAX_RULES: usize = 64;

/// How many bytes of UTF-8 a name or a group can have.
pub const MAX_NAME: usize = 31;

// A policy lives on the stack of the boot stage while it is read.
const _: () = assert!(size_of::<Policy>() <= 12 * 1024);

/// The switches and the rules, in the order in which they are tried.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Policy {
    pub(crate) enforcement: Enforcement,
    pub(crate) default_trust: Trust,
    pub(crate) require_iommu: bool,
    pub(crate) viommu: bool,
    pub(crate) bounce_memory: PoolSize,
    pub(crate) rules: Vec<Rule, MAX_RULES, u8>,
    /// Where each rule starts in the text, in step with `rules`.
    // Apart from the rules, so that a rule is the same rule wherever it stands in a file.
    pub(crate) lines: Vec<u32, MAX_RULES, u8>,
}

impl Policy {
    /// The single switch over every verdict.
    pub fn enforcement(&self) -> Enforcement {
        self.enforcement
    }

    /// The trust of a device that no rule names.
    pub fn default_trust(&self) -> Trust {
        self.default_trust
    }

    /// Whether to refuse to start where DMA or interrupt remapping is missing.
    pub fn requires_iommu(&self) -> bool {
        self.require_iommu
    }

    /// Whether the guest is shown a virtual VT-d.
    pub fn shows_viommu(&self) -> bool {
        self.viommu
    }

    /// The memory for the pools of all untrusted devices.
    pub fn bounce_memory(&self) -> PoolSize {
        self.bounce_memory
    }

    /// Bytes to set aside at boot for pools: none where nobody is confined.
    pub fn bytes_set_aside(&self) -> u64 {
        match self.enforcement {
            Enforcement::On => self.bounce_memory.bytes(),
            Enforcement::Audit | Enforcement::Off => 0,
        }
    }

    /// The rules, first to last.
    pub fn rules(&self) -> &[Rule] {
        &self.rules
    }

    /// The rules, first to last, each with the line its `[[device]]` stands on.
    pub fn lines(&self) -> impl Iterator<Item = (u32, &Rule)> {
        self.lines.iter().copied().zip(&self.rules)
    }
}

impl Default for Policy {
    /// What a file with nothing but its version says: nobody is trusted, and it is enforced.
    fn default() -> Self {
        Self {
            enforcement: Enforcement::On,
            default_trust: Trust::Untrusted,
            require_iommu: true,
            viommu: true,
            bounce_memory: PoolSize::ALL_BY_DEFAULT,
            rules: Vec::new(),
            lines: Vec::new(),
        }
    }
}

/// One `[[device]]` rule: whom it matches and what it says of them.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Rule {
    pub(crate) name: Option<String<MAX_NAME, u8>>,
    pub(crate) matches: Match,
    pub(crate) trust: Trust,
    pub(crate) pool: PoolSize,
    pub(crate) whole_pages: WholePages,
    pub(crate) shadow_doorbells: bool,
    pub(crate) mediator: Mediators,
    pub(crate) fallback: Fallback,
    pub(crate) group: Option<String<MAX_NAME, u8>>,
    pub(crate) storm: Storm,
}

impl Rule {
    /// What the operator calls it.
    pub fn name(&self) -> Option<&str> {
        self.name.as_deref()
    }

    /// Whom it matches.
    pub fn matches(&self) -> &Match {
        &self.matches
    }

    /// Whether the device may reach guest memory directly.
    pub fn trust(&self) -> Trust {
        self.trust
    }

    /// The bounce memory of each domain it makes, both directions together.
    pub fn pool(&self) -> PoolSize {
        self.pool
    }

    /// What becomes of pages that a request covers from end to end.
    pub fn whole_pages(&self) -> WholePages {
        self.whole_pages
    }

    /// Whether its driver is offered doorbells in memory.
    pub fn offers_shadow_doorbells(&self) -> bool {
        self.shadow_doorbells
    }

    /// Who may mediate it.
    pub fn mediator(&self) -> Mediators {
        self.mediator
    }

    /// What the device gets when no mediator understands it.
    pub fn fallback(&self) -> Fallback {
        self.fallback
    }

    /// The devices it shares one domain and one pool with; alone if `None`.
    pub fn group(&self) -> Option<&str> {
        self.group.as_deref()
    }

    /// How many faults are too many, and what follows.
    pub fn storm(&self) -> Storm {
        self.storm
    }
}

impl Default for Rule {
    /// What a rule says of a device when it says nothing; as a match, every device.
    fn default() -> Self {
        Self {
            name: None,
            matches: Match {
                topology: None,
                identity: Identity::default(),
            },
            trust: Trust::Untrusted,
            pool: PoolSize::DEFAULT,
            whole_pages: WholePages::Copy,
            shadow_doorbells: true,
            mediator: Mediators::Auto,
            fallback: Fallback::Deny,
            group: None,
            storm: Storm::default(),
        }
    }
}

/// Whom a rule matches: devices that satisfy both parts.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Match {
    /// Where the device must sit; anywhere if `None`.
    pub topology: Option<Topology>,
    /// What the device must say of itself.
    pub identity: Identity,
}

impl Match {
    /// Whether `device` is meant.
    pub fn matches(&self, device: &Device<'_>) -> bool {
        let sits_there = match &self.topology {
            None => true,
            Some(Topology::Path(path)) => device.place == path.place(),
            Some(Topology::Port(port)) => device.place.is_at_or_behind(&port.place()),
        };
        sits_there && self.identity.matches(device)
    }

    /// Whether every device `other` matches is also matched by this.
    pub(crate) fn covers(&self, other: &Self) -> bool {
        let place = match (&self.topology, &other.topology) {
            (None, _) => true,
            (Some(_), None) => false,
            (Some(Topology::Path(ours)), Some(Topology::Path(theirs))) => ours == theirs,
            (Some(Topology::Path(_)), Some(Topology::Port(_))) => false,
            (Some(Topology::Port(ours)), Some(Topology::Path(theirs) | Topology::Port(theirs))) => {
                theirs.place().is_at_or_behind(&ours.place())
            }
        };
        place && self.identity.covers(&other.identity)
    }
}

/// Where a device must sit. The only ground on which a rule can give reach.
#[derive(Clone, PartialEq, Eq, Debug)]
pub enum Topology {
    /// Exactly there.
    Path(Path),
    /// That port and everything behind it, hot-plugged included.
    Port(Path),
}

/// What a device must say of itself. A device may lie, so this can take reach, never give it.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub struct Identity {
    /// The class it must claim; any if `None`.
    pub class: Option<ClassPattern>,
    /// The vendor id it must claim; any if `None`.
    pub vendor: Option<u16>,
    /// The device id it must claim; any if `None`. Only ever given with a vendor.
    pub device: Option<u16>,
}

impl Identity {
    /// Whether nothing is asked.
    pub fn is_any(&self) -> bool {
        *self == Self::default()
    }

    /// Whether `device` claims to be what is asked for.
    pub fn matches(&self, device: &Device<'_>) -> bool {
        self.class.is_none_or(|class| class.matches(device.class))
            && self.vendor.is_none_or(|vendor| vendor == device.vendor)
            && self.device.is_none_or(|id| id == device.device)
    }

    fn covers(&self, other: &Self) -> bool {
        let class = match (self.class, other.class) {
            (None, _) => true,
            (Some(_), None) => false,
            (Some(ours), Some(theirs)) => ours.covers(theirs),
        };
        class
            && (self.vendor.is_none() || self.vendor == other.vendor)
            && (self.device.is_none() || self.device == other.device)
    }
}

/// How many faults in how long are a storm, and what follows.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Storm {
    /// The number of faults that is too many, at least one.
    pub faults: u32,
    /// The time in which they are counted.
    pub per: Period,
    /// What follows.
    pub then: StormAction,
}

impl Storm {
    /// The largest number of faults a rule can allow.
    pub const MAX_FAULTS: u32 = 1_000_000;
}

impl Default for Storm {
    /// A thousand faults in a second cut the device off.
    fn default() -> Self {
        Self {
            faults: 1_000,
            per: Period::DEFAULT,
            then: StormAction::Quarantine,
        }
    }
}
