//! One remapping unit: from what the firmware left to what we enforce.
//!
//! Owns the order of the commands: a unit that translated under the firmware goes on translating
//! without a gap, and one that did not is switched on only when its tables deny by default.
//! Every wait is bounded. Refuses to know what the tables say (`context`, `remap`); forgetting is
//! `invalidate`'s.

mod capabilities;
mod command;
mod protected;

use core::fmt;

use memory::{ByteRange, Flush, Frame, Frames, Hpa, TimedOut};

use crate::context::ContextTables;
use crate::dmar::Dmar;
use crate::invalidate::{Abilities, Invalidator, Queue, Scope, Trouble};
use crate::registers::{
    CAP, ECAP, FECTL, FSTS, GSTS, IECTL, IQA, IQH, IQT, IRTA, RTADDR, Registers, VER, wait_until,
};
use crate::remap::InterruptTable;
use crate::spec::registers::{Fectl, Fsts, Gsts, QueueIndex, Rtaddr, ttm};
pub use capabilities::Capabilities;
pub use command::Step;
use command::{command, flush_write_buffer};

/// A unit as the firmware left it.
#[derive(Debug)]
pub struct Candidate<R> {
    registers: R,
    capabilities: Capabilities,
}

/// A unit that translates with our tables and invalidates with our queue.
#[derive(Debug)]
pub struct Unit<R> {
    registers: R,
    capabilities: Capabilities,
    queue: Queue,
}

/// Why a unit cannot be used.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Failure {
    /// Nothing answers at its registers.
    Absent,
    /// It has no invalidation queue.
    NoQueue,
    /// It does not translate DMA at all.
    NoTranslation,
    /// It announces registers outside its window.
    OutsideWindow,
    /// The firmware left it translating in another mode (the value of RTADDR.TTM), and without
    /// protected memory the mode cannot change without a gap.
    InheritedMode(u8),
    /// It has no protected memory for the range asked.
    NoProtectedMemory,
    /// The pool has no page left for its queue.
    OutOfFrames,
    /// It cannot remap interrupts, or not to destinations as wide as the table's.
    NoInterruptRemapping,
    /// It did not do what it was told in time.
    TimedOut(Step),
    /// It did not forget what the firmware had told it.
    Invalidation(Trouble),
}

impl fmt::Display for Failure {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("remapping unit: ")?;
        match self {
            Self::Absent => f.write_str("nothing answers at its address; enable VT-d in firmware"),
            Self::NoQueue => f.write_str("has no invalidation queue; too old for Bouncer"),
            Self::NoTranslation => f.write_str("does not translate DMA"),
            Self::OutsideWindow => f.write_str("announces registers outside its own window"),
            Self::InheritedMode(mode) => write!(
                f,
                "firmware left it in translation mode {mode}, which cannot be left without a gap; disable pre-boot DMA protection in firmware"
            ),
            Self::NoProtectedMemory => f.write_str("has no protected-memory registers"),
            Self::OutOfFrames => f.write_str("no page is left for its invalidation queue"),
            Self::NoInterruptRemapping => f.write_str("cannot remap interrupts as asked"),
            Self::TimedOut(step) => write!(f, "did not finish in time: {step}"),
            Self::Invalidation(trouble) => trouble.fmt(f),
        }
    }
}

impl<R: Registers> Candidate<R> {
    /// Asks the unit what it is. Changes nothing.
    pub fn probe(registers: R) -> Result<Self, Failure> {
        let (version, cap, ecap) = (
            VER.read(&registers),
            CAP.read(&registers),
            ECAP.read(&registers),
        );
        if version.0 == u32::MAX || version.max() == 0 || cap.0 == u64::MAX || cap.0 == 0 {
            return Err(Failure::Absent);
        }
        if cap.sagaw() == 0 {
            return Err(Failure::NoTranslation);
        }
        if !ecap.qi() {
            return Err(Failure::NoQueue);
        }
        let capabilities = Capabilities::new(cap, ecap);
        if !capabilities.fits(registers.window()) {
            return Err(Failure::OutsideWindow);
        }
        Ok(Self {
            registers,
            capabilities,
        })
    }

