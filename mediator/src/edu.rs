//! QEMU's `edu` device: the smallest device that reaches memory, and the mediator to copy.
//!
//! It moves bytes between a buffer of its own and memory, one request at a time. The guest
//! programs an address, a count and a command; the device is told an address of ours instead,
//! where it finds or leaves exactly those bytes. When it says that it is done, the guest's memory
//! gets what the device wrote, and only then the guest hears of it.
//!
//! After docs/specs/edu.rst of QEMU 10, and what the device does where that is silent: it takes
//! accesses of other widths for nothing, and does not hear what is programmed while it runs.

mod register;
mod request;
#[cfg(test)]
mod tests;

use core::fmt;

use bounce::{Arena, FromDevice, Page, Part, Pool, ToDevice};
use memory::PAGE_SIZE;

use self::register::{Command, offset, status};
use self::request::{Request, Transfer};
use crate::{Counts, Looked, Mediator, World};

pub use self::request::Refusal;

/// The one interrupt there is.
const VECTOR: u16 = 0;

/// A mediated `edu`.
#[derive(Debug)]
pub struct Edu<'a> {
    to: Pool<'a, ToDevice>,
    from: Pool<'a, FromDevice>,
    /// What the guest programmed.
    transfer: Transfer,
    request: Request,
    /// Whether the guest has not acknowledged that a transfer is over.
    is_over: bool,
    /// The device's other interrupts of which the guest was told.
    told: u32,
    /// Whether an interrupt of the guest's waits to be unmasked.
    is_owed: bool,
    /// Which refusals the operator was told of.
    refused: request::Refused,
    counts: Counts,
}

/// Why a device cannot be mediated.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Unfit {
    /// It does not say that it is an `edu`.
    Identity {
        /// What it says.
        said: u32,
    },
    /// Its pages lie where it cannot address them.
    Pages,
}

impl fmt::Display for Unfit {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Identity { said } => {
                write!(f, "it identifies itself as {said:#x}, which is no edu")
            }
            Self::Pages => write!(
                f,
                "its pages lie beyond its 28 address bits; give it a smaller pool in the policy"
            ),
        }
    }
}

impl<'a> Edu<'a> {
    /// Takes over the device behind `world`, whose pages are `arena`.
    ///
    /// # Errors
    /// If it is another device, or does not reach its pages.
    ///
    /// # Panics
    /// If `pages` has not an element for each page of the arena.
    pub fn new(pages: &'a mut [Page], arena: Arena, world: &mut impl World) -> Result<Self, Unfit> {
        let said = world.load_register(offset::IDENTITY);
        if said & register::IDENTITY_MASK != register::IDENTITY {
            return Err(Unfit::Identity { said });
        }
        if arena.writable().last().raw() > register::LAST_ADDRESS {
            return Err(Unfit::Pages);
        }
        let count = |part| (arena.part(part).len() / PAGE_SIZE) as usize;
        let (_, pages) = pages.split_at_mut(count(Part::QueuesToDevice));
        let (to, pages) = pages.split_at_mut(count(Part::ToDevice));
        let (_, from) = pages.split_at_mut(count(Part::QueuesFromDevice));
        Ok(Self {
            to: Pool::new(arena.part(Part::ToDevice), to),
            from: Pool::new(arena.part(Part::FromDevice), from),
            transfer: Transfer::NONE,
            request: Request::None,
            is_over: false,
            told: 0,
            is_owed: false,
            refused: request::Refused::NONE,
            counts: Counts::default(),
        })
    }

    /// Pages that the device has for the request that it works on.
    pub fn lent_pages(&self) -> u32 {
        let free = self.to.free_pages() + self.from.free_pages();
        self.to.pages() + self.from.pages() - free
    }

    /// The guest reads a register of ours or of the device's.
    fn register(&mut self, world: &mut impl World, at: u32) -> u64 {
        match at {
            offset::IDENTITY | offset::LIVENESS | offset::FACTORIAL | offset::STATUS => {
                world.load_register(at).into()
            }
            offset::INTERRUPT_STATUS => {
                // Read before the request is looked at: what it announces is over by then.
                let others = world.load_register(at) & !status::TRANSFER;
                self.advance(world);
                let over = if self.is_over { status::TRANSFER } else { 0 };
                (others | over).into()
            }
            offset::SOURCE => self.transfer.source,
            offset::DESTINATION => self.transfer.destination,
            offset::COUNT => self.transfer.count,
            offset::COMMAND => {
                self.advance(world);
                let is_running = !matches!(self.request, Request::None);
                self.transfer.command.running(is_running).0
            }
            _ => u64::MAX,
        }
    }

