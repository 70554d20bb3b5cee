//! Bits of configuration space as the specifications draw them.
//!
//! Owns register offsets, field layouts and capability ids. Has no opinion: what a guest may do
//! with them is [`crate::mediation`]'s business, where they are found is [`crate::capabilities`]'.

pub mod capability;
pub mod extended;
pub mod header;
