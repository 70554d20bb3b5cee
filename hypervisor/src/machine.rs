//! What all processors know of the machine, fixed before the guest starts.

use core::sync::atomic::{AtomicU64, Ordering};

use boot::handoff::Handoff;
use boot::memory_map::{MAX_REGIONS, Region, RegionKind};
use heapless::Vec;
use memory::{ByteRange, Gpa, Hpa, TimedOut};
use processor::Reason;
use processor::legacy::Keyboard;
use processor::power::Power;
use spin::Once;
use spin::mutex::TicketMutex;

use crate::backend::Shared;
use crate::cpu::area::Area;
use crate::cpu::timer::Timer;
use crate::{fabric, mappings, run};

/// Processors Bouncer runs on at most.
pub(crate) const MAX_PROCESSORS: usize = boot::reservation::MAX_CPUS as usize;

/// One I/O APIC.
#[derive(Clone, Copy, Debug)]
pub(crate) struct IoApic {
    /// The number by which other tables name it.
    pub(crate) id: u8,
    /// The page its registers are in.
    pub(crate) page: ByteRange<Gpa>,
}

/// The I/O APICs, of which machines have up to a dozen.
pub(crate) type IoApics = Vec<IoApic, 16>;

/// Ranges that the guest never reaches.
pub(crate) type Hidden = Vec<ByteRange<Gpa>, 40>;

/// Pieces of memory, in ascending order.
pub(crate) type MemoryPieces = Vec<ByteRange<Hpa>, MAX_REGIONS>;

/// The one machine; set before the other processors are raised.
static MACHINE: Once<Machine> = Once::new();

/// Counts the changes of the nested tables that processors must notice.
pub(crate) static NESTED_TABLES: AtomicU64 = AtomicU64::new(0);

/// What all processors know of the machine.
pub(crate) struct Machine {
    /// What the loader handed over, validated.
    pub(crate) handoff: &'static Handoff,
    /// Bouncer's own memory.
    pub(crate) own: ByteRange<Gpa>,
    /// That, and the registers of the remapping units where Bouncer owns them.
    pub(crate) hidden: &'static Hidden,
    /// The guest's memory.
    pub(crate) memory: MemoryPieces,
    /// What stands between the guest and its devices, where they are confined.
    pub(crate) fabric: Option<&'static fabric::Shared>,
    /// Time before anything is calibrated.
    pub(crate) timer: Timer,
    /// Sleep and reset registers.
    pub(crate) power: Power,
    /// What all virtual processors have in common.
    pub(crate) shared: Shared,
    /// The pages of the I/O APICs, stores to which are looked at.
    pub(crate) io_apics: IoApics,
    /// What the keyboard controller waits for.
    pub(crate) keyboard: TicketMutex<Keyboard>,
    /// Bits of a physical address that name memory, asked of the processor once: under another hypervisor CPUID is dear.
    pub(crate) physical_width: u32,
    /// Every processor's area, in the order of their numbers.
    pub(crate) areas: Vec<&'static Area, MAX_PROCESSORS>,
    /// Where the first area begins.
    pub(crate) areas_at: Hpa,
    /// APIC ids of the processors that the firmware names.
    pub(crate) apic_ids: Vec<u32, MAX_PROCESSORS>,
}

impl Machine {
    /// Makes this the machine.
    pub(crate) fn publish(self) -> &'static Self {
        MACHINE.call_once(|| self)
    }

    /// The machine, once it is published.
    pub(crate) fn published() -> Option<&'static Self> {
        MACHINE.get()
    }

    /// Makes every processor forget what it knows of the guest's nested tables before it goes on in
    /// the guest.
    pub(crate) fn forget_translations(&self) -> Result<(), TimedOut> {
        /// Microseconds until a processor that was called has left the guest.
        const PATIENCE: u32 = 4_000_000;
        let wanted = NESTED_TABLES.fetch_add(1, Ordering::SeqCst) + 1;
        let is_behind = |area: &&&'static Area| area.is_behind(wanted);
        for area in self.areas.iter().filter(is_behind) {
            run::call(area);
        }
        let done = || !self.areas.iter().any(|area| is_behind(&area));
        if self.timer.wait_until(PATIENCE, done) {
            return Ok(());
        }
        // Whoever did not hear this call is sent the next one all the same.
        for area in self.areas.iter().filter(is_behind) {
            area.take_call();
        }
        Err(TimedOut)
    }

    /// How often any processor left the guest for `reason`.
    pub(crate) fn count(&self, reason: Reason) -> u64 {
        self.areas.iter().map(|area| area.counters.of(reason)).sum()
    }

    /// Whether Bouncer's own tables map every byte of `range`, and the guest's do, too.
    pub(crate) fn is_mapped(&self, range: ByteRange<Hpa>) -> bool {
        let last = range.last().identity();
        last.raw() >> mappings::mapped_width(self.physical_width) == 0
            && !mappings::message_window().is_some_and(|window| window.contains(last))
    }

    /// Whether every byte of `range` is memory rather than a device's: something that may be read
    /// more than once and has no side effect.
    pub(crate) fn is_memory(&self, range: ByteRange<Hpa>) -> bool {
        self.memory.iter().any(|piece| piece.covers(&range))
    }
}

/// The machine's memory that is the guest's, neighbouring regions in one piece: it is asked for with
/// every request of a mediated device.
pub(crate) fn memory_of(handoff: &Handoff) -> MemoryPieces {
    let is_ram = |region: &Region| {
        [
            RegionKind::USABLE,
            RegionKind::ACPI_RECLAIMABLE,
            RegionKind::ACPI_NVS,
            RegionKind::PERSISTENT,
        ]
        .contains(&region.kind)
    };
    let mut pieces = MemoryPieces::new();
    for region in handoff.regions().filter(is_ram) {
        match pieces.last_mut() {
            Some(last) if last.last().checked_add(1) == Some(region.range.start()) => {
                *last = last.hull(&region.range);
            }
            // There is room for as many as the hand-over tells.
            _ => {
                let _ = pieces.push(region.range);
            }
        }
    }
    // Most of what is asked for lies in the largest.
    pieces.sort_unstable_by_key(|piece| core::cmp::Reverse(piece.len()));
    pieces
}
