//! The loader's access to memory that no Rust object owns.
//!
//! Every range comes from a decision of the library, which keeps them apart from one another, from
//! the loader itself and from what is not RAM.

// UNSAFETY: makes slices of physical memory, which is mapped one to one below 4 GiB.
#![expect(unsafe_code)]

use core::slice;

use boot::handoff::Handoff;
use boot::multiboot2::Information;
use memory::{ByteRange, Gpa, GuestMemory, Hole, Hpa};

use crate::refusal::Refusal;

/// What the page tables of `entry` map.
const MAPPED_LAST: u64 = u32::MAX as u64;

unsafe extern "C" {
    static bouncer_loader_start: u8;
    static bouncer_loader_end: u8;
}

/// The memory of the loader itself.
pub(crate) fn own_range() -> Option<ByteRange<Hpa>> {
    let start = &raw const bouncer_loader_start as u64;
    let end = &raw const bouncer_loader_end as u64;
    ByteRange::inclusive(Hpa::new(start), Hpa::new(end - 1))
}

/// The boot loader's information at `at`.
pub(crate) fn information(at: u32) -> Result<&'static [u8], Refusal> {
    let bytes = |len: u64| -> Result<&'static [u8], Refusal> {
        let range = ByteRange::new(Hpa::new(u64::from(at)), len).ok_or(Refusal::NoInformation)?;
        module(range)
    };
    let head = bytes(8)?.first_chunk().ok_or(Refusal::NoInformation)?;
    bytes(u64::from(Information::total_size(*head)?))
}

/// The bytes of a module.
pub(crate) fn module(range: ByteRange<Hpa>) -> Result<&'static [u8], Refusal> {
    let is_own = own_range().is_none_or(|own| own.overlaps(&range));
    if range.start().raw() == 0 || range.last().raw() > MAPPED_LAST || is_own {
        return Err(Refusal::Unreachable {
            start: range.start(),
            last: range.last(),
        });
    }
    // SAFETY: mapped, not null, and not the loader's own objects; nobody writes it before the
    // loader is done, because every place that is written avoids it.
    Ok(unsafe { slice::from_raw_parts(range.start().raw() as *const u8, range.len() as usize) })
}

/// The policy's text, empty if there is none.
pub(crate) fn policy(range: Option<ByteRange<Hpa>>) -> Result<&'static str, Refusal> {
    let Some(range) = range else { return Ok("") };
    core::str::from_utf8(module(range)?).map_err(|error| Refusal::PolicyNotText {
        offset: error.valid_up_to(),
    })
}

/// Copies `from` to the start of `to`, which the library found room for.
pub(crate) fn copy(from: &[u8], to: ByteRange<Hpa>) {
    assert!(from.len() as u64 <= to.len() && to.last().raw() <= MAPPED_LAST);
    // SAFETY: the room is mapped RAM, chosen to share no byte with what is still needed: `from`,
    // the loader, its stack.
    unsafe {
        core::ptr::copy_nonoverlapping(from.as_ptr(), to.start().raw() as *mut u8, from.len());
    }
}

/// Bouncer's own memory, to load the image into.
pub(crate) fn own_memory(own: ByteRange<Hpa>) -> Result<&'static mut [u8], Refusal> {
    if own.last().raw() > MAPPED_LAST {
        return Err(Refusal::Unreachable {
            start: own.start(),
            last: own.last(),
        });
    }
    // SAFETY: mapped RAM that the library set aside; called once, so nobody else has it.
    Ok(unsafe { slice::from_raw_parts_mut(own.start().raw() as *mut u8, own.len() as usize) })
}

/// Copies the policy's text to its place in Bouncer's memory.
pub(crate) fn place_policy(policy: &str, handoff: &Handoff) {
    if let Some(range) = handoff.policy.range() {
        copy(policy.as_bytes(), range);
    }
}

/// Copies the hand-over to its place in Bouncer's memory, and returns the place.
pub(crate) fn place_handoff(handoff: &Handoff, at: u64) -> u64 {
    if let Some(range) = ByteRange::new(Hpa::new(at), size_of::<Handoff>() as u64) {
        copy(zerocopy::IntoBytes::as_bytes(handoff), range);
    }
    at
}

/// All memory that is mapped. There is no guest yet: whoever wrote it is the firmware.
pub(crate) struct Mapped;

impl GuestMemory for Mapped {
    fn read(&self, at: Gpa, to: &mut [u8]) -> Result<(), Hole> {
        let Some(range) = ByteRange::new(at, to.len() as u64) else {
            return Ok(());
        };
        if range.last().raw() > MAPPED_LAST {
            return Err(Hole(range));
        }
        for (index, byte) in to.iter_mut().enumerate() {
            // SAFETY: mapped; reading the firmware's memory has no effect.
            *byte = unsafe { (at.raw() as *const u8).add(index).read_volatile() };
        }
        Ok(())
    }

    fn write(&self, at: Gpa, from: &[u8]) -> Result<(), Hole> {
        ByteRange::new(at, from.len() as u64).map_or(Ok(()), |range| Err(Hole(range)))
    }
}
