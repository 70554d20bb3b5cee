//! The real configuration space: through the windows that the firmware names, or by the ports.

// UNSAFETY: reads and writes configuration space.
#![expect(unsafe_code)]

use heapless::Vec;
use pci::access::{ADDRESS_PORT, DATA_PORT};
use pci::{Address, ConfigSpace, Ecam, Register, Width};

/// Windows into configuration space at most.
const MAX_WINDOWS: usize = 4;

/// Windows into configuration space that the firmware names.
pub(crate) type Windows = Vec<Ecam, MAX_WINDOWS>;

/// Configuration space. Whoever has it is alone: while a guest runs, [`super::Fabric`]'s lock holder.
#[derive(Debug)]
pub(crate) struct Space {
    windows: Windows,
}

/// Where a register is.
enum Road {
    Mapped(u64),
    /// What the port 0xCF8 has to hold, and the offset from port 0xCFC.
    Ports(u32, u16),
}

impl Space {
    /// Configuration space as the firmware describes it.
    ///
    /// # Safety
    /// The windows are mapped one to one, and nobody else uses the ports at the same time.
    pub(crate) unsafe fn new(windows: Windows) -> Self {
        Self { windows }
    }

    /// The windows.
    pub(crate) fn windows(&self) -> &Windows {
        &self.windows
    }

    /// The bus each hierarchy starts with; without windows, the one that every machine has.
    pub(crate) fn roots(&self) -> Vec<(u16, u8), MAX_WINDOWS> {
        let mut roots: Vec<_, MAX_WINDOWS> = self
            .windows
            .iter()
            .map(|window| (window.segment(), window.first_bus()))
            .collect();
        if roots.is_empty() {
            roots.extend([(0, 0)]);
        }
        roots
    }

    fn road(&self, at: Address, register: Register) -> Option<Road> {
        let mut windows = self.windows.iter().filter(|w| w.segment() == at.segment);
        if let Some(place) = windows.find_map(|w| w.address_of(at.bdf, register)) {
            return Some(Road::Mapped(place.raw()));
        }
        let (id, offset) = (u32::from(at.bdf.requester_id()), register.offset());
        let selected = 1 << 31 | id << 8 | u32::from(offset & 0xfc);
        (at.segment == 0 && offset < 0x100).then_some(Road::Ports(selected, offset & 3))
    }
}

impl ConfigSpace for Space {
    fn read(&self, at: Address, register: Register) -> u32 {
        // SAFETY: configuration space (`new`), accessed in its own widths; reads change nothing but
        // what the guest, for whom this is done, could change by reading.
        unsafe {
            match (self.road(at, register), register.width()) {
                (Some(Road::Mapped(place)), Width::Byte) => {
                    u32::from((place as *const u8).read_volatile())
                }
                (Some(Road::Mapped(place)), Width::Word) => {
                    u32::from((place as *const u16).read_volatile())
                }
                (Some(Road::Mapped(place)), Width::Dword) => (place as *const u32).read_volatile(),
                (Some(Road::Ports(selected, lane)), width) => {
                    x86::io::outl(ADDRESS_PORT, selected);
                    match width {
                        Width::Byte => u32::from(x86::io::inb(DATA_PORT + lane)),
                        Width::Word => u32::from(x86::io::inw(DATA_PORT + lane)),
                        Width::Dword => x86::io::inl(DATA_PORT + lane),
                    }
                }
                (None, width) => width.mask(),
            }
        }
    }

    fn write(&mut self, at: Address, register: Register, value: u32) {
        // SAFETY: as for reads; what is written is the mediation's to decide.
        unsafe {
            match (self.road(at, register), register.width()) {
                (Some(Road::Mapped(place)), Width::Byte) => {
                    (place as *mut u8).write_volatile(value as u8);
                }
                (Some(Road::Mapped(place)), Width::Word) => {
                    (place as *mut u16).write_volatile(value as u16);
                }
                (Some(Road::Mapped(place)), Width::Dword) => {
                    (place as *mut u32).write_volatile(value);
                }
                (Some(Road::Ports(selected, lane)), width) => {
                    x86::io::outl(ADDRESS_PORT, selected);
                    match width {
                        Width::Byte => x86::io::outb(DATA_PORT + lane, value as u8),
                        Width::Word => x86::io::outw(DATA_PORT + lane, value as u16),
                        Width::Dword => x86::io::outl(DATA_PORT + lane, value),
                    }
                }
                (None, _) => {}
            }
        }
    }
}
