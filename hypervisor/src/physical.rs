//! The guest's memory, over the real one.

// UNSAFETY: copies from and to physical addresses that the guest names.
#![expect(unsafe_code)]

use memory::{ByteRange, Gpa, GuestMemory, Hole, Hpa};

use crate::copy;
use crate::machine::Machine;

/// The guest's memory: RAM as the firmware described it, less Bouncer's own.
///
/// Bouncer's own is carved out of the memory map, and devices are no memory, so neither is ever
/// reached through this.
#[derive(Clone, Copy)]
pub(crate) struct Physical(pub(crate) &'static Machine);

impl Physical {
    /// Where in memory the `len` bytes at `at` are; `None` if one of them is not the guest's memory, or there
    /// are none.
    #[inline(always)]
    fn place(self, at: Gpa, len: usize) -> Option<u64> {
        let range = ByteRange::new(at, len as u64)?;
        self.0
            .is_memory(range.identity())
            .then_some(range.start().raw())
    }
}

/// What an access to `len` bytes at `at` that are not all the guest's memory comes to.
#[cold]
fn hole(at: Gpa, len: usize) -> Result<(), Hole> {
    let range = ByteRange::new(at, len as u64).or_else(|| ByteRange::new(at, 1));
    match range.filter(|_| len != 0) {
        Some(range) => Err(Hole(range)),
        None => Ok(()),
    }
}

impl GuestMemory for Physical {
    fn read(&self, at: Gpa, to: &mut [u8]) -> Result<(), Hole> {
        let Some(from) = self.place(at, to.len()) else {
            return hole(at, to.len());
        };
        // SAFETY: the range is RAM, mapped one to one, and not Bouncer's, so it overlaps no object
        // of ours. Other processors may write it meanwhile: the copy is by volatile reads, each byte
        // fetched once, and no reference to the memory exists.
        unsafe { copy_in(from, to) };
        Ok(())
    }

    fn read_u64(&self, at: Gpa) -> Result<u64, Hole> {
        let word = self.place(at, 8).filter(|from| from.is_multiple_of(8));
        let Some(from) = word else {
            let mut bytes = [0; 8];
            self.read(at, &mut bytes)?;
            return Ok(u64::from_le_bytes(bytes));
        };
        // SAFETY: as for `read`, and aligned.
        Ok(unsafe { (from as *const u64).read_volatile() })
    }

    fn write(&self, at: Gpa, from: &[u8]) -> Result<(), Hole> {
        let Some(to) = self.place(at, from.len()) else {
            return hole(at, from.len());
        };
        // SAFETY: as for `read`; the guest's own memory is the guest's to lose.
        unsafe { copy_out(from, to) };
        Ok(())
    }
}

/// Copies bytes that others may write meanwhile. Aligned words are fetched whole, as the processor
/// fetches the entries of page tables.
///
/// # Safety
/// `from` names `to.len()` bytes of mapped RAM outside every Rust object.
unsafe fn copy_in(from: u64, to: &mut [u8]) {
    if to.len() == 8 && from.is_multiple_of(8) {
        // SAFETY: as the caller says, and aligned.
        let word = unsafe { (from as *const u64).read_volatile() };
        to.copy_from_slice(&word.to_le_bytes());
    } else if to.len() == 4 && from.is_multiple_of(4) {
        // SAFETY: as above.
        let word = unsafe { (from as *const u32).read_volatile() };
        to.copy_from_slice(&word.to_le_bytes());
    } else {
        // SAFETY: as above; `to` is ours alone.
        unsafe { copy::copy(from, to.as_mut_ptr() as u64, to.len() as u64) };
    }
}

/// Copies bytes that others may read meanwhile. Aligned words are stored whole.
///
/// # Safety
/// `to` names `from.len()` bytes of mapped RAM outside every Rust object.
unsafe fn copy_out(from: &[u8], to: u64) {
    match *from {
        [a, b, c, d] if to.is_multiple_of(4) => {
            // SAFETY: as the caller says, and aligned.
            unsafe { (to as *mut u32).write_volatile(u32::from_le_bytes([a, b, c, d])) };
        }
        [a, b, c, d, e, f, g, h] if to.is_multiple_of(8) => {
            let word = u64::from_le_bytes([a, b, c, d, e, f, g, h]);
            // SAFETY: as above.
            unsafe { (to as *mut u64).write_volatile(word) };
        }
        // SAFETY: as above.
        _ => unsafe { copy::copy(from.as_ptr() as u64, to, from.len() as u64) },
    }
}

/// Copies byte by byte.
///
/// # Safety
/// As for `read_device`.
unsafe fn copy_in_bytes(from: u64, to: &mut [u8]) {
    for (index, byte) in to.iter_mut().enumerate() {
        // SAFETY: as the caller says.
        *byte = unsafe { (from as *const u8).add(index).read_volatile() };
    }
}

/// Reads a device's register for the guest: 1, 2, 4 or 8 aligned bytes in one access, anything else
/// byte by byte, as the pieces of an access that crosses a page may be.
///
/// # Safety
/// The address is mapped here and nothing of Bouncer's, and the guest could make this access itself.
pub(crate) unsafe fn read_device(at: Hpa, to: &mut [u8]) {
    let from = at.raw();
    let is_aligned = from.is_multiple_of(to.len() as u64);
    // SAFETY: the access is the guest's (caller), and volatile because registers have effects.
    unsafe {
        match to.len() {
            2 if is_aligned => {
                to.copy_from_slice(&(from as *const u16).read_volatile().to_le_bytes())
            }
            4 if is_aligned => {
                to.copy_from_slice(&(from as *const u32).read_volatile().to_le_bytes())
            }
            8 if is_aligned => {
                to.copy_from_slice(&(from as *const u64).read_volatile().to_le_bytes())
            }
            _ => copy_in_bytes(from, to),
        }
    }
}

/// Writes a device's register for the guest, as `read_device` reads it.
///
/// # Safety
/// As for `read_device`.
pub(crate) unsafe fn write_device(at: Hpa, from: &[u8]) {
    let to = at.raw();
    let is_aligned = to.is_multiple_of(from.len() as u64);
    // SAFETY: as for `read_device`.
    unsafe {
        match *from {
            [a, b] if is_aligned => (to as *mut u16).write_volatile(u16::from_le_bytes([a, b])),
            [a, b, c, d] if is_aligned => {
                (to as *mut u32).write_volatile(u32::from_le_bytes([a, b, c, d]));
            }
            [a, b, c, d, e, f, g, h] if is_aligned => {
                (to as *mut u64).write_volatile(u64::from_le_bytes([a, b, c, d, e, f, g, h]));
            }
            _ => {
                for (index, byte) in from.iter().enumerate() {
                    (to as *mut u8).add(index).write_volatile(*byte);
                }
            }
        }
    }
}
