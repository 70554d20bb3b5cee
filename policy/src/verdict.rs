//! What the policy says of one device, and which line says it.

use core::fmt;

use crate::{
    Device, Enforcement, Fallback, Mediators, Policy, PoolSize, Rule, Storm, Trust, WholePages,
};

/// Everything that follows from the policy for one device.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Verdict<'p> {
    /// Whether it may reach guest memory directly, before the single switch is looked at.
    pub trust: Trust,
    /// The single switch; see [`Verdict::treatment`].
    pub enforcement: Enforcement,
    /// What it gets if it is untrusted and no mediator understands it.
    pub fallback: Fallback,
    /// The bounce memory of its domain, both directions together.
    pub pool: PoolSize,
    /// What becomes of pages that one of its requests covers from end to end.
    pub whole_pages: WholePages,
    /// Whether its driver is offered doorbells in memory.
    pub shadow_doorbells: bool,
    /// Who may mediate it.
    pub mediator: Mediators,
    /// How many faults are too many, and what follows.
    pub storm: Storm,
    /// The devices it shares one domain and one pool with; alone if `None`.
    pub group: Option<&'p str>,
    /// Which line decided.
    pub rule: DecidedBy<'p>,
}

impl Verdict<'_> {
    /// What is to be done with the device, trust and single switch taken together.
    pub fn treatment(&self) -> Treatment {
        match (self.enforcement, self.trust) {
            (Enforcement::Off, _) | (_, Trust::Trusted) => Treatment::Direct,
            (Enforcement::Audit, Trust::Untrusted) => Treatment::Recorded,
            (Enforcement::On, Trust::Untrusted) => Treatment::Confined,
        }
    }

    /// The verdict for two devices the hardware cannot tell apart, as behind a PCI bridge.
    ///
    /// The stricter one, so that one untrusted device makes both untrusted; what each allows
    /// beyond that is allowed only if both allow it. Between equals, `self` names rule and pool.
    #[must_use]
    pub fn shared_with(self, other: Self) -> Self {
        match (self.trust, other.trust) {
            (_, Trust::Trusted) => self,
            (Trust::Trusted, Trust::Untrusted) => other,
            (Trust::Untrusted, Trust::Untrusted) => Self {
                fallback: match other.fallback {
                    Fallback::Deny => Fallback::Deny,
                    Fallback::Page => self.fallback,
                },
                whole_pages: match other.whole_pages {
                    WholePages::Copy => WholePages::Copy,
                    WholePages::Map => self.whole_pages,
                },
                shadow_doorbells: self.shadow_doorbells && other.shadow_doorbells,
                mediator: match other.mediator {
                    Mediators::None => Mediators::None,
                    Mediators::Auto | Mediators::Edu => self.mediator,
                },
                ..self
            },
        }
    }
}

/// What is to be done with a device.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Treatment {
    /// It reaches guest memory.
    Direct,
    /// It reaches guest memory, and what confinement would have refused is recorded.
    Recorded,
    /// It reaches its own bounce pages.
    Confined,
}

/// Which line of the file decided.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum DecidedBy<'p> {
    /// A `[[device]]` rule.
    Rule {
        /// The line its `[[device]]` stands on.
        line: u32,
        /// What the operator calls it.
        name: Option<&'p str>,
    },
    /// No rule matched; the file's `default` applies.
    Default,
}

impl fmt::Display for DecidedBy<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Rule {
                line,
                name: Some(name),
            } => write!(f, "line {line} `{name}`"),
            Self::Rule { line, name: None } => write!(f, "line {line}"),
            Self::Default => f.write_str("default"),
        }
    }
}

impl Policy {
    /// What the first rule that matches `device` says of it, or `default` if none does.
    pub fn verdict(&self, device: &Device<'_>) -> Verdict<'_> {
        match self.lines().find(|(_, rule)| rule.matches.matches(device)) {
            Some((line, rule)) => {
                let name = rule.name();
                self.says(rule, DecidedBy::Rule { line, name })
            }
            None => self.says_by_default(),
        }
    }

    fn says<'p>(&self, rule: &'p Rule, by: DecidedBy<'p>) -> Verdict<'p> {
        Verdict {
            trust: rule.trust,
            enforcement: self.enforcement,
            fallback: rule.fallback,
            pool: rule.pool,
            whole_pages: rule.whole_pages,
            shadow_doorbells: rule.shadow_doorbells,
            mediator: rule.mediator,
            storm: rule.storm,
            group: rule.group(),
            rule: by,
        }
    }

    fn says_by_default(&self) -> Verdict<'_> {
        Verdict {
            trust: self.default_trust,
            enforcement: self.enforcement,
            fallback: Fallback::Deny,
            pool: PoolSize::DEFAULT,
            whole_pages: WholePages::Copy,
            shadow_doorbells: true,
            mediator: Mediators::Auto,
            storm: Storm::default(),
            group: None,
            rule: DecidedBy::Default,
        }
    }
}
