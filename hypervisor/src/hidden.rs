//! Attempts of the guest to reach what is Bouncer's own: counted, and reported a few times.

use core::sync::atomic::{AtomicU64, Ordering};

use instruction::Access;
use memory::{ByteRange, Gpa};

use crate::console::say;
use crate::cpu::area::Area;
use crate::machine::Machine;

static READS: AtomicU64 = AtomicU64::new(0);
static WRITES: AtomicU64 = AtomicU64::new(0);

/// Reports the first attempt of a kind, and then each time their number has grown a thousandfold.
pub(crate) fn report(area: &Area, range: ByteRange<Gpa>, access: Access, rip: u64) {
    let (counter, verb, outcome) = match access {
        Access::Write => (&WRITES, "write", "dropped"),
        Access::Read => (&READS, "read", "answered with all ones"),
        Access::Fetch => (&READS, "instruction fetch", "refused"),
    };
    let is_memory = |machine: &Machine| machine.own.overlaps(&range);
    let whose = match Machine::published().is_none_or(is_memory) {
        true => "Bouncer's memory",
        false => "a remapping unit's registers",
    };
    let count = counter.fetch_add(1, Ordering::Relaxed) + 1;
    if [1, 1_000, 1_000_000, 1_000_000_000].contains(&count) {
        say!(
            "guest processor {}: {verb} of {} bytes at {} in {whose} {outcome} (rip {rip:#x}; \
             {count} so far)",
            area.index(),
            range.len(),
            range.start(),
        );
    }
}
