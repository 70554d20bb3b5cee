//! Taking a function under guard: what firmware left is read, and made safe, once.
//!
//! Owns the order of it. An untrusted endpoint stops being a bus master before anything else is
//! asked of it; what lets requests pass by translation is switched off; then sizes, lists and
//! messages are read, and from then on the shadow answers.

use core::fmt;

use super::capability::enforced;
use super::decision::{Decision, Msi, Reason, Step, Verdict};
use super::guarded::{Guarded, Known, PORTAL_BRIDGE_BYTES, Traits};
use super::list;
use super::port_space::without_ports;
use super::port_window::PortWindow;
use super::virtual_functions::VirtualFunctions;
use super::windows::Windows;
use super::{COMMAND, Mediation, Trust, without_memory};
use crate::bars::{self, Bar, Bars, Decode, Probe};
use crate::capabilities::{
    Capabilities, Capability, ExtendedCapabilities, MAX_CAPABILITIES, Malformed, MsiLayout,
    MsixLayout,
};
use crate::config::{ConfigSpace, Register};
use crate::spec::capability::{
    DeviceCapabilities, DeviceControl, Id, MsiControl, MsixControl, PowerControl, SlotCapabilities,
    express,
};
use crate::spec::extended::{self, ACS_CONTROL, ATS_CONTROL, ATS_ENABLE, Acs, FIRST};
use crate::spec::header::{self, BaseAddress, Class, Command};
use crate::topology::{Function, Layout, Place};
use crate::{Address, FunctionId};

/// Why a function was not taken under guard. It stays hidden.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Refused {
    /// It is not in the table, or its bus has no number.
    Unreachable,
    /// Its header has a layout nobody here knows.
    UnknownLayout {
        /// Whose.
        at: Address,
    },
    /// It is untrusted, and decodes on after it was told to stop: nobody but itself decides where.
    Unstoppable {
        /// Who.
        at: Address,
    },
    /// It decodes always, and where it may not.
    Misplaced {
        /// Who.
        at: Address,
        /// What is there.
        reason: Reason,
    },
}

impl fmt::Display for Refused {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Unreachable => f.write_str(
                "a function is gone, or its bus has no number; it stays hidden from the guest",
            ),
            Self::UnknownLayout { at } => write!(
                f,
                "{at}: its header is neither an endpoint's nor a bridge's; it stays hidden from the guest"
            ),
            Self::Unstoppable { at } => write!(
                f,
                "{at}: it is untrusted, and goes on decoding when it is told to stop; it stays hidden from the guest"
            ),
            Self::Misplaced { at, reason } => write!(
                f,
                "{at}: it cannot be stopped from decoding: {reason}; it stays hidden from the guest"
            ),
        }
    }
}

/// What came to light when a function was taken under guard.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Adoption {
    /// Where it is.
    pub at: Address,
    /// What is wrong with its capability list, and with its extended one.
    pub malformed: [Option<Malformed>; 2],
    /// Why memory decoding, or a window, that firmware left on was switched off.
    pub withheld: Option<Reason>,
}

impl<const N: usize> Mediation<N> {
    /// Takes `id` under guard, so that the guest can see it.
    ///
    /// Adopting it again starts afresh with what its registers hold, nothing bound.
    ///
    /// # Errors
    /// [`Refused`] if that cannot be done; the function then stays hidden.
    pub fn adopt(
        &mut self,
        space: &mut impl ConfigSpace,
        id: FunctionId,
        trust: Trust,
    ) -> Result<Adoption, Refused> {
        let at = self.reachable(id).ok_or(Refused::Unreachable)?;
        let function = *self.topology.function(id).ok_or(Refused::Unreachable)?;
        if function.layout == Layout::Unknown {
            return Err(Refused::UnknownLayout { at });
        }
        if let Some(slot) = self.guarded.get_mut(id.index()) {
            *slot = None;
        }
        let wanted = Command::new(space.read_u16(at, header::COMMAND));
        let mut real = wanted;
        if trust == Trust::Untrusted && function.layout == Layout::Endpoint {
            real.set_bus_master(false);
            space.write(at, COMMAND, u32::from(real.raw()));
        }
        let capabilities = Capabilities::walk(space, at);
        let is_express = capabilities.offset_of(Id::EXPRESS).is_some();
        let list = is_express.then(|| ExtendedCapabilities::walk(space, at));
        let malformed = [capabilities.stopped, list.as_ref().and_then(|l| l.stopped)];
        let slices = function.virtual_of.map(|(owner, number)| {
            let virtuals = self.guarded(owner).and_then(|g| g.virtuals.as_ref());
            virtuals.map_or(Bars::new(), |virtuals| virtuals.bars_of(number))
        });
        let mut guarded = read(space, at, &function, trust, &capabilities, slices);
        guarded.wanted = wanted;
        guarded.real = real;
        self.inherit(&mut guarded);
        self.accept_fixed(id, at, &mut guarded)?;
        guarded.traits.has_malformed_list = malformed[1].is_some();
        if let Some(list) = list {
            isolate(space, at, &list, &mut guarded);
            guarded.extended = list.found;
        }
        let withheld = self.place(space, id, at, &mut guarded);
        if let Some(slot) = self.guarded.get_mut(id.index()) {
            *slot = Some(guarded);
        }
        Ok(Adoption {
            at,
            malformed,
            withheld,
        })
    }

