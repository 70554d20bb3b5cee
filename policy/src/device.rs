//! A device as the one who found it describes it.

use crate::{ClassCode, Place};

/// Where a device sits, which is a fact, and what it says of itself, which is a claim.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Device<'d> {
    /// The path to it from the root bus.
    pub place: Place<'d>,
    /// The class code it claims.
    pub class: ClassCode,
    /// The vendor id it claims.
    pub vendor: u16,
    /// The device id it claims.
    pub device: u16,
}
