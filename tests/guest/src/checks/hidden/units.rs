//! Where the guest finds the registers of remapping units: its DMAR table says so.
//!
//! VT-d specification, revision 4.1, sections 8.1 and 8.3: structures follow a header of 48 bytes, each with its
//! type and length first; type 0 is a unit, whose registers' address is at offset 8.

use std::io::ErrorKind;

use crate::verdict::{Attempt, Shortfall};

const TABLE: &str = "/sys/firmware/acpi/tables/DMAR";
const HEADER: usize = 48;
const UNIT: u16 = 0;
const ADDRESS: std::ops::Range<usize> = 8..16;

/// The page of each unit's registers; none without a table.
pub(super) fn registers() -> Result<Vec<u64>, Shortfall> {
    match std::fs::read(TABLE) {
        Ok(table) => Ok(of_table(&table)),
        Err(error) if error.kind() == ErrorKind::NotFound => Ok(Vec::new()),
        Err(error) => Err(error).attempt(TABLE),
    }
}

fn of_table(table: &[u8]) -> Vec<u64> {
    let mut rest = table.get(HEADER..).unwrap_or_default();
    let mut pages = Vec::new();
    while let [low, high, length, more, ..] = *rest {
        let length = usize::from(u16::from_le_bytes([length, more])).max(4);
        let address = rest.get(ADDRESS).and_then(|bytes| bytes.try_into().ok());
        if u16::from_le_bytes([low, high]) == UNIT {
            pages.extend(address.map(u64::from_le_bytes));
        }
        rest = rest.get(length..).unwrap_or_default();
    }
    pages
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn units_are_found_among_other_structures_and_nonsense_ends() {
        let mut table = vec![0; HEADER];
        table.extend([1, 0, 8, 0, 1, 2, 3, 4]);
        table.extend([0, 0, 16, 0, 0, 0, 0, 0, 0, 0, 0xd9, 0xfe, 0, 0, 0, 0]);
        table.extend([0, 0, 0, 0, 9]);
        assert_eq!(of_table(&table), [0xfed9_0000]);
        assert_eq!(of_table(&table[..20]), []);
    }
}
