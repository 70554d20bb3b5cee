//! One function under guard: what the guest wrote, what the device was given.
//!
//! Owns the shadow of every register that is mediated, and the map from an offset to its meaning
//! ([`Part`]), fixed when the function is adopted: a device that moves its capabilities later
//! moves them for itself only.

use memory::{ByteRange, Hpa};

use super::decision::Msi;
use super::port_window::PortWindow;
use super::virtual_functions::VirtualFunctions;
use super::windows::Windows;
use super::{Trust, list};
use crate::Ports;
use crate::bars::{Bar, Bars, Decode, ROM};
use crate::capabilities::{Extended, MAX_EXTENDED, MsiLayout, MsixLayout};
use crate::spec::capability::{MsiControl, MsixControl, express};
use crate::spec::extended::{self, ACS_CONTROL, Acs};
use crate::spec::header::{self, Command};
use crate::topology::{Identity, Layout};

/// What the double word at an offset means to the model.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) enum Part {
    Identity,
    Command,
    Class,
    Subsystem,
    HeaderType,
    BaseAddress,
    Rom,
    BusNumbers,
    Window,
    PortWindow,
    BridgeControl,
    MsiControl,
    MsiMessage,
    MsixControl,
    Power,
    DeviceControl,
    LinkControl,
    SlotControl,
    AdvancedFeatures,
    EnhancedAllocation,
    ExtendedHeader,
    Hidden,
    AcsControl,
    VirtualControl,
    VirtualResource,
    Chipset,
    Plain,
}

/// Bytes of [`Id::FLATTENING_PORTAL_BRIDGE`](crate::spec::capability::Id::FLATTENING_PORTAL_BRIDGE).
pub(super) const PORTAL_BRIDGE_BYTES: u16 = 0x24;

/// Where the mediated capabilities are; 0 for those that are absent.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub(super) struct Known {
    pub(super) power: u16,
    pub(super) msix: u16,
    pub(super) express: u16,
    pub(super) advanced_features: u16,
    pub(super) enhanced_allocation: u16,
    pub(super) portal_bridge: u16,
    pub(super) acs: u16,
}

/// What the function can do that cannot be read back when it matters.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub(super) struct Traits {
    pub(super) can_reset: bool,
    pub(super) keeps_state_in_d3: bool,
    pub(super) is_host_bridge: bool,
    /// What it decodes is its physical function's to say, and counts as that one's.
    pub(super) is_virtual: bool,
    pub(super) has_malformed_list: bool,
    pub(super) has_power_controller: bool,
}

/// One adopted function.
#[derive(Clone, Debug)]
pub(super) struct Guarded {
    pub(super) trust: Trust,
    pub(super) is_bound: bool,
    /// It may not be a bus master again before it is replaced.
    pub(super) is_stopped: bool,
    pub(super) layout: Layout,
    pub(super) identity: Identity,
    pub(super) header_type: u8,
    /// What the guest reads back.
    pub(super) wanted: Command,
    /// What was stored last.
    pub(super) real: Command,
    pub(super) bars: Bars,
    pub(super) decode: Decode,
    /// Ranges a trusted function decoded when it was adopted: firmware's choice stays legal.
    pub(super) inherited: heapless::Vec<ByteRange<Hpa>, 7>,
    /// Ports it decoded then, for the same reason.
    pub(super) inherited_ports: heapless::Vec<Ports, 6>,
    pub(super) windows: Option<Windows>,
    pub(super) port_window: Option<PortWindow>,
    pub(super) known: Known,
    pub(super) traits: Traits,
    pub(super) extended: heapless::Vec<Extended, MAX_EXTENDED>,
    pub(super) msi: Option<(MsiLayout, Msi)>,
    pub(super) msix: Option<MsixLayout>,
    pub(super) msix_control: MsixControl,
    /// Access control services that stay on.
    pub(super) acs: Acs,
    pub(super) power_state: u8,
    pub(super) virtuals: Option<VirtualFunctions>,
    /// The next store finds it switched off, even if it broke its promise to reset.
    pub(super) was_reset: bool,
}

impl Guarded {
    pub(super) fn part(&self, offset: u16) -> Part {
        if offset < header::DEVICE_SPECIFIC {
            return self.header_part(offset);
        }
        if offset < extended::FIRST {
            return self.capability_part(offset);
        }
        self.extended_part(offset)
    }

    fn header_part(&self, offset: u16) -> Part {
        match (offset, self.layout) {
            (header::IDENTITY, _) => Part::Identity,
            (header::COMMAND, _) => Part::Command,
            (header::CLASS, _) => Part::Class,
            (0x0c, _) => Part::HeaderType,
            (header::ENDPOINT_ROM, Layout::Endpoint) | (header::BRIDGE_ROM, Layout::Bridge) => {
                Part::Rom
            }
            (header::SUBSYSTEM, Layout::Endpoint) => Part::Subsystem,
            (header::BUS_NUMBERS, Layout::Bridge) => Part::BusNumbers,
            (header::INTERRUPT, Layout::Bridge) => Part::BridgeControl,
            (0x10..=0x27, Layout::Endpoint) | (0x10..=0x17, Layout::Bridge) => Part::BaseAddress,
            (_, Layout::Bridge) if Windows::contain(offset) => Part::Window,
            (header::PORT_WINDOW | header::PORT_WINDOW_UPPER, Layout::Bridge) => Part::PortWindow,
            _ => Part::Plain,
        }
    }

