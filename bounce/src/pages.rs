//! The seam to memory: the device's pages beside the guest's.

use memory::{ByteRange, Gpa, GuestMemory, Hole, Iova};

/// The pages of one device, by the addresses that the device uses, and the guest's memory.
///
/// The device may change what it can write at any moment, and the guest its memory: every
/// method copies each byte once, and none lends a reference. Addresses that are not the
/// device's own pages are a mistake of ours and panic.
pub trait Pages: GuestMemory {
    /// Whether every byte of `range` is the guest's memory: no device's, and nothing of ours.
    fn is_memory(&self, range: ByteRange<Gpa>) -> bool;

    /// Copies the guest's bytes at `from` to the device's pages from `to` on. On `Err` the
    /// content of the device's pages is unspecified.
    fn copy_in(&mut self, from: ByteRange<Gpa>, to: Iova) -> Result<(), Hole>;

    /// Copies from the device's pages at `from` to the guest's bytes at `to`. On `Err` nothing
    /// was written.
    fn copy_out(&mut self, from: Iova, to: ByteRange<Gpa>) -> Result<(), Hole>;

    /// Copies the bytes at `at` into `to`, each fetched once.
    fn load(&self, at: Iova, to: &mut [u8]);

    /// Fetches the word at `at`, which is aligned, as one access. What is loaded afterwards is
    /// not older than it.
    fn load_u64(&self, at: Iova) -> u64;

    /// Copies `from` to `at`.
    fn store(&mut self, at: Iova, from: &[u8]);

    /// Fills the bytes at `at` with zeros.
    fn scrub(&mut self, at: ByteRange<Iova>);
}
