//! Memory that others can write: hostile bytes, fetched once, by value.

use crate::{ByteRange, Gpa};

/// An access that met no guest memory: nothing there, or something of ours.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Hole(pub ByteRange<Gpa>);

/// The guest's memory. Never lent as a reference: each call copies once, and logic sees only
/// the copy, so that nobody can change a value between its check and its use.
pub trait GuestMemory {
    /// Copies the bytes at `at` into `to`, each byte fetched once. On `Err` the content of `to`
    /// is unspecified.
    fn read(&self, at: Gpa, to: &mut [u8]) -> Result<(), Hole>;

    /// Copies `from` to `at`. On `Err` nothing was written.
    fn write(&self, at: Gpa, from: &[u8]) -> Result<(), Hole>;

    /// Fetches the little-endian word at `at`.
    fn read_u64(&self, at: Gpa) -> Result<u64, Hole> {
        let mut bytes = [0; 8];
        self.read(at, &mut bytes)?;
        Ok(u64::from_le_bytes(bytes))
    }

    /// Fetches the little-endian double word at `at`.
    fn read_u32(&self, at: Gpa) -> Result<u32, Hole> {
        let mut bytes = [0; 4];
        self.read(at, &mut bytes)?;
        Ok(u32::from_le_bytes(bytes))
    }
}
