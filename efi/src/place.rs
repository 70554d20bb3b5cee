//! Memory: what firmware gives, and what is mapped anyway.

// UNSAFETY: makes slices of pages that firmware has just given, and reads memory that is mapped one to one.
#![expect(unsafe_code)]

use boot::efi;
use boot::memory_map::MemoryMap;
use boot::reservation::LARGE_PAGE;
use memory::{ByteRange, Gpa, GuestMemory, Hole, Hpa, PAGE_SIZE};
use uefi_raw::table::boot::MemoryType;
use uefi_raw::{Guid, guid};

use crate::refusal::Refusal;
use crate::services::Firmware;

/// What the hypervisor maps before it has tables of its own.
pub(crate) const MAPPED: u64 = 1 << 32;
/// Where real mode ends, and what firmware keeps below that.
const LOW: u64 = 0xa_0000;
/// Room for a memory map.
const MAP_BYTES: u64 = 64 * 1024;

/// ACPI's root pointer in the configuration, of the second revision and of the first (UEFI 2.10, 4.6.1).
const ACPI_2: Guid = guid!("8868e871-e4f1-11d3-bc22-0080c73c8881");
const ACPI_1: Guid = guid!("eb9d2d30-2d88-11d3-9a16-0090273fc14d");

/// Where ACPI's root pointer lies.
pub(crate) fn root_pointer(firmware: Firmware) -> Option<u64> {
    let first = firmware.configuration(&ACPI_2);
    first.or_else(|| firmware.configuration(&ACPI_1))
}

/// Bouncer's own memory, for ever: reserved, so that no operating system takes it, whole large pages.
pub(crate) fn own(firmware: Firmware, bytes: u64) -> Result<ByteRange<Hpa>, Refusal> {
    let no_room = || Refusal::NoRoom { bytes };
    let found = firmware.allocate(MAPPED, MemoryType::RESERVED, bytes + LARGE_PAGE);
    let found = found.ok_or_else(no_room)?;
    let start = found.start().raw().next_multiple_of(LARGE_PAGE);
    let own = ByteRange::new(Hpa::new(start), bytes).ok_or_else(no_room)?;
    let (end, end_of_found) = (start + bytes, found.start().raw() + found.len());
    let before = ByteRange::new(found.start(), start - found.start().raw());
    let behind = ByteRange::new(Hpa::new(end), end_of_found - end);
    for rest in [before, behind].into_iter().flatten() {
        // SAFETY: these pages were just allocated, and are no part of what is kept.
        unsafe { firmware.give_back(rest) };
    }
    Ok(own)
}

/// A page that real-mode code can start in, which the system gets back from firmware.
pub(crate) fn trampoline(firmware: Firmware) -> Result<ByteRange<Hpa>, Refusal> {
    let page = firmware.allocate(LOW, MemoryType::LOADER_DATA, PAGE_SIZE);
    page.ok_or(Refusal::NoTrampoline)
}

/// A page that an operating system keeps as it keeps ACPI tables.
pub(crate) fn tables(firmware: Firmware) -> Result<ByteRange<Hpa>, Refusal> {
    let page = firmware.allocate(MAPPED, MemoryType::ACPI_RECLAIM, PAGE_SIZE);
    page.ok_or(Refusal::NoRoom { bytes: PAGE_SIZE })
}

/// Memory of this program below 4 GiB, whole pages.
pub(crate) fn scratch(firmware: Firmware, bytes: u64) -> Result<ByteRange<Hpa>, Refusal> {
    let pages = firmware.allocate(MAPPED, MemoryType::LOADER_DATA, bytes);
    pages.ok_or(Refusal::NoRoom { bytes })
}

/// The bytes of pages that were allocated a moment ago, all zero.
pub(crate) fn bytes(range: ByteRange<Hpa>) -> &'static mut [u8] {
    let at = range.start().raw() as *mut u8;
    // SAFETY: firmware gave these pages, of which none is at 0, to this program and to nobody else; each
    // caller asks once for its own. They are mapped one to one (UEFI 2.10, 2.3.4) and never given back.
    unsafe {
        at.write_bytes(0, range.len() as usize);
        core::slice::from_raw_parts_mut(at, range.len() as usize)
    }
}

/// The bytes of pages that [`scratch`] gave and somebody else has written since.
pub(crate) fn view(range: ByteRange<Hpa>) -> &'static [u8] {
    let at = range.start().raw() as *const u8;
    // SAFETY: as for `bytes`; the hypervisor, who wrote them, does not any more.
    unsafe { core::slice::from_raw_parts(at, range.len() as usize) }
}

/// Copies `from` to `offset` in `to`, which was set aside for it.
pub(crate) fn copy(from: &[u8], to: &mut [u8], offset: u64) {
    let room = to.get_mut(offset as usize..);
    let room = room.and_then(|room| room.get_mut(..from.len()));
    room.expect("the reservation has room for it")
        .copy_from_slice(from);
}

/// The machine's memory as an operating system will find it.
pub(crate) fn memory_map(firmware: Firmware) -> Result<MemoryMap, Refusal> {
    let buffer = bytes(scratch(firmware, MAP_BYTES)?);
    let told = firmware.memory_map(buffer).map_err(Refusal::NoMemoryMap)?;
    let regions = told.filter_map(|(kind, start, pages)| efi::region(kind, start, pages));
    Ok(MemoryMap::normalise(regions)?)
}

/// All memory that the hypervisor reaches at first. There is no guest yet: whoever wrote it is the firmware.
pub(crate) struct Mapped;

impl GuestMemory for Mapped {
    fn read(&self, at: Gpa, to: &mut [u8]) -> Result<(), Hole> {
        let Some(range) = ByteRange::new(at, to.len() as u64) else {
            return Ok(());
        };
        if range.last().raw() >= MAPPED {
            return Err(Hole(range));
        }
        for (index, byte) in to.iter_mut().enumerate() {
            // SAFETY: mapped one to one; reading the firmware's tables has no effect.
            *byte = unsafe { (at.raw() as *const u8).add(index).read_volatile() };
        }
        Ok(())
    }

    fn write(&self, at: Gpa, from: &[u8]) -> Result<(), Hole> {
        ByteRange::new(at, from.len() as u64).map_or(Ok(()), |range| Err(Hole(range)))
    }
}
