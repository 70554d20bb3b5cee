//! What the table tells of units, our own reader of tables understands.

use memory::Hpa;
use pci::{Address, Bdf};
use viommu::{Full, Governed, Table};
use vtd::dmar::Dmar;

#[test]
fn each_device_is_behind_the_unit_that_names_it_and_all_others_behind_the_last() {
    let mut bytes = [0; 512];
    let mut table = Table::new(&mut bytes, 39, false).unwrap();
    table.unit(0, 0x1000).unwrap();
    table
        .add(Governed::IoApic(7), 0xf0, [(0x1f, 0)].into_iter())
        .unwrap();
    table
        .add(Governed::Function, 0, [(3, 0)].into_iter())
        .unwrap();
    table.unit(0, 0x2000).unwrap();
    table
        .add(Governed::Bridge, 0, [(4, 0)].into_iter())
        .unwrap();
    table.unit_for_others(0, 0x3000).unwrap();
    let bytes = table.finish();
    let told = Dmar::parse(bytes).unwrap();
    // The bridge 00:04.0 has buses 5 to 6 behind it.
    let bridges = |at: Address| (at.bdf == Bdf::from_parts(0, 0x20)).then_some(5..=6);
    let registers = |bus: u8, devfn: u8| {
        let at = Address::new(0, Bdf::from_parts(bus, devfn));
        told.unit_of(at, &bridges).map(|unit| unit.registers)
    };
    assert_eq!(registers(0, 0x18), Some(Hpa::new(0x1000)));
    assert_eq!(registers(6, 0x08), Some(Hpa::new(0x2000)));
    assert_eq!(registers(0, 0x10), Some(Hpa::new(0x3000)));
    let (unit, source) = told.io_apic(7, &bridges).unwrap();
    assert_eq!(
        (unit.registers, source),
        (Hpa::new(0x1000), Bdf::from_parts(0xf0, 0xf8))
    );
    assert!(told.supports_interrupt_remapping());
}

#[test]
fn a_table_without_room_says_so() {
    let mut bytes = [0; 70];
    let mut table = Table::new(&mut bytes, 39, false).unwrap();
    table.unit(0, 0x1000).unwrap();
    let refused = table.add(Governed::Function, 0, [(3, 0), (4, 0)].into_iter());
    assert_eq!(refused, Err(Full));
}
