//! The words everything is said in: addresses, ranges, frames, stale caches.
//!
//! Owns the types that keep guest-physical, host-physical and I/O-virtual addresses apart, the
//! two seams through which logic reaches memory (`GuestMemory` for hostile bytes, `Frames` for
//! our own table pages), and the proof that caches were flushed. Knows no table format, no
//! device and no processor.
#![no_std]
#![forbid(unsafe_code)]

mod address;
mod frames;
mod guest;
mod range;
mod reserve;
mod stale;

pub use address::{Address, Frame, Gpa, Hpa, Hva, Iova, PAGE_SIZE};
pub use frames::{Frames, OutOfFrames};
pub use guest::{GuestMemory, Hole};
pub use range::ByteRange;
pub use reserve::Reserve;
pub use stale::{Flush, Flushed, Stale, TimedOut};
