//! What becomes of a command: the answer to the question what it asks.

use memory::Iova;

use super::completion::Then;
use super::spec::Status;

/// What becomes of a command.
#[derive(Debug)]
pub(super) enum Plan {
    /// The device is given it.
    Pass(Pass),
    /// It is answered at once.
    Answer(Status, u32),
    /// It is answered when something happens.
    Keep,
}

/// What the device is given.
#[derive(Debug)]
pub(super) struct Pass {
    /// The bytes that go with it.
    pub(super) extent: Extent,
    /// What is to be done when it is answered.
    pub(super) then: Then,
    /// Whether it is soon over.
    pub(super) is_prompt: bool,
}

/// The bytes of a request.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) enum Extent {
    /// None.
    Nothing,
    /// None, but a ring of ours that the device is told of.
    Ring(Iova),
    /// So many that the device reads.
    ToDevice(u32),
    /// So many that the device writes.
    FromDevice(u32),
}

impl Plan {
    /// The question as it is, with `extent`.
    pub(super) fn pass(extent: Extent) -> Self {
        Self::pass_then(extent, Then::Show)
    }

    /// The same of blocks, which are soon moved.
    pub(super) fn pass_soon_over(extent: Extent) -> Self {
        Self::Pass(Pass {
            extent,
            then: Then::Show,
            is_prompt: true,
        })
    }

    /// With something to do when it is answered.
    pub(super) fn pass_then(extent: Extent, then: Then) -> Self {
        Self::Pass(Pass {
            extent,
            then,
            is_prompt: false,
        })
    }
}