    /// What the unit can do.
    pub fn capabilities(&self) -> Capabilities {
        self.capabilities
    }

    /// What the firmware left switched on.
    pub fn inherited(&self) -> Gsts {
        GSTS.read(&self.registers)
    }

    /// Whether the firmware says in `table` that it confines DMA (section "DMA Remapping Reporting Structure",
    /// flag DMA_CTRL_PLATFORM_OPT_IN), and left this unit without translation and without protected memory.
    pub fn belies(&self, table: &Dmar<'_>) -> bool {
        let protects = || protected::is_on(&self.registers, self.capabilities.cap());
        table.opts_in_to_dma_control() && !self.inherited().tes() && !protects()
    }

    /// Blocks all DMA to at least `range` for as long as translation is off. Ends with
    /// [`Self::take_over`].
    pub fn protect_memory(&mut self, range: ByteRange<Hpa>) -> Result<(), Failure> {
        protected::enable(&mut self.registers, self.capabilities.cap(), range)
    }

    /// Makes the unit translate with `tables`, and nothing else, from here on; `ring` and
    /// `status` become its invalidation queue.
    ///
    /// Where the firmware left translation on it stays on: the unit goes from the firmware's
    /// tables to ours in one step, and forgets the former at once. Fault interrupts are masked,
    /// old faults stay recorded, protected memory is released at the end.
    pub fn take_over<F: Frames>(
        mut self,
        tables: &ContextTables,
        ring: Frame,
        status: Frame,
        frames: &mut F,
    ) -> Result<Unit<R>, Failure> {
        let registers = &mut self.registers;
        let mut masked = Fectl(0);
        masked.set_im(true);
        FECTL.write(registers, masked);
        IECTL.write(registers, masked);

        let inherited = GSTS.read(registers);
        let mode = RTADDR.read(registers).ttm();
        let must_pause = inherited.tes() && mode != ttm::LEGACY;
        if must_pause {
            // The mode of a unit that translates cannot be changed. Protected memory holds all
            // DMA off meanwhile; without it there would be a gap.
            let everything = ByteRange::inclusive(Hpa::new(0), Hpa::new(u64::MAX));
            let protected = everything.map_or(Err(Failure::NoProtectedMemory), |everything| {
                protected::enable(registers, self.capabilities.cap(), everything)
            });
            protected.map_err(|_| Failure::InheritedMode(mode))?;
        }
        clear_queue_errors(registers);
        if inherited.qies() {
            stop_queue(registers)?;
        }
        if inherited.afls() {
            command(registers, Step::StopFaultLog)?;
        }

        if must_pause {
            command(registers, Step::StopTranslation)?;
        }
        flush_write_buffer(registers, self.capabilities.cap())?;
        let mut root = Rtaddr(0);
        root.set_ttm(ttm::LEGACY);
        root.set_rta(tables.root().raw() >> 12);
        RTADDR.write(registers, root);
        command(registers, Step::SetRoot)?;

        // Only in legacy mode does the queue take the 128-bit descriptors we write.
        let abilities = Abilities::of(self.capabilities.cap(), self.capabilities.ecap());
        let queue = Queue::new(ring, status, abilities);
        IQT.write(registers, QueueIndex(0));
        IQA.write(registers, queue.address());
        command(registers, Step::StartQueue)?;

        let mut unit = Unit {
            registers: self.registers,
            capabilities: self.capabilities,
            queue,
        };
        unit.invalidator(frames)
            .forget(&Scope::Translations)
            .map_err(Failure::Invalidation)?;
        if !GSTS.read(&unit.registers).tes() {
            command(&mut unit.registers, Step::StartTranslation)?;
        }
        protected::disable(&mut unit.registers, unit.capabilities.cap())?;
        Ok(unit)
    }
}

