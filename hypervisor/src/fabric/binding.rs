//! Which untrusted devices get a mediator, and what they reach then: pages of their own, some to
//! read and some to write, for as long as they are there.

use bounce::Arena;
use mediator::{Lie, Mediator};
use memory::{ByteRange, Gpa, Hpa, Iova};
use pci::{Address, FunctionId};
use policy::{Verdict, WholePages};
use vtd::domain::Access;
use vtd::remap::Route;

use super::mute::are_mute;
use super::remapping::Reach;
use super::{Fabric, Standing};
use crate::console::say;
use crate::machine::Machine;
use crate::mediated::{self, Device, Engine, Kind, Parts, Signals, Slot, Store};

/// Which register window a mediator understands: that of the first base address register.
pub(super) const REGISTERS: u8 = 0;
/// Bytes of that window at most: the guest is stopped at each of its pages.
const MOST_REGISTERS: u64 = 1 << 20;

/// A function that has a mediator.
#[derive(Clone, Copy, Debug)]
pub(super) struct Binding {
    /// Its place among the mediated devices.
    place: u8,
    /// Its pages, in memory.
    memory: ByteRange<Hpa>,
    arena: Arena,
    window: Option<ByteRange<Iova>>,
    /// Where the guest is stopped for it.
    stopped: Option<ByteRange<Gpa>>,
}

impl Binding {
    pub(super) fn slot(&self) -> &'static Slot {
        &mediated::slots()[usize::from(self.place)]
    }
}

impl Fabric {
    /// Binds the untrusted function `id` to a mediator, if there is one for it and memory enough.
    /// Its domain stays empty otherwise.
    pub(super) fn bind(&mut self, id: FunctionId, at: Address, verdict: &Verdict<'_>) {
        let topology = self.mediation.topology();
        let Some(kind) = topology
            .function(id)
            .and_then(|f| Kind::of(&f.identity, verdict.mediator))
        else {
            return;
        };
        let Some(Reach::Own(domain)) = self.standings[id.index()].map(|standing| standing.reach)
        else {
            return;
        };
        if let Err(why) = self.try_bind(id, at, kind, domain, verdict)
            && self.is_news(at)
        {
            say!("device {at}: no mediator, and so no DMA: {why}");
        }
    }

