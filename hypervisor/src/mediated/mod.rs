//! The devices that have a mediator: each in a place of its own, behind a lock of its own.
//!
//! Here the guest's doorbells arrive and the devices' interrupts, and nobody meets the fabric's lock
//! on the way. Whoever holds the fabric's lock may take a device's, never the other way round.

mod engine;
mod idle;
mod signal;
mod store;
mod world;

use core::sync::atomic::{AtomicBool, AtomicU32, AtomicU64, Ordering};

use mediator::{Counts, Lie, Looked, Mediator};
use memory::{ByteRange, Gpa, Hpa, OutOfFrames};
use pci::FunctionId;
use spin::Once;
use spin::mutex::{TicketMutex, TicketMutexGuard};
use viommu::Translations;
use vtd::remap::Route;

use crate::console::say;
use crate::cpu::area::Area;
use crate::cpu::timer::Clock;
use crate::fabric::Remapping;
use crate::machine::Machine;
use crate::own::OwnFrames;
use crate::run;
use crate::virtual_unit::Shared;
pub(crate) use engine::{Engine, Kind};
pub(crate) use idle::{bear, is_storm};
pub(crate) use signal::Signals;
pub(crate) use store::{Pools, Store};
use world::Hand;
pub(crate) use world::{Parts, Translated};

/// Mediated devices at most.
pub(crate) const MAX_DEVICES: usize = 16;

static SLOTS: Once<&'static [Slot]> = Once::new();

/// A bit for each place in which a device is bound.
static BOUND: AtomicU32 = AtomicU32::new(0);
const _: () = assert!(MAX_DEVICES <= u32::BITS as usize);

/// A place for one device.
pub(crate) struct Slot {
    /// Where the guest is stopped for the device, looked at without the lock; empty if nowhere.
    start: AtomicU64,
    end: AtomicU64,
    /// Whether requests of the device change its tables.
    is_mapping: AtomicBool,
    /// When the device last had something to say.
    last: AtomicU64,
    /// Ticks spent in the mediator.
    ticks: AtomicU64,
    device: TicketMutex<Option<Device>>,
}

/// One device and its mediator.
pub(crate) struct Device {
    pub(crate) id: FunctionId,
    pub(crate) parts: Parts,
    pub(crate) engine: Engine,
    /// The engine's memory; another's once it is gone.
    pub(crate) store: Store,
}

/// Makes the places, of which there are none before.
pub(crate) fn make_slots(frames: &mut OwnFrames) -> Result<(), OutOfFrames> {
    let slots = frames.keep([const { Slot::empty() }; MAX_DEVICES])?;
    SLOTS.call_once(|| slots);
    Ok(())
}

/// All places.
pub(crate) fn slots() -> &'static [Slot] {
    SLOTS.get().copied().unwrap_or_default()
}

/// The places in which a device is bound.
fn bound() -> impl Iterator<Item = &'static Slot> {
    let mut marks = BOUND.load(Ordering::Acquire);
    core::iter::from_fn(move || {
        let place = marks.checked_ilog2()?;
        marks &= !(1 << place);
        slots().get(place as usize)
    })
}

/// A place for a device, in which there is none.
pub(crate) fn free_place() -> Option<usize> {
    let place = BOUND.load(Ordering::Acquire).trailing_ones() as usize;
    (place < slots().len()).then_some(place)
}

/// The place whose device the guest reaches at `range`.
pub(crate) fn at(range: ByteRange<Gpa>) -> Option<&'static Slot> {
    bound().find(|slot| slot.is_at(range.start()))
}

/// Whether a mediator answers at `range`. It stays so for as long as the fabric is held.
pub(crate) fn is_answered_at(range: ByteRange<Gpa>) -> bool {
    at(range).is_some_and(|slot| {
        let held = slot.lock();
        let parts = held.as_ref().map(|device| &device.parts);
        parts.is_some_and(|parts| parts.register_at(range).is_some())
    })
}

/// Asks every device what it has to say. Returns whether one had something.
pub(crate) fn look(machine: &'static Machine, area: &Area) -> bool {
    let mut found = false;
    for slot in bound() {
        let looked = slot.with(machine, |mut hand, engine| engine.look(&mut hand));
        found |= slot.note(looked.unwrap_or(Looked::Nothing), area);
    }
    found
}

