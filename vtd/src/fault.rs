//! Fault records: who tried what, where, and why it failed.
//!
//! Owns reading and clearing a unit's fault records, bounded by how many it has. Refuses to
//! decide what a fault costs its device; `escalation` beside it does, and `pause` how long others are spared a storm.

mod escalation;
mod pause;

use core::fmt;

use memory::Iova;
use pci::Bdf;

use crate::registers::{FEADDR, FECTL, FEDATA, FEUADDR, FSTS, Registers, fault_record};
use crate::remap::Route;
use crate::spec::fault::{RECORD_F_IN_TOP_HALF, Reason, RecordHigh};
use crate::spec::interrupt::{ADDRESS_PREFIX, CompatibilityAddress, CompatibilityData};
use crate::spec::registers::{Fectl, Fsts};
use crate::unit::Unit;
pub use escalation::{Limits, Reaction, Watch};
pub use pause::Pause;

/// One recorded fault.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Fault {
    /// Who: the requester id the request carried.
    pub source: Bdf,
    /// What and where.
    pub attempt: Attempt,
    /// Why it failed.
    pub reason: Reason,
}

/// What a device tried.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Attempt {
    /// To read the page, or to modify it by an AtomicOp.
    Read(Iova),
    /// To write the page.
    Write(Iova),
    /// To raise the interrupt with this index in the interrupt-remapping table.
    Interrupt(u16),
}

/// Whether the records told everything.
#[must_use = "lost faults are not logged by anybody else"]
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Told {
    /// Every fault since the last time.
    All,
    /// Faults were lost for want of free records.
    Some,
}

impl fmt::Display for Fault {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "device {} ", self.source)?;
        match self.attempt {
            Attempt::Read(page) => write!(f, "may not read {page}")?,
            Attempt::Write(page) => write!(f, "may not write {page}")?,
            Attempt::Interrupt(index) => write!(f, "may not raise interrupt {index}")?,
        }
        write!(f, ": {}", self.reason)
    }
}

impl<R: Registers> Unit<R> {
    /// Raises an interrupt along `route` when a fault is recorded, from here on. It comes from
    /// the unit itself and is not remapped.
    pub fn announce_faults(&mut self, route: Route) {
        let to = route.destination();
        let mut address = CompatibilityAddress(0);
        address.set_prefix(ADDRESS_PREFIX);
        address.set_destination(to.id().to_le_bytes()[0]);
        address.set_rh(to.is_hint());
        address.set_dm(to.is_logical());
        let mut data = CompatibilityData(0);
        data.set_vector(route.vector());
        data.set_delivery(route.delivery_mode());
        let mut control = Fectl(0);
        control.set_im(true);

        let registers = self.registers();
        FECTL.write(registers, control);
        FEDATA.write(registers, data.0);
        FEADDR.write(registers, address.0);
        // Bits 31:8 of an x2APIC id have a register of their own, in the same place.
        FEUADDR.write(registers, to.id() & !0xff);
        control.set_im(false);
        FECTL.write(registers, control);
    }

    /// Raises no interrupt for faults until [`Self::announce_faults`]. They go on being recorded.
    pub fn hush_faults(&mut self) {
        let mut control = Fectl(0);
        control.set_im(true);
        FECTL.write(self.registers(), control);
    }

    /// Tells every recorded fault, oldest first, and makes room for new ones.
    ///
    /// Looks at each record once, so that a device that faults without end cannot hold us here.
    pub fn tell_faults(&mut self, mut tell: impl FnMut(Fault)) -> Told {
        let capabilities = self.capabilities();
        let registers = self.registers();
        let status = FSTS.read(registers);
        let records = capabilities.fault_records();
        let oldest = u16::from(status.fri());
        for step in 0..records {
            let index = (oldest % records + step) % records;
            let Some(record) = fault_record(capabilities.cap(), index, registers.window()) else {
                continue;
            };
            let high = record.high.read(registers);
            if high.f() {
                tell(decode(high, record.low.read(registers)));
                record.top.clear(registers, RECORD_F_IN_TOP_HALF);
            }
        }
        if !status.pfo() {
            return Told::All;
        }
        // Only now: the unit records nothing until PFO is clear, and would overflow at once on
        // records that are still taken.
        let mut overflow = Fsts(0);
        overflow.set_pfo(true);
        FSTS.clear(registers, overflow);
        Told::Some
    }
}

/// Chapter 7: an interrupt's record carries its index in bits 63:48, a memory access's the page
/// in bits 63:12.
fn decode(high: RecordHigh, low: u64) -> Fault {
    let reason = Reason(high.fr());
    let page = Iova::new(low & !0xfff);
    let attempt = if reason.is_interrupt() {
        Attempt::Interrupt((low >> 48) as u16)
    } else if high.t1() {
        Attempt::Read(page)
    } else {
        Attempt::Write(page)
    };
    Fault {
        source: Bdf::from_requester_id(high.sid()),
        attempt,
        reason,
    }
}

#[cfg(test)]
mod tests;