    fn capability_part(&self, offset: u16) -> Part {
        let is = |start: u16, into: u16| start != 0 && offset == start + into;
        let is_within = |start: u16, bytes| start != 0 && (start..start + bytes).contains(&offset);
        if let Some((layout, _)) = &self.msi {
            if offset == layout.offset {
                return Part::MsiControl;
            }
            if (layout.address()..layout.message_end()).contains(&offset) {
                return Part::MsiMessage;
            }
        }
        let known = &self.known;
        if is(known.msix, 0) {
            Part::MsixControl
        } else if is(known.power, 4) {
            Part::Power
        } else if is(known.express, express::DEVICE_CONTROL) {
            Part::DeviceControl
        } else if is(known.express, express::LINK_CONTROL) {
            Part::LinkControl
        } else if is(known.express, express::SLOT_CONTROL) {
            Part::SlotControl
        } else if is(known.advanced_features, 4) {
            Part::AdvancedFeatures
        } else if known.enhanced_allocation != 0 && offset >= known.enhanced_allocation {
            // Its entries have no fixed length. What follows is not shadowed, only kept as it is.
            Part::EnhancedAllocation
        } else if is_within(known.portal_bridge, PORTAL_BRIDGE_BYTES) {
            // Ports of ours pass on what their bus numbers and windows say, and nothing besides.
            Part::Chipset
        } else if self.traits.is_host_bridge || self.is_fixed_of_isa_bridge(offset) {
            Part::Chipset
        } else {
            Part::Plain
        }
    }

    /// Whether the double word at `offset` of an Intel ISA bridge says where the power-management
    /// ports or the root complex's registers are. Intel ICH9 datasheet 316972, section 13.1.
    fn is_fixed_of_isa_bridge(&self, offset: u16) -> bool {
        const INTEL: u16 = 0x8086;
        /// PMBASE and ACPI_CNTL, then RCBA.
        const FIXED: [u16; 3] = [0x40, 0x44, 0xf0];
        let class = self.identity.class;
        let is_isa_bridge = (class.base(), class.subclass()) == (0x06, 0x01);
        self.identity.vendor == INTEL && is_isa_bridge && FIXED.contains(&offset)
    }

    fn extended_part(&self, offset: u16) -> Part {
        let mut starts = self.extended.iter();
        if starts.any(|c| c.offset == offset) {
            return Part::ExtendedHeader;
        }
        // The capability the double word lies in is the nearest one before it.
        let before = self.extended.iter().filter(|c| c.offset < offset);
        let Some(owner) = before.max_by_key(|c| c.offset) else {
            return self.unowned_part();
        };
        let into = offset - owner.offset;
        if list::is_hidden(owner.id(), self.trust) {
            return if into < list::length(owner.id()) {
                Part::Hidden
            } else {
                self.unowned_part()
            };
        }
        match owner.id() {
            extended::Id::ACS if owner.offset == self.known.acs && into == ACS_CONTROL => {
                Part::AcsControl
            }
            extended::Id::SRIOV if self.virtuals.is_some() => match into {
                extended::sriov::CONTROL => Part::VirtualControl,
                0..extended::sriov::LENGTH => Part::VirtualResource,
                _ => self.unowned_part(),
            },
            _ => self.unowned_part(),
        }
    }

    fn unowned_part(&self) -> Part {
        if self.traits.is_host_bridge {
            Part::Chipset
        } else {
            Part::Plain
        }
    }

    /// Whether bus mastering must stay off for now.
    pub(super) fn is_withheld(&self) -> bool {
        let is_unbound = self.trust == Trust::Untrusted && !self.is_bound;
        self.is_stopped || is_unbound && self.layout == Layout::Endpoint
    }

    /// The base address register or ROM the double word at `offset` belongs to.
    pub(super) fn bar_at(&self, offset: u16) -> Option<&Bar> {
        self.bars.iter().find(|bar| bar.read(offset).is_some())
    }

    /// Whether the ROM register may be used.
    pub(super) fn shows(&self, bar: &Bar) -> bool {
        bar.index() != ROM || self.trust == Trust::Trusted
    }

    /// Whether the function decodes memory as far as we know.
    pub(super) fn is_decoding(&self) -> bool {
        self.real.memory_space() || self.decode == Decode::Fixed
    }

    /// Every range it decodes as far as we know, virtual functions' included.
    pub(super) fn decoded(&self) -> impl Iterator<Item = ByteRange<Hpa>> {
        let is_own = self.is_decoding() && !self.traits.is_virtual;
        let own = self.bars.iter().filter(move |_| is_own);
        let virtuals = self.virtuals.iter().flat_map(VirtualFunctions::decoded);
        own.filter_map(Bar::memory).chain(virtuals)
    }

    /// What a reset leaves of the shadow.
    pub(super) fn reset(&mut self) {
        self.wanted = Command::default();
        self.real = Command::default();
        if !self.traits.is_virtual {
            self.bars.iter_mut().for_each(Bar::reset);
        }
        if let Some(windows) = &mut self.windows {
            windows.reset();
        }
        if let Some(window) = &mut self.port_window {
            window.reset();
        }
        if let Some((_, msi)) = &mut self.msi {
            *msi = Msi {
                address: 0,
                data: 0,
                control: MsiControl::new(msi.control.raw() & !0x0471),
            };
        }
        self.msix_control = MsixControl::new(self.msix_control.raw() & 0x07ff);
        self.power_state = 0;
        self.was_reset = true;
        if let Some(virtuals) = &mut self.virtuals {
            virtuals.reset();
        }
    }
}
