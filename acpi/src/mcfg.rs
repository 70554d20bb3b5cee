//! The MCFG table: where PCI configuration space is mapped into memory.

use memory::{ByteRange, Gpa};

use crate::bytes::{array, u16_at, u64_at};
use crate::{AcpiError, Content, Fault, Field, Signature};

/// Where the first entry lies, behind the header and eight reserved bytes.
const ENTRIES: usize = 44;
/// Bytes of an entry.
const ENTRY_LEN: usize = 16;
/// Bytes of configuration space a bus has: 32 devices of 8 functions of 4 KiB.
const BUS_BYTES: u64 = 1 << 20;

/// A checked copy of the MCFG table (PCI Firmware Specification 3.3, 4.1.2).
#[derive(Clone, Copy, Debug)]
pub struct Mcfg<'b> {
    bytes: &'b [u8],
}

/// The configuration space of some buses of one segment.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Ecam {
    /// The PCI segment group.
    pub segment: u16,
    /// The lowest bus.
    pub first_bus: u8,
    /// The highest bus.
    pub last_bus: u8,
    /// Where bus 0 of the segment would lie, even if it is not among the buses.
    pub base: Gpa,
}

impl Ecam {
    /// The memory the buses' configuration space takes; `None` if it wraps, which a parsed
    /// table's does not.
    pub fn range(&self) -> Option<ByteRange<Gpa>> {
        let buses = u64::from(self.last_bus).checked_sub(u64::from(self.first_bus))? + 1;
        let start = self
            .base
            .checked_add(u64::from(self.first_bus) * BUS_BYTES)?;
        ByteRange::new(start, buses * BUS_BYTES)
    }

    fn shares_buses(&self, other: &Self) -> bool {
        self.segment == other.segment
            && self.first_bus <= other.last_bus
            && other.first_bus <= self.last_bus
    }
}

impl<'b> Mcfg<'b> {
    /// Believes the copy if it holds whole entries that make sense together.
    ///
    /// # Errors
    /// [`AcpiError`] naming the field.
    pub fn parse(content: &Content<'b>) -> Result<Self, AcpiError> {
        content.expect(Signature::MCFG, ENTRIES as u32)?;
        let mcfg = Self {
            bytes: content.bytes(),
        };
        let table = content.table();
        let list = mcfg.bytes.get(ENTRIES..).unwrap_or(&[]);
        let leftover = list.len() % ENTRY_LEN;
        if leftover != 0 {
            return Err(table.error(Fault::Length {
                found: table.length,
                least: ENTRIES as u32,
                most: table.length.saturating_sub(leftover as u32),
            }));
        }
        for (number, ecam) in mcfg.entries().enumerate() {
            check(&ecam, mcfg.entries().take(number)).map_err(|(field, expected, found)| {
                table.error(Fault::Field {
                    offset: u32::try_from(ENTRIES + number * ENTRY_LEN + field).unwrap_or(u32::MAX),
                    expected,
                    found,
                })
            })?;
        }
        Ok(mcfg)
    }

    /// The entries in the order of the table.
    pub fn entries(&self) -> impl Iterator<Item = Ecam> + Clone + use<'b> {
        self.bytes
            .get(ENTRIES..)
            .unwrap_or(&[])
            .chunks_exact(ENTRY_LEN)
            .filter_map(|entry| {
                let [first_bus, last_bus] = array(entry, 10)?;
                Some(Ecam {
                    base: Gpa::new(u64_at(entry, 0)?),
                    segment: u16_at(entry, 8)?,
                    first_bus,
                    last_bus,
                })
            })
    }
}

/// What is wrong with an entry: where in it, what was expected, what was found.
type Wrong = (usize, Field, u64);

