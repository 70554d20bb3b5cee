//! What the operator is told of a mediated device.

use core::fmt;

/// Something worth a line on the console.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Notice {
    /// The device claimed what cannot be. It is cut off.
    Lied(Lie),
}

impl fmt::Display for Notice {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Lied(lie) => write!(f, "cut off: {lie}"),
        }
    }
}

/// A claim of the device that no honest device makes.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Lie {
    /// The completion of a request that it was not given, or that was completed before.
    UnknownRequest {
        /// The identifier it names.
        id: u16,
    },
}

impl fmt::Display for Lie {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::UnknownRequest { id } => {
                write!(f, "it completed request {id:#x}, which it was not given")
            }
        }
    }
}
