//! Sleep types: the numbers that put the machine into S3 and S5.
//!
//! They are the one thing needed that only AML tells. Firmware writes them as a package of
//! constants, so a bounded search for the package's encoding finds them; there is no
//! interpreter here.

use memory::GuestMemory;

use crate::table::{Header, fetch};
use crate::{AcpiError, Fadt, Fault, Field, Signature, Table, Tables};

/// What to write into the `SLP_TYP` fields to enter a sleep state (ACPI 6.5, PM1 control registers).
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct SleepType {
    /// For the PM1a control block; at most 7.
    pub pm1a: u8,
    /// For the PM1b control block; at most 7.
    pub pm1b: u8,
}

/// The sleep states a machine names.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub struct SleepStates {
    /// Sleep with memory kept.
    pub s3: Option<SleepType>,
    /// Off.
    pub s5: Option<SleepType>,
}

/// Searches the DSDT, then the SSDTs in the order of the list; the first table that has a state
/// decides it.
///
/// # Errors
/// [`AcpiError`] if a table is damaged, or holds one name with two values.
pub fn find_sleep_states<M: GuestMemory>(
    tables: &Tables<'_, M>,
    fadt: &Fadt,
) -> Result<SleepStates, AcpiError> {
    let memory = tables.memory();
    let header = Header::fetch(memory, Signature::DSDT, fadt.dsdt)?;
    let dsdt = Table::from_header(&header, Signature::DSDT, fadt.dsdt)?;
    let mut found = search(memory, &dsdt)?;
    for ssdt in tables.all(Signature::SSDT) {
        if found.s3.is_some() && found.s5.is_some() {
            break;
        }
        let more = search(memory, &ssdt?)?;
        found.s3 = found.s3.or(more.s3);
        found.s5 = found.s5.or(more.s5);
    }
    Ok(found)
}

/// The most bytes the encoding takes: `NameOp`, root prefix, name, `PackageOp`, four bytes of
/// length, the count, and two constants of a prefix and up to eight bytes.
const LONGEST: usize = 1 + 1 + 4 + 1 + 4 + 1 + 9 + 9;

/// How much of the table is looked at together.
const WINDOW: usize = 512;

/// Fetches the table once, piece by piece: what is summed up is what was searched, and a wrong
/// sum takes back what was found.
fn search(memory: &impl GuestMemory, table: &Table) -> Result<SleepStates, AcpiError> {
    let mut found = SleepStates::default();
    let mut window = [0; WINDOW];
    // `window[..held]` are the table's bytes from `base` on.
    let (mut base, mut held) = (0_u32, 0_usize);
    let mut sum = 0_u8;
    loop {
        let unread = table
            .length
            .saturating_sub(base)
            .saturating_sub(held as u32);
        let more = (unread as usize).min(WINDOW - held);
        let fresh = window.get_mut(held..held + more).unwrap_or(&mut []);
        let from = base + held as u32;
        fetch(memory, table.signature, table.at, from, fresh)?;
        sum = fresh.iter().fold(sum, |sum, byte| sum.wrapping_add(*byte));
        held += more;

        let is_last = base + held as u32 >= table.length;
        // A name that begins in the last bytes may be cut off: it is left for the next window.
        let starts = if is_last { held } else { held - LONGEST };
        for start in 0..starts {
            let code = window.get(start..held).unwrap_or(&[]);
            found.note(code).map_err(|(sleep_type, expected)| {
                table.error(Fault::Field {
                    offset: base + start as u32,
                    expected,
                    found: u64::from(sleep_type.pm1a) | u64::from(sleep_type.pm1b) << 8,
                })
            })?;
        }
        if is_last {
            break;
        }
        window.copy_within(starts..held, 0);
        base += starts as u32;
        held -= starts;
    }
    table.settle(sum)?;
    Ok(found)
}

impl SleepStates {
    /// Notes the sleep type `code` begins with, if it begins with one.
    fn note(&mut self, code: &[u8]) -> Result<(), (SleepType, Field)> {
        let (state, found) = if let Some(found) = named(code, b"_S3_") {
            (&mut self.s3, found)
        } else if let Some(found) = named(code, b"_S5_") {
            (&mut self.s5, found)
        } else {
            return Ok(());
        };
        match *state {
            Some(known) if known != found => Err((found, Field::SameSleepType)),
            _ => {
                *state = Some(found);
                Ok(())
            }
        }
    }
}