    fn try_bind(
        &mut self,
        id: FunctionId,
        at: Address,
        kind: Kind,
        domain: u8,
        verdict: &Verdict<'_>,
    ) -> Result<(), &'static str> {
        if self.is_anybody_paged_in(domain) {
            return Err(
                "it shares its requester id with a device whose addresses the guest chooses",
            );
        }
        let mut bars = self.mediation.bars(id).iter();
        let registers = bars.find(|bar| bar.index() == REGISTERS);
        if registers.is_none_or(|bar| bar.size() > MOST_REGISTERS) {
            return Err("its registers are not within 1 MiB");
        }
        let place = mediated::free_place();
        let place = place.ok_or("all places for mediated devices are taken")?;
        let arena = Arena::at(self.next_base(domain), verdict.pool.bytes());
        let arena =
            arena.ok_or("its pool in the policy is too small or too large for its domain")?;
        let is_mapping = verdict.whole_pages == WholePages::Map && kind == Kind::Nvme;
        let window = window_of(place, &arena).filter(|_| is_mapping);
        let mut spare = self.spare.iter();
        let store = match spare.position(|store| store.suffices(&arena, window)) {
            Some(place) => Some(self.spare.swap_remove(place)),
            None => Store::take(&arena, window, &mut self.remapping.frames),
        };
        let store = store.ok_or("Bouncer's own memory is used up")?;
        let Some(memory) = self.pools.take(arena.bytes()) else {
            self.keep_spare(store);
            return Err(
                "the memory for pools is used up: raise `bounce-memory` in the policy, or lower `pool`",
            );
        };
        let binding = Binding {
            place: place as u8,
            memory,
            arena,
            window,
            stopped: None,
        };
        let writable = Hpa::new(memory.start().raw() + arena.readable().len());
        let lent = [
            (arena.readable(), memory.start(), Access::Read),
            (arena.writable(), writable, Access::Write),
        ];
        for (range, pages, access) in lent {
            if self.remapping.lend(domain, range, pages, access).is_err() {
                self.revoke_pages(domain, &binding);
                self.pools.give_back(memory);
                self.keep_spare(store);
                return Err("its pages cannot be mapped for it");
            }
        }
        binding.slot().bind(Device {
            id,
            parts: Parts {
                at,
                arena,
                window,
                translated: None,
                domain,
                memory: memory.start(),
                registers: None,
                tables: self.message_tables(id),
                signals: Signals::NONE,
                vectors: self.vectors(id),
                has_shadow_doorbells: verdict.shadow_doorbells,
                completed_before_mute: 0,
                lie: None,
                is_cut_off: false,
            },
            engine: Engine::Asleep(kind, store),
            store,
        });
        if let Some(standing) = &mut self.standings[id.index()] {
            standing.binding = Some(binding);
        }
        if let Some(decision) = self.mediation.bind(id) {
            self.carry_out(&decision);
        }
        let decoded = self.mediation.decoded(id, REGISTERS);
        self.registers_moved(id, REGISTERS, decoded);
        let storm = verdict.storm;
        mediated::bear(storm.faults, self.faults.ticks(storm.per.milliseconds()));
        Ok(())
    }

    /// Where in the domain another device's pages begin.
    fn next_base(&self, domain: u8) -> Iova {
        let shared = self.standings.iter().flatten();
        let shared = shared.filter(|standing| standing.reach == Reach::Own(domain));
        let ends = shared.filter_map(|standing| {
            let last = standing.binding?.arena.writable().last();
            last.checked_add(1)
        });
        ends.max().unwrap_or(Arena::BASE)
    }

    /// What of the register window is not the mediator's: the tables of MSI-X.
    fn message_tables(&self, id: FunctionId) -> [Option<(u32, u32)>; 2] {
        const BITS_PER_BYTE: u32 = 8;
        let Some(layout) = self.mediation.msix(id) else {
            return [None; 2];
        };
        let entries = u32::from(layout.entries);
        let pending = entries.div_ceil(8 * BITS_PER_BYTE) * 8;
        let table = (layout.table, entries * pci::msix::ENTRY_BYTES);
        [table, (layout.pending, pending)].map(|(place, bytes)| {
            (place.bar == REGISTERS).then_some((place.offset, place.offset.saturating_add(bytes)))
        })
    }

    /// Interrupts that the guest may program into it.
    fn vectors(&self, id: FunctionId) -> u16 {
        /// What MSI has at most. PCI 3.0, 6.8.1.3.
        const OF_MSI: u16 = 32;
        match (self.mediation.msix(id), self.mediation.msi(id)) {
            (Some(layout), _) => layout.entries,
            (None, Some(_)) => OF_MSI,
            (None, None) => 0,
        }
    }

    /// The mediator's name, if the function has one.
    pub(super) fn mediator(&self, id: FunctionId) -> Option<Kind> {
        let binding = self.binding(id)?;
        let held = binding.slot().lock();
        held.as_ref().map(|device| device.engine.kind())
    }

    /// The device's base address register `bar` decodes `to` from now on, or nothing.
    pub(super) fn registers_moved(&mut self, id: FunctionId, bar: u8, to: Option<ByteRange<Hpa>>) {
        let Some(binding) = self.binding(id).filter(|_| bar == REGISTERS) else {
            return;
        };
        let slot = binding.slot();
        slot.show(None);
        if let Some(device) = slot.lock().as_mut() {
            device.parts.registers = to;
        }
        // While nothing decodes there, stopping the guest there does no harm: most registers that
        // are switched off come back at the same place.
        let Some(registers) = to else {
            return;
        };
        let window = mediated::window(registers);
        if binding.stopped != Some(window) {
            self.note_stopped(id, None);
            if let Some(before) = binding.stopped {
                self.let_through(before);
            }
            self.stop_at(id, window);
            self.note_stopped(id, Some(window));
        }
        slot.show(Some(window));
    }

    /// The interrupt that the device is given for what the guest asked for `vector`: of a mediated
    /// device's, Bouncer itself hears. While they stay away it is none, and the device's message a fault.
    pub(super) fn program_signal(
        &mut self,
        id: FunctionId,
        vector: u16,
        route: Option<Route>,
    ) -> Option<Route> {
        let Some(binding) = self.binding(id) else {
            return route;
        };
        let change = |signals: &mut Signals| signals.program(vector, route);
        binding.slot().signal(&mut self.remapping, change, vector);
        route.filter(|_| !are_mute()).map(mediated::route_to_us)
    }

    /// The guest hears that its own table refuses `vector` if the device raises it.
    pub(super) fn refuse_signal(
        &mut self,
        id: FunctionId,
        vector: u16,
        refused: Option<viommu::Blocked>,
    ) {
        if let Some(binding) = self.binding(id)
            && let Some(device) = binding.slot().lock().as_mut()
        {
            device.parts.signals.refuse(vector, refused);
        }
    }

    /// The guest masked or unmasked `vector`.
    pub(super) fn mask_signal(&mut self, id: FunctionId, vector: u16, is_masked: bool) {
        if let Some(binding) = self.binding(id) {
            let change = |signals: &mut Signals| signals.mask(vector, is_masked);
            binding.slot().signal(&mut self.remapping, change, vector);
        }
    }

    /// The guest took all interrupts of the device back.
    pub(super) fn drop_signals(&mut self, id: FunctionId) {
        if let Some(binding) = self.binding(id)
            && let Some(device) = binding.slot().lock().as_mut()
        {
            device.parts.signals = Signals::NONE;
        }
    }

    /// The device was reset: it knows nothing any more of what it was given.
    pub(super) fn reset_binding(&mut self, id: FunctionId) {
        if let Some(binding) = self.binding(id)
            && let Some(device) = binding.slot().lock().as_mut()
            && let Some(machine) = Machine::published()
        {
            device.forget(machine, &mut self.remapping);
        }
    }

    /// The device is gone, and no unit knows its entry any more: its pages are taken back.
    pub(super) fn unbind(&mut self, standing: &Standing) {
        let (Some(binding), reach) = (standing.binding, standing.reach) else {
            return;
        };
        if let Some(window) = binding.stopped {
            self.let_through(window);
        }
        let device = binding.slot().unbind();
        if let Reach::Own(domain) = reach {
            self.revoke_pages(domain, &binding);
        }
        self.pools.give_back(binding.memory);
        if let Some(device) = device {
            let (at, counts) = (device.parts.at, device.engine.counts());
            if self.is_news(at) {
                say!(
                    "@bounce bdf={at} mediator={} {counts} left=1",
                    device.engine.kind().name()
                );
            }
            self.keep_spare(device.store);
        }
    }

    /// Keeps memory that no engine uses any more for another device's.
    fn keep_spare(&mut self, store: Store) {
        // There are as many places for it as for devices.
        let _ = self.spare.push(store);
    }

    /// Who has the domain `reach` besides `id` does not reach its pages any more, and its mediator
    /// changes nothing in that domain, whose number may be another's soon.
    pub(super) fn take_pages(&mut self, id: FunctionId, reach: Reach) {
        if let (Some(binding), Reach::Own(domain)) = (self.binding(id), reach) {
            if let Some(device) = binding.slot().lock().as_mut() {
                device.parts.window = None;
            }
            self.revoke_pages(domain, &binding);
        }
    }

    fn revoke_pages(&mut self, domain: u8, binding: &Binding) {
        self.remapping.revoke(domain, binding.arena.readable());
        self.remapping.revoke(domain, binding.arena.writable());
        if let Some(window) = binding.window {
            self.remapping.revoke(domain, window);
        }
    }

    /// The device claimed what cannot be: it reaches nothing any more and raises nothing.
    pub(crate) fn condemn(&mut self, id: FunctionId, at: Address, lie: Lie) {
        let Some(binding) = self.binding(id) else {
            return;
        };
        // Another may have come into its place meanwhile.
        let held = binding.slot().lock();
        let is_it = held
            .as_ref()
            .is_some_and(|d| d.id == id && d.parts.is_cut_off);
        drop(held);
        if !is_it {
            return;
        }
        say!("device {at}: in quarantine until it is replaced: {lie}");
        say!("@cut-off bdf={at} reason=\"{lie}\"");
        if let Err(denied) = self.quarantine(id) {
            say!("device {at}: reaches nothing: {denied}");
        }
    }

    pub(super) fn binding(&self, id: FunctionId) -> Option<Binding> {
        self.standings.get(id.index())?.as_ref()?.binding
    }

    fn note_stopped(&mut self, id: FunctionId, window: Option<ByteRange<Gpa>>) {
        let standing = self.standings.get_mut(id.index()).and_then(Option::as_mut);
        if let Some(binding) = standing.and_then(|standing| standing.binding.as_mut()) {
            binding.stopped = window;
        }
    }

    /// Whether the guest is stopped at `page` for the registers of any mediated device.
    pub(super) fn is_stopped_at(&self, page: Gpa) -> bool {
        let bindings = self.standings.iter().flatten();
        let mut windows = bindings.filter_map(|standing| standing.binding?.stopped);
        windows.any(|window| window.contains(page))
    }
}

/// Where the device in this place finds whole pages of the guest's: as many addresses as its pool has
/// pages, far behind all arenas.
fn window_of(place: usize, arena: &Arena) -> Option<ByteRange<Iova>> {
    const FIRST: u64 = 4 << 30;
    const APART: u64 = 1 << 30;
    ByteRange::new(Iova::new(FIRST + place as u64 * APART), arena.bytes())
}
