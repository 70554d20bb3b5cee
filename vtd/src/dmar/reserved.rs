//! What to think of memory that firmware reserved for devices.
//!
//! Owns the comparison with the rest of what firmware says. Refuses to know which devices are trusted.

use core::fmt;

use memory::{ByteRange, Hpa};

use super::ReservedRegion;

/// What is wrong with a region.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Flaw {
    /// Base and limit are no whole number of pages.
    Malformed,
    /// It covers memory of the hypervisor's own.
    Hypervisor(ByteRange<Hpa>),
    /// It lies beyond what the remapping units translate.
    OutOfReach(ByteRange<Hpa>),
    /// Some of it is not reserved in the memory map. Section 8.4: "BIOS must report the RMRR
    /// reported memory addresses as reserved in the system memory map".
    NotReserved(ByteRange<Hpa>),
}

impl fmt::Display for Flaw {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("the firmware's DMAR table reserves memory for devices ")?;
        match self {
            Self::Malformed => {
                f.write_str("in something other than whole pages: that is not honoured")
            }
            Self::Hypervisor(range) => write!(
                f,
                "at {}..={}, where the hypervisor's memory is",
                range.start(),
                range.last()
            ),
            Self::OutOfReach(range) => write!(
                f,
                "at {}..={}, which the remapping units do not reach: that is not honoured",
                range.start(),
                range.last()
            ),
            Self::NotReserved(range) => write!(
                f,
                "at {}..={}, and its memory map gives some of that to the guest: ask the vendor for \
                 another firmware",
                range.start(),
                range.last()
            ),
        }
    }
}

impl ReservedRegion<'_> {
    /// The worst that is wrong with it: `own` is the hypervisor's memory, `reach` what units translate,
    /// `reserved` what the memory map reserves.
    pub fn flaw(
        &self,
        own: ByteRange<Hpa>,
        reach: ByteRange<Hpa>,
        reserved: impl Iterator<Item = ByteRange<Hpa>> + Clone,
    ) -> Option<Flaw> {
        let Some(range) = self.range else {
            return Some(Flaw::Malformed);
        };
        if range.overlaps(&own) {
            Some(Flaw::Hypervisor(range))
        } else if !reach.covers(&range) {
            Some(Flaw::OutOfReach(range))
        } else if !is_within(range, reserved) {
            Some(Flaw::NotReserved(range))
        } else {
            None
        }
    }
}

/// Whether every byte of `range` is in one of `parts`.
fn is_within(range: ByteRange<Hpa>, parts: impl Iterator<Item = ByteRange<Hpa>> + Clone) -> bool {
    let mut next = range.start();
    // Each part brings us on at most once.
    for _ in parts.clone() {
        let Some(part) = parts.clone().find(|part| part.contains(next)) else {
            return false;
        };
        match part.last().checked_add(1) {
            Some(after) if after <= range.last() => next = after,
            _ => return true,
        }
    }
    false
}

#[cfg(test)]
mod tests {
    extern crate std;

    use std::string::ToString;

    use super::*;
    use crate::dmar::Dmar;

    fn range(start: u64, len: u64) -> ByteRange<Hpa> {
        ByteRange::new(Hpa::new(start), len).unwrap()
    }

    /// A table with one unit and one reserved region.
    fn table(base: u64, limit: u64) -> std::vec::Vec<u8> {
        let mut bytes = std::vec![0; 48];
        bytes[36] = 38;
        let mut unit = std::vec![0, 0, 16, 0, 1, 0, 0, 0];
        unit.extend(0xfed9_0000_u64.to_le_bytes());
        let mut region = std::vec![1, 0, 24, 0, 0, 0, 0, 0];
        region.extend(base.to_le_bytes());
        region.extend(limit.to_le_bytes());
        bytes.extend(unit);
        bytes.extend(region);
        bytes[..4].copy_from_slice(b"DMAR");
        let len = bytes.len() as u32;
        bytes[4..8].copy_from_slice(&len.to_le_bytes());
        bytes
    }

    fn flaw(base: u64, limit: u64) -> Option<Flaw> {
        let bytes = table(base, limit);
        let table = Dmar::parse(&bytes).unwrap();
        let region = table.reserved_regions().next().unwrap();
        let reserved = [range(0x7f00_0000, 0x10_0000), range(0x7f10_0000, 0x10_0000)];
        region.flaw(
            range(0x7000_0000, 0x40_0000),
            range(0, 1 << 39),
            reserved.into_iter(),
        )
    }

    #[test]
    fn a_region_in_reserved_memory_is_as_it_should_be() {
        assert_eq!(flaw(0x7f00_0000, 0x7f00_0fff), None);
        assert_eq!(flaw(0x7f0f_f000, 0x7f1f_ffff), None, "across two entries");
    }

    #[test]
    fn a_region_in_usable_memory_is_named() {
        let whole = range(0x7f1f_f000, 0x2000);
        assert_eq!(
            flaw(0x7f1f_f000, 0x7f20_0fff),
            Some(Flaw::NotReserved(whole))
        );
        assert!(Flaw::NotReserved(whole).to_string().contains("0x7f1ff000"));
    }

    #[test]
    fn a_region_in_the_hypervisors_memory_is_the_worst() {
        let whole = range(0x703f_f000, 0x1000);
        assert_eq!(
            flaw(0x703f_f000, 0x703f_ffff),
            Some(Flaw::Hypervisor(whole))
        );
    }

    #[test]
    fn a_region_beyond_the_units_reach_is_named() {
        let whole = range(1 << 39, 0x1000);
        assert_eq!(
            flaw(1 << 39, (1 << 39) + 0xfff),
            Some(Flaw::OutOfReach(whole))
        );
    }

    #[test]
    fn a_region_that_is_no_whole_pages_is_not_honoured() {
        assert_eq!(flaw(0x7f00_0000, 0x7f00_0ffe), Some(Flaw::Malformed));
        assert_eq!(flaw(0x7f00_1000, 0x7f00_0fff), Some(Flaw::Malformed));
    }
}
