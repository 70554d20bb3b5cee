//! The mediators there are, one of which each mediated device has.

// UNSAFETY: gives a mediator its memory.
#![expect(unsafe_code)]

use core::fmt;

use mediator::edu::Edu;
use mediator::nvme::Nvme;
use mediator::{Counts, Looked, Mediator, World};
use pci::Address;
use pci::topology::Identity;
use policy::Mediators;

use super::store::Store;
use super::world::Hand;
use crate::console::say;
use crate::limit::Once;

/// Devices of which something was said when they were looked at for the first time: a guest can have one come and go.
static TOLD: Once<Address, 32> = Once::new();

/// What a mediator understands.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) enum Kind {
    /// NVM Express.
    Nvme,
    /// QEMU's teaching device.
    Edu,
}

impl Kind {
    /// The mediator for a device that says it is this, of those the policy allows. What a device says
    /// decides who speaks with it, never what it reaches.
    pub(crate) fn of(identity: &Identity, allowed: Mediators) -> Option<Self> {
        /// Mass storage, non-volatile memory, NVM Express. PCI Code and ID Assignment 1.14, 1.2.
        const NVME: (u8, u8, u8) = (0x01, 0x08, 0x02);
        let class = identity.class;
        match (class.base(), class.subclass(), class.interface()) {
            _ if allowed == Mediators::Edu => Some(Self::Edu),
            NVME if allowed == Mediators::Auto => Some(Self::Nvme),
            _ => None,
        }
    }

    /// Its name.
    pub(crate) fn name(self) -> &'static str {
        match self {
            Self::Nvme => "nvme",
            Self::Edu => "edu",
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
    /// QEMU's teaching device's.
    Edu(Edu<'static>),
    /// The device is not one that can be mediated; it does nothing.
    Unfit(Kind),
}

impl Engine {
    /// What it understands.
    pub(crate) fn kind(&self) -> Kind {
        match self {
            Self::Asleep(kind, _) | Self::Unfit(kind) => *kind,
            Self::Nvme(_) => Kind::Nvme,
            Self::Edu(_) => Kind::Edu,
        }
    }

    /// Looks at the device for the first time, if that was not done and its registers are there: for as long as it
    /// is in reset, or does not decode them, all read as ones.
    pub(super) fn wake(&mut self, hand: &mut Hand<'_>) {
        let Self::Asleep(kind, store) = *self else {
            return;
        };
        if hand.load_register(0) == u32::MAX {
            return;
        }
        let woken = match kind {
            // SAFETY: the store is this device's alone (`Fabric::bind`), and was asleep until now.
            Kind::Nvme => unsafe { wake_nvme(store, hand) },
            // SAFETY: the same.
            Kind::Edu => unsafe { wake_edu(store, hand) },
        };
        *self = woken.unwrap_or(Self::Unfit(kind));
    }
}

/// # Safety
/// Nothing else of the store is alive.
unsafe fn wake_nvme(store: Store, hand: &mut Hand<'_>) -> Option<Engine> {
    let arena = hand.parts.arena;
    // SAFETY: as the caller says.
    let storage = unsafe { store.nvme(&arena) };
    match Nvme::new(storage, arena, hand) {
        Ok(mut nvme) => {
            if !hand.parts.has_shadow_doorbells {
                nvme.withhold_buffers();
            }
            // SAFETY: as the caller says.
            if let Some((window, pages)) = hand.parts.window.zip(unsafe { store.window() })
                && !nvme.map_whole_pages(window, pages, hand)
                && TOLD.is_new(hand.parts.at)
            {
                say!(
                    "device {}: its pool is too small for a list of its window: all is copied",
                    hand.parts.at
                );
            }
            Some(Engine::Nvme(nvme))
        }
        Err(why) => unfit(hand, &why),
    }
}

/// # Safety
/// Nothing else of the store is alive.
unsafe fn wake_edu(store: Store, hand: &mut Hand<'_>) -> Option<Engine> {
    let arena = hand.parts.arena;
    // SAFETY: as the caller says.
    match Edu::new(unsafe { store.pages(&arena) }, arena, hand) {
        Ok(edu) => Some(Engine::Edu(edu)),
        Err(why) => unfit(hand, &why),
    }
}

fn unfit(hand: &Hand<'_>, why: &dyn fmt::Display) -> Option<Engine> {
    let at = hand.parts.at;
    if TOLD.is_new(at) {
        say!("device {at}: cannot be mediated: {why}");
    }
    None
}

impl Mediator for Engine {
    fn read(&mut self, world: &mut impl World, offset: u32, to: &mut [u8]) {
        match self {
            Self::Nvme(nvme) => nvme.read(world, offset, to),
            Self::Edu(edu) => edu.read(world, offset, to),
            Self::Asleep(..) | Self::Unfit(_) => to.fill(0xff),
        }
    }

    fn write(&mut self, world: &mut impl World, offset: u32, from: &[u8]) -> Looked {
        match self {
            Self::Nvme(nvme) => nvme.write(world, offset, from),
            Self::Edu(edu) => edu.write(world, offset, from),
            Self::Asleep(..) | Self::Unfit(_) => Looked::Nothing,
        }
    }

    fn look(&mut self, world: &mut impl World) -> Looked {
        match self {
            Self::Nvme(nvme) => nvme.look(world),
            Self::Edu(edu) => edu.look(world),
            Self::Asleep(..) | Self::Unfit(_) => Looked::Nothing,
        }
    }

    fn unmasked(&mut self, world: &mut impl World, vector: u16) {
        match self {
            Self::Nvme(nvme) => nvme.unmasked(world, vector),
            Self::Edu(edu) => edu.unmasked(world, vector),
            Self::Asleep(..) | Self::Unfit(_) => {}
        }
    }

    fn forget(&mut self, world: &mut impl World) {
        match self {
            Self::Nvme(nvme) => nvme.forget(world),
            Self::Edu(edu) => edu.forget(world),
            Self::Asleep(..) | Self::Unfit(_) => {}
        }
    }

    fn counts(&self) -> Counts {
        match self {
            Self::Nvme(nvme) => nvme.counts(),
            Self::Edu(edu) => edu.counts(),
            Self::Asleep(..) | Self::Unfit(_) => Counts::default(),
        }
    }
}