/// Does something with what each device behind `unit` knows of the guest's tables. Whatever a device had under
/// way is over then.
pub(crate) fn each_translations(unit: &Shared, mut act: impl FnMut(&mut Translations)) {
    for slot in bound() {
        let mut held = slot.lock();
        let parts = held.as_mut().map(|device| &mut device.parts);
        let translated = parts.and_then(|parts| parts.translated.as_mut());
        if let Some(translated) = translated.filter(|t| core::ptr::eq(t.unit, unit)) {
            act(translated.known.get_mut());
        }
    }
}

/// Whether there is a mediated device.
pub(crate) fn are_any() -> bool {
    BOUND.load(Ordering::Acquire) != 0
}

/// Whether a device had something to say since `moment`.
pub(crate) fn was_looked_at_since(moment: u64) -> bool {
    bound().any(|slot| slot.last.load(Ordering::Relaxed) > moment)
}

/// What was counted, of all devices together, and ticks spent on it.
pub(crate) fn counts() -> (Counts, u64) {
    let mut all = (Counts::default(), 0);
    for slot in slots() {
        if let Some(device) = slot.device.lock().as_ref() {
            all.0 += device.engine.counts();
            all.1 += slot.ticks.load(Ordering::Relaxed);
        }
    }
    all
}

/// The last words: what each device's mediator counted.
pub(crate) fn report() {
    for slot in slots() {
        if let Some(device) = slot.device.lock().as_ref() {
            let ticks = slot.ticks.load(Ordering::Relaxed);
            let (at, kind) = (device.parts.at, device.engine.kind().name());
            say!(
                "@bounce bdf={at} mediator={kind} {} ticks={ticks}",
                device.engine.counts()
            );
        }
    }
}

impl Slot {
    const fn empty() -> Self {
        Self {
            start: AtomicU64::new(0),
            end: AtomicU64::new(0),
            is_mapping: AtomicBool::new(false),
            last: AtomicU64::new(0),
            ticks: AtomicU64::new(0),
            device: TicketMutex::new(None),
        }
    }

    /// Its bit among those of all places.
    fn mark(&self) -> u32 {
        let place = slots().iter().position(|slot| core::ptr::eq(slot, self));
        place.map_or(0, |place| 1 << place)
    }

