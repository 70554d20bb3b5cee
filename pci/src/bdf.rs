//! Requester ids: who a transaction on the bus says it comes from.
//!
//! Owns the 16-bit bus/device/function number and the same number qualified by its segment.
//! Refuses to know whether anybody answers there; the topology finds out.

use core::fmt;

/// Devices on a bus (5 bits of a requester id).
pub const DEVICES_PER_BUS: u8 = 32;

/// Functions of a device (3 bits of a requester id).
pub const FUNCTIONS_PER_DEVICE: u8 = 8;

/// A requester id: bus in bits 15:8, device in bits 7:3, function in bits 2:0.
///
/// Source: PCI Express Base 6.0, section 2.2.6.2 (Transaction Descriptor, Requester ID). Behind a
/// function with ARI enabled the same 8 low bits are one function number and the device is 0;
/// [`Bdf::ari_function`] reads them so. Every `u16` is a valid requester id.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
#[repr(transparent)]
pub struct Bdf(u16);

impl Bdf {
    /// Names function `function` (0..8) of device `device` (0..32) on `bus`, or `None` if one of
    /// them is out of range.
    pub const fn new(bus: u8, device: u8, function: u8) -> Option<Self> {
        if device >= DEVICES_PER_BUS || function >= FUNCTIONS_PER_DEVICE {
            return None;
        }
        Some(Self::from_parts(bus, (device << 3) | function))
    }

    /// The function whose 8 low bits are `devfn` (device in bits 7:3, function in 2:0) on `bus`.
    pub const fn from_parts(bus: u8, devfn: u8) -> Self {
        Self(u16::from_be_bytes([bus, devfn]))
    }

    /// The function a transaction with this requester id comes from.
    pub const fn from_requester_id(id: u16) -> Self {
        Self(id)
    }

    /// The 16-bit requester id, as in fault records, IRTE source ids and context table indices.
    pub const fn requester_id(self) -> u16 {
        self.0
    }

    /// The bus, 0..=255.
    pub const fn bus(self) -> u8 {
        self.0.to_be_bytes()[0]
    }

    /// The device on its bus, 0..32.
    pub const fn device(self) -> u8 {
        self.devfn() >> 3
    }

    /// The function of its device, 0..8.
    pub const fn function(self) -> u8 {
        self.devfn() & 7
    }

    /// Device and function as one byte: the index into a legacy context table.
    pub const fn devfn(self) -> u8 {
        self.0.to_be_bytes()[1]
    }

    /// The function number where ARI is enabled: all 8 low bits (the device is then 0).
    pub const fn ari_function(self) -> u8 {
        self.devfn()
    }

    /// The same device and function on another bus, as after its bridge was renumbered.
    pub const fn on_bus(self, bus: u8) -> Self {
        Self::from_parts(bus, self.devfn())
    }

    /// The same device's function `function` (0..8), or `None` if it is out of range.
    pub const fn with_function(self, function: u8) -> Option<Self> {
        Self::new(self.bus(), self.device(), function)
    }
}

impl fmt::Display for Bdf {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(
            f,
            "{:02x}:{:02x}.{:x}",
            self.bus(),
            self.device(),
            self.function()
        )
    }
}

impl fmt::Debug for Bdf {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Bdf({self})")
    }
}

/// A function of one segment (PCI domain): the name operators and logs use.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Address {
    /// The segment group, as in MCFG and DRHD structures.
    pub segment: u16,
    /// The function in that segment.
    pub bdf: Bdf,
}

impl Address {
    /// Names `bdf` of `segment`.
    pub const fn new(segment: u16, bdf: Bdf) -> Self {
        Self { segment, bdf }
    }
}

impl fmt::Display for Address {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:04x}:{}", self.segment, self.bdf)
    }
}

impl fmt::Debug for Address {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Address({self})")
    }
}

#[cfg(test)]
mod tests {
    extern crate std;

    use proptest::prelude::*;
    use std::string::ToString;

    use super::*;

    /// "Requester ID[15:0]: Bus Number, Device Number, Function Number".
    #[test]
    fn a_requester_id_is_bus_device_function_from_high_to_low() {
        let bdf = Bdf::new(0x12, 0x1d, 3).unwrap();
        assert_eq!(bdf.requester_id(), 0x12eb);
    }

    #[test]
    fn a_function_prints_as_operators_write_it() {
        let bdf = Bdf::new(0, 0x1d, 0).unwrap();
        assert_eq!(bdf.to_string(), "00:1d.0");
        assert_eq!(Address::new(0, bdf).to_string(), "0000:00:1d.0");
    }

    #[test]
    fn a_device_or_function_out_of_range_has_no_requester_id() {
        assert_eq!(Bdf::new(0, 32, 0), None);
        assert_eq!(Bdf::new(0, 0, 8), None);
    }

    proptest! {
        #[test]
        fn every_requester_id_is_the_sum_of_its_parts(id: u16) {
            let bdf = Bdf::from_requester_id(id);
            prop_assert_eq!(Bdf::new(bdf.bus(), bdf.device(), bdf.function()), Some(bdf));
            prop_assert_eq!(bdf.requester_id(), id);
        }
    }
}
