//! Taking a table away from whoever looks for it later, or putting another in its place.
//!
//! Owns the change of the lists of tables: an entry goes, those behind it move up, and length and
//! checksum say so. The only writer of this crate.

use memory::{Gpa, GuestMemory};

use crate::table::{HEADER_LEN, Header, fetch};
use crate::{AcpiError, Fault, Rsdp, Signature, Table};

/// Where a header says how long its table is, and where its checksum is (ACPI 6.5, 5.2.6).
const LENGTH: u64 = 4;
const CHECKSUM: u64 = 9;

/// Tables of one name that are overwritten, too; more are only taken out of the lists.
const MAX_BLANKED: usize = 8;

/// Takes every entry that leads to a table called `signature` out of the RSDT and the XSDT, and
/// overwrites those tables with zeros. Returns how many entries went.
///
/// # Errors
/// [`AcpiError`] if a list is damaged or its memory does not take the change, as ROM does not.
pub fn hide(
    memory: &impl GuestMemory,
    rsdp: &Rsdp,
    signature: Signature,
) -> Result<usize, AcpiError> {
    change(memory, rsdp, signature, None)
}

/// Does the same, and leaves in each list that had such an entry one that leads to the table at
/// `by`, which is whole by then and below 4 GiB.
///
/// # Errors
/// As [`hide`].
pub fn replace(
    memory: &impl GuestMemory,
    rsdp: &Rsdp,
    signature: Signature,
    by: u32,
) -> Result<usize, AcpiError> {
    change(memory, rsdp, signature, Some(by))
}

fn change(
    memory: &impl GuestMemory,
    rsdp: &Rsdp,
    signature: Signature,
    by: Option<u32>,
) -> Result<usize, AcpiError> {
    let lists = [
        (Signature::RSDT, u64::from(rsdp.rsdt), 4),
        (Signature::XSDT, rsdp.xsdt, 8),
    ];
    let mut hidden = [None; MAX_BLANKED];
    let mut gone = 0;
    for (kind, at, width) in lists.into_iter().filter(|(_, at, _)| *at != 0) {
        let list = List {
            memory,
            table: Table::check(memory, kind, Gpa::new(at))?,
            width,
        };
        gone += list.take_out(signature, by, |table| {
            let is_known = hidden.contains(&Some(table));
            if let Some(free) = hidden.iter_mut().find(|slot| slot.is_none() && !is_known) {
                *free = Some(table);
            }
        })?;
    }
    // Only now: a table that was overwritten is not recognised in the second list.
    for at in hidden.into_iter().flatten() {
        blank(memory, Table::check(memory, signature, at)?)?;
    }
    Ok(gone)
}

struct List<'m, M> {
    memory: &'m M,
    table: Table,
    /// Bytes of an entry.
    width: u32,
}

impl<M: GuestMemory> List<'_, M> {
    fn take_out(
        &self,
        signature: Signature,
        mut by: Option<u32>,
        mut tell: impl FnMut(Gpa),
    ) -> Result<usize, AcpiError> {
        let (memory, table) = (self.memory, self.table);
        let mut kept = HEADER_LEN;
        let mut gone = 0;
        let mut offset = HEADER_LEN;
        while offset + self.width <= table.length {
            let mut entry = [0; 8];
            let (bytes, _) = entry.split_at_mut(self.width as usize);
            fetch(memory, table.signature, table.at, offset, bytes)?;
            let at = Gpa::new(u64::from_le_bytes(entry));
            // An entry that leads nowhere readable is left to whoever follows it.
            let is_meant = Header::fetch(memory, signature, at)
                .is_ok_and(|header| header.signature == signature);
            if is_meant {
                tell(at);
                gone += 1;
                if let Some(by) = by.take() {
                    let entry = u64::from(by).to_le_bytes();
                    let (bytes, _) = entry.split_at(self.width as usize);
                    store(memory, table, u64::from(kept), bytes)?;
                    kept += self.width;
                }
            } else {
                let (bytes, _) = entry.split_at(self.width as usize);
                store(memory, table, u64::from(kept), bytes)?;
                kept += self.width;
            }
            offset += self.width;
        }
        store(memory, table, LENGTH, &kept.to_le_bytes())?;
        self.seal(kept)?;
        Ok(gone)
    }

    /// Makes the sum of all `length` bytes 0 again.
    fn seal(&self, length: u32) -> Result<(), AcpiError> {
        let (memory, table) = (self.memory, self.table);
        store(memory, table, CHECKSUM, &[0])?;
        let shorter = Table { length, ..table };
        let mut total = 0_u8;
        shorter.visit(memory, |piece| {
            total = total.wrapping_add(crate::bytes::sum(piece));
        })?;
        store(memory, table, CHECKSUM, &[total.wrapping_neg()])?;
        Table::check(memory, table.signature, table.at).map(|_| ())
    }
}

