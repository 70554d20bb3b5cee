extern crate std;

use core::ops::RangeInclusive;
use std::vec::Vec;

use memory::Hpa;
use pci::{Address, Bdf};
use proptest::prelude::*;

use super::*;

/// Nothing is a bridge.
fn flat(_: Address) -> Option<RangeInclusive<u8>> {
    None
}

fn at(bus: u8, device: u8, function: u8) -> Address {
    Address::new(0, Bdf::new(bus, device, function).unwrap())
}

fn table(flags: u8, structures: &[Vec<u8>]) -> Vec<u8> {
    let mut bytes = Vec::from(*b"DMAR\0\0\0\0\x01\0BOCHS BXPC    \x01\0\0\0BXPC\x01\0\0\0");
    bytes.extend([38, flags]);
    bytes.resize(HEADER, 0);
    for structure in structures {
        bytes.extend(structure);
    }
    let length = u32::try_from(bytes.len()).unwrap();
    bytes[4..8].copy_from_slice(&length.to_le_bytes());
    bytes
}

fn structure(kind: u16, body: &[&[u8]]) -> Vec<u8> {
    let body = body.concat();
    let mut bytes = Vec::from(kind.to_le_bytes());
    bytes.extend(u16::try_from(body.len() + 4).unwrap().to_le_bytes());
    bytes.extend(body);
    bytes
}

fn unit(flags: u8, segment: u16, base: u64, scopes: &[&[u8]]) -> Vec<u8> {
    let head = [&[flags, 0], &segment.to_le_bytes()[..], &base.to_le_bytes()].concat();
    structure(0, &[&head, &scopes.concat()])
}

/// Constructed after what QEMU writes for a q35 machine with `intel-iommu,intremap=on`: one
/// unit at 0xfed90000 with flags 0 that names its I/O APIC (at Bus ff, 00.0) and each function.
fn q35() -> Vec<u8> {
    table(
        0x01,
        &[unit(
            0,
            0,
            0xfed9_0000,
            &[
                &[3, 8, 0, 0, 0, 0xff, 0, 0],
                &[1, 8, 0, 0, 0, 0, 0, 0],
                &[1, 8, 0, 0, 0, 0, 4, 0],
                &[2, 8, 0, 0, 0, 0, 5, 0],
                &[1, 8, 0, 0, 0, 0, 0x1f, 2],
            ],
        )],
    )
}

/// Constructed after the layout of mobile machines with integrated graphics and Thunderbolt: a
/// graphics unit, one for the Thunderbolt ports, a catch-all unit with I/O APIC, timer and an
/// ACPI device, and reserved memory for USB and graphics. A second segment stands for servers.
fn laptop() -> Vec<u8> {
    table(
        0x07,
        &[
            unit(0, 0, 0xfed9_0000, &[&[1, 8, 0, 0, 0, 0, 2, 0]]),
            unit(
                0,
                0,
                0xfed8_4000,
                &[
                    &[2, 8, 0, 0, 0, 0, 7, 0],
                    // A function behind two bridges.
                    &[1, 12, 0, 0, 0, 0, 7, 0, 1, 0, 3, 1],
                ],
            ),
            unit(
                1,
                0,
                0xfed9_1000,
                &[
                    &[3, 8, 0, 0, 2, 0, 0x1e, 7],
                    &[4, 8, 0, 0, 0, 0, 0x1e, 6],
                    &[5, 8, 0, 0, 1, 0, 0x15, 0],
                ],
            ),
            unit(1, 1, 0xc000_0000, &[&[2, 8, 0, 0, 0, 0x10, 0, 0]]),
            structure(
                1,
                &[
                    &[0, 0, 0, 0],
                    &0x7b80_0000u64.to_le_bytes(),
                    &0x7fff_ffffu64.to_le_bytes(),
                    &[1, 8, 0, 0, 0, 0, 2, 0],
                ],
            ),
            structure(2, &[&[0, 0, 0, 0], &[2, 8, 0, 0, 0, 0, 7, 0]]),
            structure(3, &[&[0; 4], &0xfed9_1000u64.to_le_bytes(), &[1, 0, 0, 0]]),
            structure(4, &[&[0, 0, 0, 1], b"\\_SB.PCI0.I2C0\0"]),
            structure(5, &[&[1, 0, 0, 0], &[1, 8, 0, 0, 0, 0, 2, 0]]),
            structure(6, &[&[0; 4]]),
            structure(0x77, &[&[1, 2, 3]]),
        ],
    )
}

