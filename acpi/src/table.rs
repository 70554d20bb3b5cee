//! One table: its header, its checksum, and a copy that may be believed.

use memory::{Gpa, GuestMemory};

use crate::bytes::{array, sum};
use crate::{AcpiError, Fault, Signature};

/// Bytes of the header every table begins with (ACPI 6.5, 5.2.6).
pub const HEADER_LEN: u32 = 36;

/// The longest table read; the largest AML programs seen have less than a tenth of it.
pub const MAX_TABLE_LEN: u32 = 16 * 1024 * 1024;

/// Bytes fetched at once while a table is summed up.
const PIECE: usize = 256;

/// A table whose header and checksum were right when it was looked at.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Table {
    /// What it is called.
    pub signature: Signature,
    /// Where it begins.
    pub at: Gpa,
    /// How many bytes it has, its header included.
    pub length: u32,
    /// Its revision.
    pub revision: u8,
}

impl Table {
    /// Checks the table at `at`: its signature, length and checksum.
    ///
    /// # Errors
    /// [`AcpiError`] naming `signature` and what is wrong.
    pub fn check(
        memory: &impl GuestMemory,
        signature: Signature,
        at: Gpa,
    ) -> Result<Self, AcpiError> {
        let table = Self::from_header(&Header::fetch(memory, signature, at)?, signature, at)?;
        let mut total = 0_u8;
        table.visit(memory, |piece| total = total.wrapping_add(sum(piece)))?;
        table.settle(total)?;
        Ok(table)
    }

    /// Copies the table into `buffer`, fetching each byte once, and checks the copy: nothing
    /// that changes the table afterwards is noticed or matters.
    ///
    /// # Errors
    /// [`AcpiError`] if the buffer is too small or the copy is not the table that was checked.
    pub fn copy<'b>(
        &self,
        memory: &impl GuestMemory,
        buffer: &'b mut [u8],
    ) -> Result<Content<'b>, AcpiError> {
        let room = u32::try_from(buffer.len()).unwrap_or(u32::MAX);
        let bytes =
            buffer
                .get_mut(..self.length as usize)
                .ok_or(self.error(Fault::BufferTooSmall {
                    length: self.length,
                    buffer: room,
                }))?;
        fetch(memory, self.signature, self.at, 0, bytes)?;
        let header = array(bytes, 0).ok_or(self.error(Fault::Length {
            found: self.length,
            least: HEADER_LEN,
            most: MAX_TABLE_LEN,
        }))?;
        let header = Header::parse(&header);
        let again = Self::from_header(&header, self.signature, self.at)?;
        if again.length != self.length {
            return Err(self.error(Fault::Length {
                found: again.length,
                least: self.length,
                most: self.length,
            }));
        }
        again.settle(sum(bytes))?;
        Ok(Content {
            table: again,
            bytes,
        })
    }

    /// Fetches the whole table in pieces, each byte once and in order.
    pub(crate) fn visit(
        &self,
        memory: &impl GuestMemory,
        mut look: impl FnMut(&[u8]),
    ) -> Result<(), AcpiError> {
        let mut piece = [0; PIECE];
        let mut offset = 0;
        while offset < self.length {
            let len = (self.length - offset).min(PIECE as u32);
            let (piece, _) = piece.split_at_mut(len as usize);
            fetch(memory, self.signature, self.at, offset, piece)?;
            look(piece);
            offset += len;
        }
        Ok(())
    }

    /// Takes the sum of all bytes, which must be 0.
    pub(crate) fn settle(&self, sum: u8) -> Result<(), AcpiError> {
        if sum == 0 {
            return Ok(());
        }
        Err(self.error(Fault::Checksum {
            sum,
            covered: self.length,
        }))
    }

    pub(crate) fn error(&self, fault: Fault) -> AcpiError {
        AcpiError {
            table: self.signature,
            at: self.at,
            fault,
        }
    }

    /// Believes a header if it has the signature wanted and a possible length. The checksum is
    /// still owed.
    pub(crate) fn from_header(
        header: &Header,
        wanted: Signature,
        at: Gpa,
    ) -> Result<Self, AcpiError> {
        let table = Self {
            signature: wanted,
            at,
            length: header.length,
            revision: header.revision,
        };
        if header.signature != wanted {
            return Err(table.error(Fault::Signature {
                found: header.signature,
            }));
        }
        let fits = at.checked_add(u64::from(header.length)).is_some();
        if !fits || !(HEADER_LEN..=MAX_TABLE_LEN).contains(&header.length) {
            return Err(table.error(Fault::Length {
                found: header.length,
                least: HEADER_LEN,
                most: MAX_TABLE_LEN,
            }));
        }
        Ok(table)
    }
}

/// The fields of a header that matter here.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) struct Header {
    pub(crate) signature: Signature,
    length: u32,
    revision: u8,
}

impl Header {
    /// Fetches the header at `at`; `wanted` is for the error alone.
    pub(crate) fn fetch(
        memory: &impl GuestMemory,
        wanted: Signature,
        at: Gpa,
    ) -> Result<Self, AcpiError> {
        let mut bytes = [0; HEADER_LEN as usize];
        fetch(memory, wanted, at, 0, &mut bytes)?;
        Ok(Self::parse(&bytes))
    }

