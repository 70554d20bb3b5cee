//! The driver of `vtd` programs the unit of this crate: two readings of one manual meet.

mod carried;
mod driver;
mod hostile;
mod orders;
mod stage;
mod told;