    /// What firmware had a trusted function decode stays legal, among other things of the platform's;
    /// not where it was never legal.
    fn inherit(&self, guarded: &mut Guarded) {
        let is_trusted = guarded.trust == Trust::Trusted;
        if is_trusted && (guarded.real.memory_space() || guarded.decode == Decode::Fixed) {
            let ranges = guarded.bars.iter().filter_map(Bar::memory);
            let ranges = ranges.filter(|range| self.keepouts.admit_beside_platform(*range).is_ok());
            guarded.inherited = ranges.collect();
        }
        if is_trusted && guarded.real.io_space() {
            let ports = guarded.bars.iter().filter_map(Bar::ports);
            guarded.inherited_ports = ports.take(6).collect();
        }
    }

    /// Whether a function that cannot be stopped from decoding may do so where it says it does. Its
    /// ranges are its own word: what is written there must be nobody else's.
    fn accept_fixed(
        &self,
        id: FunctionId,
        at: Address,
        guarded: &mut Guarded,
    ) -> Result<(), Refused> {
        // What virtual functions decode was judged with their physical function's registers.
        if guarded.decode != Decode::Fixed || guarded.traits.is_virtual {
            return Ok(());
        }
        let is_misplaced = |guarded: &Guarded, bar: &Bar| {
            let range = bar.memory()?;
            self.admit(id, guarded, range).err()
        };
        if guarded.traits.is_host_bridge {
            // Hidden it would take the guest's whole bus along: it keeps what is harmless.
            let mut bars = guarded.bars.clone();
            bars.retain(|bar| is_misplaced(guarded, bar).is_none());
            let has = |index| bars.iter().any(|bar: &Bar| bar.index() == index);
            guarded.msix = guarded.msix.filter(|layout| has(layout.table.bar));
            guarded.bars = bars;
            return Ok(());
        }
        if guarded.trust == Trust::Untrusted {
            return Err(Refused::Unstoppable { at });
        }
        let mut refused = guarded.bars.iter().filter_map(|b| is_misplaced(guarded, b));
        refused
            .next()
            .map_or(Ok(()), |reason| Err(Refused::Misplaced { at, reason }))
    }

    /// Switches off what firmware left decoding where it may not.
    fn place(
        &self,
        space: &mut impl ConfigSpace,
        id: FunctionId,
        at: Address,
        guarded: &mut Guarded,
    ) -> Option<Reason> {
        let mut withheld = None;
        if guarded.real.memory_space() && guarded.decode == Decode::Switchable {
            withheld = self.refusal(id, guarded);
        }
        if withheld.is_some() {
            guarded.real = without_memory(guarded.real);
            space.write(at, COMMAND, u32::from(guarded.real.raw()));
        }
        let mut withheld_ports = None;
        if guarded.real.io_space() && guarded.decode == Decode::Switchable {
            withheld_ports = self.refusal_of_ports(id, guarded);
        }
        if withheld_ports.is_some() {
            guarded.real = without_ports(guarded.real);
            space.write(at, COMMAND, u32::from(guarded.real.raw()));
        }
        let is_unplaced = |reason: &Reason| matches!(reason, Reason::Unplaced { .. });
        // Registers of ports that firmware left empty are no finding: few drivers use them.
        withheld = withheld.or(withheld_ports.filter(|reason| !is_unplaced(reason)));
        let mut decision = Decision::new(Verdict::Pass);
        // A window nobody set up reads as the first MiB, or the first ports; that is no finding.
        if let Some(windows) = &guarded.windows {
            let refusal = windows.apply(&self.keepouts, at, &mut decision).err();
            let is_used = guarded.wanted.memory_space();
            withheld = withheld.or(refusal.filter(|_| is_used));
        }
        if let Some(window) = &guarded.port_window {
            let refusal = window.apply(&self.keepouts, at, &mut decision).err();
            let is_used = guarded.wanted.io_space() && window.view() & 0xf0f0 != 0;
            withheld = withheld.or(refusal.filter(|_| is_used));
        }
        for step in &decision.steps {
            if let Step::Store(store) = step {
                space.write(store.at, store.register, store.value);
            }
        }
        withheld
    }
}

