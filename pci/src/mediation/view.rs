//! What the guest reads: the device's answer, with the shadow laid over it.
//!
//! Owns the choice, for each double word, of the bits that come from the shadow. The device is
//! asked for the lanes the guest asked for and no others, and not at all if the shadow has them.

use super::guarded::{Guarded, Part};
use super::{Mediation, list};
use crate::Address;
use crate::bars::Decode;
use crate::config::{ConfigSpace, Register};
use crate::spec::header::{self, Command};

/// Bits of a double word that are answered from the shadow.
#[derive(Clone, Copy, Debug)]
struct Overlay {
    mask: u32,
    bits: u32,
}

impl Overlay {
    const NONE: Self = Self { mask: 0, bits: 0 };

    const fn all(bits: u32) -> Self {
        Self {
            mask: u32::MAX,
            bits,
        }
    }
}

impl<const N: usize> Mediation<N> {
    /// Reads `register` of `at` as the guest may see it.
    pub fn read(&self, space: &impl ConfigSpace, at: Address, register: Register) -> u32 {
        let ones = register.width().mask();
        let Some((_, guarded)) = self.guarded_at(at) else {
            return ones;
        };
        let part = guarded.part(register.dword_offset());
        let overlay = guarded.overlay(part, register.dword_offset());
        if overlay.mask & register.lanes() == register.lanes() {
            return register.extract(overlay.bits);
        }
        if part == Part::Identity {
            // Somebody else answering in its place is nobody the guest should meet.
            let identity = space.read_u32(at, register.dword_offset());
            let is_same = identity == guarded.identity.dword();
            return register.extract(if is_same { identity } else { u32::MAX });
        }
        let answer = register.spread(space.read(at, register));
        register.extract(answer & !overlay.mask | overlay.bits & overlay.mask)
    }
}

impl Guarded {
    fn overlay(&self, part: Part, offset: u16) -> Overlay {
        match part {
            Part::Command => {
                let withheld = self.wanted.raw() ^ self.real.raw();
                let mask =
                    withheld & (Command::MEMORY_SPACE | Command::IO_SPACE | Command::BUS_MASTER);
                Overlay {
                    mask: u32::from(mask),
                    bits: u32::from(self.wanted.raw()),
                }
            }
            Part::Class => Overlay::all(self.identity.class.raw()),
            Part::Subsystem => Overlay::all(self.identity.subsystem),
            Part::HeaderType => Overlay {
                mask: 0x00ff_0000,
                bits: u32::from(self.header_type) << 16,
            },
            Part::BaseAddress | Part::Rom => self.bar_overlay(offset),
            Part::Window => Overlay::all(self.windows.map_or(0, |windows| windows.view(offset))),
            Part::PortWindow => self.port_window_overlay(offset),
            Part::MsiMessage => Overlay::all(self.message(offset)),
            Part::ExtendedHeader => Overlay::all(list::header(&self.extended, self.trust, offset)),
            Part::Hidden => Overlay::all(0),
            Part::VirtualResource => {
                let virtuals = self.virtuals.as_ref();
                match virtuals.and_then(|virtuals| virtuals.view(offset)) {
                    Some(bits) => Overlay::all(bits),
                    None => Overlay::NONE,
                }
            }
            _ => Overlay::NONE,
        }
    }

    fn bar_overlay(&self, offset: u16) -> Overlay {
        if self.traits.is_virtual {
            return Overlay::NONE;
        }
        match self.bar_at(offset) {
            Some(bar) if !self.shows(bar) => Overlay::all(0),
            Some(bar) => Overlay::all(bar.read(offset).unwrap_or(0)),
            None if self.decode == Decode::Fixed => Overlay::NONE,
            None => Overlay::all(0),
        }
    }

    fn port_window_overlay(&self, offset: u16) -> Overlay {
        match self.port_window {
            Some(window) if offset == header::PORT_WINDOW => Overlay {
                // The status register is the bridge's own.
                mask: 0xffff,
                bits: u32::from(window.view()),
            },
            Some(window) => Overlay::all(window.view_upper()),
            None => Overlay::NONE,
        }
    }

    fn message(&self, offset: u16) -> u32 {
        let Some((layout, msi)) = &self.msi else {
            return 0;
        };
        if offset == layout.address() {
            msi.address as u32
        } else if Some(offset) == layout.upper_address() {
            (msi.address >> 32) as u32
        } else {
            msi.data
        }
    }
}
