//! Fakes over the memory crate: frames that rewind, memory that flips, pools that run out.
//!
//! Owns the stand-ins with which every crate plays the worst hardware, device and guest on the
//! host. Depends on `memory` alone, so that any crate may test with it. What a fake is told to
//! do wrong it does; what it is not told is a panic that names the mistake.
#![forbid(unsafe_code)]

mod flipping;
mod flush;
mod recording;
mod sparse;
mod stingy;

pub use flipping::FlippingMemory;
pub use flush::RecordingFlush;
pub use recording::{Past, RecordingFrames};
pub use sparse::SparseMemory;
pub use stingy::StingyFrames;