fn blank(memory: &impl GuestMemory, table: Table) -> Result<(), AcpiError> {
    (0..table.length).try_for_each(|offset| store(memory, table, u64::from(offset), &[0]))
}

fn store(
    memory: &impl GuestMemory,
    table: Table,
    offset: u64,
    bytes: &[u8],
) -> Result<(), AcpiError> {
    let unwritable = table.error(Fault::Unwritable {
        offset: offset as u32,
    });
    let at = table.at.checked_add(offset).ok_or(unwritable)?;
    memory.write(at, bytes).map_err(|_| unwritable)
}

#[cfg(test)]
mod tests {
    extern crate std;

    use std::vec::Vec;

    use proptest::prelude::*;

    use super::*;
    use crate::Tables;
    use crate::q35::{self, Memory};

    fn rsdp(xsdt: u64) -> Rsdp {
        let bytes = q35::root_pointer(q35::RSDT_AT as u32, xsdt);
        Rsdp::parse(&bytes, Gpa::new(q35::RSDP_AT)).unwrap()
    }

    fn addresses(memory: &Memory, rsdp: &Rsdp) -> Vec<Gpa> {
        Tables::open(memory, rsdp).unwrap().addresses().collect()
    }

    #[test]
    fn a_hidden_table_is_in_no_list_and_the_others_are() {
        let xsdt: Vec<u8> = [q35::MCFG_AT, q35::DMAR_AT, q35::MADT_AT]
            .iter()
            .flat_map(|at| at.to_le_bytes())
            .collect();
        let memory = Memory::q35().with(0x5000, &q35::table(b"XSDT", &xsdt));
        assert_eq!(hide(&memory, &rsdp(0x5000), Signature::DMAR), Ok(2));
        let left = [Gpa::new(q35::MCFG_AT), Gpa::new(q35::MADT_AT)];
        assert_eq!(addresses(&memory, &rsdp(0x5000)), left);
        let old = addresses(&memory, &rsdp(0));
        assert_eq!(old.len(), 5);
        assert!(!old.contains(&Gpa::new(q35::DMAR_AT)));
    }

    #[test]
    fn what_was_hidden_is_nowhere_in_memory_any_more() {
        let memory = Memory::q35();
        hide(&memory, &rsdp(0), Signature::DMAR).unwrap();
        let mut bytes = [0xff; q35::DMAR.len()];
        memory.read(Gpa::new(q35::DMAR_AT), &mut bytes).unwrap();
        assert_eq!(bytes, [0; q35::DMAR.len()]);
    }

    #[test]
    fn a_replaced_table_is_another_in_both_lists() {
        const NEW: u32 = 0x6000;
        let xsdt: Vec<u8> = [q35::MCFG_AT, q35::DMAR_AT, q35::MADT_AT]
            .iter()
            .flat_map(|at| at.to_le_bytes())
            .collect();
        let new = q35::table(b"DMAR", &[7; 20]);
        let memory = Memory::q35()
            .with(0x5000, &q35::table(b"XSDT", &xsdt))
            .with(u64::from(NEW), &new);
        let replaced = replace(&memory, &rsdp(0x5000), Signature::DMAR, NEW);
        assert_eq!(replaced, Ok(2));
        for list in [0x5000, 0] {
            let tables = addresses(&memory, &rsdp(list));
            assert!(tables.contains(&Gpa::new(u64::from(NEW))));
            assert!(!tables.contains(&Gpa::new(q35::DMAR_AT)));
        }
        let mut bytes = std::vec![0; new.len()];
        memory.read(Gpa::new(u64::from(NEW)), &mut bytes).unwrap();
        assert_eq!(bytes, new);
    }

    #[test]
    fn a_table_that_is_not_there_changes_nothing() {
        let memory = Memory::q35();
        let before = addresses(&memory, &rsdp(0));
        assert_eq!(hide(&memory, &rsdp(0), Signature(*b"BERT")), Ok(0));
        assert_eq!(addresses(&memory, &rsdp(0)), before);
    }

    #[test]
    fn a_damaged_list_is_left_alone() {
        let mut bytes = q35::RSDT;
        bytes[40] ^= 1;
        let memory = Memory::q35().with(q35::RSDT_AT, &bytes);
        assert!(hide(&memory, &rsdp(0), Signature::DMAR).is_err());
    }

    proptest! {
        #[test]
        fn a_list_of_anything_stays_a_list(entries in proptest::collection::vec(any::<u64>(), 0..40)) {
            let body: Vec<u8> = entries.iter().flat_map(|entry| entry.to_le_bytes()).collect();
            let memory = Memory::q35().with(0x5000, &q35::table(b"XSDT", &body));
            prop_assert!(hide(&memory, &rsdp(0x5000), Signature::DMAR).is_ok());
            prop_assert!(Tables::open(&memory, &rsdp(0x5000)).is_ok());
        }
    }
}
