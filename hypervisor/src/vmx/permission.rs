//! Which ports and registers cause an exit. SDM vol. 3C, 25.6.4 and 25.6.9.

use memory::PAGE_SIZE;
use processor::msr::{self, Rule};

const PAGE: usize = PAGE_SIZE as usize;

/// Bytes of the two I/O bitmaps: one bit a port.
pub(super) const PORT_MAP_BYTES: usize = 2 * PAGE;
/// Bytes of the MSR bitmap: reads of low and of high registers, then writes of either.
pub(super) const MSR_MAP_BYTES: usize = PAGE;

/// First register and byte offset of either run of 8192 registers. Others always cause an exit.
const RUNS: [(u32, usize); 2] = [(0, 0), (0xc000_0000, 0x400)];
const REGISTERS_PER_RUN: u32 = 0x2000;
/// From the bit for reads of a register to the one for writes.
const WRITES: usize = 0x800;

/// Fills the MSR map: everything causes an exit but what is the guest's own.
pub(super) fn fill_msr_map(map: &mut [u8; MSR_MAP_BYTES]) {
    map.fill(0xff);
    msr::without_exit(|register, rule| {
        let run = RUNS
            .iter()
            .find(|(first, _)| register.wrapping_sub(*first) < REGISTERS_PER_RUN);
        let Some((first, offset)) = run else { return };
        let bit = (register - first) as usize;
        let reads = offset + bit / 8;
        map[reads] &= !(1 << (bit % 8));
        if rule == Rule::Direct {
            map[reads + WRITES] &= !(1 << (bit % 8));
        }
    });
}
