//! The remapping units that the guest sees: where their registers are, and what is done for them.
//!
//! The first is in front of devices whose addresses are translated here. What the guest has mapped for
//! devices behind the second is carried over into the real tables. The third remaps the interrupts of all
//! others. Whoever writes a register holds the fabric's lock until everything asked for is done: every
//! mediated device is taken in turn, so that what it had under way is over, and every real unit has
//! forgotten what is not lent any more, before the guest reads that it is. The unit's own lock is the last
//! one taken.

use core::sync::atomic::{AtomicBool, AtomicU64, Ordering};

use memory::{ByteRange, Gpa, Iova};
use pci::{Address, Bdf};
use spin::Once;
use spin::mutex::TicketMutex;
use viommu::{Access, Blocked, Limits, Message, Mode, Refused, Request, Unit, Work};
use vtd::remap::{Objection, Route};

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
/// Times that interrupt entries are read again in one exit: each may be about every interrupt there is.
const REMAPPED: u32 = 4;
/// Entries of the guest's tables that are read in one exit.
const ENTRIES: u32 = 4096;

static UNITS: [Once<Shared>; 3] = [const { Once::new() }; 3];
static TABLE: Once<&'static [u8]> = Once::new();

/// The unit, and what does not change of it.
#[derive(Debug)]
pub(crate) struct Shared {
    registers: ByteRange<Gpa>,
    segment: u16,
    /// Where what the guest maps is carried over: into what.
    limits: Option<Limits>,
    unit: TicketMutex<Unit>,
    /// The queue, or something that was asked for, was left in the middle.
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

/// The guest sees this unit from now on, whose registers are the page at `registers`.
pub(crate) fn show(registers: ByteRange<Gpa>, segment: u16, unit: Unit) {
    let Some(place) = UNITS.iter().find(|place| !place.is_completed()) else {
        return;
    };
    place.call_once(|| Shared {
        registers,
        segment,
        limits: unit.limits(),
        unit: TicketMutex::new(unit),
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

/// The guest finds the units by this table.
pub(crate) fn tell(table: &'static [u8]) {
    TABLE.call_once(|| table);
}

/// That table.
pub(crate) fn table() -> Option<&'static [u8]> {
    TABLE.get().copied()
}

/// The units that the guest sees.
pub(crate) fn all() -> impl Iterator<Item = &'static Shared> {
    UNITS.iter().filter_map(Once::get)
}

/// The one that remaps the interrupts of I/O APICs.
pub(crate) fn first() -> Option<&'static Shared> {
    all().next()
}

/// The unit and the offset of its registers at which `range` begins, if it lies in them.
pub(crate) fn at(range: ByteRange<Gpa>) -> Option<(&'static Shared, u32)> {
    let unit = all().find(|unit| unit.registers.covers(&range))?;
    let offset = range.start().raw() - unit.registers.start().raw();
    Some((unit, offset as u32))
}

/// Goes on with what one exit did not finish.
pub(crate) fn go_on(machine: &'static Machine, area: &Area) {
    for unit in all() {
        if unit.is_waiting.swap(false, Ordering::AcqRel)
            && let Some(fabric) = machine.fabric
        {
            unit.serve(machine, area, &mut fabric.lock());
        }
    }
}

/// The last words: what the guest used the units for.
pub(crate) fn report() {
    let of = |counter: &AtomicU64| counter.load(Ordering::Relaxed);
    for Shared { counts, limits, .. } in all() {
        say!(
            "@viommu reads={} writes={} forgotten={} interrupts={} refused={} carries={}",
            of(&counts.reads),
            of(&counts.writes),
            of(&counts.forgotten),
            of(&counts.interrupts),
            of(&counts.refused),
            u8::from(limits.is_some())
        );
    }
}

fn count(counter: &AtomicU64) {
    counter.fetch_add(1, Ordering::Relaxed);
}

impl Shared {
    /// Whether its registers are at `at`.
    pub(crate) fn is_at(&self, at: Gpa) -> bool {
        self.registers.start() == at
    }

    /// What the tables can hold that the guest's are carried over into, if they are.
    pub(crate) fn limits(&self) -> Option<Limits> {
        self.limits
    }

    /// A device was refused an access by the guest's tables: the guest reads of it.
    pub(crate) fn refuse(&self, source: Bdf, at: Iova, access: Access, refused: Refused) {
        count(&self.counts.refused);
        let mut unit = self.unit.lock();
        unit.refuse(source, at, access, refused);
        send(&mut unit);
    }

    /// A device was refused an interrupt: the guest reads of it.
    pub(crate) fn refuse_interrupt(&self, source: Bdf, blocked: Blocked) {
        count(&self.counts.refused);
        let mut unit = self.unit.lock();
        unit.refuse_interrupt(source, blocked);
        send(&mut unit);
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
    pub(crate) fn write(
        &'static self,
        machine: &'static Machine,
        area: &Area,
        offset: u32,
        from: &[u8],
    ) {
        let Some(fabric) = machine.fabric else {
            return;
        };
        count(&self.counts.writes);
        let mut fabric = fabric.lock();
        self.unit.lock().write(offset, from);
        self.serve(machine, area, &mut fabric);
    }

    fn serve(&'static self, machine: &'static Machine, area: &Area, fabric: &mut Fabric) {
        let (mut budget, mut left, mut remapped) = (BUDGET, ENTRIES, 0);
        loop {
            if !fabric.carry_on(self, machine, &mut left) {
                return self.wait(area);
            }
            let mut unit = self.unit.lock();
            let work = unit.next(&Physical(machine), &mut budget);
            send(&mut unit);
            let has_more = unit.has_more();
            drop(unit);
            match work {
                Some(Work::Switch(mode)) => {
                    mediated::each_translations(self, |known| known.switch(mode));
                    fabric.each_shadow(self, |shadow| shadow.switch(mode));
                }
                Some(Work::Forget(scope)) => {
                    count(&self.counts.forgotten);
                    mediated::each_translations(self, |known| known.forget(scope));
                    fabric.each_shadow(self, |shadow| shadow.forget(scope));
                }
                Some(Work::Interrupts(entries)) => {
                    count(&self.counts.interrupts);
                    fabric.read_interrupts_again(self, entries);
                    remapped += 1;
                    if remapped == REMAPPED && has_more {
                        return self.wait(area);
                    }
                }
                None if has_more => return self.wait(area),
                None => return,
            }
        }
    }

    /// The rest is done once the processor comes again.
    fn wait(&self, area: &Area) {
        self.is_waiting.store(true, Ordering::Release);
        run::call(area);
    }

    /// What the guest's table makes of an interrupt of `at`. `None` if it is to be taken as it stands.
    pub(crate) fn route(
        &self,
        at: Address,
        request: Request,
        is_level: bool,
    ) -> Result<Option<Route>, Blocked> {
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
