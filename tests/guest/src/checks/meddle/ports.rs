//! I/O ports, by instructions of this program's own.
//!
//! Owns the privilege and the instructions. A double word may be written to an odd port: the
//! processor allows it.
#![expect(unsafe_code)]
// UNSAFETY: IN and OUT reach every device of the machine.

use core::arch::asm;

use crate::verdict::{Shortfall, failed};

/// The privilege to use every I/O port from this thread on.
#[derive(Debug, Clone, Copy)]
pub(super) struct Ports(());

impl Ports {
    /// Asks the kernel for it. Threads started later have it, too; those already running do not.
    pub(super) fn open() -> Result<Self, Shortfall> {
        // SAFETY: (1) a system call that changes this thread's I/O privilege level and no memory.
        match unsafe { libc::iopl(3) } {
            0 => Ok(Self(())),
            _ => Err(failed(format!(
                "iopl(3): {}",
                std::io::Error::last_os_error()
            ))),
        }
    }

    /// Reads `bytes` (1, 2 or 4) bytes from `port`.
    pub(super) fn input(self, port: u16, bytes: usize) -> u32 {
        let value: u32;
        // SAFETY: (1) `self` shows that the privilege is there; (2) the ports used are those of
        // configuration space, whose effects are what is tested.
        unsafe {
            match bytes {
                1 => asm!("in al, dx", "movzx eax, al", in("dx") port, out("eax") value),
                2 => asm!("in ax, dx", "movzx eax, ax", in("dx") port, out("eax") value),
                _ => asm!("in eax, dx", in("dx") port, out("eax") value),
            }
        }
        value
    }

    /// Writes a double word to `port` by a string instruction.
    pub(super) fn output_string(self, port: u16, value: u32) {
        // SAFETY: as for `input`; four bytes are read from `value`.
        unsafe {
            asm!("outsd", in("dx") port, inout("rsi") &raw const value => _);
        }
    }

    /// Writes the low `bytes` (1, 2 or 4) bytes of `value` to `port`.
    pub(super) fn output(self, port: u16, bytes: usize, value: u32) {
        // SAFETY: as for `input`.
        unsafe {
            match bytes {
                1 => asm!("out dx, al", in("dx") port, in("eax") value),
                2 => asm!("out dx, ax", in("dx") port, in("eax") value),
                _ => asm!("out dx, eax", in("dx") port, in("eax") value),
            }
        }
    }
}