    /// The guest writes one.
    fn set_register(&mut self, world: &mut impl World, at: u32, value: u64) {
        let bits = value as u32;
        let is_free = matches!(self.request, Request::None);
        match at {
            offset::LIVENESS => world.store_register(at, bits),
            offset::FACTORIAL => {
                self.told &= !status::FACTORIAL;
                world.store_register(at, bits);
            }
            offset::STATUS => world.store_register(at, bits),
            offset::INTERRUPT_RAISE => {
                self.told &= !bits;
                if bits & status::TRANSFER != 0 {
                    self.is_over = true;
                    self.interrupt(world);
                }
                world.store_register(at, bits & !status::TRANSFER);
            }
            offset::INTERRUPT_ACKNOWLEDGE => {
                self.told &= !bits;
                self.is_over &= bits & status::TRANSFER == 0;
                world.store_register(at, bits & !status::TRANSFER);
            }
            offset::SOURCE if is_free => self.transfer.source = value,
            offset::DESTINATION if is_free => self.transfer.destination = value,
            offset::COUNT if is_free => self.transfer.count = value,
            offset::COMMAND if is_free && Command(value).is_running() => {
                self.transfer.command = Command(value);
                self.request = Request::Asked;
                self.advance(world);
            }
            _ => {}
        }
    }

    /// Tells the guest, now or when it lets itself be told.
    fn interrupt(&mut self, world: &mut impl World) {
        self.is_owed = !world.raise(VECTOR);
        self.counts.interrupts += u64::from(!self.is_owed);
    }
}

/// Whether the device hears an access of `len` bytes at `at`: four, or eight of what is about
/// transfers.
fn is_heard(at: u32, len: usize) -> bool {
    at.is_multiple_of(4) && (len == 4 || len == 8 && at >= offset::SOURCE)
}

impl Mediator for Edu<'_> {
    fn read(&mut self, world: &mut impl World, offset: u32, to: &mut [u8]) {
        to.fill(0xff);
        if is_heard(offset, to.len()) {
            let value = self.register(world, offset).to_le_bytes();
            to.copy_from_slice(&value[..to.len()]);
        }
    }

    fn write(&mut self, world: &mut impl World, offset: u32, from: &[u8]) -> Looked {
        let before = self.counts;
        if is_heard(offset, from.len()) {
            let mut value = [0; 8];
            value[..from.len()].copy_from_slice(from);
            self.set_register(world, offset, u64::from_le_bytes(value));
        }
        looked(self.counts != before)
    }

    fn look(&mut self, world: &mut impl World) -> Looked {
        let before = self.counts;
        let said = world.load_register(offset::INTERRUPT_STATUS);
        if said & status::TRANSFER != 0 {
            // Ours to acknowledge: the guest's is shown once the bytes are there.
            world.store_register(offset::INTERRUPT_ACKNOWLEDGE, status::TRANSFER);
        }
        self.advance(world);
        let others = said & !status::TRANSFER;
        let new = others & !self.told;
        self.told = others;
        if new != 0 {
            self.interrupt(world);
        }
        looked(new != 0 || self.counts != before)
    }

    fn unmasked(&mut self, world: &mut impl World, vector: u16) {
        if vector == VECTOR && self.is_owed {
            self.interrupt(world);
        }
    }

    fn forget(&mut self, world: &mut impl World) {
        let request = core::mem::replace(&mut self.request, Request::None);
        self.take_back(world, request);
        self.transfer = Transfer::NONE;
        (self.is_over, self.told, self.is_owed) = (false, 0, false);
    }

    fn counts(&self) -> Counts {
        self.counts
    }
}

fn looked(is_changed: bool) -> Looked {
    if is_changed {
        Looked::Done
    } else {
        Looked::Nothing
    }
}
