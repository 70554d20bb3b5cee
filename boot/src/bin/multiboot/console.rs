//! Where the loader speaks: the screen's text memory and Bouncer's serial line.

// UNSAFETY: writes the text screen's memory and names a serial port.
#![expect(unsafe_code)]

use core::fmt::{self, Write};

use uart_16550::{Config, Uart16550, backend::PioBackend};

/// The text screen of a PC: 25 lines of 80 cells of character and colour.
const SCREEN: *mut u16 = 0xb_8000 as *mut u16;
const COLUMNS: usize = 80;
const LINES: usize = 25;
const WHITE_ON_BLACK: u16 = 0x0f00;
/// Polls before a byte is given up.
const PATIENCE: u32 = 10_000;

/// The loader's two voices.
pub(crate) struct Console {
    serial: Option<Uart16550<PioBackend>>,
    has_screen: bool,
    cell: usize,
}

impl Console {
    /// Speaks on the serial line at `port` (0 for none), and on the screen if it shows text.
    pub(crate) fn open(port: u16, has_screen: bool) -> Self {
        // SAFETY: the person who boots the machine names the port for Bouncer's use.
        let serial = (port != 0)
            .then(|| unsafe { Uart16550::new_port(port) })
            .and_then(|uart| {
                let mut uart = uart.ok()?;
                uart.init(Config::default()).ok()?;
                Some(uart)
            });
        Self {
            serial,
            has_screen,
            cell: 0,
        }
    }

    fn put(&mut self, byte: u8) {
        if let Some(uart) = self.serial.as_mut() {
            let _ = (0..PATIENCE).any(|_| uart.try_send_byte(byte).is_ok());
        }
        if !self.has_screen {
            return;
        }
        match byte {
            b'\r' => {}
            b'\n' => self.cell = (self.cell / COLUMNS + 1) * COLUMNS % (LINES * COLUMNS),
            _ => {
                // SAFETY: the cell lies on the text screen, which is mapped and shows text.
                unsafe {
                    SCREEN
                        .add(self.cell)
                        .write_volatile(WHITE_ON_BLACK | u16::from(byte))
                };
                self.cell = (self.cell + 1) % (LINES * COLUMNS);
            }
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
        Ok(())
    }
}