const NAME_OP: u8 = 0x08;
const ROOT_CHAR: u8 = b'\\';
const PACKAGE_OP: u8 = 0x12;
const ZERO_OP: u8 = 0x00;
const ONE_OP: u8 = 0x01;
const BYTE_PREFIX: u8 = 0x0a;
const WORD_PREFIX: u8 = 0x0b;
const DWORD_PREFIX: u8 = 0x0c;
const QWORD_PREFIX: u8 = 0x0e;

/// The sleep type if `code` is `Name (name, Package {a, b, ...})` (ACPI 6.5, 20.2.5.1 `DefName`
/// and 20.2.5.4 `DefPackage`).
fn named(code: &[u8], name: &[u8; 4]) -> Option<SleepType> {
    let rest = code.strip_prefix(&[NAME_OP])?;
    let rest = rest.strip_prefix(&[ROOT_CHAR]).unwrap_or(rest);
    let rest = rest.strip_prefix(name)?;
    let rest = rest.strip_prefix(&[PACKAGE_OP])?;
    // PkgLength: the top two bits of the first byte tell how many more bytes follow.
    let (lead, rest) = rest.split_first()?;
    let rest = rest.get(usize::from(lead >> 6)..)?;
    let (count, rest) = rest.split_first()?;
    let (first, rest) = constant(rest)?;
    let (pm1a, pm1b) = match count {
        0 => return None,
        // One element is what firmware of ACPI 1.0 wrote: a byte for each block.
        1 => (first & 0xff, first >> 8),
        _ => (first, constant(rest)?.0),
    };
    Some(SleepType {
        pm1a: slp_typ(pm1a)?,
        pm1b: slp_typ(pm1b)?,
    })
}

/// An integer constant (ACPI 6.5, 20.2.3) and what follows it.
fn constant(code: &[u8]) -> Option<(u64, &[u8])> {
    let (op, rest) = code.split_first()?;
    let len = match *op {
        ZERO_OP => return Some((0, rest)),
        ONE_OP => return Some((1, rest)),
        BYTE_PREFIX => 1,
        WORD_PREFIX => 2,
        DWORD_PREFIX => 4,
        QWORD_PREFIX => 8,
        _ => return None,
    };
    let (digits, rest) = rest.split_at_checked(len)?;
    let value = digits
        .iter()
        .rev()
        .fold(0, |value, digit| value << 8 | u64::from(*digit));
    Some((value, rest))
}

/// `SLP_TYP` is a field of three bits.
fn slp_typ(value: u64) -> Option<u8> {
    u8::try_from(value).ok().filter(|value| *value < 8)
}

#[cfg(test)]
mod tests {
    extern crate std;

    use std::vec::Vec;

    use memory::Gpa;
    use proptest::prelude::*;

    use super::*;
    use crate::Rsdp;
    use crate::q35::{self, Memory};

    const S3: SleepType = SleepType { pm1a: 1, pm1b: 1 };
    const S5: SleepType = SleepType { pm1a: 0, pm1b: 0 };

    fn states(memory: &Memory) -> Result<SleepStates, AcpiError> {
        let rsdp = Rsdp::read(memory, Gpa::new(q35::RSDP_AT)).unwrap();
        let tables = Tables::open(memory, &rsdp).unwrap();
        let fadt = tables.find(Signature::FADT).unwrap().unwrap();
        let fadt = Fadt::parse(&fadt.copy(memory, &mut [0; 1024]).unwrap()).unwrap();
        find_sleep_states(&tables, &fadt)
    }

    /// The states of the machine with `code` in its DSDT.
    fn states_in(code: &[u8]) -> Result<SleepStates, AcpiError> {
        states(&Memory::q35().with(q35::DSDT_AT, &q35::dsdt(code)))
    }

    /// `Name (_S5, Package {elements})`.
    fn s5(count: u8, elements: &[u8]) -> Vec<u8> {
        let mut code = b"\x08_S5_\x12".to_vec();
        code.push(2 + elements.len() as u8);
        code.push(count);
        code.extend(elements);
        code
    }

    #[test]
    fn qemus_sleep_states_are_found() {
        assert_eq!(
            states(&Memory::q35()),
            Ok(SleepStates {
                s3: Some(S3),
                s5: Some(S5)
            })
        );
    }

