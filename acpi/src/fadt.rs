//! The fixed ACPI description table: power management registers, reset, and where AML lies.

use memory::Gpa;

use crate::bytes::{u16_at, u32_at, u64_at};
use crate::{AcpiError, Content, Fault, Field, Signature};

/// Bytes of the shortest table, ACPI 1.0's.
const V1_LEN: u32 = 116;

const DSDT: usize = 40;
const SCI_INT: usize = 46;
const PM1A_CNT_BLK: usize = 64;
const PM1B_CNT_BLK: usize = 68;
const PM_TMR_BLK: usize = 76;
const FLAGS: usize = 112;
const RESET_REG: usize = 116;
const RESET_VALUE: usize = 128;
const X_DSDT: usize = 140;
const X_PM1A_CNT_BLK: usize = 172;
const X_PM1B_CNT_BLK: usize = 184;
const X_PM_TMR_BLK: usize = 208;
const SLEEP_CONTROL_REG: usize = 244;

const TMR_VAL_EXT: u32 = 1 << 8;
const RESET_REG_SUP: u32 = 1 << 10;
const HW_REDUCED_ACPI: u32 = 1 << 20;

/// What the FADT says (ACPI 6.5, 5.2.9). Where there is an extended address (`X_`),
/// it wins over the older one.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Fadt {
    /// The interrupt ACPI events raise.
    pub sci: u16,
    /// Where the DSDT lies.
    pub dsdt: Gpa,
    /// The PM1a control block, which puts the machine to sleep.
    pub pm1a_control: Option<Register>,
    /// The PM1b control block, where the machine has one.
    pub pm1b_control: Option<Register>,
    /// The power-management timer.
    pub pm_timer: Option<PmTimer>,
    /// How the machine is reset, where the firmware says so.
    pub reset: Option<Reset>,
    /// The register that puts hardware-reduced machines to sleep.
    pub sleep_control: Option<Register>,
    /// The machine has none of the PM1 registers.
    pub is_hardware_reduced: bool,
}

/// A register of fixed hardware (generic address structure; ACPI 6.5, 5.2.3.2).
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Register {
    /// Where its address counts.
    pub space: AddressSpace,
    /// How many bits it has; 0 where the older fields name it, which do not say.
    pub bits: u8,
    /// Its address.
    pub address: u64,
}

impl Register {
    /// The register's port, if it is in port space.
    pub fn port(&self) -> Option<u16> {
        if self.space == AddressSpace::SYSTEM_IO {
            u16::try_from(self.address).ok()
        } else {
            None
        }
    }
}

/// Where an address counts.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct AddressSpace(pub u8);

impl AddressSpace {
    /// Physical memory.
    pub const SYSTEM_MEMORY: Self = Self(0);
    /// Ports.
    pub const SYSTEM_IO: Self = Self(1);
    /// PCI configuration space of bus 0.
    pub const PCI_CONFIG: Self = Self(2);
}

/// The power-management timer; it counts 3,579,545 times a second.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct PmTimer {
    /// Where it is read.
    pub register: Register,
    /// How many bits count before it wraps: 24 or 32.
    pub width: u8,
}

/// What resets the machine.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Reset {
    /// The register, eight bits wide.
    pub register: Register,
    /// What to store there.
    pub value: u8,
}

impl Fadt {
    /// Reads the fields out of a checked copy.
    ///
    /// # Errors
    /// [`AcpiError`] if the table is shorter than ACPI 1.0's, or names no DSDT.
    pub fn parse(content: &Content<'_>) -> Result<Self, AcpiError> {
        content.expect(Signature::FADT, V1_LEN)?;
        let bytes = content.bytes();
        let flags = u32_at(bytes, FLAGS).unwrap_or(0);

        let dsdt = u64_at(bytes, X_DSDT)
            .filter(|address| *address != 0)
            .or(u32_at(bytes, DSDT).map(u64::from))
            .filter(|address| *address != 0)
            .ok_or(content.table().error(Fault::Field {
                offset: DSDT as u32,
                expected: Field::TableAddress,
                found: 0,
            }))?;
        let width = if flags & TMR_VAL_EXT == 0 { 24 } else { 32 };
        Ok(Self {
            sci: u16_at(bytes, SCI_INT).unwrap_or(0),
            dsdt: Gpa::new(dsdt),
            pm1a_control: either(bytes, X_PM1A_CNT_BLK, PM1A_CNT_BLK),
            pm1b_control: either(bytes, X_PM1B_CNT_BLK, PM1B_CNT_BLK),
            pm_timer: either(bytes, X_PM_TMR_BLK, PM_TMR_BLK)
                .map(|register| PmTimer { register, width }),
            reset: reset(bytes, flags),
            sleep_control: generic_address(bytes, SLEEP_CONTROL_REG),
            is_hardware_reduced: flags & HW_REDUCED_ACPI != 0,
        })
    }
}

fn reset(bytes: &[u8], flags: u32) -> Option<Reset> {
    if flags & RESET_REG_SUP == 0 {
        return None;
    }
    Some(Reset {
        register: generic_address(bytes, RESET_REG)?,
        value: bytes.get(RESET_VALUE).copied()?,
    })
}