    /// The device, held.
    pub(crate) fn lock(&self) -> TicketMutexGuard<'_, Option<Device>> {
        self.device.lock()
    }

    /// Puts a device here.
    pub(crate) fn bind(&self, device: Device) {
        self.ticks.store(0, Ordering::Relaxed);
        let is_mapping = device.parts.window.is_some();
        self.is_mapping.store(is_mapping, Ordering::Relaxed);
        *self.device.lock() = Some(device);
        BOUND.fetch_or(self.mark(), Ordering::AcqRel);
    }

    /// Takes the device away.
    pub(crate) fn unbind(&self) -> Option<Device> {
        self.show(None);
        BOUND.fetch_and(!self.mark(), Ordering::AcqRel);
        self.device.lock().take()
    }

    /// The guest is stopped at `window` for the device, or nowhere.
    pub(crate) fn show(&self, window: Option<ByteRange<Gpa>>) {
        // Between the stores nobody is sent here.
        self.end.store(0, Ordering::Release);
        if let Some(window) = window {
            self.start.store(window.start().raw(), Ordering::Release);
            self.end.store(window.last().raw() + 1, Ordering::Release);
        }
    }

    fn is_at(&self, at: Gpa) -> bool {
        at.raw() < self.end.load(Ordering::Acquire)
            && at.raw() >= self.start.load(Ordering::Acquire)
    }

    /// Reads `to` at `range` for the guest, if the device's mediator answers there.
    pub(crate) fn read(
        &self,
        machine: &'static Machine,
        range: ByteRange<Gpa>,
        to: &mut [u8],
    ) -> bool {
        let read = self.with(machine, |mut hand, engine| {
            let mut at = hand.parts.register_at(range)?;
            engine.wake(&mut hand);
            for piece in to.chunks_mut(8) {
                engine.read(&mut hand, at, piece);
                at += piece.len() as u32;
            }
            Some(())
        });
        read.flatten().is_some()
    }

    /// Writes `from` at `range` for the guest, if the device's mediator answers there.
    pub(crate) fn write(
        &self,
        machine: &'static Machine,
        area: &Area,
        range: ByteRange<Gpa>,
        from: &[u8],
    ) -> bool {
        let written = self.with(machine, |mut hand, engine| {
            let mut at = hand.parts.register_at(range)?;
            engine.wake(&mut hand);
            let mut looked = Looked::Nothing;
            for piece in from.chunks(8) {
                let more = engine.write(&mut hand, at, piece);
                if looked != Looked::More {
                    looked = more;
                }
                at += piece.len() as u32;
            }
            Some(looked)
        });
        let Some(looked) = written.flatten() else {
            return false;
        };
        self.note(looked, area);
        true
    }

    /// Notes what the device had to say. Returns whether it had something.
    fn note(&self, looked: Looked, area: &Area) -> bool {
        match looked {
            Looked::Nothing => return false,
            Looked::Done => {}
            // The guest runs on for a moment, and then there is another look.
            Looked::More => run::call(area),
        }
        self.last.store(Clock::now(), Ordering::Relaxed);
        true
    }

    /// The guest programmed an interrupt of the device, masked it, or took it back.
    pub(crate) fn signal(
        &self,
        remapping: &mut Remapping,
        change: impl FnOnce(&mut Signals) -> bool,
        vector: u16,
    ) {
        let mut held = self.device.lock();
        let Some(device) = held.as_mut() else {
            return;
        };
        if change(&mut device.parts.signals)
            && let Some(machine) = Machine::published()
        {
            let (mut hand, engine) = device.hand(machine, Some(remapping));
            engine.unmasked(&mut hand, vector);
        }
    }

    /// Does something with the device, counts the time, and cuts the device off if it lied.
    fn with<T>(
        &self,
        machine: &'static Machine,
        work: impl FnOnce(Hand<'_>, &mut Engine) -> T,
    ) -> Option<T> {
        let start = Clock::now();
        let is_mapping = self.is_mapping.load(Ordering::Relaxed);
        let mut fabric = machine.fabric.filter(|_| is_mapping).map(|f| f.lock());
        let mut held = self.device.lock();
        let device = held.as_mut()?;
        let (hand, engine) = device.hand(machine, fabric.as_mut().map(|f| f.remapping()));
        let done = work(hand, engine);
        let lie = device.parts.take_lie();
        let (id, at) = (device.id, device.parts.at);
        drop(held);
        if let Some(lie) = lie
            && let Some(mut fabric) = fabric.or_else(|| machine.fabric.map(|f| f.lock()))
        {
            fabric.condemn(id, at, lie);
        }
        let spent = Clock::now().wrapping_sub(start);
        self.ticks.fetch_add(spent, Ordering::Relaxed);
        Some(done)
    }
}

impl Device {
    /// The device as its mediator sees it, and the mediator.
    fn hand<'a>(
        &'a mut self,
        machine: &'static Machine,
        remapping: Option<&'a mut Remapping>,
    ) -> (Hand<'a>, &'a mut Engine) {
        let Self { parts, engine, .. } = self;
        let hand = Hand {
            parts,
            machine,
            remapping,
            lingers_since: None,
        };
        (hand, engine)
    }

    /// The device knows nothing any more of what it was given.
    pub(crate) fn forget(&mut self, machine: &'static Machine, remapping: &mut Remapping) {
        let (mut hand, engine) = self.hand(machine, Some(remapping));
        engine.forget(&mut hand);
    }
}

impl Parts {
    /// Where in its register window the guest's `range` begins, if its mediator answers there.
    fn register_at(&self, range: ByteRange<Gpa>) -> Option<u32> {
        let registers = self.registers?;
        let into = range.start().raw().checked_sub(registers.start().raw())?;
        let last = range.last().raw().checked_sub(registers.start().raw())?;
        let is_ours = into < registers.len() && last < registers.len();
        let is_message = self.tables.iter().flatten().any(|table| {
            let (start, end) = (u64::from(table.0), u64::from(table.1));
            into < end && last >= start
        });
        (is_ours && !is_message).then_some(into as u32)
    }

    fn take_lie(&mut self) -> Option<Lie> {
        if self.is_cut_off {
            return None;
        }
        let lie = self.lie?;
        self.is_cut_off = true;
        Some(lie)
    }
}

/// What `route` becomes for a device that is mediated: an NMI to the same processors.
pub(crate) fn route_to_us(route: Route) -> Route {
    Route::nmi_of_our_own(route.destination())
}

/// Where the guest is stopped for a device whose registers are decoded at `registers`.
pub(crate) fn window(registers: ByteRange<Hpa>) -> ByteRange<Gpa> {
    registers.identity().whole_pages()
}
