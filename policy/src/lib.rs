//! Whom we distrust: the policy file and its verdicts.
//!
//! Owns the meaning of `policy.toml`: one total parser, a [`Policy`] of fixed size, and the
//! [`Verdict`] it gives for a device. Refuses to know how devices are found, what is done to a
//! device that is distrusted, or where the text came from. The boot stage and the host tool hand
//! it bytes; the hypervisor hands it devices and obeys.
//!
//! Two rules carry the weight:
//!
//! * the first `[[device]]` rule that matches decides, and what no rule names gets `default`;
//! * where a device sits is a fact, what it says of itself is a claim: a rule that looks at a
//!   claim (`class`, `vendor`, `device`) can take reach away and never give any, which the parser
//!   enforces.
//!
//! Text that does not parse gives an [`Error`] with line, column, what and what to write instead.
//!
//! ```
//! use policy::{ClassCode, Device, Hop, Place, Policy, Trust};
//!
//! let text = br#"
//! version = 1
//! [[device]]
//! name = "system disk"
//! match = { path = "0000:00:1d.0/00.0" }
//! trust = "trusted"
//! "#;
//! let policy = Policy::parse(text).expect("a valid policy");
//! let disk = Device {
//!     place: Place { segment: 0, root_bus: 0, hops: &[Hop::from_devfn(0xe8), Hop::from_devfn(0)] },
//!     class: ClassCode::new(0x01, 0x08, 0x02),
//!     vendor: 0x1b36,
//!     device: 0x0010,
//! };
//! let verdict = policy.verdict(&disk);
//! assert_eq!(verdict.trust, Trust::Trusted);
//! assert_eq!(verdict.rule.to_string(), "line 3 `system disk`");
//! ```
//!
//! Formats: TOML 1.1 (the subset named in `docs/policy/README.md`); PCI Code and ID Assignment
//! Specification, revision 1.12, for class codes.
#![no_std]
#![forbid(unsafe_code)]

mod class;
mod construct;
mod device;
mod error;
pub mod explain;
mod hint;
mod keys;
mod near;
mod parse;
mod place;
mod print;
mod quantity;
mod render;
mod rules;
mod syntax;
mod text;
mod value;
mod verdict;
mod warning;
mod words;

pub use class::{ClassCode, ClassPattern};
pub use construct::Construct;
pub use device::Device;
pub use error::{Error, Kind, Problem};
pub use keys::{Key, Omitted, Table, Takes, defaults};
pub use place::{Hop, MAX_HOPS, Path, Place};
pub use quantity::{Period, PoolSize};
pub use render::Rendered;
pub use rules::{Identity, MAX_NAME, MAX_RULES, Match, Policy, Rule, Storm, Topology, VERSION};
pub use text::{MAX_TEXT, Position};
pub use verdict::{DecidedBy, Treatment, Verdict};
pub use warning::Warning;
pub use words::{Enforcement, Fallback, Mediators, StormAction, Trust, WholePages};
