//! What the firmware's ACPI tables say of the machine, read before there is a guest.

// UNSAFETY: reads and writes physical memory at addresses that the tables name.
#![expect(unsafe_code)]

use acpi::{Fadt, Madt, Mcfg, Rsdp, Signature, Tables, find_sleep_states};
use boot::handoff::Handoff;
use heapless::Vec;
use memory::{ByteRange, Gpa, GuestMemory, Hole, PAGE_SIZE};
use pci::Ecam;
use processor::power::Power;

use crate::console::say;
use crate::cpu::timer::Timer;
use crate::fabric::Windows;
use crate::machine::{IoApic, IoApics, MAX_PROCESSORS};
use crate::own::OwnFrames;
use crate::refusal::Refusal;

/// Room for the largest MADT and FADT: 64 processors take less than 2 KiB.
const TABLE_BYTES: usize = 16 * 1024;
/// What the loader mapped.
const MAPPED: u64 = 1 << 32;

/// What the tables say.
pub(crate) struct Found {
    /// APIC ids of the processors that may be started, in the order of the table.
    pub(crate) apic_ids: Vec<u32, MAX_PROCESSORS>,
    /// The pages of the I/O APICs.
    pub(crate) io_apics: IoApics,
    pub(crate) timer: Timer,
    pub(crate) power: Power,
    /// Windows into PCI configuration space.
    pub(crate) windows: Windows,
    /// Those that are not used: above 4 GiB, or one too many. What is behind them stays unknown.
    pub(crate) unreached: Unreached,
}

/// Windows into configuration space that are not used.
pub(crate) type Unreached = Vec<ByteRange<Gpa>, 4>;

/// Reads the tables.
pub(crate) fn read(handoff: &Handoff) -> Result<Found, Refusal> {
    let memory = Mapped;
    let rsdp = Rsdp::read(&memory, Gpa::new(handoff.rsdp))?;
    let tables = Tables::open(&memory, &rsdp)?;
    let mut buffer = [0; TABLE_BYTES];

    let madt = tables
        .find(Signature::MADT)?
        .ok_or(Refusal::NoTable(Signature::MADT))?;
    let content = madt.copy(&memory, &mut buffer)?;
    let enabled = Madt::parse(&content)?;
    let mut apic_ids = Vec::new();
    for processor in enabled
        .processors()
        .filter(|processor| processor.is_enabled)
    {
        apic_ids
            .push(processor.apic_id)
            .map_err(|_| Refusal::Processors {
                found: enabled
                    .processors()
                    .filter(|processor| processor.is_enabled)
                    .count(),
            })?;
    }

    let mut io_apics = IoApics::new();
    for io_apic in enabled.io_apics() {
        let page = io_apic.base.raw() & !(PAGE_SIZE - 1);
        let page = ByteRange::new(Gpa::new(page), PAGE_SIZE).ok_or(Refusal::Memory)?;
        let io_apic = IoApic {
            id: io_apic.id,
            page,
        };
        io_apics.push(io_apic).map_err(|_| Refusal::IoApics)?;
    }

    let fadt = tables
        .find(Signature::FADT)?
        .ok_or(Refusal::NoTable(Signature::FADT))?;
    let fadt = Fadt::parse(&fadt.copy(&memory, &mut buffer)?)?;
    let port = fadt
        .pm_timer
        .and_then(|timer| timer.register.port())
        .ok_or(Refusal::NoTimer)?;
    let off = find_sleep_states(&tables, &fadt)?.s5;
    let power = Power {
        control: [fadt.pm1a_control, fadt.pm1b_control]
            .map(|register| register.and_then(|register| register.port())),
        off: off.map(|kinds| [kinds.pm1a, kinds.pm1b]),
        reset: fadt
            .reset
            .and_then(|reset| Some((reset.register.port()?, reset.value))),
    };
    let (mut windows, mut unreached) = (Windows::new(), Unreached::new());
    if let Some(mcfg) = tables.find(Signature::MCFG)? {
        let content = mcfg.copy(&memory, &mut buffer)?;
        let mapped = Mcfg::parse(&content)?.entries().filter_map(|window| {
            Ecam::new(
                window.segment,
                window.base,
                window.first_bus,
                window.last_bus,
            )
        });
        for window in mapped {
            let range = window.range();
            if range.last().raw() < MAPPED && windows.push(window).is_ok() {
                continue;
            }
            say!(
                "devices      configuration space of segment {} at {} is above 4 GiB, or one window too \
                 many: nobody reaches what is behind it",
                window.segment(),
                range.start()
            );
            unreached.push(range).map_err(|_| Refusal::Windows)?;
        }
    }
    Ok(Found {
        apic_ids,
        io_apics,
        timer: Timer::new(port),
        power,
        windows,
        unreached,
    })
}

