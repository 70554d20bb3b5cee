//! What a device says it is: class codes and patterns over them.
//!
//! Values and meanings: PCI Code and ID Assignment Specification, revision 1.12, section 1.

use core::fmt;

/// A class code as configuration space gives it: base class, sub-class, programming interface.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Hash)]
pub struct ClassCode([u8; 3]);

impl ClassCode {
    /// The class code with these three bytes, from offsets 0Bh, 0Ah and 09h.
    pub const fn new(base: u8, sub: u8, interface: u8) -> Self {
        Self([base, sub, interface])
    }

    /// The most specific name the policy file has for this class, if it has one.
    pub fn name(self) -> Option<&'static str> {
        NAMES
            .iter()
            .filter(|(_, pattern)| pattern.matches(self))
            .max_by_key(|(_, pattern)| pattern.depth)
            .map(|(name, _)| *name)
    }
}

impl fmt::Display for ClassCode {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let [base, sub, interface] = self.0;
        write!(f, "{base:02x}{sub:02x}{interface:02x}")
    }
}

/// The leading one, two or three bytes of a class code, which a rule asks for.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Hash)]
pub struct ClassPattern {
    /// The bytes asked for; those beyond `depth` are zero.
    code: [u8; 3],
    /// How many bytes are asked for: 1 to 3.
    depth: u8,
}

impl ClassPattern {
    /// Whether a device of class `code` is asked for.
    pub fn matches(self, code: ClassCode) -> bool {
        self.bytes().eq(code.0.into_iter().take(self.depth.into()))
    }

    /// Whether every class `other` asks for is also asked for by this pattern.
    pub(crate) fn covers(self, other: Self) -> bool {
        self.bytes().eq(other.bytes().take(self.depth.into()))
    }

    /// Every name that stands for a pattern, broad classes first.
    pub fn names() -> impl Iterator<Item = &'static str> {
        NAMES.iter().map(|(name, _)| *name)
    }

    /// Reads a name, or two, four or six hexadecimal digits.
    pub(crate) fn parse(text: &str) -> Option<Self> {
        if let Some((_, pattern)) = NAMES.iter().find(|(name, _)| *name == text) {
            return Some(*pattern);
        }
        let depth = match text.len() {
            2 => 1,
            4 => 2,
            6 => 3,
            _ => return None,
        };
        if !text.bytes().all(|byte| byte.is_ascii_hexdigit()) {
            return None;
        }
        let digits = u32::from_str_radix(text, 16).ok()?;
        let [code @ .., _] = (digits << (8 * (4 - u32::from(depth)))).to_be_bytes();
        Some(Self { code, depth })
    }

    /// The bytes asked for.
    fn bytes(self) -> impl Iterator<Item = u8> {
        self.code.into_iter().take(self.depth.into())
    }
}

impl fmt::Display for ClassPattern {
    /// The name where there is one, the digits otherwise.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if let Some((name, _)) = NAMES.iter().find(|(_, pattern)| pattern == self) {
            return f.write_str(name);
        }
        self.bytes().try_for_each(|byte| write!(f, "{byte:02x}"))
    }
}

const NAMES: &[(&str, ClassPattern)] = &[
    ("storage", base(0x01)),
    ("network", base(0x02)),
    ("display", base(0x03)),
    ("multimedia", base(0x04)),
    ("memory", base(0x05)),
    ("bridge", base(0x06)),
    ("communication", base(0x07)),
    ("system", base(0x08)),
    ("input", base(0x09)),
    ("docking", base(0x0a)),
    ("processor", base(0x0b)),
    ("serial-bus", base(0x0c)),
    ("wireless", base(0x0d)),
    ("intelligent-io", base(0x0e)),
    ("satellite", base(0x0f)),
    ("encryption", base(0x10)),
    ("signal-processing", base(0x11)),
    ("accelerator", base(0x12)),
    ("instrumentation", base(0x13)),
    ("sata", sub(0x01, 0x06)),
    ("nvme", interface(0x01, 0x08, 0x02)),
    ("ethernet", sub(0x02, 0x00)),
    ("audio", sub(0x04, 0x03)),
    ("firewire", sub(0x0c, 0x00)),
    ("usb", sub(0x0c, 0x03)),
    ("usb4", interface(0x0c, 0x03, 0x40)),
];

const fn base(base: u8) -> ClassPattern {
    ClassPattern {
        code: [base, 0, 0],
        depth: 1,
    }
}

const fn sub(base: u8, sub: u8) -> ClassPattern {
    ClassPattern {
        code: [base, sub, 0],
        depth: 2,
    }
}

const fn interface(base: u8, sub: u8, interface: u8) -> ClassPattern {
    ClassPattern {
        code: [base, sub, interface],
        depth: 3,
    }
}

#[cfg(test)]
mod tests {
    extern crate std;
    use super::*;
    use proptest::prelude::*;
    use std::format;
    use std::string::ToString;

    #[test]
    fn a_class_name_asks_for_the_bytes_the_specification_assigns() {
        // Base class 02h is "network controller"; 01h/08h/02h is "NVMe I/O controller".
        assert_eq!(ClassPattern::parse("network"), ClassPattern::parse("02"));
        assert_eq!(ClassPattern::parse("nvme"), ClassPattern::parse("010802"));
        assert_eq!(ClassPattern::parse("usb4"), ClassPattern::parse("0c0340"));
    }

    #[test]
    fn fewer_digits_ask_for_more_devices() {
        let usb = ClassCode::new(0x0c, 0x03, 0x30);
        for (text, expected) in [
            ("0c", true),
            ("0C03", true),
            ("0c0330", true),
            ("0c0340", false),
            ("02", false),
        ] {
            let pattern = ClassPattern::parse(text).expect("a class");
            assert_eq!(pattern.matches(usb), expected, "{text}");
        }
    }

    #[test]
    fn what_is_nearly_a_class_is_refused() {
        for wrong in [
            "", "2", "020", "02000", "0200000", "0x02", "netwrok", "Network", "+2", "é",
        ] {
            assert_eq!(ClassPattern::parse(wrong), None, "{wrong}");
        }
    }

    #[test]
    fn a_device_is_called_by_its_most_specific_name() {
        assert_eq!(ClassCode::new(0x01, 0x08, 0x02).name(), Some("nvme"));
        assert_eq!(ClassCode::new(0x01, 0x08, 0x01).name(), Some("storage"));
        assert_eq!(ClassCode::new(0xff, 0, 0).name(), None);
    }

    proptest! {
        #[test]
        fn a_printed_class_reads_back(code: [u8; 3], digits in 1usize..=3) {
            let digits: std::string::String = code.iter().take(digits).map(|byte| format!("{byte:02x}")).collect();
            let pattern = ClassPattern::parse(&digits).expect("hexadecimal digits");
            prop_assert_eq!(ClassPattern::parse(&pattern.to_string()), Some(pattern));
        }
    }
}
