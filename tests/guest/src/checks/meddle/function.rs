//! The name of a PCI function: bus, device, function of segment 0.

use core::fmt;
use std::str::FromStr;

/// A function by its present number.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Function {
    /// Its bus.
    pub(super) bus: u8,
    /// Its device number in bits 7:3, its function number in bits 2:0.
    pub(super) devfn: u8,
}

impl Function {
    /// A function by bus, device and function number.
    pub(super) const fn new(bus: u8, device: u8, function: u8) -> Self {
        Self {
            bus,
            devfn: device << 3 | function,
        }
    }

    /// The same function seen on another bus.
    pub(super) const fn on_bus(self, bus: u8) -> Self {
        Self { bus, ..self }
    }

    /// Bus in bits 15:8, device and function below.
    pub(super) const fn requester_id(self) -> u16 {
        (self.bus as u16) << 8 | self.devfn as u16
    }

    /// Its directory in sysfs.
    pub(super) fn directory(self) -> String {
        format!("/sys/bus/pci/devices/{self}")
    }
}

/// As sysfs spells it: `0000:01:02.3`.
impl fmt::Display for Function {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { bus, devfn } = self;
        write!(f, "0000:{bus:02x}:{:02x}.{}", devfn >> 3, devfn & 7)
    }
}

/// The name is not one of a function of segment 0.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct NoFunction;

impl FromStr for Function {
    type Err = NoFunction;

    fn from_str(text: &str) -> Result<Self, NoFunction> {
        let number = |text, most| {
            let number = u8::from_str_radix(text, 16).map_err(|_| NoFunction)?;
            (number <= most).then_some(number).ok_or(NoFunction)
        };
        let rest = text.strip_prefix("0000:").ok_or(NoFunction)?;
        let (bus, rest) = rest.split_once(':').ok_or(NoFunction)?;
        let (device, function) = rest.split_once('.').ok_or(NoFunction)?;
        Ok(Self::new(
            number(bus, 0xff)?,
            number(device, 0x1f)?,
            number(function, 7)?,
        ))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_function_is_spelt_as_sysfs_spells_it() {
        let function = Function::new(0x1a, 0x1f, 3);
        assert_eq!(function.to_string(), "0000:1a:1f.3");
        assert_eq!("0000:1a:1f.3".parse(), Ok(function));
        assert_eq!(function.requester_id(), 0x1afb);
    }

    #[test]
    fn what_is_no_function_is_refused() {
        for text in [
            "",
            "0001:00:00.0",
            "0000:00:20.0",
            "0000:00:00.8",
            "00:00.0",
        ] {
            assert_eq!(text.parse::<Function>(), Err(NoFunction), "{text}");
        }
    }
}
