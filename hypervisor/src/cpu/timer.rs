//! Time that can be trusted before anything was calibrated: the ACPI power-management timer.
//!
//! ACPI 6.5, section 4.8.3.3: 3.579545 MHz, 24 or 32 bits. Waits are bounded by it and, should it
//! stand still, by a number of reads.

// UNSAFETY: reads a port and the time-stamp counter of the real machine.
#![expect(unsafe_code)]

/// Ticks of the timer in a second.
pub(crate) const TICKS_PER_SECOND: u32 = 3_579_545;
/// Only 24 bits are there on every machine.
const MASK: u32 = 0x00ff_ffff;
/// A port read takes at least 100 ns on every machine we know: a bound, not a measure.
const READS_PER_MICROSECOND: u32 = 10;

/// The timer at a port the FADT names.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Timer {
    port: u16,
}

impl Timer {
    /// The timer at `port`, as the FADT says.
    pub(crate) fn new(port: u16) -> Self {
        Self { port }
    }

    /// Its port.
    pub(crate) fn port(self) -> u16 {
        self.port
    }

    /// The current tick, 24 bits.
    pub(crate) fn now(self) -> u32 {
        // SAFETY: the FADT names this port as the timer; reading it has no effect.
        unsafe { x86::io::inl(self.port) & MASK }
    }

    /// Ticks since `start`, less than 4.6 seconds ago.
    pub(crate) fn since(self, start: u32) -> u32 {
        self.now().wrapping_sub(start) & MASK
    }

    /// Whether `microseconds` (up to four seconds) have passed since `start`.
    pub(crate) fn has_passed(self, start: u32, microseconds: u32) -> bool {
        let ticks = u64::from(microseconds) * u64::from(TICKS_PER_SECOND) / 1_000_000;
        u64::from(self.since(start)) > ticks
    }

    /// Waits until `done`, at most about `microseconds` (up to four seconds). Returns whether `done`.
    pub(crate) fn wait_until(self, microseconds: u32, mut done: impl FnMut() -> bool) -> bool {
        let start = self.now();
        for _ in 0..microseconds.saturating_mul(READS_PER_MICROSECOND) {
            if done() {
                return true;
            }
            if self.has_passed(start, microseconds) {
                break;
            }
            core::hint::spin_loop();
        }
        done()
    }
}

/// Time in ticks of the processor's time-stamp counter, which does not wrap.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Clock {
    per_millisecond: u64,
}

impl Clock {
    /// Measures the counter against `timer`, in two milliseconds.
    pub(crate) fn measured_by(timer: Timer) -> Self {
        const MICROSECONDS: u32 = 2_000;
        let start = Self::now();
        timer.wait_until(MICROSECONDS, || false);
        let per_millisecond = Self::now().wrapping_sub(start) / u64::from(MICROSECONDS / 1_000);
        Self {
            per_millisecond: per_millisecond.max(1),
        }
    }

    /// The current tick.
    pub(crate) fn now() -> u64 {
        // SAFETY: reading the counter has no effect.
        unsafe { x86::time::rdtsc() }
    }

    /// Ticks in `milliseconds`.
    pub(crate) fn ticks(self, milliseconds: u32) -> u64 {
        self.per_millisecond * u64::from(milliseconds)
    }
}
