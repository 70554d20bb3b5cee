//! Protected memory: holds DMA off while translation is off.
//!
//! Owns the two protected-memory regions of a unit, one below and one above 4 GiB.

use memory::{ByteRange, Hpa, TimedOut};

use super::{Failure, Step};
use crate::registers::{PHMBASE, PHMLIMIT, PLMBASE, PLMLIMIT, PMEN, Registers, wait_until};
use crate::spec::registers::{Cap, Pmen};

/// The last byte of low memory.
const LAST_LOW: Hpa = Hpa::new(0xffff_ffff);

/// Holds DMA off at least `range`, wholly or not at all.
pub(super) fn enable(
    registers: &mut impl Registers,
    cap: Cap,
    range: ByteRange<Hpa>,
) -> Result<(), Failure> {
    let low = ByteRange::inclusive(range.start(), range.last().min(LAST_LOW));
    let high = ByteRange::inclusive(
        range.start().max(Hpa::new(LAST_LOW.raw() + 1)),
        range.last(),
    );
    if (low.is_some() && !cap.plmr()) || (high.is_some() && !cap.phmr()) {
        return Err(Failure::NoProtectedMemory);
    }
    disable(registers, cap)?;
    // Both regions are always on together; one that is not asked for is made empty.
    if cap.plmr() {
        let granule = granule_of(probe_low(registers));
        let (base, limit) = place(low, granule).ok_or(Failure::NoProtectedMemory)?;
        PLMBASE.write(registers, base as u32);
        PLMLIMIT.write(registers, limit as u32);
    }
    if cap.phmr() {
        let granule = granule_of(probe_high(registers));
        let (base, limit) = place(high, granule).ok_or(Failure::NoProtectedMemory)?;
        PHMBASE.write(registers, base);
        PHMLIMIT.write(registers, limit);
    }
    let mut on = Pmen(0);
    on.set_epm(true);
    PMEN.write(registers, on);
    wait_until(registers, |registers| PMEN.read(registers).prs())
        .map_err(|TimedOut| Failure::TimedOut(Step::ProtectMemory))
}

/// Whether DMA is held off anywhere.
pub(super) fn is_on(registers: &impl Registers, cap: Cap) -> bool {
    (cap.plmr() || cap.phmr()) && PMEN.read(registers).prs()
}

/// Lets DMA through to where it was held off.
pub(super) fn disable(registers: &mut impl Registers, cap: Cap) -> Result<(), Failure> {
    if !cap.plmr() && !cap.phmr() {
        return Ok(());
    }
    PMEN.write(registers, Pmen(0));
    wait_until(registers, |registers| !PMEN.read(registers).prs())
        .map_err(|TimedOut| Failure::TimedOut(Step::ReleaseMemory))
}

/// The granule is found by writing ones everywhere: bits below it read back as zeros.
fn probe_low(registers: &mut impl Registers) -> u64 {
    PLMBASE.write(registers, u32::MAX);
    u64::from(PLMBASE.read(registers))
}

fn probe_high(registers: &mut impl Registers) -> u64 {
    PHMBASE.write(registers, u64::MAX);
    PHMBASE.read(registers)
}

/// Bytes of the smallest region, or `None` if no bit of the register can be set.
fn granule_of(read_back: u64) -> Option<u64> {
    (read_back != 0).then(|| 1 << read_back.trailing_zeros())
}

/// Base and limit that cover `range`; hardware takes the limit's bits below the granule as
/// ones. Without a range, a limit below its base: an empty region.
fn place(range: Option<ByteRange<Hpa>>, granule: Option<u64>) -> Option<(u64, u64)> {
    let granule = granule?;
    Some(match range {
        Some(range) => (
            range.start().raw() & !(granule - 1),
            range.last().raw() & !(granule - 1),
        ),
        None => (granule, 0),
    })
}
