//! Which devices the units that the guest sees govern, and what follows for them.

// UNSAFETY: keeps the table in a page of Bouncer's own.
#![expect(unsafe_code)]

use core::cell::RefCell;

use boot::handoff::Handoff;
use memory::{ByteRange, Gpa, PAGE_SIZE};
use pci::topology::Layout;
use pci::{Address, FunctionId};
use policy::Treatment;
use viommu::{Entries, Full, Governed, Table, Translations, Unit, Width};
use vtd::dmar::{Dmar, ScopeKind};

use super::Fabric;
use super::takeover::bridges;
use crate::console::say;
use crate::firmware;
use crate::mediated::Translated;
use crate::virtual_unit::{self, Shared};

/// The registers of the units.
struct Pages {
    /// In front of mediated devices and those that reach nothing.
    first: ByteRange<Gpa>,
    /// In front of those that reach what the guest maps for them.
    second: ByteRange<Gpa>,
    /// For all others, whose interrupts alone are remapped: Linux wants a unit in front of each.
    third: ByteRange<Gpa>,
}

/// Devices and ports that the table names, for each of the units.
#[derive(Clone, Copy, PartialEq, Eq)]
struct Named {
    first: u32,
    second: u32,
}

/// Which unit is in front of somebody.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Front {
    First,
    Second,
}

impl Fabric {
    /// Shows the guest units in front of the untrusted devices of `segment`, if the policy wants that,
    /// there are any, and there is room to tell of them.
    pub(super) fn show_units(
        &mut self,
        segment: u16,
        registers: ByteRange<Gpa>,
        is_wide: bool,
        handoff: &Handoff,
    ) {
        if !self.policy.shows_viommu() {
            return;
        }
        let page = ByteRange::new(registers.start(), PAGE_SIZE);
        let page = page.filter(|page| registers.covers(page));
        let room = firmware::room_for_tables(handoff);
        let frame = self.remapping.frames.take_run(PAGE_SIZE);
        // The guest never reaches Bouncer's memory: it is stopped there as at the other's registers.
        let mut own = || {
            let own = self.remapping.frames.take_run(PAGE_SIZE);
            ByteRange::new(own.ok()?.identity(), PAGE_SIZE)
        };
        let (Some(first), Some(room), Ok(frame), Some(second), Some(third)) =
            (page, room, frame, own(), own())
        else {
            say!("virtual unit none: there is no room for its table");
            return;
        };
        let pages = Pages {
            first,
            second,
            third,
        };
        let len = room.len().min(PAGE_SIZE);
        // SAFETY: the page was just taken, zeroed, and is nobody else's, ever.
        let bytes =
            unsafe { core::slice::from_raw_parts_mut(frame.raw() as *mut u8, len as usize) };
        let (table, named) = match self.tell_of_units(segment, &pages, bytes) {
            Ok(told) => told,
            Err(Full) => {
                say!("virtual unit none: there are more untrusted devices than its table holds");
                return;
            }
        };
        if named.first + named.second == 0 {
            return;
        }
        let width = if is_wide { Width::Wide } else { Width::Narrow };
        virtual_unit::tell(table);
        virtual_unit::show(first, segment, Unit::new(width));
        announce(first, named.first);
        if named.second != 0 {
            let unit = Unit::carried(width, self.remapping.limits());
            virtual_unit::show(second, segment, unit);
            announce(second, named.second);
        }
        virtual_unit::show(third, segment, Unit::for_interrupts(width));
        let topology = self.mediation.topology();
        let found = topology.functions().map(|(id, _)| id);
        let found: heapless::Vec<FunctionId, { super::MAX_FUNCTIONS }> = found.collect();
        for id in found {
            if let Some(at) = self.mediation.topology().address(id) {
                self.translate_for(id, at);
            }
        }
    }

    /// Writes the table. Returns it, and how many devices or ports it names.
    fn tell_of_units(
        &self,
        segment: u16,
        pages: &Pages,
        bytes: &'static mut [u8],
    ) -> Result<(&'static [u8], Named), Full> {
        let real = Dmar::parse(self.dmar).map_err(|_| Full)?;
        let mut table = Table::new(
            bytes,
            real.host_address_width().min(256) as u8,
            real.opts_in_to_dma_control(),
        )?;
        table.unit(segment, pages.first.start().raw())?;
        for unit in real.units().filter(|unit| unit.segment == segment) {
            let io_apics = unit.scopes().filter(|s| s.kind == ScopeKind::IoApic);
            for io_apic in io_apics {
                let hops: heapless::Vec<(u8, u8), 32> = io_apic
                    .path()
                    .map(|hop| (hop.device, hop.function))
                    .take(32)
                    .collect();
                let governed = Governed::IoApic(io_apic.enumeration_id);
                table.add(governed, io_apic.start_bus, hops.iter().copied())?;
            }
        }
        let first = self.name_those_behind(Front::First, segment, &mut table)?;
        let second = self
            .any_behind(Front::Second, segment)
            .then(|| {
                table.unit(segment, pages.second.start().raw())?;
                self.name_those_behind(Front::Second, segment, &mut table)
            })
            .transpose()?;
        table.unit_for_others(segment, pages.third.start().raw())?;
        let named = Named {
            first,
            second: second.unwrap_or(0),
        };
        Ok((table.finish(), named))
    }