fn read(
    space: &mut impl ConfigSpace,
    at: Address,
    function: &Function,
    trust: Trust,
    capabilities: &Capabilities,
    slices: Option<Bars>,
) -> Guarded {
    let layout = function.layout;
    let is_host_bridge = is_host_bridge(function);
    let (count, rom) = match layout {
        Layout::Bridge => (header::BRIDGE_BARS, header::BRIDGE_ROM),
        _ => (header::ENDPOINT_BARS, header::ENDPOINT_ROM),
    };
    // A host bridge that stops decoding takes main memory with it on some machines.
    let is_virtual = slices.is_some();
    let Probe { bars, decode } = match slices {
        // Its own registers are zeros. PCI Express Base 6.0, section 9.3.4.1.11.
        Some(bars) => Probe {
            bars,
            decode: Decode::Fixed,
        },
        None if is_host_bridge => bars::observe(space, at, count, rom),
        None => bars::probe(space, at, count, rom),
    };
    if trust == Trust::Untrusted && decode == Decode::Switchable {
        let off = space.read_u32(at, rom) & !BaseAddress::ROM_ENABLE;
        space.write(at, Register::dword(rom), off);
    }
    let known = locate(capabilities);
    let msi = room(capabilities, Id::MSI, 12).map(|offset| MsiLayout::read(space, at, offset));
    let msi = msi.filter(|layout| layout.message_end() <= FIRST);
    let msi = msi.map(|layout| (layout, read_msi(space, at, &layout)));
    let msix = Some(known.msix).filter(|&offset| offset != 0);
    let msix = msix.and_then(|offset| MsixLayout::read(space, at, offset));
    let msix = msix.filter(|layout| {
        let bar = bars.iter().find(|bar| bar.index() == layout.table.bar);
        let end = u64::from(layout.table.offset) + layout.table_bytes();
        bar.is_some_and(|bar| bar.kind() != bars::Kind::Io && end <= bar.size())
    });
    let msix_control = match known.msix {
        0 => 0,
        offset => space.read_u16(at, offset + 2),
    };
    let power = match known.power {
        0 => PowerControl::default(),
        offset => PowerControl::new(space.read_u32(at, offset + 4)),
    };
    let mut traits = Traits {
        keeps_state_in_d3: power.no_soft_reset(),
        is_host_bridge,
        is_virtual,
        ..Traits::default()
    };
    if known.express != 0 {
        let able = space.read_u32(at, known.express + express::DEVICE_CAPABILITIES);
        traits.can_reset = DeviceCapabilities::new(able).function_reset();
        let slot = space.read_u32(at, known.express + express::SLOT_CAPABILITIES);
        traits.has_power_controller =
            function.has_link_below() && SlotCapabilities::new(slot).power_controller();
        let register = Register::word(known.express + express::DEVICE_CONTROL);
        let mut control = DeviceControl::new(space.read(at, register) as u16);
        if control.phantom_functions() {
            control.set_phantom_functions(false);
            space.write(at, register, u32::from(control.raw()));
        }
    }
    Guarded {
        trust,
        is_bound: false,
        is_stopped: false,
        layout,
        identity: function.identity,
        header_type: space.read_u8(at, header::HEADER_TYPE),
        wanted: Command::default(),
        real: Command::default(),
        bars,
        decode,
        inherited: heapless::Vec::new(),
        inherited_ports: heapless::Vec::new(),
        windows: (layout == Layout::Bridge).then(|| Windows::read(space, at)),
        port_window: (layout == Layout::Bridge).then(|| PortWindow::read(space, at)),
        known,
        traits,
        extended: heapless::Vec::new(),
        msi,
        msix,
        msix_control: MsixControl::new(msix_control),
        acs: Acs::default(),
        power_state: power.state(),
        virtuals: None,
        was_reset: false,
    }
}