/// Port 00:07.0 leads to buses 1 to 0x20; below it 01:01.0 leads to 5.
fn laptop_bridges(bridge: Address) -> Option<RangeInclusive<u8>> {
    if bridge == at(0, 7, 0) {
        Some(1..=0x20)
    } else if bridge == at(1, 1, 0) {
        Some(5..=5)
    } else {
        None
    }
}

#[test]
fn the_emulated_machines_table_reads_as_one_unit_with_named_functions() {
    let bytes = q35();
    let dmar = Dmar::parse(&bytes).unwrap();
    let unit = dmar.units().next().unwrap();
    assert_eq!(dmar.units().count(), 1);
    assert_eq!(unit.registers, Hpa::new(0xfed9_0000));
    assert_eq!(unit.window, 4096);
    assert!(!unit.is_catch_all);
    assert_eq!(unit.scopes().count(), 5);
    assert_eq!(dmar.host_address_width(), 39);
    assert!(dmar.supports_interrupt_remapping());
    assert!(!dmar.opts_out_of_x2apic() && !dmar.opts_in_to_dma_control());
}

#[test]
fn an_io_apic_is_found_with_the_requester_id_of_its_interrupts() {
    let bytes = q35();
    let dmar = Dmar::parse(&bytes).unwrap();
    let (unit, source) = dmar.io_apic(0, &flat).unwrap();
    assert_eq!(unit.registers, Hpa::new(0xfed9_0000));
    assert_eq!(source, Bdf::new(0xff, 0, 0).unwrap());
    assert!(dmar.io_apic(9, &flat).is_none());

    let bytes = laptop();
    let dmar = Dmar::parse(&bytes).unwrap();
    let (_, source) = dmar.timer(0, &flat).unwrap();
    assert_eq!(source, Bdf::new(0, 0x1e, 6).unwrap());
}

#[test]
fn a_device_no_unit_names_has_no_unit_unless_one_takes_the_rest() {
    let bytes = q35();
    let dmar = Dmar::parse(&bytes).unwrap();
    assert!(dmar.unit_of(at(0, 9, 0), &flat).is_none());
    assert!(dmar.unit_of(at(0, 4, 0), &flat).is_some());
}

/// Section 8.3: INCLUDE_PCI_ALL is for devices that are not in the scope of another unit.
#[test]
fn a_named_device_belongs_to_the_unit_that_names_it_and_the_rest_to_the_catch_all() {
    let bytes = laptop();
    let dmar = Dmar::parse(&bytes).unwrap();
    let of = |device| dmar.unit_of(device, &laptop_bridges).unwrap().registers;
    assert_eq!(of(at(0, 2, 0)), Hpa::new(0xfed9_0000));
    assert_eq!(of(at(0, 0x1f, 0)), Hpa::new(0xfed9_1000));
    // The port itself and everything behind it, whatever its number.
    assert_eq!(of(at(0, 7, 0)), Hpa::new(0xfed8_4000));
    assert_eq!(of(at(0x20, 3, 4)), Hpa::new(0xfed8_4000));
    assert_eq!(of(at(0x21, 3, 4)), Hpa::new(0xfed9_1000));
}

#[test]
fn segments_do_not_mix() {
    let bytes = laptop();
    let dmar = Dmar::parse(&bytes).unwrap();
    let device = Address::new(1, Bdf::new(0, 2, 0).unwrap());
    let unit = dmar.unit_of(device, &laptop_bridges).unwrap();
    assert_eq!(unit.registers, Hpa::new(0xc000_0000));
    let nowhere = Address::new(2, Bdf::new(0, 2, 0).unwrap());
    assert!(dmar.unit_of(nowhere, &laptop_bridges).is_none());
}

