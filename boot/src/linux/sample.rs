//! A kernel's file that has all a boot loader looks at, for tests.

extern crate std;

use std::vec::Vec;

use memory::Hpa;

use super::bzimage::offset;
use super::launch;
use crate::handoff::GuestStart;

/// Bytes of the protected-mode kernel.
pub(crate) const PAYLOAD: usize = 0x3000;
/// Where the protected-mode kernel lies in the file.
pub(crate) const PAYLOAD_AT: usize = 2 * 512;
/// What the kernel prefers.
pub(crate) const PREFERRED: u64 = 0x100_0000;
/// What the kernel needs.
pub(crate) const INIT_SIZE: u64 = 0x40_0000;

/// A kernel of protocol 2.15 like Debian's, only shorter.
pub(crate) fn kernel() -> Vec<u8> {
    let mut file = std::vec![0xcc; PAYLOAD_AT];
    file.resize(PAYLOAD_AT + PAYLOAD, 0x90);
    file[offset::SETUP_SECTS..0x280].fill(0);
    file[offset::SETUP_SECTS] = 1;
    put(
        &mut file,
        offset::SYSSIZE,
        (PAYLOAD as u32 / 16).to_le_bytes(),
    );
    put(&mut file, 0x1fa, 0xffff_u16.to_le_bytes());
    put(&mut file, offset::BOOT_FLAG, 0xaa55_u16.to_le_bytes());
    put(&mut file, offset::JUMP, [0xeb, 0x6a]);
    put(&mut file, offset::HEADER, *b"HdrS");
    put(&mut file, offset::VERSION, 0x20f_u16.to_le_bytes());
    put(
        &mut file,
        offset::INITRD_ADDR_MAX,
        0x7fff_ffff_u32.to_le_bytes(),
    );
    put(
        &mut file,
        offset::KERNEL_ALIGNMENT,
        0x20_0000_u32.to_le_bytes(),
    );
    put(&mut file, offset::RELOCATABLE_KERNEL, [1]);
    put(&mut file, offset::XLOADFLAGS, 0x7f_u16.to_le_bytes());
    put(&mut file, offset::CMDLINE_SIZE, 2047_u32.to_le_bytes());
    put(&mut file, offset::PREF_ADDRESS, PREFERRED.to_le_bytes());
    put(
        &mut file,
        offset::INIT_SIZE,
        (INIT_SIZE as u32).to_le_bytes(),
    );
    file
}

/// The state a kernel starts in, with its pages at 64 KiB.
pub(crate) fn start() -> GuestStart {
    launch::start(Hpa::new(0x1_0000), Hpa::new(PREFERRED + 0x200))
}

/// The kernel with bytes laid over it.
pub(crate) fn changed<const N: usize>(at: usize, bytes: [u8; N]) -> Vec<u8> {
    let mut file = kernel();
    put(&mut file, at, bytes);
    file
}

fn put<const N: usize>(file: &mut [u8], at: usize, bytes: [u8; N]) {
    file[at..at + N].copy_from_slice(&bytes);
}
