//! The list of all tables, and a table found in it by its signature.

use memory::{Gpa, GuestMemory};

use crate::bytes::sum;
use crate::table::{HEADER_LEN, Header, fetch};
use crate::{AcpiError, Fault, Rsdp, Signature, Table};

/// How many tables a machine may have.
pub const MAX_TABLES: usize = 256;

/// Where all tables lie: an XSDT or an RSDT, checked and kept as a copy.
#[derive(Debug)]
pub struct Tables<'m, M> {
    memory: &'m M,
    root: Table,
    addresses: [u64; MAX_TABLES],
    count: usize,
}

impl<'m, M: GuestMemory> Tables<'m, M> {
    /// Reads the list the root pointer names: the XSDT if there is one, otherwise the RSDT.
    ///
    /// # Errors
    /// [`AcpiError`] if there is neither, or it has no memory, a wrong length or checksum.
    pub fn open(memory: &'m M, rsdp: &Rsdp) -> Result<Self, AcpiError> {
        // "An ACPI-compatible OS must use the XSDT if present" (ACPI 6.5, 5.2.8).
        let (signature, at, width) = match (rsdp.xsdt, rsdp.rsdt) {
            (0, 0) => {
                return Err(AcpiError {
                    table: Signature::RSDP,
                    at: rsdp.at,
                    fault: Fault::NoRoot,
                });
            }
            (0, rsdt) => (Signature::RSDT, Gpa::new(u64::from(rsdt)), 4),
            (xsdt, _) => (Signature::XSDT, Gpa::new(xsdt), 8),
        };
        let mut header = [0; HEADER_LEN as usize];
        fetch(memory, signature, at, 0, &mut header)?;
        let root = Table::from_header(&Header::parse(&header), signature, at)?;

        let list = root.length - HEADER_LEN;
        let whole = list - list % width;
        let most = HEADER_LEN + whole.min(MAX_TABLES as u32 * width);
        if root.length > most {
            return Err(root.error(Fault::Length {
                found: root.length,
                least: HEADER_LEN,
                most,
            }));
        }
        let count = (list / width) as usize;
        let mut addresses = [0; MAX_TABLES];
        let mut total = sum(&header);
        for (slot, offset) in addresses
            .iter_mut()
            .take(count)
            .zip((HEADER_LEN..).step_by(width as usize))
        {
            let mut entry = [0; 8];
            let (bytes, _) = entry.split_at_mut(width as usize);
            fetch(memory, signature, at, offset, bytes)?;
            total = total.wrapping_add(sum(bytes));
            *slot = u64::from_le_bytes(entry);
        }
        root.settle(total)?;
        Ok(Self {
            memory,
            root,
            addresses,
            count,
        })
    }

    /// The list itself.
    pub fn root(&self) -> Table {
        self.root
    }

    /// Where the tables lie, in the order of the list; entries of 0 are left out.
    pub fn addresses(&self) -> impl Iterator<Item = Gpa> + '_ {
        self.addresses
            .iter()
            .take(self.count)
            .filter(|address| **address != 0)
            .map(|address| Gpa::new(*address))
    }

    /// The first table called `signature`, checked; `None` if there is none.
    ///
    /// # Errors
    /// [`AcpiError`] if that table is damaged, or if there is none but some table's header
    /// cannot be read: it might be the one.
    pub fn find(&self, signature: Signature) -> Result<Option<Table>, AcpiError> {
        let mut unreadable = None;
        for at in self.addresses() {
            match Header::fetch(self.memory, signature, at) {
                Ok(header) if header.signature == signature => {
                    return Table::check(self.memory, signature, at).map(Some);
                }
                Ok(_) => {}
                Err(error) => unreadable = unreadable.or(Some(error)),
            }
        }
        unreadable.map_or(Ok(None), Err)
    }

    /// Every table called `signature`, checked, in the order of the list, and an error for each
    /// table whose header cannot be read.
    pub fn all(&self, signature: Signature) -> impl Iterator<Item = Result<Table, AcpiError>> + '_ {
        self.addresses()
            .filter_map(move |at| match Header::fetch(self.memory, signature, at) {
                Ok(header) if header.signature != signature => None,
                Ok(_) => Some(Table::check(self.memory, signature, at)),
                Err(error) => Some(Err(error)),
            })
    }

    /// The memory the tables lie in.
    pub fn memory(&self) -> &'m M {
        self.memory
    }
}

#[cfg(test)]
mod tests {
    extern crate std;

    use std::vec::Vec;

    use proptest::prelude::*;

    use super::*;
    use crate::q35::{self, Memory};

    fn rsdp(rsdt: u32, xsdt: u64) -> Rsdp {
        Rsdp::parse(&q35::root_pointer(rsdt, xsdt), Gpa::new(q35::RSDP_AT)).unwrap()
    }

