//! The pool our own table pages come from.

use crate::{Flushed, Frame, Hpa};

/// The pool has no page left. A refusal, never a panic.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct OutOfFrames;

/// Pages of our own that hardware walks as tables of 512 words of 64 bits.
///
/// A table is named by its base address. The methods taking `table` panic when `table` is not a
/// frame of this pool: addresses of tables come from entries we wrote ourselves.
pub trait Frames {
    /// Takes a page, filled with zeros.
    fn take(&mut self) -> Result<Frame, OutOfFrames>;

    /// The word at `index` (0..512) of the table at `table`.
    fn read(&self, table: Hpa, index: usize) -> u64;

    /// Stores `word` at `index` (0..512) of the table at `table` as one 64-bit store, then makes
    /// it visible to the walker (a cache write-back where the walker does not snoop). Stores
    /// become visible in the order of the calls.
    fn publish(&mut self, table: Hpa, index: usize, word: u64);

    /// Gives a page back, in exchange for the proof that no cache leads to it any more.
    fn give_back(&mut self, frame: Frame, proof: &Flushed);
}
