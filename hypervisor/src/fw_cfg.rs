//! A device that is on no bus and reaches memory past every remapping unit: QEMU's firmware
//! configuration, told by two ports where to write.
//!
//! QEMU, docs/specs/fw_cfg.rst: selector at 510h, data at 511h, the DMA address at 514h to 51Bh. The
//! guest finds no DMA there: it reads ones, and its writes are dropped. Selector and data stay its own.

// UNSAFETY: reads ports of the real machine.
#![expect(unsafe_code)]

use core::ops::RangeInclusive;

const SELECTOR: u16 = 0x510;
const DATA: u16 = 0x511;
/// The selector's value for the signature.
const SIGNATURE: u16 = 0;

/// The ports that take the address.
pub(crate) const PORTS: RangeInclusive<u16> = 0x514..=0x51b;

/// Whether the device is there.
pub(crate) fn is_there() -> bool {
    // SAFETY: before there is a guest. Where the device is not, no other answers to these ports on any
    // machine we know: what is read are ones.
    let found = unsafe {
        x86::io::outw(SELECTOR, SIGNATURE);
        [0; 4].map(|_: u8| x86::io::inb(DATA))
    };
    found == *b"QEMU"
}