    #[test]
    fn every_integer_constant_is_understood() {
        for elements in [
            &[0x0a, 5, ONE_OP][..],
            &[0x0b, 5, 0, 0x0a, 1],
            &[0x0c, 5, 0, 0, 0, ONE_OP],
            &[0x0e, 5, 0, 0, 0, 0, 0, 0, 0, 0x0b, 1, 0],
        ] {
            assert_eq!(
                states_in(&s5(2, elements)).unwrap().s5,
                Some(SleepType { pm1a: 5, pm1b: 1 })
            );
        }
    }

    #[test]
    fn a_name_from_the_root_and_a_long_length_are_understood() {
        let code = b"\x08\\_S5_\x12\x46\x00\x04\x0a\x07\x0a\x06\x00\x00";
        assert_eq!(
            states_in(code).unwrap().s5,
            Some(SleepType { pm1a: 7, pm1b: 6 })
        );
    }

    #[test]
    fn a_single_element_holds_a_byte_for_each_block() {
        assert_eq!(
            states_in(&s5(1, &[0x0b, 5, 2])).unwrap().s5,
            Some(SleepType { pm1a: 5, pm1b: 2 })
        );
    }

    #[test]
    fn a_sleep_type_of_more_than_three_bits_is_not_one() {
        assert_eq!(states_in(&s5(2, &[0x0a, 8, 0])).unwrap().s5, None);
    }

    #[test]
    fn a_method_of_that_name_is_not_a_constant() {
        assert_eq!(states_in(b"\x14\x08_S5_\x00\xa4\x01").unwrap().s5, None);
    }

    #[test]
    fn one_name_with_two_values_is_refused() {
        let mut code = s5(2, &[0x0a, 5, 0]);
        code.extend(s5(2, &[0x0a, 6, 0]));
        let error = states_in(&code).unwrap_err();
        assert!(matches!(
            error.fault,
            Fault::Field {
                expected: Field::SameSleepType,
                ..
            }
        ));
    }

    #[test]
    fn one_name_with_one_value_twice_is_fine() {
        let mut code = s5(2, &[0x0a, 5, 0]);
        code.extend(s5(2, &[0x0a, 5, 0]));
        assert!(states_in(&code).unwrap().s5.is_some());
    }

    #[test]
    fn what_a_damaged_table_says_is_taken_back() {
        let mut bytes = q35::dsdt(&q35::SLEEP_NAMES);
        bytes[40] ^= 1;
        let error = states(&Memory::q35().with(q35::DSDT_AT, &bytes)).unwrap_err();
        assert!(matches!(error.fault, Fault::Checksum { .. }));
    }

    #[test]
    fn an_ssdt_fills_in_what_the_dsdt_lacks() {
        let memory = Memory::q35()
            .with(q35::DSDT_AT, &q35::dsdt(b""))
            .with(0xffe_22d7, &q35::table(b"SSDT", &s5(2, &[0x0a, 5, 1])));
        assert_eq!(
            states(&memory),
            Ok(SleepStates {
                s3: None,
                s5: Some(SleepType { pm1a: 5, pm1b: 1 })
            })
        );
    }

    #[test]
    fn the_dsdt_is_fetched_once() {
        let memory = Memory::q35();
        let table = Table {
            signature: Signature::DSDT,
            at: Gpa::new(q35::DSDT_AT),
            length: q35::dsdt(&q35::SLEEP_NAMES).len() as u32,
            revision: 1,
        };
        search(&memory, &table).unwrap();
        assert_eq!(memory.fetched(), table.length as usize);
    }

    proptest! {
        #[test]
        fn names_are_found_wherever_they_lie(before in 0_usize..1500, after in 0_usize..1500) {
            let mut body = std::vec![0xa3; before];
            body.extend(q35::SLEEP_NAMES);
            body.extend(std::vec![0xa3; after]);
            let memory = Memory::q35().with(q35::DSDT_AT, &q35::table(b"DSDT", &body));
            prop_assert_eq!(states(&memory), Ok(SleepStates { s3: Some(S3), s5: Some(S5) }));
        }

        #[test]
        fn no_encoding_whatsoever_panics(
            tail in proptest::collection::vec(any::<u8>(), 0..40),
        ) {
            let mut code = b"\x08_S5_\x12".to_vec();
            code.extend(tail);
            let memory = Memory::q35().with(q35::DSDT_AT, &q35::table(b"DSDT", &code));
            if let Ok(found) = states(&memory) {
                prop_assert!(found.s5.is_none_or(|found| found.pm1a < 8 && found.pm1b < 8));
            }
        }
    }
}
