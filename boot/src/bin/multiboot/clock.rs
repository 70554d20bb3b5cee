//! What time it is, before and after anybody knew where to read it.

// UNSAFETY: reads a port and the time-stamp counter.
#![expect(unsafe_code)]

use core::arch::asm;
use core::arch::x86_64::_rdtsc;

/// A reading of both clocks.
#[derive(Clone, Copy)]
struct Reading {
    tsc: u64,
    pm_timer: u32,
}

/// Tells what the timer showed when the loader was entered, before its port was known: from the
/// ratio of the two clocks since.
pub(crate) struct Clock {
    entered: u64,
    first: Option<(u16, Reading)>,
}

impl Clock {
    /// Starts with the timer at `port`, if there is one; the loader was entered at `entered` of the
    /// time-stamp counter.
    pub(crate) fn start(port: Option<u16>, entered: u64) -> Self {
        Self {
            entered,
            first: port.map(|port| (port, read_clocks(port))),
        }
    }

    /// The time-stamp counter and the timer at the loader's first instruction.
    pub(crate) fn entered(&self) -> (u64, Option<u32>) {
        let timer = self.first.and_then(|(port, first)| {
            let now = read_clocks(port);
            let ticks = u64::from(now.pm_timer.wrapping_sub(first.pm_timer) & 0x00ff_ffff);
            let cycles = now
                .tsc
                .checked_sub(first.tsc)
                .filter(|cycles| *cycles != 0)?;
            let before = first.tsc.saturating_sub(self.entered);
            let ticks_before = u128::from(before) * u128::from(ticks) / u128::from(cycles);
            Some(first.pm_timer.wrapping_sub(ticks_before as u32) & 0x00ff_ffff)
        });
        (self.entered, timer)
    }
}

fn read_clocks(port: u16) -> Reading {
    let pm_timer: u32;
    // SAFETY: the FADT names this port as the timer, reading it has no effect; nor has RDTSC.
    let tsc = unsafe {
        asm!("in eax, dx", in("dx") port, out("eax") pm_timer, options(nomem, nostack));
        _rdtsc()
    };
    Reading {
        tsc,
        pm_timer: pm_timer & 0x00ff_ffff,
    }
}
