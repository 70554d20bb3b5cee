//! One function as it presents itself: place, identity, kind of port.
//!
//! Owns what is read of a function once, when it is found. All of it but the place is the
//! device's own allegation.

use super::{FunctionId, Place};
use crate::Address;
use crate::capabilities::Capabilities;
use crate::config::ConfigSpace;
use crate::spec::capability::{
    DeviceCapabilities, ExpressFlags, Id, PortType, SlotCapabilities, express,
};
use crate::spec::header::{self, BusNumbers, Class, HeaderType};

/// What a function says it is.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Identity {
    /// Vendor id.
    pub vendor: u16,
    /// Device id.
    pub device: u16,
    /// Class code and revision.
    pub class: Class,
    /// Subsystem vendor id (low half) and subsystem id, 0 for bridges.
    pub subsystem: u32,
}

impl Identity {
    /// Vendor and device id as the first double word holds them.
    pub const fn dword(&self) -> u32 {
        self.vendor as u32 | (self.device as u32) << 16
    }
}

/// How bytes 0x10 to 0x3f are laid out.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Layout {
    /// Header type 0.
    Endpoint,
    /// Header type 1.
    Bridge,
    /// Any other: nothing is known of its registers.
    Unknown,
}

/// The slot below a port.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub struct Slot {
    /// Devices may come and go.
    pub is_hot_plug: bool,
    /// Devices may vanish without notice.
    pub is_surprise: bool,
    /// Firmware declared the slot reachable from outside.
    pub is_external: bool,
}

/// One function of the table.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Function {
    /// What it hangs on.
    pub place: Place,
    /// Device (bits 7:3) and function (2:0), or an ARI function number.
    pub devfn: u8,
    /// What it says it is.
    pub identity: Identity,
    /// How its header is laid out.
    pub layout: Layout,
    /// Whether its device says it has more functions.
    pub is_multi_function: bool,
    /// Its kind of PCI Express port; `None` for conventional PCI.
    pub port: Option<PortType>,
    /// The bus numbers of a bridge.
    pub bridge: Option<BusNumbers>,
    /// The slot below a port.
    pub slot: Slot,
    /// High bits of the function number it could use for phantom functions, 0 to 3.
    pub phantom_bits: u8,
    /// The physical function whose virtual function this is, and which of them, from 0.
    pub virtual_of: Option<(FunctionId, u16)>,
    /// The bus number it last saw in a configuration write, which is what it speaks with.
    ///
    /// PCI Express Base 6.0, section 2.2.6.2: functions "must capture the Bus and Device Numbers
    /// supplied with all Type 0 Configuration Write Requests".
    pub captured: Option<u8>,
}

impl Function {
    /// Reads the function at `at`, or `None` if nobody answers or it is not ready yet.
    pub(super) fn read(space: &impl ConfigSpace, place: Place, at: Address) -> Option<Self> {
        let identity = space.read_u32(at, header::IDENTITY);
        let vendor = identity as u16;
        // 0x0001 is the answer of a function that is not ready (Configuration RRS).
        if matches!(vendor, 0x0000 | 0x0001 | 0xffff) {
            return None;
        }
        let kind = HeaderType::new(space.read_u8(at, header::HEADER_TYPE));
        let layout = match kind.layout() {
            HeaderType::ENDPOINT => Layout::Endpoint,
            HeaderType::BRIDGE => Layout::Bridge,
            _ => Layout::Unknown,
        };
        let is_bridge = layout == Layout::Bridge;
        let mut function = Self {
            place,
            devfn: at.bdf.devfn(),
            identity: Identity {
                vendor,
                device: (identity >> 16) as u16,
                class: Class::new(space.read_u32(at, header::CLASS)),
                subsystem: match layout {
                    Layout::Endpoint => space.read_u32(at, header::SUBSYSTEM),
                    _ => 0,
                },
            },
            layout,
            is_multi_function: kind.multi_function(),
            port: None,
            bridge: is_bridge.then(|| BusNumbers::new(space.read_u32(at, header::BUS_NUMBERS))),
            slot: Slot::default(),
            phantom_bits: 0,
            virtual_of: None,
            captured: Some(at.bdf.bus()),
        };
        if layout != Layout::Unknown
            && let Some(offset) = Capabilities::walk(space, at).offset_of(Id::EXPRESS)
        {
            function.read_express(space, at, offset);
        }
        Some(function)
    }

    fn read_express(&mut self, space: &impl ConfigSpace, at: Address, offset: u16) {
        let flags = ExpressFlags::new(space.read_u16(at, offset + 2));
        let port = PortType(flags.port_type());
        self.port = Some(port);
        let capabilities = space.read_u32(at, offset + express::DEVICE_CAPABILITIES);
        self.phantom_bits = DeviceCapabilities::new(capabilities).phantom_bits();
        if flags.slot_implemented() && self.has_link_below() {
            let slot = space.read_u32(at, offset + express::SLOT_CAPABILITIES);
            let slot = SlotCapabilities::new(slot);
            self.slot.is_hot_plug = slot.hot_plug();
            self.slot.is_surprise = slot.surprise();
        }
    }

    /// Whether it is a root port or a downstream port: one link, and on it one device, number 0.
    pub fn has_link_below(&self) -> bool {
        matches!(self.port, Some(PortType::ROOT_PORT | PortType::DOWNSTREAM))
    }

    /// Whether it passes requests for `bus` down.
    pub fn routes(&self, bus: u8) -> bool {
        self.bridge.is_some_and(|numbers| {
            numbers.secondary() != 0 && (numbers.secondary()..=numbers.subordinate()).contains(&bus)
        })
    }
}
