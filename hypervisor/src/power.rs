//! The ports through which the guest ends or resets the machine, repeated for it.

// UNSAFETY: reads and writes ports of the real machine.
#![expect(unsafe_code)]

/// Repeats the guest's write of `bytes` bytes.
pub(crate) fn write_for_guest(port: u16, bytes: u8, value: u32) {
    // SAFETY: the caller checked that the port is one of those that are watched, and that the value
    // keeps address line 20 on; they end or reset the machine and touch no memory.
    unsafe {
        match bytes {
            1 => x86::io::outb(port, value as u8),
            2 => x86::io::outw(port, value as u16),
            _ => x86::io::outl(port, value),
        }
    }
}

/// Repeats the guest's read of `bytes` bytes.
pub(crate) fn read_for_guest(port: u16, bytes: u8) -> u32 {
    // SAFETY: as above; reading these registers has no effect.
    unsafe {
        match bytes {
            1 => u32::from(x86::io::inb(port)),
            2 => u32::from(x86::io::inw(port)),
            _ => x86::io::inl(port),
        }
    }
}
