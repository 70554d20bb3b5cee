//! The console: lines for the person, and `@` lines for whoever launched the machine.
//!
//! Owns the serial port that the loader named. The guest does not see that port. A port that
//! stops taking bytes loses text, never time: every wait is bounded. Until the guest starts, what is said is
//! written down for the loader, too, if it asked for that.

// UNSAFETY: names a port of the real machine to the serial driver, and writes where the loader reads.
#![expect(unsafe_code)]

use core::fmt::{self, Write};

use boot::echo::Echo;
use memory::{ByteRange, Hpa};
use spin::mutex::TicketMutex;
use uart_16550::{Config, Uart16550, backend::PioBackend};

/// Polls of the line-status register before a byte is given up. A byte at 115200 baud takes 87
/// microseconds and a port read about one, but who reads the line of an emulated machine may be kept
/// from it for most of a second; a port that gave one up gets one poll a byte until it takes one.
const PATIENCE: u32 = 1_000_000;

static CONSOLE: TicketMutex<Voices> = TicketMutex::new(Voices {
    port: None,
    echo: None,
});

/// Where everything is said.
struct Voices {
    port: Option<Port>,
    echo: Option<Echo<'static>>,
}

struct Port {
    uart: Uart16550<PioBackend>,
    /// The port took no byte in time; it gets one try a byte from then on.
    is_stuck: bool,
}

/// Uses the serial port at `base` from now on. Returns whether there is one.
pub(crate) fn open(base: u16) -> bool {
    // SAFETY: the loader validated that `base` names a serial port set aside for Bouncer, and no
    // other code of Bouncer touches it. Port writes reach a UART only.
    let Ok(mut uart) = (unsafe { Uart16550::new_port(base) }) else {
        return false;
    };
    if uart.init(Config::default()).is_err() {
        return false;
    }
    CONSOLE.lock().port = Some(Port {
        uart,
        is_stuck: false,
    });
    true
}

/// Writes what is said from now on into `memory`, too.
///
/// # Safety
/// Nobody else uses it until [`end_echo`], and it is mapped.
pub(crate) unsafe fn echo_to(memory: ByteRange<Hpa>) {
    let at = memory.start().raw() as *mut u8;
    // SAFETY: as the caller says; the guest, whose memory it becomes, does not run before the echo has ended.
    let memory = unsafe { core::slice::from_raw_parts_mut(at, memory.len() as usize) };
    CONSOLE.lock().echo = Echo::over(memory);
}

/// Leaves that memory to whoever has it next.
pub(crate) fn end_echo() {
    CONSOLE.lock().echo = None;
}

impl Write for Voices {
    fn write_str(&mut self, text: &str) -> fmt::Result {
        if let Some(echo) = self.echo.as_mut() {
            echo.say(text);
        }
        self.port
            .as_mut()
            .map_or(Ok(()), |port| port.write_str(text))
    }
}

impl Write for Port {
    fn write_str(&mut self, text: &str) -> fmt::Result {
        for byte in text.bytes() {
            if byte == b'\n' {
                self.send(b'\r');
            }
            self.send(byte);
        }
        Ok(())
    }
}

impl Port {
    fn send(&mut self, byte: u8) {
        let tries = if self.is_stuck { 1 } else { PATIENCE };
        self.is_stuck = !(0..tries).any(|_| self.uart.try_send_byte(byte).is_ok());
    }
}

/// Writes one line. Lines of several processors do not mix.
pub(crate) fn line(text: fmt::Arguments<'_>) {
    let _ = writeln!(CONSOLE.lock(), "{text}");
}

/// The console as something to write text of several lines to.
pub(crate) struct Console;

impl Write for Console {
    fn write_str(&mut self, text: &str) -> fmt::Result {
        CONSOLE.lock().write_str(text)
    }
}

/// Polls for the console before its owner is taken for dead: many times what its longest line takes.
const MOURNING: u32 = 50_000_000;

/// Writes one line even when a processor died holding the console.
///
/// Called only when all other processors were told to stop.
pub(crate) fn last_line(text: fmt::Arguments<'_>) {
    if !(0..MOURNING).any(|_| {
        core::hint::spin_loop();
        !CONSOLE.is_locked()
    }) {
        // SAFETY: the owner was told to stop and has not given the lock back in a time in which any
        // line is written: it died in the middle of one, and never comes back to it.
        unsafe { CONSOLE.force_unlock() };
    }
    line(text);
}

/// Writes one line for the person at the console.
macro_rules! say {
    ($($arg:tt)*) => { $crate::console::line(format_args!($($arg)*)) };
}
pub(crate) use say;