/// Section 8.3.1: the bus of each later hop is the secondary bus of the bridge before it.
#[test]
fn a_path_is_walked_by_secondary_bus_numbers() {
    let bytes = laptop();
    let dmar = Dmar::parse(&bytes).unwrap();
    let scope = dmar.units().nth(1).unwrap().scopes().nth(1).unwrap();
    assert_eq!(
        scope.resolve(0, &laptop_bridges),
        Some(Bdf::new(5, 3, 1).unwrap())
    );
}

#[test]
fn a_path_through_a_bridge_without_bus_numbers_leads_nowhere() {
    let bytes = laptop();
    let dmar = Dmar::parse(&bytes).unwrap();
    let scope = dmar.units().nth(1).unwrap().scopes().nth(1).unwrap();
    assert_eq!(scope.resolve(0, &flat), None);
}

#[test]
fn every_kind_of_structure_is_told_and_unknown_ones_are_passed_over() {
    let bytes = laptop();
    let dmar = Dmar::parse(&bytes).unwrap();
    let mut seen = Vec::new();
    for found in dmar.structures() {
        seen.push(match found {
            Structure::Unit(_) => 0,
            Structure::ReservedRegion(_) => 1,
            Structure::AtsPorts { is_all_ports, .. } => {
                assert!(!is_all_ports);
                2
            }
            Structure::Affinity { proximity, .. } => {
                assert_eq!(proximity, 1);
                3
            }
            Structure::NamespaceDevice { number, name } => {
                assert_eq!((number, name), (1, &b"\\_SB.PCI0.I2C0"[..]));
                4
            }
            Structure::TranslationCaches { is_required, .. } => {
                assert!(is_required);
                5
            }
            Structure::Other { kind, .. } => kind,
        });
    }
    assert_eq!(seen, [0, 0, 0, 0, 1, 2, 3, 4, 5, 6, 0x77]);
}

#[test]
fn reserved_memory_belongs_to_its_device_alone() {
    let bytes = laptop();
    let dmar = Dmar::parse(&bytes).unwrap();
    let region = dmar.reserved_regions().next().unwrap();
    let range = region.range.unwrap();
    assert_eq!(
        (range.start(), range.len()),
        (Hpa::new(0x7b80_0000), 0x480_0000)
    );
    assert!(region.belongs_to(at(0, 2, 0), &flat));
    assert!(!region.belongs_to(at(0, 3, 0), &flat));
}

/// Section 8.4: base and limit are 4 KiB aligned, and the limit is above the base.
#[test]
fn reserved_memory_that_is_no_whole_number_of_pages_has_no_range() {
    for (base, last) in [
        (0x1000u64, 0xfffu64),
        (0x1001, 0x1fff),
        (0x1000, 0x1ffe),
        (0, 0),
    ] {
        let bytes = table(
            0,
            &[structure(
                1,
                &[&[0; 4], &base.to_le_bytes(), &last.to_le_bytes()],
            )],
        );
        let dmar = Dmar::parse(&bytes).unwrap();
        assert_eq!(dmar.reserved_regions().next().unwrap().range, None);
    }
}

fn defect(bytes: &[u8]) -> (usize, Defect) {
    let error = Dmar::parse(bytes).unwrap_err();
    (error.offset, error.defect)
}

#[test]
fn a_structure_too_short_for_its_own_length_is_an_error_that_names_its_place() {
    let mut bytes = q35();
    for length in 0..4 {
        bytes[HEADER + 2..HEADER + 4].copy_from_slice(&[length, 0]);
        assert_eq!(defect(&bytes), (HEADER, Defect::TooShort));
    }
}

#[test]
fn a_structure_shorter_than_its_type_is_an_error() {
    let bytes = table(0, &[structure(0, &[&[0; 4]])]);
    assert_eq!(defect(&bytes), (HEADER, Defect::TooShort));
}

#[test]
fn a_structure_beyond_the_table_is_an_error() {
    let mut bytes = q35();
    bytes[HEADER + 3] = 0xff;
    assert_eq!(defect(&bytes), (HEADER, Defect::Overrun));
}

