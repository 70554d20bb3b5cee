//! Attempts of the guest to reach Bouncer's memory: counted, and reported a few times.

use core::sync::atomic::{AtomicU64, Ordering};

use instruction::Access;
use memory::{ByteRange, Gpa};

use crate::console::say;
use crate::cpu::area::Area;

static READS: AtomicU64 = AtomicU64::new(0);
static WRITES: AtomicU64 = AtomicU64::new(0);

/// Reports the first attempt of a kind, and then each time their number has grown a thousandfold.
pub(crate) fn report(area: &Area, range: ByteRange<Gpa>, access: Access, rip: u64) {
    let (counter, verb, outcome) = match access {
        Access::Write => (&WRITES, "write", "dropped"),
        Access::Read => (&READS, "read", "answered with all ones"),
        Access::Fetch => (&READS, "instruction fetch", "refused"),
    };
    let count = counter.fetch_add(1, Ordering::Relaxed) + 1;
    if [1, 1_000, 1_000_000, 1_000_000_000].contains(&count) {
        say!(
            "guest processor {}: {verb} of {} bytes at {} in Bouncer's memory {outcome} (rip {rip:#x}; \
             {count} so far)",
            area.index(),
            range.len(),
            range.start(),
        );
    }
}