/// Switches off what passes by translation, on what isolates.
fn isolate(
    space: &mut impl ConfigSpace,
    at: Address,
    list: &ExtendedCapabilities,
    guarded: &mut Guarded,
) {
    for capability in &list.found {
        let offset = capability.offset;
        // Every structure below has its control within the first 12 bytes.
        if offset > 0x1000 - 12 {
            continue;
        }
        match capability.id() {
            extended::Id::ATS => {
                let control = space.read_u32(at, offset + ATS_CONTROL) & !ATS_ENABLE;
                space.write(at, Register::dword(offset + ATS_CONTROL), control);
            }
            // Both have their enable bit in the low bit of a control register of 16 bits.
            extended::Id::PRI => space.write(at, Register::word(offset + 4), 0),
            extended::Id::PASID => space.write(at, Register::word(offset + 6), 0),
            extended::Id::ACS if guarded.known.acs == 0 => {
                guarded.known.acs = offset;
                let both = space.read_u32(at, offset + ACS_CONTROL);
                guarded.acs = isolation(Acs::new(both as u16));
                let control = enforced(Acs::new((both >> 16) as u16), guarded.acs);
                let register = Register::word(offset + ACS_CONTROL + 2);
                space.write(at, register, u32::from(control.raw()));
            }
            extended::Id::SRIOV if list::is_hidden(extended::Id::SRIOV, guarded.trust) => {
                let register = Register::word(offset + extended::sriov::CONTROL);
                space.write(at, register, 0);
            }
            extended::Id::SRIOV
                if guarded.virtuals.is_none() && offset <= 0x1000 - extended::sriov::LENGTH =>
            {
                guarded.virtuals = Some(VirtualFunctions::read(space, at, offset));
            }
            _ => {}
        }
    }
}

/// Those services among the `supported` ones that stay on.
fn isolation(supported: Acs) -> Acs {
    let mut acs = Acs::default();
    acs.set_source_validation(supported.source_validation());
    acs.set_translation_blocking(supported.translation_blocking());
    acs.set_request_redirect(supported.request_redirect());
    acs.set_completion_redirect(supported.completion_redirect());
    acs.set_upstream_forwarding(supported.upstream_forwarding());
    acs
}

fn locate(capabilities: &Capabilities) -> Known {
    let at = |id, length| room(capabilities, id, length).unwrap_or(0);
    Known {
        power: at(Id::POWER, 8),
        msix: at(Id::MSIX, 12),
        express: at(Id::EXPRESS, 0x1c),
        advanced_features: at(Id::ADVANCED_FEATURES, 8),
        enhanced_allocation: at(Id::ENHANCED_ALLOCATION, 4),
        portal_bridge: at(Id::FLATTENING_PORTAL_BRIDGE, PORTAL_BRIDGE_BYTES),
        acs: 0,
    }
}

/// Where capability `id` starts, if `length` bytes are left there in the first 256.
fn room(capabilities: &Capabilities, id: Id, length: u16) -> Option<u16> {
    debug_assert!(capabilities.found.len() <= MAX_CAPABILITIES);
    let fits = |c: &&Capability| c.id == id && c.offset + length <= FIRST;
    capabilities.found.iter().find(fits).map(|c| c.offset)
}

fn read_msi(space: &impl ConfigSpace, at: Address, layout: &MsiLayout) -> Msi {
    let upper = layout.upper_address().map_or(0, |o| space.read_u32(at, o));
    let low = space.read_u32(at, layout.address());
    Msi {
        address: u64::from(upper) << 32 | u64::from(low),
        data: u32::from(space.read_u16(at, layout.data())),
        control: MsiControl::new(space.read_u16(at, layout.offset + 2)),
    }
}

fn is_host_bridge(function: &Function) -> bool {
    const HOST_BRIDGE: (u8, u8) = (0x06, 0x00);
    let class: Class = function.identity.class;
    matches!(function.place, Place::Root { .. }) && (class.base(), class.subclass()) == HOST_BRIDGE
}