impl<R: Registers> Unit<R> {
    /// What the unit can do.
    pub fn capabilities(&self) -> Capabilities {
        self.capabilities
    }

    /// How often the unit was asked to forget something: stores to its queue's tail.
    pub fn queue_writes(&self) -> u64 {
        self.queue.tail_writes()
    }

    /// Why the last flush that failed did, once.
    pub fn take_trouble(&mut self) -> Option<Trouble> {
        self.queue.take_trouble()
    }

    pub(crate) fn registers(&mut self) -> &mut R {
        &mut self.registers
    }

    /// Whoever makes this unit forget.
    pub fn invalidator<'a, F: Frames>(&'a mut self, frames: &'a mut F) -> Invalidator<'a, R, F> {
        Invalidator {
            queue: &mut self.queue,
            registers: &mut self.registers,
            frames,
        }
    }

    /// Makes entries of `scope` that became present known to a unit that buffers stores or
    /// remembers absences. Others look for themselves; for them this does nothing.
    pub fn show<F: Frames>(&mut self, scope: &Scope, frames: &mut F) -> Result<(), TimedOut> {
        if self.capabilities.caches_absences() {
            self.invalidator(frames).flush(scope)
        } else {
            flush_write_buffer(&mut self.registers, self.capabilities.cap()).map_err(|_| TimedOut)
        }
    }

    /// Lets only interrupts of `table` through from here on; compatibility-format interrupts
    /// are blocked.
    ///
    /// Where the firmware left remapping on, its table gives way to ours in one step.
    pub fn remap_interrupts<F: Frames>(
        &mut self,
        table: &InterruptTable,
        frames: &mut F,
    ) -> Result<(), Failure> {
        let ecap = self.capabilities.ecap();
        let address = table.address();
        if !ecap.ir() || (address.eime() && !ecap.eim()) {
            return Err(Failure::NoInterruptRemapping);
        }
        flush_write_buffer(&mut self.registers, self.capabilities.cap())?;
        IRTA.write(&mut self.registers, address);
        command(&mut self.registers, Step::SetInterruptTable)?;
        self.invalidator(frames)
            .forget(&Scope::Interrupts)
            .map_err(Failure::Invalidation)?;
        if GSTS.read(&self.registers).cfis() {
            command(&mut self.registers, Step::BlockCompatibility)?;
        }
        if !GSTS.read(&self.registers).ires() {
            command(&mut self.registers, Step::StartInterruptRemapping)?;
        }
        Ok(())
    }
}

/// All units that a domain is used in, flushed as one.
#[derive(Debug)]
pub struct Everywhere<'a, R, F> {
    /// The units.
    pub units: &'a mut [Unit<R>],
    /// The pool their queues are in.
    pub frames: &'a mut F,
}

impl<R: Registers, F: Frames> Flush<Scope> for Everywhere<'_, R, F> {
    fn flush(&mut self, scope: &Scope) -> Result<(), TimedOut> {
        for unit in &mut *self.units {
            unit.invalidator(self.frames).flush(scope)?;
        }
        Ok(())
    }
}

fn clear_queue_errors(registers: &mut impl Registers) {
    let mut errors = Fsts(0);
    errors.set_iqe(true);
    errors.set_ice(true);
    errors.set_ite(true);
    FSTS.clear(registers, errors);
}

/// Lets the firmware's queue run empty, then switches it off.
fn stop_queue(registers: &mut impl Registers) -> Result<(), Failure> {
    wait_until(registers, |registers| {
        IQH.read(registers).index() == IQT.read(registers).index()
    })
    .map_err(|TimedOut| Failure::TimedOut(Step::DrainQueue))?;
    command(registers, Step::StopQueue)
}

#[cfg(test)]
pub(crate) mod tests;
