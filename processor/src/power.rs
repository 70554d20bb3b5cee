//! The registers through which a machine is put to sleep, turned off or reset.
//!
//! Owns the reading of a write to them. Touches no port. ACPI 6.5, sections 4.8.3.2 and 4.8.3.6.

/// PM1 control register: sleep enable. ACPI 6.5, table 4.17.
const SLEEP_ENABLE: u16 = 1 << 13;
const SLEEP_TYPE: u16 = 0b111 << 10;
/// The reset control register of Intel's chipsets, which resets with this bit whatever the FADT
/// says of it.
const RESET_CONTROL: u16 = 0xcf9;
const RESET_CPU: u8 = 1 << 2;

/// The registers, as the ACPI tables say.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub struct Power {
    /// PM1a and PM1b control ports.
    pub control: [Option<u16>; 2],
    /// Sleep types that mean soft-off, for PM1a and PM1b; `None` if the DSDT does not say.
    pub off: Option<[u8; 2]>,
    /// Reset port and the value that resets.
    pub reset: Option<(u16, u8)>,
}

/// What a write to one of the ports asks.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Request {
    /// Nothing special.
    Ordinary,
    /// The power goes off.
    PowerOff,
    /// The machine resets.
    Reset,
    /// A sleep from which firmware would wake the guest.
    Sleep {
        /// The SLP_TYP field.
        kind: u8,
    },
}

impl Power {
    /// Every byte-wide port that must be watched.
    pub fn ports(&self) -> impl Iterator<Item = u16> + '_ {
        let control = self.control.iter().flatten();
        let control = control.flat_map(|port| [*port, port.wrapping_add(1)]);
        control.chain(self.reset.map(|(port, _)| port))
    }

    /// What writing the `bytes` (1, 2 or 4) low bytes of `value` to `port` asks.
    pub fn request(&self, port: u16, bytes: u8, value: u32) -> Request {
        if let Some((register, resets)) = self.reset
            && let Some(written) = byte_at(register, port, bytes, value)
            && (written == resets || register == RESET_CONTROL && written & RESET_CPU != 0)
        {
            return Request::Reset;
        }
        for (which, register) in self.control.iter().enumerate() {
            let Some(word) = register.and_then(|at| seen_by(at, port, bytes, value)) else {
                continue;
            };
            if word & SLEEP_ENABLE == 0 {
                continue;
            }
            let kind = ((word & SLEEP_TYPE) >> 10) as u8;
            return match self.off.and_then(|off| off.get(which).copied()) {
                Some(off) if off == kind => Request::PowerOff,
                _ => Request::Sleep { kind },
            };
        }
        Request::Ordinary
    }
}

/// The byte that the register at `register` sees of a write. Four bytes that begin at the port before are
/// PCI's address register, which shares these ports with Intel's reset register.
fn byte_at(register: u16, port: u16, bytes: u8, value: u32) -> Option<u8> {
    match register.checked_sub(port)? {
        0 => Some(value as u8),
        1 if bytes == 2 => Some((value >> 8) as u8),
        _ => None,
    }
}

/// What the two bytes of the register at `register` see of a write, those that it does not reach read
/// as zero; `None` if it passes the register by.
fn seen_by(register: u16, port: u16, bytes: u8, value: u32) -> Option<u16> {
    let (register, port) = (u32::from(register), u32::from(port));
    let reaches = port < register + 2 && register < port + u32::from(bytes);
    let written = u64::from(value) & ((1 << (8 * u32::from(bytes))) - 1);
    // Four bytes of room on both sides, so that neither shift loses anything.
    let placed = (written << 32) >> (32 + 8 * register).saturating_sub(8 * port).min(63);
    reaches.then_some((placed & 0xffff) as u16)
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    /// As QEMU's q35 describes itself.
    const Q35: Power = Power {
        control: [Some(0x604), None],
        off: Some([0, 0]),
        reset: Some((0xcf9, 0x0f)),
    };

    #[test]
    fn linux_turns_q35_off_with_one_word() {
        assert_eq!(Q35.request(0x604, 2, 0x2000), Request::PowerOff);
        assert_eq!(Q35.request(0x604, 2, 0x0001), Request::Ordinary);
    }

    #[test]
    fn a_sleep_that_firmware_would_end_is_told_apart() {
        assert_eq!(Q35.request(0x604, 2, 0x2400), Request::Sleep { kind: 1 });
        let unknown = Power { off: None, ..Q35 };
        assert_eq!(
            unknown.request(0x604, 2, 0x2000),
            Request::Sleep { kind: 0 }
        );
    }

    #[test]
    fn both_ways_to_reset_are_seen() {
        assert_eq!(Q35.request(0xcf9, 1, 0x0f), Request::Reset);
        assert_eq!(
            Q35.request(0xcf9, 1, 0x06),
            Request::Reset,
            "reset CPU, hard"
        );
        assert_eq!(
            Q35.request(0xcf9, 1, 0x02),
            Request::Ordinary,
            "only prepares"
        );
        assert_eq!(
            Q35.request(0xcf9, 1, 0x04),
            Request::Reset,
            "reset CPU, soft"
        );
        assert_eq!(Q35.request(0xcf8, 2, 0x0400), Request::Reset, "from before");
        assert_eq!(Q35.request(0xcf8, 2, 0x0004), Request::Ordinary);
    }

    #[test]
    fn an_address_of_pci_configuration_space_is_no_reset() {
        // The address register is the double word at CF8h, over the reset register's CF9h.
        assert_eq!(Q35.request(0xcf8, 4, 0x8000_0f00), Request::Ordinary);
    }

    proptest! {
        /// However a sleep is cut into pieces, the piece with the enable bit is noticed.
        #[test]
        fn no_write_that_enables_sleep_is_ordinary(
            port in 0x5fe_u16..0x60a, bytes in prop::sample::select(&[1_u8, 2, 4][..]), value: u32,
        ) {
            let memory = (0..bytes).any(|at| {
                let byte = (value >> (8 * u32::from(at))) as u8;
                port + u16::from(at) == 0x605 && byte & 0x20 != 0
            });
            prop_assert_eq!(Q35.request(port, bytes, value) != Request::Ordinary, memory);
        }
    }
}
