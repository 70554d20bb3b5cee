//! Policy to text, in the one canonical spelling.
//!
//! Says every key, so that the text means the same should a default ever change. Reading it back
//! gives the same switches and the same rules.

use core::fmt;

use crate::{Match, Policy, Rule, Storm, Topology, VERSION};

impl fmt::Display for Policy {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        writeln!(f, "version = {VERSION}")?;
        writeln!(f, "enforcement = \"{}\"", self.enforcement)?;
        writeln!(f, "default = \"{}\"", self.default_trust)?;
        writeln!(f, "require-iommu = {}", self.require_iommu)?;
        writeln!(f, "viommu = {}", self.viommu)?;
        writeln!(f, "bounce-memory = \"{}\"", self.bounce_memory)?;
        self.rules.iter().try_for_each(|rule| write!(f, "\n{rule}"))
    }
}

impl fmt::Display for Rule {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        writeln!(f, "[[device]]")?;
        if let Some(name) = self.name() {
            writeln!(f, "name = {}", Quoted(name))?;
        }
        writeln!(f, "match = {}", self.matches)?;
        writeln!(f, "trust = \"{}\"", self.trust)?;
        writeln!(f, "pool = \"{}\"", self.pool)?;
        writeln!(f, "whole-pages = \"{}\"", self.whole_pages)?;
        writeln!(f, "shadow-doorbells = {}", self.shadow_doorbells)?;
        writeln!(f, "mediator = \"{}\"", self.mediator)?;
        writeln!(f, "fallback = \"{}\"", self.fallback)?;
        if let Some(group) = self.group() {
            writeln!(f, "group = {}", Quoted(group))?;
        }
        writeln!(f, "storm = {}", self.storm)
    }
}

impl fmt::Display for Match {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let mut separator = "{ ";
        let mut member = |f: &mut fmt::Formatter<'_>, text: fmt::Arguments<'_>| {
            f.write_str(core::mem::replace(&mut separator, ", "))?;
            f.write_fmt(text)
        };
        match &self.topology {
            Some(Topology::Path(path)) => member(f, format_args!("path = \"{path}\""))?,
            Some(Topology::Port(port)) => member(f, format_args!("port = \"{port}\""))?,
            None => {}
        }
        if let Some(class) = self.identity.class {
            member(f, format_args!("class = \"{class}\""))?;
        }
        if let Some(vendor) = self.identity.vendor {
            member(f, format_args!("vendor = {vendor:#06x}"))?;
        }
        if let Some(device) = self.identity.device {
            member(f, format_args!("device = {device:#06x}"))?;
        }
        f.write_str(" }")
    }
}

impl fmt::Display for Storm {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { faults, per, then } = self;
        write!(
            f,
            "{{ faults = {faults}, per = \"{per}\", then = \"{then}\" }}"
        )
    }
}

/// A text as a TOML string without escapes.
// The parser takes no escapes, so no text has both a `'` and a `"` or `\`.
struct Quoted<'p>(&'p str);

impl fmt::Display for Quoted<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let quote = if self.0.contains(['"', '\\']) {
            '\''
        } else {
            '"'
        };
        write!(f, "{quote}{}{quote}", self.0)
    }
}