#[test]
fn a_scope_too_short_for_its_own_header_is_an_error_that_names_its_place() {
    let mut bytes = q35();
    for length in 0..6 {
        bytes[HEADER + 16 + 8 + 1] = length;
        assert_eq!(defect(&bytes), (HEADER + 24, Defect::TooShort));
    }
}

#[test]
fn a_scope_beyond_its_structure_is_an_error() {
    let mut bytes = q35();
    let last = HEADER + 16 + 4 * 8;
    bytes[last + 1] = 10;
    assert_eq!(defect(&bytes), (last, Defect::Overrun));
}

#[test]
fn a_path_must_be_whole_hops_to_possible_functions() {
    let odd = table(0, &[unit(0, 0, 0x1000, &[&[1, 9, 0, 0, 0, 0, 1, 0, 2]])]);
    assert_eq!(defect(&odd), (HEADER + 16, Defect::Path));
    let empty = table(0, &[unit(0, 0, 0x1000, &[&[1, 6, 0, 0, 0, 0]])]);
    assert_eq!(defect(&empty), (HEADER + 16, Defect::Path));
    let device = table(0, &[unit(0, 0, 0x1000, &[&[1, 8, 0, 0, 0, 0, 32, 0]])]);
    assert_eq!(defect(&device), (HEADER + 16, Defect::Function));
}

#[test]
fn a_unit_needs_registers_of_its_own() {
    let zero = table(0, &[unit(0, 0, 0, &[])]);
    assert_eq!(defect(&zero), (HEADER + 8, Defect::UnitWithoutRegisters));
    let twice = table(0, &[unit(0, 0, 0x1000, &[]), unit(0, 1, 0x1000, &[])]);
    assert_eq!(defect(&twice), (HEADER + 16, Defect::UnitTwice));
    let all = table(0, &[unit(1, 0, 0x1000, &[]), unit(1, 0, 0x2000, &[])]);
    assert_eq!(defect(&all), (HEADER + 16, Defect::CatchAllTwice));
}

#[test]
fn a_table_shorter_than_it_says_is_an_error() {
    let bytes = q35();
    assert_eq!(defect(&bytes[..60]), (4, Defect::TableTruncated));
    assert_eq!(defect(b"DMAR"), (4, Defect::TableTruncated));
    assert_eq!(defect(b"APIC"), (0, Defect::Signature));
}

/// Reads everything a table offers.
fn read_all(dmar: &Dmar<'_>) -> usize {
    let mut seen = 0;
    for found in dmar.structures() {
        seen += 1;
        let scopes = match found {
            Structure::Unit(unit) => unit.scopes(),
            Structure::ReservedRegion(region) => region.scopes(),
            Structure::AtsPorts { scopes, .. } | Structure::TranslationCaches { scopes, .. } => {
                scopes
            }
            _ => continue,
        };
        for scope in scopes {
            assert!(scope.path().count() > 0);
            scope.resolve(0, &laptop_bridges);
        }
    }
    dmar.unit_of(at(5, 3, 1), &laptop_bridges);
    seen
}

proptest! {
    /// One changed byte gives an error or a table that reads to its end, never a panic or a loop.
    #[test]
    fn any_one_changed_byte_is_survived(
        which in any::<prop::sample::Index>(),
        value: u8,
        is_laptop: bool,
    ) {
        let mut bytes = if is_laptop { laptop() } else { q35() };
        let index = which.index(bytes.len());
        bytes[index] = value;
        if let Ok(dmar) = Dmar::parse(&bytes) {
            prop_assert!(read_all(&dmar) <= bytes.len() / 4);
        }
    }

    #[test]
    fn any_bytes_behind_a_good_header_are_survived(tail in prop::collection::vec(any::<u8>(), 0..512)) {
        let bytes = table(0, &[tail]);
        if let Ok(dmar) = Dmar::parse(&bytes) {
            prop_assert!(read_all(&dmar) <= bytes.len() / 4);
        }
    }

    /// Whatever parses is wholly told: the lengths of its structures add up to the table.
    #[test]
    fn a_table_cut_anywhere_is_an_error(cut in 0usize..1000) {
        let bytes = laptop();
        let cut = cut % bytes.len();
        prop_assert!(Dmar::parse(&bytes[..cut]).is_err());
    }
}
