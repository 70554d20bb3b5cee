//! What a guest may do to configuration space: one model, whichever road the access takes.
//!
//! Owns, for every function adopted, what the guest wrote and what the device was given. A write
//! becomes a [`Decision`]: steps to take in order, stores to the device among them. A read is
//! answered from the shadow where there is one. Knows no ECAM and no ports ([`crate::access`]
//! does), no context entries and no interrupt tables: it says when they must follow.
//!
//! Whatever the guest and the device do:
//! - no function decodes memory over a protected range, or over what another function decodes;
//! - none decodes protected ports, or those that another decodes, and no bridge passes them down;
//! - no untrusted endpoint is a bus master before something is bound to it;
//! - no function has address translation services, page requests or process address spaces;
//! - no message address of the guest's reaches a device through its configuration space.
//!
//! A function nobody adopted reads as all ones, and writes to it are lost.

mod adopt;
mod bridge;
mod capability;
mod command;
mod decision;
mod guarded;
mod list;
mod placement;
mod port_space;
mod port_window;
mod view;
mod virtual_functions;
mod windows;

use memory::{ByteRange, Hpa};

pub use adopt::{Adoption, Refused};
pub use decision::{Decision, Effect, MAX_STEPS, Msi, Reason, Step, Store, Verdict};
pub use placement::{KeepoutKind, Keepouts, MAX_KEEPOUTS, PortKind, TooManyKeepouts};

use crate::bars::Bar;
use crate::capabilities::MsixLayout;
use crate::config::{ConfigSpace, Register};
use crate::spec::extended::{ACS_CONTROL, Acs, FIRST, SriovControl};
use crate::spec::header::{self, Command};
use crate::topology::Full;
use crate::{Address, FunctionId, Topology};
use guarded::{Guarded, Part};

/// Whether the policy trusts a device.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Hash)]
pub enum Trust {
    /// It may reach the guest's memory.
    Trusted,
    /// It may reach nothing but what is bound to it.
    Untrusted,
}

/// The model of configuration space, for at most `N` functions of all segments.
#[derive(Clone, Debug)]
pub struct Mediation<const N: usize> {
    topology: Topology<N>,
    guarded: [Option<Guarded>; N],
    keepouts: Keepouts,
}

/// A guest's write to a function under guard.
#[derive(Clone, Copy, Debug)]
struct Write {
    id: FunctionId,
    at: Address,
    register: Register,
    value: u32,
}

impl Write {
    /// The bits of bits 15:0 of the double word that are written.
    const fn low_lanes(&self) -> u32 {
        self.register.lanes() & 0x0000_ffff
    }

    /// The bits of bits 31:16 of the double word that are written.
    const fn high_lanes(&self) -> u32 {
        self.register.lanes() & 0xffff_0000
    }

    /// The value as it lies in its double word.
    const fn spread(&self) -> u32 {
        self.register.spread(self.value)
    }
}

impl<const N: usize> Mediation<N> {
    /// Guards the functions of `topology`, none of which is adopted yet.
    pub fn new(topology: Topology<N>, keepouts: Keepouts) -> Self {
        Self {
            topology,
            guarded: [const { None }; N],
            keepouts,
        }
    }

    /// The functions and where they are today.
    pub fn topology(&self) -> &Topology<N> {
        &self.topology
    }

    /// Protects one more range from now on. Ranges already decoded are not revisited.
    ///
    /// # Errors
    /// [`TooManyKeepouts`] if the list is full.
    pub fn protect(
        &mut self,
        range: ByteRange<Hpa>,
        kind: KeepoutKind,
    ) -> Result<(), TooManyKeepouts> {
        self.keepouts.protect(range, kind)
    }

    /// Whether `at` is adopted. Where it is not, [`Mediation::discover`] may find somebody new.
    pub fn knows(&self, at: Address) -> bool {
        self.guarded_at(at).is_some()
    }