    /// Names in the table who is behind the unit `front`. Returns how many those are.
    fn name_those_behind(
        &self,
        front: Front,
        segment: u16,
        table: &mut Table<'_>,
    ) -> Result<u32, Full> {
        let topology = self.mediation.topology();
        let mut count = 0;
        for (id, function) in topology.functions() {
            let path = topology.path(id).filter(|path| path.segment == segment);
            let Some(path) = path.filter(|_| self.front_of(id) == Some(front)) else {
                continue;
            };
            let governed = match function.layout {
                Layout::Bridge => Governed::Bridge,
                _ => Governed::Function,
            };
            let hops = path.hops.iter().map(|hop| (hop.device(), hop.function()));
            table.add(governed, path.bus, hops)?;
            count += 1;
        }
        Ok(count)
    }

    fn any_behind(&self, front: Front, segment: u16) -> bool {
        let topology = self.mediation.topology();
        let mut all = topology.functions().map(|(id, _)| id);
        all.any(|id| topology.segment(id) == Some(segment) && self.front_of(id) == Some(front))
    }

    /// In front of whom the table names the function itself: not where a bridge above it stands for it.
    fn front_of(&self, id: FunctionId) -> Option<Front> {
        let topology = self.mediation.topology();
        let mut above = topology.bridges_above(id);
        if !self.is_confined(id) || above.any(|above| self.front_of_all_behind(above).is_some()) {
            return None;
        }
        match topology.function(id)?.layout {
            Layout::Bridge => self.front_of_all_behind(id),
            _ if self.is_paged(id) => Some(Front::Second),
            _ => Some(Front::First),
        }
    }

    /// The unit that governs the bridge and everybody behind it, now and later; `None` if they are not of a kind.
    fn front_of_all_behind(&self, bridge: FunctionId) -> Option<Front> {
        let mut behind = self.mediation.topology().behind(bridge);
        if !self.is_all_confined(bridge) {
            return None;
        }
        if self.is_paged(bridge) {
            return Some(Front::Second);
        }
        (!behind.any(|id| self.is_paged(id))).then_some(Front::First)
    }

    fn is_confined(&self, id: FunctionId) -> bool {
        let standing = self.standings.get(id.index()).and_then(Option::as_ref);
        standing.is_some_and(|standing| standing.treatment == Treatment::Confined)
    }

    /// Whether the bridge and everybody behind it is untrusted.
    fn is_all_confined(&self, bridge: FunctionId) -> bool {
        let mut behind = self.mediation.topology().behind(bridge);
        self.is_confined(bridge) && behind.all(|id| self.is_confined(id))
    }

    /// The unit that the guest sees in front of whoever is at `at`.
    pub(super) fn virtual_unit_of(&self, at: Address) -> Option<&'static Shared> {
        let table = Dmar::parse(virtual_unit::table()?).ok()?;
        let topology = self.mediation.topology();
        let named = table.unit_of(at, &bridges(topology))?;
        virtual_unit::all().find(|unit| unit.is_at(named.registers.identity()))
    }

    /// The device `id`, which is at `at`, names its memory as the guest's tables say, if the guest sees
    /// a unit in front of it.
    pub(super) fn translate_for(&mut self, id: FunctionId, at: Address) {
        let unit = self.virtual_unit_of(at);
        let Some(binding) = self.binding(id) else {
            match unit.filter(|unit| unit.limits().is_some() && self.is_paged(id)) {
                Some(unit) => self.cast_shadow(id, at, unit),
                None => self.drop_shadow(id),
            }
            return;
        };
        let translated = unit.map(|unit| Translated {
            unit,
            known: RefCell::new(Translations::new(at.bdf, unit.mode())),
        });
        if let Some(device) = binding.slot().lock().as_mut() {
            device.parts.at = at;
            device.parts.translated = translated;
        }
    }

    /// The guest changed some of the interrupt entries of `unit`.
    pub(crate) fn read_interrupts_again(&mut self, unit: &Shared, entries: Entries) {
        let Self {
            pins, remapping, ..
        } = self;
        let is_first = virtual_unit::first().is_some_and(|first| core::ptr::eq(first, unit));
        for pins in pins.iter_mut().filter(|_| is_first) {
            pins.translate_again(entries, remapping);
        }
        self.translate_again(unit, entries);
    }
}

fn announce(page: ByteRange<Gpa>, count: u32) {
    say!(
        "virtual unit at {}, in front of {count} untrusted device{}",
        page.start(),
        if count == 1 { "" } else { "s" }
    );
    say!("@viommu registers={} devices={count}", page.start());
}