/// "If this field contains a non-zero value" the extended one is used, otherwise the port of
/// the older one; `None` if both are 0.
fn either(bytes: &[u8], extended: usize, old: usize) -> Option<Register> {
    let port = || {
        let address = u32_at(bytes, old).filter(|address| *address != 0)?;
        Some(Register {
            space: AddressSpace::SYSTEM_IO,
            bits: 0,
            address: u64::from(address),
        })
    };
    generic_address(bytes, extended).or_else(port)
}

/// The generic address structure at `offset`; `None` if its address is 0 or the table ends
/// before it.
fn generic_address(bytes: &[u8], offset: usize) -> Option<Register> {
    let structure = bytes.get(offset..)?.get(..12)?;
    let address = u64_at(structure, 4).filter(|address| *address != 0)?;
    Some(Register {
        space: AddressSpace(*structure.first()?),
        bits: *structure.get(1)?,
        address,
    })
}

#[cfg(test)]
mod tests {
    extern crate std;

    use std::vec::Vec;

    use proptest::prelude::*;

    use super::*;
    use crate::Table;
    use crate::q35::{self, Memory};

    fn parse(bytes: &[u8]) -> Result<Fadt, AcpiError> {
        let memory = Memory::default().with(0x1000, bytes);
        let table = Table::check(&memory, Signature::FADT, Gpa::new(0x1000)).unwrap();
        Fadt::parse(&table.copy(&memory, &mut [0; 1024]).unwrap())
    }

    /// QEMU's table with these bytes laid over it.
    fn changed(changes: &[(usize, &[u8])]) -> Vec<u8> {
        let mut bytes = q35::FADT.to_vec();
        for (offset, change) in changes {
            bytes[*offset..*offset + change.len()].copy_from_slice(change);
        }
        q35::resealed(&bytes)
    }

    #[test]
    fn qemus_registers_are_told() {
        let fadt = parse(&q35::FADT).unwrap();
        assert_eq!(fadt.sci, 9);
        assert_eq!(fadt.dsdt, Gpa::new(q35::DSDT_AT));
        assert_eq!(fadt.pm1a_control.unwrap().port(), Some(0x604));
        assert_eq!(fadt.pm1b_control, None);
        assert!(!fadt.is_hardware_reduced);
        assert_eq!(fadt.sleep_control, None);
    }

    #[test]
    fn qemus_timer_and_reset_are_told() {
        let fadt = parse(&q35::FADT).unwrap();
        let timer = fadt.pm_timer.unwrap();
        assert_eq!((timer.register.port(), timer.width), (Some(0x608), 24));
        let reset = fadt.reset.unwrap();
        assert_eq!((reset.register.port(), reset.value), (Some(0xcf9), 0x0f));
    }

    #[test]
    fn a_table_of_acpi_1_has_the_older_fields_alone() {
        let fadt = parse(&q35::resealed(&q35::FADT[..116])).unwrap();
        assert_eq!(fadt.dsdt, Gpa::new(q35::DSDT_AT));
        assert_eq!(fadt.pm1a_control.unwrap().port(), Some(0x604));
        assert_eq!(fadt.pm_timer.unwrap().register.port(), Some(0x608));
        assert_eq!(fadt.reset, None);
    }

    #[test]
    fn an_extended_address_wins_over_the_older_one() {
        let fadt = parse(&changed(&[
            (X_DSDT, &0x1_0000_0000_u64.to_le_bytes()),
            (X_PM1A_CNT_BLK, &[0, 16, 0, 2, 0, 0, 0, 0xfd]),
        ]))
        .unwrap();
        assert_eq!(fadt.dsdt, Gpa::new(0x1_0000_0000));
        let control = fadt.pm1a_control.unwrap();
        assert_eq!(control.space, AddressSpace::SYSTEM_MEMORY);
        assert_eq!((control.address, control.port()), (0xfd00_0000, None));
    }

    #[test]
    fn with_tmr_val_ext_the_timer_has_32_bits() {
        let fadt = parse(&changed(&[(FLAGS + 1, &[0x85])])).unwrap();
        assert_eq!(fadt.pm_timer.unwrap().width, 32);
    }

    #[test]
    fn without_reset_reg_sup_there_is_no_reset_register() {
        let fadt = parse(&changed(&[(FLAGS + 1, &[0x80])])).unwrap();
        assert_eq!(fadt.reset, None);
    }

    #[test]
    fn a_hardware_reduced_machine_says_so() {
        let fadt = parse(&changed(&[(FLAGS + 2, &[0x10])])).unwrap();
        assert!(fadt.is_hardware_reduced);
    }

    #[test]
    fn a_table_without_a_dsdt_is_refused() {
        let error = parse(&changed(&[(DSDT, &[0; 4]), (X_DSDT, &[0; 8])])).unwrap_err();
        assert!(matches!(error.fault, Fault::Field { offset: 40, .. }));
    }

    #[test]
    fn a_table_shorter_than_acpi_1s_is_refused() {
        let error = parse(&q35::resealed(&q35::FADT[..115])).unwrap_err();
        assert!(matches!(error.fault, Fault::Length { least: 116, .. }));
    }

    proptest! {
        #[test]
        fn resealed_and_cut_anywhere_with_any_byte_changed_it_never_panics(
            offset in 36_usize..244,
            byte: u8,
            length in 36_usize..=244,
        ) {
            let mut bytes = q35::FADT;
            bytes[offset] = byte;
            let _ = parse(&q35::resealed(&bytes[..length]));
        }
    }
}
