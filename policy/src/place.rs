//! Where a device sits: a root bus and the hops from it.
//!
//! A bus number behind a bridge is assigned by software, and moves when something is plugged in
//! or a guest rewrites the bridge. So a place names the root bus, which the platform fixes, and
//! then the device and function taken at each bridge, as a VT-d device scope does.

use core::fmt;
use heapless::Vec;

/// How many hops a rule can name: enough for six Thunderbolt devices in a row, two hops each.
pub const MAX_HOPS: usize = 16;

/// A device and function number on one bus.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Hash)]
pub struct Hop(u8);

impl Hop {
    /// The hop with `device` below 32 and `function` below 8, or `None`.
    pub const fn new(device: u8, function: u8) -> Option<Self> {
        if device < 32 && function < 8 {
            Some(Self(device << 3 | function))
        } else {
            None
        }
    }

    /// The hop from the low byte of a requester id: device in bits 7:3, function in bits 2:0.
    pub const fn from_devfn(devfn: u8) -> Self {
        Self(devfn)
    }

    /// The device number, 0 to 31.
    pub const fn device(self) -> u8 {
        self.0 >> 3
    }

    /// The function number, 0 to 7.
    pub const fn function(self) -> u8 {
        self.0 & 7
    }

    /// Reads `1d.0`: two hexadecimal digits, a dot, one octal digit.
    fn parse(text: &str) -> Option<Self> {
        let (device, function) = text.split_once('.')?;
        Self::new(
            u8::try_from(hex(device, 2)?).ok()?,
            u8::try_from(hex(function, 1)?).ok()?,
        )
    }
}

impl fmt::Display for Hop {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:02x}.{:x}", self.device(), self.function())
    }
}

/// Where a device was found, however deep.
///
/// Prints as `0000:00:1d.0/00.0`, which is also what `lspci -D -P` prints.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Place<'d> {
    /// The PCI segment group.
    pub segment: u16,
    /// The bus at the top, whose number the platform fixes.
    pub root_bus: u8,
    /// The function taken on each bus on the way down; the last one is the device.
    pub hops: &'d [Hop],
}

impl Place<'_> {
    /// Whether this is `top` or lies behind it.
    pub fn is_at_or_behind(&self, top: &Place<'_>) -> bool {
        self.segment == top.segment
            && self.root_bus == top.root_bus
            && self.hops.starts_with(top.hops)
    }
}

impl fmt::Display for Place<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:04x}:{:02x}", self.segment, self.root_bus)?;
        for (depth, hop) in self.hops.iter().enumerate() {
            let separator = if depth == 0 { ':' } else { '/' };
            write!(f, "{separator}{hop}")?;
        }
        Ok(())
    }
}

/// A place a rule names: at least one hop, at most [`MAX_HOPS`].
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Path {
    segment: u16,
    root_bus: u8,
    hops: Vec<Hop, MAX_HOPS, u8>,
}

impl Path {
    /// The place named.
    pub fn place(&self) -> Place<'_> {
        Place {
            segment: self.segment,
            root_bus: self.root_bus,
            hops: &self.hops,
        }
    }

    /// Reads `0000:00:1d.0/00.0`: segment, root bus, first hop, then a hop behind each bridge.
    pub(crate) fn parse(text: &str) -> Result<Self, NoPath> {
        let (segment, rest) = text.split_once(':').ok_or(NoPath::Malformed)?;
        let (bus, rest) = rest.split_once(':').ok_or(NoPath::Malformed)?;
        let mut path = Self {
            segment: hex(segment, 4).ok_or(NoPath::Malformed)?,
            root_bus: hex(bus, 2)
                .and_then(|bus| u8::try_from(bus).ok())
                .ok_or(NoPath::Malformed)?,
            hops: Vec::new(),
        };
        for hop in rest.split('/') {
            let hop = Hop::parse(hop).ok_or(NoPath::Malformed)?;
            path.hops.push(hop).map_err(|_| NoPath::TooDeep)?;
        }
        Ok(path)
    }
}

impl fmt::Display for Path {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.place().fmt(f)
    }
}

/// Why a text names no place.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) enum NoPath {
    /// Not of the form `0000:00:1d.0/00.0`.
    Malformed,
    /// More than [`MAX_HOPS`] hops.
    TooDeep,
}

/// Reads exactly `digits` (at most four) hexadecimal digits.
fn hex(text: &str, digits: usize) -> Option<u16> {
    let is_hex = text.len() == digits && text.bytes().all(|byte| byte.is_ascii_hexdigit());
    if is_hex {
        u16::from_str_radix(text, 16).ok()
    } else {
        None
    }
}

#[cfg(test)]
mod tests {
    extern crate std;
    use super::*;
    use proptest::prelude::*;
    use std::string::ToString;
    use std::{format, vec};

    fn path(text: &str) -> Path {
        Path::parse(text).expect("a valid path")
    }

    #[test]
    fn a_path_is_segment_root_bus_and_hops() {
        let path = path("0001:80:1D.7/02.3");
        let hops = [Hop(0x1d << 3 | 7), Hop(2 << 3 | 3)];
        let place = Place {
            segment: 1,
            root_bus: 0x80,
            hops: &hops,
        };
        assert_eq!(path.place(), place);
        assert_eq!(path.to_string(), "0001:80:1d.7/02.3");
    }

    #[test]
    fn what_is_nearly_a_path_is_refused() {
        for wrong in [
            "",
            ":",
            "::",
            "00:1d.0",
            "0000:00",
            "0000:00:",
            "0000:00:1d",
            "0000:00:1d.",
            "0000:00:1d.8",
            "0000:00:20.0",
            "0000:00:1d.0/",
            "0000:00:1d.0//00.0",
            "0000:00:1d.0 ",
            " 0000:00:1d.0",
            "0000:00:d.0",
            "0000:0:1d.0",
            "000:00:1d.0",
            "10000:00:1d.0",
            "0000:00:1d.0/00.00",
            "+000:00:1d.0",
            "0000:00:1d.0/01:00.0",
            "0000:00:é.0",
        ] {
            assert_eq!(Path::parse(wrong), Err(NoPath::Malformed), "{wrong}");
        }
    }

    #[test]
    fn the_seventeenth_hop_is_one_too_many() {
        let deepest =
            format!("0000:00{}", vec![":00.0", "/00.0"][0]) + &"/00.0".repeat(MAX_HOPS - 1);
        assert!(Path::parse(&deepest).is_ok());
        assert_eq!(Path::parse(&(deepest + "/00.0")), Err(NoPath::TooDeep));
    }

    #[test]
    fn behind_a_port_means_the_port_and_every_hop_that_starts_with_it() {
        let port = path("0000:00:07.0");
        let behind = |text: &str| path(text).place().is_at_or_behind(&port.place());
        assert!(behind("0000:00:07.0"));
        assert!(behind("0000:00:07.0/00.0/03.0"));
        assert!(!behind("0000:00:07.1/00.0"));
        assert!(!behind("0001:00:07.0/00.0"));
        assert!(!behind("0000:80:07.0"));
    }

    proptest! {
        #[test]
        fn a_printed_path_reads_back(
            segment: u16,
            root_bus: u8,
            devfns in proptest::collection::vec(any::<u8>(), 1..=MAX_HOPS),
        ) {
            let hops: std::vec::Vec<Hop> = devfns.into_iter().map(Hop::from_devfn).collect();
            let place = Place { segment, root_bus, hops: &hops };
            let path = Path::parse(&place.to_string()).expect("a printed place is a path");
            prop_assert_eq!(path.place(), place);
        }
    }
}
