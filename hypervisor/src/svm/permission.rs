//! Which ports and registers cause an exit. APM vol. 2, 15.10 and 15.11.

use processor::msr::{self, Rule};

/// Bytes of the I/O permission map: one bit a port, and three more pages' worth of slack bits.
pub(super) const PORT_MAP_BYTES: usize = 3 * 4096;
/// Bytes of the MSR permission map: two bits a register.
pub(super) const MSR_MAP_BYTES: usize = 2 * 4096;

/// First register and byte offset of each covered run of 8192 registers. APM 15.11.
const RUNS: [(u32, usize); 3] = [(0, 0), (0xc000_0000, 0x800), (0xc001_0000, 0x1000)];
const REGISTERS_PER_RUN: u32 = 0x2000;

/// Fills the MSR map: everything causes an exit but what is the guest's own.
pub(super) fn fill_msr_map(map: &mut [u8; MSR_MAP_BYTES]) {
    map.fill(0xff);
    msr::without_exit(|register, rule| {
        let run = RUNS
            .iter()
            .find(|(first, _)| register.wrapping_sub(*first) < REGISTERS_PER_RUN);
        let Some((first, offset)) = run else { return };
        let bit = 2 * (register - first) as usize;
        // The low bit of a pair is for reads, the high one for writes.
        let free = if rule == Rule::Direct { 0b11 } else { 0b01 };
        map[offset + bit / 8] &= !(free << (bit % 8));
    });
}