    /// Looks whether a function has appeared at `at`. It stays hidden until it is adopted. Who was known there stays
    /// known until it is forgotten: [`Mediation::is_present`] says whether it is still the one.
    ///
    /// # Errors
    /// [`Full`] if there is no room for it.
    pub fn discover(
        &mut self,
        space: &impl ConfigSpace,
        at: Address,
    ) -> Result<Option<FunctionId>, Full> {
        self.topology.discover(space, at)
    }

    /// The virtual function at `at` that appeared and waits to be adopted, once it answers.
    pub fn unadopted_virtual(&self, space: &impl ConfigSpace, at: Address) -> Option<FunctionId> {
        let id = self.topology.find(at)?;
        let is_virtual = self.topology.function(id)?.virtual_of.is_some();
        // Its vendor id reads as ones for ever; its command register does so until it is ready.
        let waits = is_virtual && self.guarded(id).is_none();
        (waits && space.read_u16(at, header::COMMAND) != u16::MAX).then_some(id)
    }

    /// Whether the function known as `id`, adopted or hidden, is still the one that answers there.
    pub fn is_present(&self, space: &impl ConfigSpace, id: FunctionId) -> bool {
        // A virtual function does not answer for itself: both halves of its identity read as ones.
        let id = self.topology.function(id).map_or(id, |function| {
            function.virtual_of.map_or(id, |(owner, _)| owner)
        });
        let identity = self.topology.function(id).map(|f| f.identity.dword());
        let read = |at| space.read_u32(at, header::IDENTITY);
        identity.is_some() && self.topology.address(id).map(read) == identity
    }

    /// Forgets `id` and all that is behind it, as after a removal. They are hidden from now on.
    pub fn forget(&mut self, id: FunctionId) {
        self.topology.forget(id);
        for (index, slot) in self.guarded.iter_mut().enumerate() {
            let is_gone = !self.topology.functions().any(|(id, _)| id.index() == index);
            if is_gone {
                *slot = None;
            }
        }
    }

    /// Says that something confines the untrusted `id` from now on, so that it may be a bus
    /// master as soon as the guest wants. The decision holds what the guest wanted so far;
    /// `None` if the function cannot be reached now.
    pub fn bind(&mut self, id: FunctionId) -> Option<Decision> {
        self.rebind(id, |guarded| guarded.is_bound = true)
    }

    /// Stops `id`, trusted or not, from being a bus master until it is adopted anew. `None` if the
    /// function cannot be reached now: then only its context entries keep it from memory, so take
    /// those away first.
    pub fn stop(&mut self, id: FunctionId) -> Option<Decision> {
        self.rebind(id, |guarded| guarded.is_stopped = true)
    }

    /// The memory that base address register `index` of `id` decodes now, if it does.
    pub fn decoded(&self, id: FunctionId, index: u8) -> Option<ByteRange<Hpa>> {
        let guarded = self.guarded(id).filter(|g| g.is_decoding())?;
        let bar = guarded.bars.iter().find(|bar| bar.index() == index)?;
        bar.memory()
    }

    /// The registers `id` has, as the guest wrote them.
    pub fn bars(&self, id: FunctionId) -> &[Bar] {
        self.guarded(id).map_or(&[], |g| g.bars.as_slice())
    }

    /// MSI of `id` as the guest programmed it.
    pub fn msi(&self, id: FunctionId) -> Option<Msi> {
        self.guarded(id)?.msi.map(|(_, msi)| msi)
    }

    /// Where MSI-X of `id` is. Its table lies inside what the base address register decodes.
    pub fn msix(&self, id: FunctionId) -> Option<MsixLayout> {
        self.guarded(id)?.msix
    }