/// Copies the table of the remapping hardware, if there is one, into Bouncer's own memory.
pub(crate) fn dmar(
    handoff: &Handoff,
    frames: &mut OwnFrames,
) -> Result<Option<&'static [u8]>, Refusal> {
    let memory = Mapped;
    let rsdp = Rsdp::read(&memory, Gpa::new(handoff.rsdp))?;
    let tables = Tables::open(&memory, &rsdp)?;
    let Some(table) = tables.find(Signature::DMAR)? else {
        return Ok(None);
    };
    let bytes = u64::from(table.length).next_multiple_of(PAGE_SIZE);
    let place = frames.take_run(bytes)?.raw() as *mut u8;
    // SAFETY: the run was just taken, zeroed, and is nobody else's, ever.
    let copy = unsafe { core::slice::from_raw_parts_mut(place, bytes as usize) };
    Ok(Some(table.copy(&memory, copy)?.bytes()))
}

/// Takes the table of the remapping hardware away from the guest, to whom it does not belong, and
/// shows it `table` instead, if there is one.
pub(crate) fn replace_dmar(handoff: &Handoff, table: Option<&[u8]>) -> Result<(), Refusal> {
    let memory = Mapped;
    let rsdp = Rsdp::read(&memory, Gpa::new(handoff.rsdp))?;
    let place = table.zip(room_for_tables(handoff));
    let Some((table, place)) = place else {
        acpi::hide(&memory, &rsdp, Signature::DMAR)?;
        return Ok(());
    };
    memory
        .write(place.start(), table)
        .map_err(|_| Refusal::Memory)?;
    acpi::replace(&memory, &rsdp, Signature::DMAR, place.start().raw() as u32)?;
    Ok(())
}

/// Where the guest can be shown a table, if it keeps memory for that.
pub(crate) fn room_for_tables(handoff: &Handoff) -> Option<ByteRange<Gpa>> {
    handoff.tables.range().map(|range| range.identity())
}

/// All memory that the loader mapped. There is no guest yet: whoever wrote it is the firmware.
struct Mapped;

impl GuestMemory for Mapped {
    fn read(&self, at: Gpa, to: &mut [u8]) -> Result<(), Hole> {
        let Some(range) = ByteRange::new(at, to.len() as u64) else {
            return Ok(());
        };
        if range.last().raw() >= MAPPED {
            return Err(Hole(range));
        }
        for (index, byte) in to.iter_mut().enumerate() {
            // SAFETY: mapped one to one by the loader; reads of firmware memory have no effect.
            *byte = unsafe { (at.raw() as *const u8).add(index).read_volatile() };
        }
        Ok(())
    }

    fn write(&self, at: Gpa, from: &[u8]) -> Result<(), Hole> {
        let Some(range) = ByteRange::new(at, from.len() as u64) else {
            return Ok(());
        };
        if range.last().raw() >= MAPPED {
            return Err(Hole(range));
        }
        for (index, byte) in from.iter().enumerate() {
            // SAFETY: mapped one to one by the loader. Only ACPI tables are written (`replace_dmar`),
            // which are the guest's and no object of ours.
            unsafe { (at.raw() as *mut u8).add(index).write_volatile(*byte) };
        }
        Ok(())
    }
}
