//! The PC's own ways to reset a machine and to fold its addresses: port 92h and the keyboard
//! controller.
//!
//! Address line 20 must stay on: where a machine still masks it, every second mebibyte of Bouncer's
//! own memory would turn into the one below it, for Bouncer too.

/// System control port A: bit 0 resets, bit 1 is address line 20.
pub const SYSTEM_CONTROL: u16 = 0x92;
/// The keyboard controller's data port.
pub const KEYBOARD_DATA: u16 = 0x60;
/// The keyboard controller's command port.
pub const KEYBOARD_COMMAND: u16 = 0x64;

const RESET: u8 = 1 << 0;
const LINE_20: u8 = 1 << 1;
/// Commands of the keyboard controller.
const WRITE_OUTPUT: u8 = 0xd1;
const LINE_20_OFF: u8 = 0xdd;
const PULSE: u8 = 0xf0;

/// Every port that must be watched.
pub const PORTS: [u16; 3] = [SYSTEM_CONTROL, KEYBOARD_DATA, KEYBOARD_COMMAND];

/// What becomes of a byte that the guest writes to one of the ports.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Outcome {
    /// Write this instead, which may be the same.
    Write(u8),
    /// Write nothing: the machine is to be reset.
    Reset,
    /// Write nothing.
    Drop,
}

/// What the keyboard controller waits for.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub struct Keyboard {
    /// The next byte of data goes to its output port.
    expects_output: bool,
}

impl Keyboard {
    /// Decides on one byte.
    pub fn write(&mut self, port: u16, value: u8) -> Outcome {
        match port {
            SYSTEM_CONTROL if value & RESET != 0 => Outcome::Reset,
            SYSTEM_CONTROL => Outcome::Write(value | LINE_20),
            KEYBOARD_DATA if core::mem::take(&mut self.expects_output) => {
                // The reset line of the output port is active when low.
                if value & RESET == 0 {
                    Outcome::Reset
                } else {
                    Outcome::Write(value | LINE_20)
                }
            }
            KEYBOARD_COMMAND => {
                self.expects_output = value == WRITE_OUTPUT;
                match value {
                    LINE_20_OFF => Outcome::Drop,
                    // Bits that are low in a pulse are pulsed low; bit 0 is the reset line.
                    PULSE.. if value & RESET == 0 => Outcome::Reset,
                    PULSE.. => Outcome::Write(value | LINE_20),
                    _ => Outcome::Write(value),
                }
            }
            _ => Outcome::Write(value),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn keys_and_lights_pass() {
        let mut keyboard = Keyboard::default();
        assert_eq!(keyboard.write(KEYBOARD_DATA, 0xed), Outcome::Write(0xed));
        assert_eq!(keyboard.write(KEYBOARD_COMMAND, 0x20), Outcome::Write(0x20));
    }

    #[test]
    fn the_usual_resets_are_told() {
        let mut keyboard = Keyboard::default();
        assert_eq!(keyboard.write(KEYBOARD_COMMAND, 0xfe), Outcome::Reset);
        assert_eq!(keyboard.write(SYSTEM_CONTROL, 0x01), Outcome::Reset);
        assert_eq!(keyboard.write(KEYBOARD_COMMAND, 0xd1), Outcome::Write(0xd1));
        assert_eq!(keyboard.write(KEYBOARD_DATA, 0x02), Outcome::Reset);
    }

    proptest! {
        /// A machine model in four lines: what reaches the registers never turns the line off.
        #[test]
        fn no_sequence_of_writes_turns_line_20_off(
            writes in prop::collection::vec((0..3_usize, any::<u8>()), 0..60)
        ) {
            let (mut keyboard, mut expects) = (Keyboard::default(), false);
            for (port, value) in writes {
                let port = PORTS[port];
                let reaches = match keyboard.write(port, value) {
                    Outcome::Write(reaches) => reaches,
                    Outcome::Drop => continue,
                    // Nothing comes after it.
                    Outcome::Reset => break,
                };
                match port {
                    SYSTEM_CONTROL => prop_assert!(reaches & 2 != 0),
                    KEYBOARD_DATA => prop_assert!(!core::mem::take(&mut expects) || reaches & 2 != 0),
                    _ => {
                        expects = reaches == 0xd1;
                        prop_assert!(reaches != 0xdd && (reaches < 0xf0 || reaches & 2 != 0));
                    }
                }
            }
        }
    }
}
