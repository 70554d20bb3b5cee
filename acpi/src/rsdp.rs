//! The root pointer, from which all tables are found.

use memory::{Gpa, GuestMemory};

use crate::bytes::{array, sum, u32_at, u64_at};
use crate::table::fetch;
use crate::{AcpiError, Fault, Signature};

/// Bytes of the first version, all of them covered by the first checksum.
const V1_LEN: usize = 20;
/// Bytes of the second version, all of them covered by the extended checksum.
const V2_LEN: usize = 36;

/// ACPI's root pointer, both checksums verified (ACPI 6.5, 5.2.5.3).
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Rsdp {
    /// Where the structure was found.
    pub at: Gpa,
    /// 0 for ACPI 1.0, 2 and above for a structure with an XSDT.
    pub revision: u8,
    /// Where the RSDT lies, 0 for nowhere.
    pub rsdt: u32,
    /// Where the XSDT lies, 0 for nowhere and before revision 2.
    pub xsdt: u64,
    bytes: [u8; V2_LEN],
}

impl Rsdp {
    /// Bytes of the longest structure that is read.
    pub const MAX_LEN: usize = V2_LEN;

    /// Fetches and checks the structure at `at`.
    ///
    /// # Errors
    /// [`AcpiError`] if there is no memory, another signature, or a wrong checksum.
    pub fn read(memory: &impl GuestMemory, at: Gpa) -> Result<Self, AcpiError> {
        let mut bytes = [0; V2_LEN];
        // A first version may end at the end of memory: the rest is fetched only when the
        // revision says that it is there.
        let (head, tail) = bytes.split_at_mut(V1_LEN);
        fetch(memory, Signature::RSDP, at, 0, head)?;
        if has_second_part(head) {
            fetch(memory, Signature::RSDP, at, V1_LEN as u32, tail)?;
        }
        Self::parse(&bytes, at)
    }

    /// Checks a structure a boot loader has copied; `at` is where the copy lies, for errors.
    ///
    /// # Errors
    /// [`AcpiError`] if the bytes are too few, or have another signature or a wrong checksum.
    pub fn parse(bytes: &[u8], at: Gpa) -> Result<Self, AcpiError> {
        let error = |fault| AcpiError {
            table: Signature::RSDP,
            at,
            fault,
        };
        let too_short = |least: usize| {
            error(Fault::Length {
                found: u32::try_from(bytes.len()).unwrap_or(u32::MAX),
                least: least as u32,
                most: V2_LEN as u32,
            })
        };
        let first: [u8; V1_LEN] = array(bytes, 0).ok_or(too_short(V1_LEN))?;
        if !first.starts_with(b"RSD PTR ") {
            let found = Signature(array(&first, 0).unwrap_or_default());
            return Err(error(Fault::Signature { found }));
        }
        checked(&first).map_err(error)?;
        let revision = first[15];
        let rsdt = u32_at(&first, 16).unwrap_or(0);
        if !has_second_part(&first) {
            let mut all = [0; V2_LEN];
            all.split_at_mut(V1_LEN).0.copy_from_slice(&first);
            return Ok(Self {
                at,
                revision,
                rsdt,
                xsdt: 0,
                bytes: all,
            });
        }
        let all: [u8; V2_LEN] = array(bytes, 0).ok_or(too_short(V2_LEN))?;
        checked(&all).map_err(error)?;
        let length = u32_at(&all, 20).unwrap_or(0);
        if length < V2_LEN as u32 {
            return Err(error(Fault::Length {
                found: length,
                least: V2_LEN as u32,
                most: u32::MAX,
            }));
        }
        Ok(Self {
            at,
            revision,
            rsdt,
            xsdt: u64_at(&all, 24).unwrap_or(0),
            bytes: all,
        })
    }

    /// The structure itself, for whoever hands it on.
    pub fn bytes(&self) -> &[u8] {
        if has_second_part(&self.bytes) {
            &self.bytes
        } else {
            self.bytes.split_at(V1_LEN).0
        }
    }
}

/// The revision lies at offset 15; "larger revision numbers are backward compatible".
fn has_second_part(first: &[u8]) -> bool {
    first.get(15).is_some_and(|revision| *revision >= 2)
}

fn checked(bytes: &[u8]) -> Result<(), Fault> {
    match sum(bytes) {
        0 => Ok(()),
        sum => Err(Fault::Checksum {
            sum,
            covered: bytes.len() as u32,
        }),
    }
}

#[cfg(test)]
mod tests {
    extern crate std;

    use std::string::ToString;

    use super::*;
    use crate::q35::{self, Memory};

    fn v2() -> [u8; V2_LEN] {
        q35::root_pointer(0xffe_22ff, 0x1_2345_6000)
    }

    #[test]
    fn qemus_first_version_names_the_rsdt() {
        let rsdp = Rsdp::read(&Memory::q35(), Gpa::new(q35::RSDP_AT)).unwrap();
        assert_eq!((rsdp.revision, rsdp.rsdt, rsdp.xsdt), (0, 0xffe_22ff, 0));
        assert_eq!(rsdp.bytes(), q35::RSDP);
    }

    #[test]
    fn a_second_version_names_the_xsdt() {
        let rsdp = Rsdp::parse(&v2(), Gpa::new(0)).unwrap();
        assert_eq!(rsdp.xsdt, 0x1_2345_6000);
        assert_eq!(rsdp.bytes(), v2());
    }

    #[test]
    fn a_first_version_may_end_at_the_end_of_memory() {
        let memory = Memory::default().with(0xffff_ffec, &q35::RSDP);
        assert!(Rsdp::read(&memory, Gpa::new(0xffff_ffec)).is_ok());
    }

    #[test]
    fn the_first_checksum_covers_twenty_bytes() {
        for offset in 0..V1_LEN {
            let mut bytes = q35::RSDP;
            bytes[offset] ^= 0x40;
            assert!(Rsdp::parse(&bytes, Gpa::new(0)).is_err(), "offset {offset}");
        }
    }

    #[test]
    fn the_extended_checksum_covers_all_of_a_second_version() {
        for offset in V1_LEN..V2_LEN {
            let mut bytes = v2();
            bytes[offset] ^= 0x40;
            assert!(Rsdp::parse(&bytes, Gpa::new(0)).is_err(), "offset {offset}");
        }
    }

    #[test]
    fn a_second_version_cut_short_is_refused() {
        let error = Rsdp::parse(&v2()[..30], Gpa::new(0xe0000)).unwrap_err();
        assert_eq!(
            error.to_string(),
            "ACPI table RSDP at 0xe0000: expected a length of 36 bytes, found 30"
        );
    }

    #[test]
    fn a_second_version_that_says_it_is_short_is_refused() {
        let mut bytes = v2();
        bytes[20] = 20;
        bytes[32] = 0;
        bytes[32] = sum(&bytes).wrapping_neg();
        let error = Rsdp::parse(&bytes, Gpa::new(0)).unwrap_err();
        assert!(matches!(error.fault, Fault::Length { found: 20, .. }));
    }
}