    /// The stores that make `id` send `address` and `data`, already translated. Nothing else
    /// ever writes its message registers.
    pub fn program_msi(&self, id: FunctionId, address: u64, data: u32) -> heapless::Vec<Store, 3> {
        let place = self.reachable(id).zip(self.guarded(id));
        let Some((at, (layout, _))) = place.and_then(|(at, g)| Some((at, g.msi?))) else {
            return heapless::Vec::new();
        };
        let registers = [
            Some((Register::dword(layout.address()), address as u32)),
            layout
                .upper_address()
                .map(|upper| (Register::dword(upper), (address >> 32) as u32)),
            Some((Register::word(layout.data()), data)),
        ];
        let stores = registers.into_iter().flatten();
        stores
            .map(|(register, value)| Store {
                at,
                register,
                value,
            })
            .collect()
    }

    /// Decides about a write of the low bits of `value` to `register` of `at`.
    ///
    /// Afterwards call [`Mediation::settle`] until it has nothing left.
    pub fn write(
        &mut self,
        space: &impl ConfigSpace,
        at: Address,
        register: Register,
        value: u32,
    ) -> Decision {
        let Some((id, part)) = self
            .guarded_at(at)
            .map(|(id, g)| (id, g.part(register.dword_offset())))
        else {
            return Decision::new(Verdict::Drop(Reason::Unknown));
        };
        let write = Write {
            id,
            at,
            register,
            value: value & register.width().mask(),
        };
        let mut stored = Decision::new(Verdict::Pass);
        let guarded = self.guarded_mut(id);
        let was_reset = guarded.is_some_and(|g| core::mem::take(&mut g.was_reset));
        if was_reset {
            stored.store(at, COMMAND, 0);
        }
        self.isolate_again(space, id, at, &mut stored);
        let decision = self.decide(space, part, write);
        let is_stored = |step: &Step| matches!(step, Step::Store(store) if store.at == at);
        if decision.steps.iter().any(is_stored) {
            stored.verdict = decision.verdict;
            stored.append(&decision);
            return self.notice(id, at, stored);
        }
        if let Some(guarded) = self.guarded_mut(id) {
            guarded.was_reset |= was_reset;
        }
        decision
    }

    /// Has a function that lost its isolation isolate again, and one that kept virtual functions nobody knows of end
    /// them. It is asked with each write: for a while after a reset or a sleep it need not take what is stored, and the
    /// guest need not wait.
    fn isolate_again(
        &self,
        space: &impl ConfigSpace,
        id: FunctionId,
        at: Address,
        decision: &mut Decision,
    ) {
        let Some(guarded) = self.guarded(id) else {
            return;
        };
        if guarded.known.acs != 0 {
            let register = Register::word(guarded.known.acs + ACS_CONTROL + 2);
            let present = Acs::new(space.read(at, register) as u16);
            if present != capability::enforced(present, guarded.acs) {
                let control = capability::enforced(Acs::default(), guarded.acs);
                decision.store(at, register, u32::from(control.raw()));
            }
        }
        if let Some(virtuals) = guarded.virtuals.as_ref().filter(|v| !v.exist()) {
            let register = virtuals.control_register();
            let present = SriovControl::new(space.read(at, register) as u16);
            if present.enable() || present.memory_space() {
                decision.store(at, register, 0);
            }
        }
    }

    /// What any store to a function brings with it: it learns its bus number.
    fn notice(&mut self, id: FunctionId, at: Address, mut decision: Decision) -> Decision {
        if let Some(bus) = self.topology.capture(id) {
            decision.obey(Effect::ContextsFollow {
                segment: at.segment,
                bus,
            });
        }
        decision
    }

