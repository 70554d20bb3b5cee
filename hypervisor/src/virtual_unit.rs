//! The remapping unit that the guest sees: where its registers are, and what is done for it.
//!
//! Whoever writes a register holds the fabric's lock until everything asked for is done: every mediated
//! device is taken in turn, so that what it had under way is over, before the guest reads that it is. The
//! unit's own lock is the last one taken.

use core::sync::atomic::{AtomicBool, AtomicU64, Ordering};

use memory::{ByteRange, Gpa, Iova};
use pci::{Address, Bdf};
use spin::Once;
use spin::mutex::TicketMutex;
use viommu::{Access, Message, Mode, Refused, Request, Unit, Width, Work};
use vtd::remap::{Objection, Route};
use vtd::spec::fault::Reason;

use crate::console::say;
use crate::cpu::apic;
use crate::cpu::area::Area;
use crate::fabric::Fabric;
use crate::machine::Machine;
use crate::mediated;
use crate::physical::Physical;
use crate::run;

/// Descriptors of the queue that are read in one exit. The rest waits until the processor comes again.
const BUDGET: u32 = 256;

static UNIT: Once<Shared> = Once::new();

/// The unit, and what does not change of it.
#[derive(Debug)]
pub(crate) struct Shared {
    registers: ByteRange<Gpa>,
    segment: u16,
    table: &'static [u8],
    unit: TicketMutex<Unit>,
    /// The queue was left in the middle.
    is_waiting: AtomicBool,
    counts: Counts,
}

/// What was done, for the last words.
#[derive(Debug)]
struct Counts {
    /// Exits for a register.
    reads: AtomicU64,
    writes: AtomicU64,
    /// Times that translations were forgotten, and interrupt entries read again.
    forgotten: AtomicU64,
    interrupts: AtomicU64,
    /// Accesses of devices that were refused.
    refused: AtomicU64,
}

/// The guest sees a unit from now on, whose registers are the page at `registers` and of which `table`
/// tells.
pub(crate) fn show(registers: ByteRange<Gpa>, segment: u16, table: &'static [u8], width: Width) {
    UNIT.call_once(|| Shared {
        registers,
        segment,
        table,
        unit: TicketMutex::new(Unit::new(width)),
        is_waiting: AtomicBool::new(false),
        counts: Counts {
            reads: AtomicU64::new(0),
            writes: AtomicU64::new(0),
            forgotten: AtomicU64::new(0),
            interrupts: AtomicU64::new(0),
            refused: AtomicU64::new(0),
        },
    });
}

/// The unit, if the guest sees one.
pub(crate) fn there() -> Option<&'static Shared> {
    UNIT.get()
}

/// The unit and the offset of its registers at which `range` begins, if it lies in them.
pub(crate) fn at(range: ByteRange<Gpa>) -> Option<(&'static Shared, u32)> {
    let unit = there().filter(|unit| unit.registers.covers(&range))?;
    let offset = range.start().raw() - unit.registers.start().raw();
    Some((unit, offset as u32))
}

/// Goes on with a queue that one exit did not finish.
pub(crate) fn go_on(machine: &'static Machine, area: &Area) {
    if let Some(unit) = there()
        && unit.is_waiting.swap(false, Ordering::AcqRel)
        && let Some(fabric) = machine.fabric
    {
        unit.serve(machine, area, &mut fabric.lock());
    }
}

/// A device was refused an access by the guest's tables: the guest reads of it.
pub(crate) fn refuse(source: Bdf, at: Iova, access: Access, refused: Refused) {
    if let Some(shared) = there() {
        count(&shared.counts.refused);
        let mut unit = shared.unit.lock();
        unit.refuse(source, at, access, refused);
        send(&mut unit);
    }
}

/// The last words: what the guest used the unit for.
pub(crate) fn report() {
    let Some(Shared { counts, .. }) = there() else {
        return;
    };
    let of = |counter: &AtomicU64| counter.load(Ordering::Relaxed);
    say!(
        "@viommu reads={} writes={} forgotten={} interrupts={} refused={}",
        of(&counts.reads),
        of(&counts.writes),
        of(&counts.forgotten),
        of(&counts.interrupts),
        of(&counts.refused)
    );
}

fn count(counter: &AtomicU64) {
    counter.fetch_add(1, Ordering::Relaxed);
}

impl Shared {
    /// The table that tells the guest of it.
    pub(crate) fn table(&self) -> &'static [u8] {
        self.table
    }

    /// The segment of its devices.
    pub(crate) fn segment(&self) -> u16 {
        self.segment
    }

    /// How devices' addresses are translated now.
    pub(crate) fn mode(&self) -> Mode {
        self.unit.lock().mode()
    }

    /// Answers the guest's read.
    pub(crate) fn read(&self, offset: u32, to: &mut [u8]) {
        count(&self.counts.reads);
        self.unit.lock().read(offset, to);
    }

    /// Takes the guest's write, and does what it asks for.
    pub(crate) fn write(&self, machine: &'static Machine, area: &Area, offset: u32, from: &[u8]) {
        let Some(fabric) = machine.fabric else {
            return;
        };
        count(&self.counts.writes);
        let mut fabric = fabric.lock();
        self.unit.lock().write(offset, from);
        self.serve(machine, area, &mut fabric);
    }

    fn serve(&self, machine: &'static Machine, area: &Area, fabric: &mut Fabric) {
        let mut budget = BUDGET;
        loop {
            let mut unit = self.unit.lock();
            let work = unit.next(&Physical(machine), &mut budget);
            send(&mut unit);
            let has_more = unit.has_more();
            drop(unit);
            match work {
                Some(Work::Switch(mode)) => {
                    mediated::each_translations(|known| known.switch(mode));
                }
                Some(Work::Forget(scope)) => {
                    count(&self.counts.forgotten);
                    mediated::each_translations(|known| known.forget(scope));
                }
                Some(Work::Interrupts(entries)) => {
                    count(&self.counts.interrupts);
                    fabric.read_interrupts_again(entries);
                }
                None if has_more => {
                    self.is_waiting.store(true, Ordering::Release);
                    return run::call(area);
                }
                None => return,
            }
        }
    }

    /// What the guest's table makes of an interrupt of `at`. `None` if it is to be taken as it stands.
    pub(crate) fn route(
        &self,
        at: Address,
        request: Request,
        is_level: bool,
    ) -> Result<Option<Route>, Reason> {
        let unit = self.unit.lock();
        match Machine::published() {
            Some(machine) => unit.route(&Physical(machine), at.bdf, request, is_level),
            // Nobody has written a register yet.
            None => Ok(None),
        }
    }
}

/// Sends what the unit has to say by itself, if that is an interrupt that a device may raise.
fn send(unit: &mut Unit) {
    while let Some(message) = unit.take_message() {
        if let Ok(route) = route_of(message) {
            apic::send_for_device(route);
        }
    }
}

fn route_of(message: Message) -> Result<Route, Objection> {
    let route = Route::of_message(message.address.into(), message.data)?;
    Ok(route.with_upper_destination(message.upper))
}
