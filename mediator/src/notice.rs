//! What the operator is told of a mediated device.

use core::fmt;

use crate::edu::Refusal;

/// Something worth a line on the console.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Notice {
    /// The device claimed what cannot be. It is cut off.
    Lied(Lie),
    /// The guest asked what the mediator does not know to the byte; the device did not hear it.
    RefusedCommand {
        /// Whether it was asked of the controller, and not of a namespace.
        is_admin: bool,
        /// Which command.
        opcode: u8,
    },
    /// The guest asked `edu` to move bytes that are not where they have to be; none were moved.
    RefusedTransfer(Refusal),
    /// A namespace has blocks of a size that is not supported, or with metadata; it is hidden.
    UnusableBlocks {
        /// Its number.
        namespace: u32,
    },
    /// The device says other blocks of a namespace than before; it is hidden.
    OtherBlocks {
        /// Its number.
        namespace: u32,
    },
    /// There is no room to remember a namespace, and it is hidden.
    NoRoomForNamespace {
        /// Its number.
        namespace: u32,
    },
}

impl fmt::Display for Notice {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Lied(lie) => write!(f, "cut off: {lie}"),
            Self::RefusedCommand { is_admin, opcode } => {
                let kind = if *is_admin { "admin" } else { "I/O" };
                write!(
                    f,
                    "{kind} command {opcode:#04x} is refused: its bytes are not known"
                )
            }
            Self::RefusedTransfer(Refusal::Memory) => write!(
                f,
                "a transfer is refused: the guest has no memory where it said; mend its driver"
            ),
            Self::RefusedTransfer(Refusal::Buffer) => write!(
                f,
                "a transfer is refused: it leaves the device's buffer; mend its driver"
            ),
            Self::UnusableBlocks { namespace } => write!(
                f,
                "namespace {namespace} is hidden: its blocks have metadata or no usual size; \
                 format it otherwise"
            ),
            Self::OtherBlocks { namespace } => write!(
                f,
                "namespace {namespace} is hidden: the device says other blocks than before; \
                 format it"
            ),
            Self::NoRoomForNamespace { namespace } => write!(
                f,
                "namespace {namespace} is hidden: so many are not remembered; number it lower"
            ),
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
    /// The completion of a request in a queue that is not the request's.
    WrongQueue {
        /// The identifier it names.
        id: u16,
        /// The submission queue it names.
        queue: u16,
    },
    /// It fetched more requests than there were.
    ImpossibleHead {
        /// The submission queue it names.
        queue: u16,
        /// Up to where it claims to have fetched.
        head: u16,
    },
}

impl fmt::Display for Lie {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::UnknownRequest { id } => {
                write!(f, "it completed request {id:#x}, which it was not given")
            }
            Self::WrongQueue { id, queue } => write!(
                f,
                "it completed request {id:#x} as one of queue {queue}, or where that does not complete"
            ),
            Self::ImpossibleHead { queue, head } => write!(
                f,
                "it fetched up to entry {head} of queue {queue}, which was not filled so far"
            ),
        }
    }
}
