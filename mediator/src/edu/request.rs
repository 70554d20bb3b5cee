//! The flow of a request: understood, lent, given to the device, taken back.

use bounce::{Direction, FromDevice, Lent, Pool, ToDevice};
use memory::{ByteRange, Gpa, PAGE_SIZE};

use super::Edu;
use super::register::{BUFFER, BUFFER_BYTES, Command, offset};
use crate::{Notice, World};

/// What the guest programmed.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) struct Transfer {
    pub(super) source: u64,
    pub(super) destination: u64,
    pub(super) count: u64,
    pub(super) command: Command,
}

impl Transfer {
    pub(super) const NONE: Self = Self {
        source: 0,
        destination: 0,
        count: 0,
        command: Command(0),
    };

    /// The guest's bytes, and where in its buffer the device has them, if that is in its buffer.
    fn ends(&self) -> Option<(Option<ByteRange<Gpa>>, u64)> {
        let (memory, buffer) = if self.command.is_to_memory() {
            (self.destination, self.source)
        } else {
            (self.source, self.destination)
        };
        let into = buffer.checked_sub(BUFFER)?;
        let room = BUFFER_BYTES.checked_sub(into)?;
        (self.count <= room).then_some((ByteRange::new(Gpa::new(memory), self.count), buffer))
    }
}

/// How far the guest's request is.
#[derive(Debug)]
pub(super) enum Request {
    /// There is none.
    None,
    /// The guest asked, and the device was not told yet.
    Asked,
    /// The device reads the guest's bytes.
    ToDevice(Lent<ToDevice>),
    /// The device writes them.
    FromDevice(Lent<FromDevice>),
}

/// Why the device is not told of a request.
enum Short {
    /// It cannot be now.
    Wait,
    /// It is not one that can be.
    Refused(Refusal),
}

/// What is wrong with a request. To the guest it is over, as after a fault, and nothing was moved.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Refusal {
    /// The guest has no memory at some of its bytes.
    Memory,
    /// The device has no buffer at some of its bytes.
    Buffer,
}

/// Which refusals were told of, so that each is told once.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) struct Refused {
    memory: bool,
    buffer: bool,
}

impl Refused {
    pub(super) const NONE: Self = Self {
        memory: false,
        buffer: false,
    };

    fn is_new(&mut self, refusal: Refusal) -> bool {
        let said = match refusal {
            Refusal::Memory => &mut self.memory,
            Refusal::Buffer => &mut self.buffer,
        };
        !core::mem::replace(said, true)
    }
}

impl Edu<'_> {
    /// Takes the request as far as it goes now.
    pub(super) fn advance(&mut self, world: &mut impl World) {
        match core::mem::replace(&mut self.request, Request::None) {
            Request::None => {}
            Request::Asked => self.begin(world),
            // All ones, as of a device that is gone, are not over either.
            given if is_busy(world) => self.request = given,
            given => self.end(world, given),
        }
    }

    /// Lends the bytes, and tells the device.
    fn begin(&mut self, world: &mut impl World) {
        match self.give(world) {
            Ok(()) => {}
            Err(Short::Wait) => {
                self.counts.held_back += 1;
                self.request = Request::Asked;
            }
            Err(Short::Refused(refusal)) => {
                if self.refused.is_new(refusal) {
                    world.tell(Notice::RefusedTransfer(refusal));
                }
                self.counts.answered += 1;
                self.finish(world);
            }
        }
    }

    fn give(&mut self, world: &mut impl World) -> Result<(), Short> {
        let (memory, buffer) = self
            .transfer
            .ends()
            .ok_or(Short::Refused(Refusal::Buffer))?;
        let memory = match memory {
            Some(memory) => memory,
            // No bytes are moved without anybody's help.
            None if self.transfer.count == 0 => {
                self.counts.answered += 1;
                self.finish(world);
                return Ok(());
            }
            None => return Err(Short::Refused(Refusal::Memory)),
        };
        if is_busy(world) {
            return Err(Short::Wait);
        }
        let [source, destination] = if self.transfer.command.is_to_memory() {
            let lent = lend(&mut self.from, memory)?;
            let at = lent.at().raw();
            if !self.from.is_memory(&lent, world) {
                self.from.take_back(lent.returned(), world);
                return Err(Short::Refused(Refusal::Memory));
            }
            self.request = Request::FromDevice(lent);
            [buffer, at]
        } else {
            let lent = lend(&mut self.to, memory)?;
            let at = lent.at().raw();
            if self.to.fill(&lent, world).is_err() {
                self.to.take_back(lent.returned(), world);
                return Err(Short::Refused(Refusal::Memory));
            }
            self.counts.bytes_in += memory.len();
            self.request = Request::ToDevice(lent);
            [at, buffer]
        };
        // A store of 32 bits sets all 64 of a register; every address here is below 2^28.
        world.store_register(offset::SOURCE, source as u32);
        world.store_register(offset::DESTINATION, destination as u32);
        world.store_register(offset::COUNT, memory.len() as u32);
        world.store_register(offset::COMMAND, self.transfer.command.for_device());
        self.counts.requests += 1;
        Ok(())
    }

    /// The device is done with `given`: what it wrote is copied to the guest, and the guest is
    /// told.
    fn end(&mut self, world: &mut impl World, given: Request) {
        let given = match given {
            Request::FromDevice(lent) => {
                let bytes = lent.bytes();
                let returned = lent.returned();
                match self.from.hand_out(&returned, bytes, world) {
                    Ok(()) => self.counts.bytes_out += u64::from(bytes),
                    Err(_) if self.refused.is_new(Refusal::Memory) => {
                        world.tell(Notice::RefusedTransfer(Refusal::Memory));
                    }
                    Err(_) => {}
                }
                self.from.take_back(returned, world);
                Request::None
            }
            other => other,
        };
        self.take_back(world, given);
        self.counts.completed += 1;
        self.finish(world);
    }

    /// The request is over for the guest.
    fn finish(&mut self, world: &mut impl World) {
        if self.transfer.command.wants_interrupt() {
            self.is_over = true;
            self.interrupt(world);
        }
    }

    /// Takes back the pages of a request that is over.
    pub(super) fn take_back(&mut self, world: &mut impl World, request: Request) {
        match request {
            Request::None | Request::Asked => {}
            Request::ToDevice(lent) => self.to.take_back(lent.returned(), world),
            Request::FromDevice(lent) => self.from.take_back(lent.returned(), world),
        }
    }
}

/// Whether the device works on a transfer, as it says.
fn is_busy(world: &impl World) -> bool {
    Command(world.load_register(offset::COMMAND).into()).is_running()
}

/// Lends pages for the guest's bytes at `memory`, which is not more than a page.
fn lend<D: Direction>(pool: &mut Pool<'_, D>, memory: ByteRange<Gpa>) -> Result<Lent<D>, Short> {
    let offset = memory.start().page_offset() as u16;
    let lent = pool.lend(offset, memory.len() as u32).ok_or(Short::Wait)?;
    let first = memory.whole_pages().start();
    for (index, page) in (0..lent.pages()).zip((0..).step_by(PAGE_SIZE as usize)) {
        // The range does not wrap, so neither do its pages.
        pool.belongs_to(&lent, index, Gpa::new(first.raw() + page));
    }
    Ok(lent)
}
