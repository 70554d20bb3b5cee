//! Where the loader speaks: the firmware's text console and Bouncer's serial line.

// UNSAFETY: names a serial port.
#![expect(unsafe_code)]

use core::fmt::{self, Write};

use uart_16550::{Config, Uart16550, backend::PioBackend};

use crate::services::Firmware;

/// Polls before a byte is given up.
const PATIENCE: u32 = 10_000;

/// The loader's two voices.
pub(crate) struct Console {
    serial: Option<Uart16550<PioBackend>>,
    firmware: Firmware,
}

impl Console {
    /// Speaks on the serial line at `port` (0 for none), and on the firmware's console.
    pub(crate) fn open(firmware: Firmware, port: u16) -> Self {
        // SAFETY: the person who boots the machine names the port for Bouncer's use.
        let serial = (port != 0)
            .then(|| unsafe { Uart16550::new_port(port) })
            .and_then(|uart| {
                let mut uart = uart.ok()?;
                uart.init(Config::default()).ok()?;
                Some(uart)
            });
        Self { serial, firmware }
    }

    /// Writes a line on the firmware's console alone.
    pub(crate) fn show(&self, line: &str) {
        self.firmware.print(line);
        self.firmware.print("\n");
    }

    /// Leaves the serial line to the hypervisor, who has told there what is told from now on.
    pub(crate) fn leave_port(&mut self) {
        self.serial = None;
    }

    fn put(&mut self, byte: u8) {
        if let Some(uart) = self.serial.as_mut() {
            let _ = (0..PATIENCE).any(|_| uart.try_send_byte(byte).is_ok());
        }
    }
}

impl Write for Console {
    fn write_str(&mut self, text: &str) -> fmt::Result {
        for byte in text.bytes() {
            if byte == b'\n' {
                self.put(b'\r');
            }
            self.put(byte);
        }
        self.firmware.print(text);
        Ok(())
    }
}
