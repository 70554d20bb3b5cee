//! Global commands, one at a time.
//!
//! Owns the rule of the Global Command Register: write what is on already, change one bit, wait
//! for the status. The one-shot bits read as set once they were used and must not be written
//! back.

use core::fmt;

use memory::TimedOut;

use super::Failure;
use crate::registers::{GCMD, GSTS, Registers, wait_until};
use crate::spec::registers::{Cap, Gcmd, Gsts};

/// One thing a unit is told and then waited for.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Step {
    /// Take over the root table.
    SetRoot,
    /// Translate.
    StartTranslation,
    /// Stop translating.
    StopTranslation,
    /// Use the invalidation queue.
    StartQueue,
    /// Run the firmware's invalidation queue empty.
    DrainQueue,
    /// Stop using the invalidation queue.
    StopQueue,
    /// Stop logging faults to memory.
    StopFaultLog,
    /// Flush the write buffer.
    FlushWriteBuffer,
    /// Take over the interrupt-remapping table.
    SetInterruptTable,
    /// Remap interrupts.
    StartInterruptRemapping,
    /// Block compatibility-format interrupts.
    BlockCompatibility,
    /// Hold DMA off protected memory.
    ProtectMemory,
    /// Let DMA through to protected memory.
    ReleaseMemory,
}

impl fmt::Display for Step {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::SetRoot => "taking over the root table",
            Self::StartTranslation => "switching translation on",
            Self::StopTranslation => "switching translation off",
            Self::StartQueue => "switching the invalidation queue on",
            Self::DrainQueue => "running the firmware's invalidation queue empty",
            Self::StopQueue => "switching the firmware's invalidation queue off",
            Self::StopFaultLog => "switching the firmware's fault log off",
            Self::FlushWriteBuffer => "flushing the write buffer",
            Self::SetInterruptTable => "taking over the interrupt-remapping table",
            Self::StartInterruptRemapping => "switching interrupt remapping on",
            Self::BlockCompatibility => "blocking compatibility-format interrupts",
            Self::ProtectMemory => "protecting memory",
            Self::ReleaseMemory => "releasing protected memory",
        })
    }
}

/// Commands that act once and leave their status bit set.
const ONE_SHOTS: u32 = {
    const SIRTP: u32 = 1 << 24;
    const WBF: u32 = 1 << 27;
    const SFL: u32 = 1 << 29;
    const SRTP: u32 = 1 << 30;
    SIRTP | WBF | SFL | SRTP
};

/// Tells the unit one thing and waits until it did it. Steps that are no global command do
/// nothing.
pub(super) fn command(registers: &mut impl Registers, step: Step) -> Result<(), Failure> {
    let mut word = Gcmd(GSTS.read(registers).0 & !ONE_SHOTS);
    let done: fn(Gsts) -> bool = match step {
        Step::SetRoot => {
            word.set_srtp(true);
            |status| status.rtps()
        }
        Step::StartTranslation => {
            word.set_te(true);
            |status| status.tes()
        }
        Step::StopTranslation => {
            word.set_te(false);
            |status| !status.tes()
        }
        Step::StartQueue => {
            word.set_qie(true);
            |status| status.qies()
        }
        Step::StopQueue => {
            word.set_qie(false);
            |status| !status.qies()
        }
        Step::StopFaultLog => {
            word.set_eafl(false);
            |status| !status.afls()
        }
        Step::FlushWriteBuffer => {
            word.set_wbf(true);
            |status| !status.wbfs()
        }
        Step::SetInterruptTable => {
            word.set_sirtp(true);
            |status| status.irtps()
        }
        Step::StartInterruptRemapping => {
            word.set_ire(true);
            |status| status.ires()
        }
        Step::BlockCompatibility => {
            word.set_cfi(false);
            |status| !status.cfis()
        }
        Step::DrainQueue | Step::ProtectMemory | Step::ReleaseMemory => return Ok(()),
    };
    GCMD.write(registers, word);
    wait_until(registers, |registers| done(GSTS.read(registers)))
        .map_err(|TimedOut| Failure::TimedOut(step))
}

/// Flushes the write buffer of a unit that has one (CAP.RWBF).
pub(super) fn flush_write_buffer(registers: &mut impl Registers, cap: Cap) -> Result<(), Failure> {
    if cap.rwbf() {
        command(registers, Step::FlushWriteBuffer)
    } else {
        Ok(())
    }
}
