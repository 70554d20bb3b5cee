//! What a valid policy says that its author probably did not mean.

use core::fmt;

use crate::{Fallback, Policy, Trust};

/// Something to look at twice. Unlike an error it stops nothing.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Warning {
    /// A rule that never decides, as an earlier one matches everything it does.
    Covered {
        /// The line of the rule.
        line: u32,
        /// The line of the earlier one.
        by: u32,
    },
    /// A rule a device gets around by claiming to be something else.
    Evadable {
        /// The line of the rule.
        line: u32,
    },
    /// A rule that lets devices reach what the guest maps by a unit that it is not shown.
    Unmappable {
        /// The line of the rule.
        line: u32,
    },
}

impl fmt::Display for Warning {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Covered { line, by } => write!(
                f,
                "line {line}: this rule never decides, the one on line {by} matches all it does; \
                 put the narrower rule first"
            ),
            Self::Evadable { line } => write!(
                f,
                "line {line}: a device that claims to be something else is trusted by default; \
                 match on `path` or `port`, or set default = \"untrusted\""
            ),
            Self::Unmappable { line } => write!(
                f,
                "line {line}: fallback = \"page\" needs viommu = true; without it the guest maps \
                 nothing, and the device is denied"
            ),
        }
    }
}

impl Policy {
    /// Everything in this policy to look at twice, rule by rule.
    pub fn warnings(&self) -> impl Iterator<Item = Warning> {
        self.lines()
            .enumerate()
            .flat_map(move |(index, (line, rule))| {
                let covered = self
                    .lines()
                    .take(index)
                    .find(|(_, earlier)| earlier.matches.covers(&rule.matches))
                    .map(|(by, _)| Warning::Covered { line, by });
                let is_evadable =
                    self.default_trust == Trust::Trusted && !rule.matches.identity.is_any();
                let evadable = is_evadable.then_some(Warning::Evadable { line });
                let is_unmappable = rule.fallback == Fallback::Page && !self.shows_viommu();
                let unmappable = is_unmappable.then_some(Warning::Unmappable { line });
                covered.into_iter().chain(evadable).chain(unmappable)
            })
    }
}
