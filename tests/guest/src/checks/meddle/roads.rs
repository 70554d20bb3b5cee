//! The three roads to configuration space that a privileged program has.
//!
//! Owns the decoding of an access into what each road takes: the kernel's file, the memory window,
//! the two ports. An access may have any width and alignment; how it is cut up on the way is the
//! business of whoever is at the other end.

use std::fs::{File, OpenOptions};
use std::os::unix::fs::FileExt;

use super::function::Function;
use super::ports::Ports;
use super::stretch::Stretch;
use crate::verdict::{Attempt, Shortfall, ensure, failed};

/// PCI Local Bus 3.0, section 3.2.2.3.2: CONFIG_ADDRESS and CONFIG_DATA.
const ADDRESS_PORT: u16 = 0xcf8;
const DATA_PORT: u16 = 0xcfc;

/// Buses that are looked at through the window.
const BUSES: u64 = 0x60;

/// One way to configuration space.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Road {
    /// `/sys/bus/pci/devices/*/config`: the kernel's own accesses.
    Sysfs,
    /// The memory-mapped window that the MCFG table names.
    Ecam,
    /// Ports CF8h and CFCh.
    Ports,
}

impl Road {
    /// All of them.
    pub(super) const ALL: [Self; 3] = [Self::Sysfs, Self::Ecam, Self::Ports];
}

/// The roads, open.
#[derive(Debug)]
pub(super) struct Roads {
    window_base: u64,
    window: Stretch,
    ports: Ports,
}

impl Roads {
    /// Opens every road.
    pub(super) fn open() -> Result<Self, Shortfall> {
        let window_base = window_base()?;
        Ok(Self {
            window_base,
            window: Stretch::map(window_base, BUSES << 20)?,
            ports: Ports::open()?,
        })
    }

    /// Where the window is.
    pub(super) fn window_base(&self) -> u64 {
        self.window_base
    }

    /// The window, for accesses of other shapes.
    pub(super) fn window(&self) -> &Stretch {
        &self.window
    }

    /// The ports, likewise.
    pub(super) fn ports(&self) -> Ports {
        self.ports
    }

    /// Where a register of `function` is in the window.
    pub(super) fn address(&self, function: Function, offset: u16) -> u64 {
        self.window_base + (u64::from(function.requester_id()) << 12 | u64::from(offset))
    }

    /// Reads `bytes` (1, 2 or 4) bytes at `offset` of `function`.
    pub(super) fn read(
        &self,
        road: Road,
        function: Function,
        offset: u16,
        bytes: usize,
    ) -> Result<u32, Shortfall> {
        match road {
            Road::Sysfs => {
                let mut value = [0; 4];
                open_config(function)?
                    .read_exact_at(&mut value[..bytes], u64::from(offset))
                    .attempt(&format!("reading {function} config at {offset:#x}"))?;
                Ok(u32::from_le_bytes(value))
            }
            Road::Ecam => Ok(self.window.load(self.address(function, offset), bytes) as u32),
            Road::Ports => {
                self.aim(function, offset);
                Ok(self.ports.input(DATA_PORT + (offset & 3), bytes))
            }
        }
    }

    /// Writes the low `bytes` (1, 2 or 4) bytes of `value` at `offset` of `function`.
    pub(super) fn write(
        &self,
        road: Road,
        function: Function,
        offset: u16,
        bytes: usize,
        value: u32,
    ) -> Result<(), Shortfall> {
        match road {
            Road::Sysfs => open_config(function)?
                .write_all_at(&value.to_le_bytes()[..bytes], u64::from(offset))
                .attempt(&format!("writing {function} config at {offset:#x}"))?,
            Road::Ecam => {
                let at = self.address(function, offset);
                self.window.store(at, bytes, u64::from(value));
            }
            Road::Ports => {
                self.aim(function, offset);
                self.ports.output(DATA_PORT + (offset & 3), bytes, value);
            }
        }
        Ok(())
    }

    /// Reads a double word through the window, for looking rather than for attacking.
    pub(super) fn dword(&self, function: Function, offset: u16) -> u32 {
        self.window.dword(self.address(function, offset))
    }

    /// Writes a double word through the window, for putting things right.
    pub(super) fn put(&self, function: Function, offset: u16, value: u32) {
        let at = self.address(function, offset);
        self.window.store(at, 4, u64::from(value));
    }

    /// Stores eight bytes at once, which only the window takes.
    pub(super) fn put_wide(&self, function: Function, offset: u16, value: u64) {
        self.window.store(self.address(function, offset), 8, value);
    }

    /// Reads a word through the window.
    pub(super) fn word(&self, function: Function, offset: u16) -> u16 {
        self.window.load(self.address(function, offset), 2) as u16
    }

    /// Writes a word through the window.
    pub(super) fn put_word(&self, function: Function, offset: u16, value: u16) {
        let at = self.address(function, offset);
        self.window.store(at, 2, u64::from(value));
    }

    /// The address latch: enable, bus, device, function, double word.
    fn aim(&self, function: Function, offset: u16) {
        let register = u32::from(offset & 0xfc);
        let latch = 1 << 31 | u32::from(function.requester_id()) << 8 | register;
        self.ports.output(ADDRESS_PORT, 4, latch);
    }
}

fn open_config(function: Function) -> Result<File, Shortfall> {
    let path = format!("{}/config", function.directory());
    OpenOptions::new()
        .read(true)
        .write(true)
        .open(&path)
        .attempt(&format!("opening {path}"))
}

/// PCI Firmware 3.3, section 4.1.2: the first entry of MCFG is 44 bytes in and begins with the
/// base address of bus 0.
fn window_base() -> Result<u64, Shortfall> {
    let path = "/sys/firmware/acpi/tables/MCFG";
    let table = std::fs::read(path).attempt(&format!("reading {path}"))?;
    let base = table
        .get(44..52)
        .and_then(|bytes| bytes.try_into().ok())
        .map(u64::from_le_bytes)
        .ok_or_else(|| failed("MCFG has no entry"))?;
    ensure!(
        base != 0 && base.is_multiple_of(1 << 20),
        "MCFG names a window at {base:#x}"
    );
    Ok(base)
}
