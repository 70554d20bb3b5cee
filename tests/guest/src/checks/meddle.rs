//! A guest with evil intent: what it may programme, it programmes, and nothing must come of it.
//!
//! Owns the attacks on configuration space, message tables and chip set that a program with every
//! privilege can make, one file for each idea; and, in [`legal`], the programming that must go on
//! working. The devices are QEMU's: the educational device (`edu`) is the one that would gladly
//! reach where it must not. Knows nothing of how Bouncer decides.
//!
//! A check sees what a guest sees. Where the machine has an oracle ([`truth`]) it also asks what
//! the device was really given, which a guest cannot know under Bouncer.

pub(super) mod buses;
pub(super) mod chipset;
pub(super) mod concealed;
mod edu;
pub(super) mod firmware;
pub(super) mod forms;
mod function;
pub(super) mod legal;
pub(super) mod lent;
pub(super) mod mastering;
pub(super) mod messages;
mod page;
mod parties;
pub(super) mod placement;
mod ports;
pub(super) mod race;
pub(super) mod renumber;
mod roads;
pub(super) mod sizing;
mod stretch;
pub(super) mod tables;
mod truth;
pub(super) mod untranslated;
mod vfio;
mod vitals;
pub(super) mod windows;
