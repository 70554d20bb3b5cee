//! The mediators there are, one of which each mediated device has.

// UNSAFETY: gives a mediator its memory.
#![expect(unsafe_code)]

use mediator::nvme::Nvme;
use mediator::{Counts, Looked, Mediator, World};
use pci::topology::Identity;

use super::store::Store;
use super::world::Hand;
use crate::console::say;

/// What a mediator understands.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) enum Kind {
    /// NVM Express.
    Nvme,
}

impl Kind {
    /// The mediator for a device that says it is this. What a device says decides who speaks with it,
    /// never what it reaches.
    pub(crate) fn of(identity: &Identity) -> Option<Self> {
        /// Mass storage, non-volatile memory, NVM Express. PCI Code and ID Assignment 1.14, 1.2.
        const NVME: (u8, u8, u8) = (0x01, 0x08, 0x02);
        let class = identity.class;
        match (class.base(), class.subclass(), class.interface()) {
            NVME => Some(Self::Nvme),
            _ => None,
        }
    }

    /// Its name.
    pub(crate) fn name(self) -> &'static str {
        match self {
            Self::Nvme => "nvme",
        }
    }
}

/// A device's mediator.
#[derive(Debug)]
#[expect(
    clippy::large_enum_variant,
    reason = "each has a place of its own, for ever"
)]
pub(crate) enum Engine {
    /// The device was not looked at yet: nobody has reached its registers.
    Asleep(Kind, Store),
    /// An NVM Express controller's.
    Nvme(Nvme<'static>),
    /// The device is not one that can be mediated; it does nothing.
    Unfit(Kind),
}

impl Engine {
    /// What it understands.
    pub(crate) fn kind(&self) -> Kind {
        match self {
            Self::Asleep(kind, _) | Self::Unfit(kind) => *kind,
            Self::Nvme(_) => Kind::Nvme,
        }
    }

    /// Looks at the device for the first time, if that was not done and its registers are there.
    pub(super) fn wake(&mut self, hand: &mut Hand<'_>) {
        let Self::Asleep(kind, store) = *self else {
            return;
        };
        if hand.parts.registers.is_none() {
            return;
        }
        let woken = match kind {
            Kind::Nvme => {
                // SAFETY: the store is this device's alone (`Fabric::bind`), and was asleep until now.
                let storage = unsafe { store.nvme(&hand.parts.arena) };
                Nvme::new(storage, hand.parts.arena, hand).map(Self::Nvme)
            }
        };
        *self = woken.unwrap_or_else(|why| {
            say!("device {}: cannot be mediated: {why}", hand.parts.at);
            Self::Unfit(kind)
        });
    }
}

impl Mediator for Engine {
    fn read(&mut self, world: &mut impl World, offset: u32, to: &mut [u8]) {
        match self {
            Self::Nvme(nvme) => nvme.read(world, offset, to),
            Self::Asleep(..) | Self::Unfit(_) => to.fill(0xff),
        }
    }

    fn write(&mut self, world: &mut impl World, offset: u32, from: &[u8]) -> Looked {
        match self {
            Self::Nvme(nvme) => nvme.write(world, offset, from),
            Self::Asleep(..) | Self::Unfit(_) => Looked::Nothing,
        }
    }

    fn look(&mut self, world: &mut impl World) -> Looked {
        match self {
            Self::Nvme(nvme) => nvme.look(world),
            Self::Asleep(..) | Self::Unfit(_) => Looked::Nothing,
        }
    }

    fn unmasked(&mut self, world: &mut impl World, vector: u16) {
        if let Self::Nvme(nvme) = self {
            nvme.unmasked(world, vector);
        }
    }

    fn forget(&mut self, world: &mut impl World) {
        if let Self::Nvme(nvme) = self {
            nvme.forget(world);
        }
    }

    fn counts(&self) -> Counts {
        match self {
            Self::Nvme(nvme) => nvme.counts(),
            Self::Asleep(..) | Self::Unfit(_) => Counts::default(),
        }
    }
}
