//! Which devices the unit that the guest sees governs, and what follows for them.

// UNSAFETY: keeps the table in a page of Bouncer's own.
#![expect(unsafe_code)]

use core::cell::RefCell;

use boot::handoff::Handoff;
use memory::{ByteRange, Gpa, PAGE_SIZE};
use pci::topology::Layout;
use pci::{Address, FunctionId};
use policy::Treatment;
use viommu::{Entries, Full, Governed, Table, Translations, Width};
use vtd::dmar::{Dmar, ScopeKind};

use super::Fabric;
use super::takeover::bridges;
use crate::console::say;
use crate::firmware;
use crate::virtual_unit::{self, Shared};

impl Fabric {
    /// Shows the guest a unit in front of the untrusted devices of `segment`, if the policy wants it,
    /// there are any, and there is room to tell of it.
    pub(super) fn show_unit(
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
        let (Some(page), Some(room), Ok(frame)) = (page, room, frame) else {
            say!("virtual unit none: there is no room for its table");
            return;
        };
        // SAFETY: the page was just taken, zeroed, and is nobody else's, ever.
        let bytes =
            unsafe { core::slice::from_raw_parts_mut(frame.raw() as *mut u8, room.len() as usize) };
        match self.tell_of_unit(segment, page, bytes) {
            Ok((table, count)) if count != 0 => {
                let width = if is_wide { Width::Wide } else { Width::Narrow };
                virtual_unit::show(page, segment, table, width);
                say!(
                    "virtual unit at {}, in front of {count} untrusted device{}",
                    page.start(),
                    if count == 1 { "" } else { "s" }
                );
                say!("@viommu registers={} devices={count}", page.start());
            }
            Ok(_) => return,
            Err(Full) => {
                say!("virtual unit none: there are more untrusted devices than its table holds");
                return;
            }
        }
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
    fn tell_of_unit(
        &self,
        segment: u16,
        registers: ByteRange<Gpa>,
        bytes: &'static mut [u8],
    ) -> Result<(&'static [u8], u32), Full> {
        let real = Dmar::parse(self.dmar).map_err(|_| Full)?;
        let mut table = Table::new(
            bytes,
            segment,
            registers.start().raw(),
            real.host_address_width().min(256) as u8,
            real.opts_in_to_dma_control(),
        )?;
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
        let topology = self.mediation.topology();
        let mut count = 0;
        for (id, function) in topology.functions() {
            let is_above = topology
                .bridges_above(id)
                .any(|above| self.is_all_confined(above));
            if topology.segment(id) != Some(segment) || !self.is_confined(id) || is_above {
                continue;
            }
            let governed = match function.layout {
                Layout::Bridge if self.is_all_confined(id) => Governed::Bridge,
                // It speaks for others only, and some of those are trusted.
                Layout::Bridge => continue,
                _ => Governed::Function,
            };
            let Some(path) = topology.path(id) else {
                continue;
            };
            let hops = path.hops.iter().map(|hop| (hop.device(), hop.function()));
            table.add(governed, path.bus, hops)?;
            count += 1;
        }
        Ok((table.finish(), count))
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
        let unit = virtual_unit::there()?;
        let table = Dmar::parse(unit.table()).ok()?;
        let topology = self.mediation.topology();
        table.unit_of(at, &bridges(topology)).map(|_| unit)
    }

    /// The device `id`, which is at `at`, names its memory as the guest's tables say, if the guest sees
    /// a unit in front of it.
    pub(super) fn translate_for(&mut self, id: FunctionId, at: Address) {
        let unit = self.virtual_unit_of(at);
        let Some(binding) = self.binding(id) else {
            return;
        };
        let translations = unit.map(|unit| Translations::new(at.bdf, unit.mode()));
        if let Some(device) = binding.slot().lock().as_mut() {
            device.parts.at = at;
            device.parts.translations = translations.map(RefCell::new);
        }
    }

    /// The guest changed some of its interrupt entries.
    pub(crate) fn read_interrupts_again(&mut self, entries: Entries) {
        let Self {
            pins, remapping, ..
        } = self;
        for pins in pins {
            pins.translate_again(entries, remapping);
        }
        self.translate_again(entries);
    }
}