    fn list(entries: &[u64]) -> Vec<u8> {
        let body: Vec<u8> = entries
            .iter()
            .flat_map(|entry| entry.to_le_bytes())
            .collect();
        q35::table(b"XSDT", &body)
    }

    fn open(memory: &Memory) -> Result<Tables<'_, Memory>, AcpiError> {
        Tables::open(memory, &rsdp(q35::RSDT_AT as u32, 0))
    }

    #[test]
    fn qemus_tables_are_found_by_signature() {
        let memory = Memory::q35();
        let tables = open(&memory).unwrap();
        let dmar = tables.find(Signature::DMAR).unwrap().unwrap();
        assert_eq!((dmar.at, dmar.length), (Gpa::new(q35::DMAR_AT), 104));
        assert_eq!(tables.addresses().count(), 6);
        assert_eq!(tables.root().signature, Signature::RSDT);
    }

    #[test]
    fn a_table_that_is_not_there_is_no_error() {
        let memory = Memory::q35();
        assert_eq!(open(&memory).unwrap().find(Signature(*b"BERT")), Ok(None));
    }

    #[test]
    fn the_xsdt_is_used_if_present() {
        let memory = Memory::q35().with(0x5000, &list(&[q35::MCFG_AT]));
        let tables = Tables::open(&memory, &rsdp(q35::RSDT_AT as u32, 0x5000)).unwrap();
        assert_eq!(tables.root().signature, Signature::XSDT);
        assert_eq!(tables.find(Signature::DMAR), Ok(None));
    }

    #[test]
    fn a_root_pointer_to_nothing_is_refused() {
        let memory = Memory::q35();
        let error = Tables::open(&memory, &rsdp(0, 0)).unwrap_err();
        assert_eq!(error.fault, Fault::NoRoot);
    }

    #[test]
    fn entries_of_zero_are_left_out() {
        let memory = Memory::q35().with(0x5000, &list(&[0, q35::MCFG_AT, 0]));
        let tables = Tables::open(&memory, &rsdp(0, 0x5000)).unwrap();
        assert!(tables.find(Signature::MCFG).unwrap().is_some());
        assert_eq!(tables.addresses().count(), 1);
    }

    #[test]
    fn a_damaged_table_is_an_error_and_not_absent() {
        let mut bytes = q35::DMAR;
        bytes[60] ^= 1;
        let memory = Memory::q35().with(q35::DMAR_AT, &bytes);
        let error = open(&memory).unwrap().find(Signature::DMAR).unwrap_err();
        assert!(matches!(error.fault, Fault::Checksum { .. }));
    }

    #[test]
    fn a_damaged_table_hides_no_other() {
        let mut bytes = q35::DMAR;
        bytes[60] ^= 1;
        let memory = Memory::q35().with(q35::DMAR_AT, &bytes);
        assert!(
            open(&memory)
                .unwrap()
                .find(Signature::MCFG)
                .unwrap()
                .is_some()
        );
    }

    #[test]
    fn an_unreadable_table_might_be_the_one_that_is_missing() {
        let memory = Memory::q35().with(0x5000, &list(&[0xdead_0000, q35::MCFG_AT]));
        let tables = Tables::open(&memory, &rsdp(0, 0x5000)).unwrap();
        assert!(tables.find(Signature::MCFG).unwrap().is_some());
        let error = tables.find(Signature::DMAR).unwrap_err();
        assert_eq!(error.at, Gpa::new(0xdead_0000));
    }

    #[test]
    fn more_tables_than_there_is_room_for_are_a_refusal() {
        let memory = Memory::q35().with(0x5000, &list(&[0; MAX_TABLES + 1]));
        let error = Tables::open(&memory, &rsdp(0, 0x5000)).unwrap_err();
        assert!(matches!(error.fault, Fault::Length { found: 2092, .. }));
    }

    #[test]
    fn a_list_with_half_an_entry_is_refused() {
        let memory = Memory::q35().with(0x5000, &q35::table(b"XSDT", &[0; 12]));
        let error = Tables::open(&memory, &rsdp(0, 0x5000)).unwrap_err();
        assert!(matches!(error.fault, Fault::Length { found: 48, .. }));
    }

    proptest! {
        #[test]
        fn any_changed_byte_of_the_list_is_noticed(offset in 0_usize..60, change in 1_u8..) {
            let mut bytes = q35::RSDT;
            bytes[offset] ^= change;
            prop_assert!(open(&Memory::q35().with(q35::RSDT_AT, &bytes)).is_err());
        }

        #[test]
        fn a_list_of_anything_never_panics(entries in proptest::collection::vec(any::<u64>(), 0..40)) {
            let memory = Memory::q35().with(0x5000, &list(&entries));
            let tables = Tables::open(&memory, &rsdp(0, 0x5000)).unwrap();
            let _ = tables.find(Signature::SSDT);
            prop_assert!(tables.all(Signature::SSDT).count() <= entries.len());
        }
    }
}