    pub(crate) fn parse(bytes: &[u8; HEADER_LEN as usize]) -> Self {
        let [s0, s1, s2, s3, l0, l1, l2, l3, revision, ..] = *bytes;
        Self {
            signature: Signature([s0, s1, s2, s3]),
            length: u32::from_le_bytes([l0, l1, l2, l3]),
            revision,
        }
    }
}

/// A checked copy of a whole table.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Content<'b> {
    table: Table,
    bytes: &'b [u8],
}

impl<'b> Content<'b> {
    /// Which table this is a copy of.
    pub fn table(&self) -> Table {
        self.table
    }

    /// The whole table, header included.
    pub fn bytes(&self) -> &'b [u8] {
        self.bytes
    }

    /// The copy as the table `signature` with at least `least` bytes.
    pub(crate) fn expect(&self, signature: Signature, least: u32) -> Result<(), AcpiError> {
        if self.table.signature != signature {
            return Err(AcpiError {
                table: signature,
                at: self.table.at,
                fault: Fault::Signature {
                    found: self.table.signature,
                },
            });
        }
        if self.table.length < least {
            return Err(self.table.error(Fault::Length {
                found: self.table.length,
                least,
                most: MAX_TABLE_LEN,
            }));
        }
        Ok(())
    }
}

/// Fetches bytes `offset` into the table at `at`.
pub(crate) fn fetch(
    memory: &impl GuestMemory,
    table: Signature,
    at: Gpa,
    offset: u32,
    to: &mut [u8],
) -> Result<(), AcpiError> {
    let unreadable = AcpiError {
        table,
        at,
        fault: Fault::Unreadable { offset },
    };
    let from = at.checked_add(u64::from(offset)).ok_or(unreadable)?;
    memory.read(from, to).map_err(|_| unreadable)
}

#[cfg(test)]
mod tests {
    extern crate std;

    use std::string::ToString;

    use proptest::prelude::*;

    use super::*;
    use crate::q35::{self, Memory};

    #[test]
    fn a_checked_table_is_copied_whole() {
        let memory = Memory::q35();
        let table = Table::check(&memory, Signature::MADT, Gpa::new(q35::MADT_AT)).unwrap();
        let mut buffer = [0; 256];
        let content = table.copy(&memory, &mut buffer).unwrap();
        assert_eq!(content.bytes(), q35::MADT);
        assert_eq!(content.table(), table);
    }

    #[test]
    fn the_entire_table_including_the_checksum_must_add_up_to_zero() {
        for offset in 0..q35::MCFG.len() {
            let mut bytes = q35::MCFG;
            bytes[offset] ^= 1;
            let memory = Memory::default().with(0x1000, &bytes);
            assert!(
                Table::check(&memory, Signature::MCFG, Gpa::new(0x1000)).is_err(),
                "offset {offset}"
            );
        }
    }

    #[test]
    fn a_table_that_changes_after_its_check_is_not_believed() {
        let at = Gpa::new(q35::MADT_AT);
        let table = Table::check(&Memory::q35(), Signature::MADT, at).unwrap();
        let mut changed = q35::MADT;
        changed[46] ^= 1;
        let memory = Memory::default().with(at.raw(), &changed);
        let error = table.copy(&memory, &mut [0; 256]).unwrap_err();
        assert!(matches!(error.fault, Fault::Checksum { .. }));
    }

    #[test]
    fn a_table_that_grows_after_its_check_is_not_believed() {
        let at = Gpa::new(0x1000);
        let memory = Memory::default().with(0x1000, &q35::table(b"APIC", &[0; 20]));
        let table = Table::check(&memory, Signature::MADT, at).unwrap();
        let mut grown = q35::table(b"APIC", &[0; 20]);
        grown[4] += 1;
        grown[9] = grown[9].wrapping_sub(1);
        let error = table
            .copy(&Memory::default().with(0x1000, &grown), &mut [0; 256])
            .unwrap_err();
        assert!(matches!(error.fault, Fault::Length { found: 57, .. }));
    }

    #[test]
    fn a_copy_fetches_each_byte_once() {
        let memory = Memory::q35();
        let table = Table::check(&memory, Signature::DSDT, Gpa::new(q35::DSDT_AT)).unwrap();
        let before = memory.fetched();
        table.copy(&memory, &mut [0; 4096]).unwrap();
        assert_eq!(memory.fetched() - before, table.length as usize);
    }

    #[test]
    fn a_buffer_that_is_too_small_is_a_refusal() {
        let memory = Memory::q35();
        let table = Table::check(&memory, Signature::MADT, Gpa::new(q35::MADT_AT)).unwrap();
        let error = table.copy(&memory, &mut [0; 127]).unwrap_err();
        assert_eq!(
            error.to_string(),
            "ACPI table APIC at 0xffe217b: its 128 bytes do not fit the 127 bytes Bouncer keeps \
             for it"
        );
    }

    #[test]
    fn a_table_running_out_of_memory_says_where() {
        let memory = Memory::default().with(0x1000, &q35::MADT[..100]);
        let error = Table::check(&memory, Signature::MADT, Gpa::new(0x1000)).unwrap_err();
        assert_eq!(error.fault, Fault::Unreadable { offset: 0 });
    }

    proptest! {
        #[test]
        fn no_header_whatsoever_panics(header in any::<[u8; 36]>(), at in any::<u64>()) {
            let memory = Memory::default().with(at, &header);
            let signature = Signature([header[0], header[1], header[2], header[3]]);
            let _ = Table::check(&memory, signature, Gpa::new(at));
        }
    }
}