fn check(ecam: &Ecam, mut earlier: impl Iterator<Item = Ecam>) -> Result<(), Wrong> {
    if ecam.last_bus < ecam.first_bus {
        return Err((11, Field::LastBus, u64::from(ecam.last_bus)));
    }
    if !ecam.base.raw().is_multiple_of(BUS_BYTES) || ecam.range().is_none() {
        return Err((0, Field::EcamBase, ecam.base.raw()));
    }
    if earlier.any(|other| other.shares_buses(ecam)) {
        return Err((10, Field::OwnBuses, u64::from(ecam.first_bus)));
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    extern crate std;

    use std::string::ToString;
    use std::vec::Vec;

    use proptest::prelude::*;

    use super::*;
    use crate::Table;
    use crate::q35::{self, Memory};

    fn parse(bytes: &[u8]) -> Result<Vec<Ecam>, AcpiError> {
        let memory = Memory::default().with(0x1000, bytes);
        let table = Table::check(&memory, Signature::MCFG, Gpa::new(0x1000)).unwrap();
        let mut buffer = [0; 4096];
        Ok(Mcfg::parse(&table.copy(&memory, &mut buffer).unwrap())?
            .entries()
            .collect())
    }

    fn mcfg(entries: &[(u64, u16, u8, u8)]) -> Vec<u8> {
        let mut body = std::vec![0; 8];
        for (base, segment, first, last) in entries {
            body.extend(base.to_le_bytes());
            body.extend(segment.to_le_bytes());
            body.extend([*first, *last, 0, 0, 0, 0]);
        }
        q35::table(b"MCFG", &body)
    }

    #[test]
    fn qemus_configuration_space_has_256_buses() {
        let entries = parse(&q35::MCFG).unwrap();
        assert_eq!(
            entries,
            [Ecam {
                segment: 0,
                first_bus: 0,
                last_bus: 255,
                base: Gpa::new(0xb000_0000)
            }]
        );
        assert_eq!(
            entries[0].range(),
            ByteRange::new(Gpa::new(0xb000_0000), 0x1000_0000)
        );
    }

    #[test]
    fn the_base_is_that_of_bus_0_even_if_buses_begin_later() {
        let entries = parse(&mcfg(&[(0xb000_0000, 0, 0x40, 0x7f)])).unwrap();
        assert_eq!(
            entries[0].range(),
            ByteRange::new(Gpa::new(0xb400_0000), 0x400_0000)
        );
    }

    #[test]
    fn segments_may_have_the_same_buses() {
        assert!(parse(&mcfg(&[(0xb000_0000, 0, 0, 9), (0xc000_0000, 1, 0, 9)])).is_ok());
    }

    #[test]
    fn two_entries_for_one_bus_are_refused() {
        let error = parse(&mcfg(&[(0xb000_0000, 0, 0, 9), (0xc000_0000, 0, 9, 20)])).unwrap_err();
        assert_eq!(
            error.to_string(),
            "ACPI table MCFG at 0x1000: expected buses that no other entry of the segment has at \
             offset 0x46, found 0x9"
        );
    }

    #[test]
    fn a_last_bus_before_the_first_is_refused() {
        let error = parse(&mcfg(&[(0xb000_0000, 0, 9, 8)])).unwrap_err();
        assert!(matches!(error.fault, Fault::Field { offset: 55, .. }));
    }

    #[test]
    fn a_space_that_is_unaligned_or_wraps_is_refused() {
        for base in [0xb000_1000, 0xffff_ffff_fff0_0000] {
            let error = parse(&mcfg(&[(base, 0, 0, 255)])).unwrap_err();
            assert!(matches!(error.fault, Fault::Field { offset: 44, .. }));
        }
    }

    #[test]
    fn half_an_entry_is_refused() {
        let error = parse(&q35::resealed(&q35::MCFG[..52])).unwrap_err();
        assert!(matches!(error.fault, Fault::Length { found: 52, .. }));
    }

    proptest! {
        #[test]
        fn what_parses_has_ranges_and_no_bus_twice(
            entries in proptest::collection::vec((0_u64..1 << 44, 0_u16..3, any::<u8>(), any::<u8>()), 0..5),
        ) {
            let entries: Vec<_> = entries
                .into_iter()
                .map(|(base, segment, first, last)| (base << 20, segment, first, last))
                .collect();
            let Ok(parsed) = parse(&mcfg(&entries)) else { return Ok(()) };
            for (number, ecam) in parsed.iter().enumerate() {
                prop_assert!(ecam.range().is_some());
                prop_assert!(!parsed[..number].iter().any(|other| other.shares_buses(ecam)));
            }
        }
    }
}