    fn decide(&mut self, space: &impl ConfigSpace, part: Part, write: Write) -> Decision {
        match part {
            Part::Command => self.write_command(space, write),
            Part::BaseAddress | Part::Rom => self.write_bar(write),
            Part::BusNumbers => self.write_bus_numbers(write),
            Part::Window => self.write_window(write),
            Part::PortWindow => self.write_port_window(write),
            Part::BridgeControl => self.write_bridge_control(write),
            Part::MsiControl => self.write_msi_control(write),
            Part::MsiMessage => self.write_msi_message(write),
            Part::MsixControl => self.write_msix_control(write),
            Part::Power => self.write_power(write),
            Part::DeviceControl => self.write_device_control(write),
            Part::LinkControl => self.write_link_control(write),
            Part::SlotControl => self.write_slot_control(write),
            Part::AdvancedFeatures => self.write_advanced_features(write),
            Part::AcsControl => self.write_acs(space, write),
            Part::VirtualControl => self.write_virtual_control(space, write),
            Part::VirtualResource => self.write_virtual_resource(write),
            Part::Hidden => Decision::new(Verdict::Drop(Reason::Hidden)),
            Part::Chipset => Decision::new(Verdict::Drop(Reason::Chipset)),
            Part::EnhancedAllocation => Decision::new(Verdict::Drop(Reason::FixedDecode)),
            Part::Identity | Part::Class | Part::Subsystem | Part::ExtendedHeader => {
                Decision::new(Verdict::Drop(Reason::ReadOnly))
            }
            Part::HeaderType | Part::Plain => self.write_plain(write),
        }
    }

    fn write_plain(&mut self, write: Write) -> Decision {
        let is_malformed = self
            .guarded(write.id)
            .is_some_and(|g| g.traits.has_malformed_list && g.trust == Trust::Untrusted);
        if is_malformed && write.register.offset() >= FIRST {
            return Decision::new(Verdict::Drop(Reason::MalformedList));
        }
        pass(write)
    }

    fn rebind(&mut self, id: FunctionId, change: impl FnOnce(&mut Guarded)) -> Option<Decision> {
        let reachable = self.reachable(id);
        let guarded = self.guarded_mut(id)?;
        change(guarded);
        let at = reachable?;
        let is_on = guarded.wanted.bus_master() && !guarded.is_withheld();
        let mut decision = Decision::new(Verdict::Pass);
        if guarded.real.bus_master() != is_on {
            guarded.real.set_bus_master(is_on);
            guarded.store_command(at, &mut decision);
        }
        Some(decision)
    }

    /// Where a store to `id` would reach it and nobody else.
    fn reachable(&self, id: FunctionId) -> Option<Address> {
        let at = self.topology.address(id)?;
        (self.topology.find(at) == Some(id)).then_some(at)
    }

    fn guarded_at(&self, at: Address) -> Option<(FunctionId, &Guarded)> {
        let id = self.topology.find(at)?;
        Some((id, self.guarded(id)?))
    }

    fn guarded(&self, id: FunctionId) -> Option<&Guarded> {
        self.guarded.get(id.index())?.as_ref()
    }

    fn guarded_mut(&mut self, id: FunctionId) -> Option<&mut Guarded> {
        self.guarded.get_mut(id.index())?.as_mut()
    }

    fn all_guarded(&self) -> impl Iterator<Item = (FunctionId, &Guarded)> {
        self.topology
            .functions()
            .filter_map(|(id, _)| Some((id, self.guarded(id)?)))
    }
}

/// The command register without the status register, whose bits are cleared by writing them.
const COMMAND: Register = Register::word(header::COMMAND);

/// Lets a write through unchanged.
fn pass(write: Write) -> Decision {
    let mut decision = Decision::new(Verdict::Pass);
    decision.store(write.at, write.register, write.value);
    decision
}

/// Lets a write through with other bits: `dword` as the double word would be, in the lanes
/// written.
fn replace(write: Write, dword: u32) -> Decision {
    let value = write.register.extract(dword);
    let mut decision = Decision::new(if value == write.value {
        Verdict::Pass
    } else {
        Verdict::Replace(value)
    });
    decision.store(write.at, write.register, value);
    decision
}

/// A command register that leaves memory space alone.
fn without_memory(command: Command) -> Command {
    Command::new(command.raw() & !Command::MEMORY_SPACE)
}

#[cfg(test)]
mod tests;
