//! A firmware table that says of a port that whatever is behind it is a stranger's: `ExternalFacingPort`.
//!
//! Linux takes it as the reason to bounce a device's pages itself. The table is AML (ACPI 6.5, chapter 20) of one
//! sentence: `Scope (\_SB.PCI0.Sxx) { Name (_DSD, Package () { UUID, Package () { Package () { "ExternalFacingPort", 1 } } }) }`.

/// "Identifying externally exposed PCIe root ports" of the platform's device properties:
/// efcc06cc-73ac-4bc3-bff0-76143807c389, in the order of ACPI's `ToUUID`.
const UUID: [u8; 16] = [
    0xcc, 0x06, 0xcc, 0xef, 0xac, 0x73, 0xc3, 0x4b, 0xbf, 0xf0, 0x76, 0x14, 0x38, 0x07, 0xc3, 0x89,
];
/// AML's operators (ACPI 6.5, 20.3).
const ONE: u8 = 0x01;
const NAME: u8 = 0x08;
const BYTE: u8 = 0x0a;
const STRING: u8 = 0x0d;
const SCOPE: u8 = 0x10;
const BUFFER: u8 = 0x11;
const PACKAGE: u8 = 0x12;

/// The table for the port in slot `slot` of bus 0, as QEMU names it: a whole table, header and checksum included, for
/// `-acpitable file=`.
///
/// # Panics
/// If there is no such slot.
#[must_use]
pub fn external_port_table(slot: u8) -> Vec<u8> {
    assert!(slot < 32, "a bus has 32 slots");
    let property = package(
        PACKAGE,
        &[&[2, STRING][..], b"ExternalFacingPort\0", &[ONE]].concat(),
    );
    let properties = package(PACKAGE, &[&[1][..], &property].concat());
    let uuid = package(BUFFER, &[&[BYTE, 16][..], &UUID].concat());
    let description = package(PACKAGE, &[&[2][..], &uuid, &properties].concat());
    let name = [&[NAME][..], b"_DSD", &description].concat();
    // A name of three segments from the root; QEMU calls a function by its slot and number, padded.
    let place = format!("\\\x2f\x03_SB_PCI0S{:02X}_", slot << 3);
    let content = package(SCOPE, &[place.as_bytes(), &name].concat());
    with_header(&content)
}

/// An operator whose length follows it (20.2.4): in one byte, or in two of which the first says so and has the low four
/// bits. The length counts itself.
fn package(operator: u8, content: &[u8]) -> Vec<u8> {
    let mut bytes = vec![operator];
    let short = content.len() + 1;
    if short < 64 {
        bytes.push(short as u8);
    } else {
        let long = content.len() + 2;
        assert!(long < 1 << 12, "two bytes hold twelve bits");
        bytes.extend([0x40 | (long & 0xf) as u8, (long >> 4) as u8]);
    }
    bytes.extend_from_slice(content);
    bytes
}

/// The header of every description table (5.2.6), whose checksum makes the bytes' sum zero.
fn with_header(content: &[u8]) -> Vec<u8> {
    let length = 36 + content.len() as u32;
    let mut table = Vec::new();
    table.extend_from_slice(b"SSDT");
    table.extend(length.to_le_bytes());
    table.extend([2, 0]);
    table.extend_from_slice(b"BOUNCREXTPORT ");
    table.extend(1_u32.to_le_bytes());
    table.extend_from_slice(b"BNCR");
    table.extend(1_u32.to_le_bytes());
    table.extend_from_slice(content);
    let sum = table.iter().fold(0_u8, |sum, byte| sum.wrapping_add(*byte));
    table[9] = sum.wrapping_neg();
    table
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_header_tells_the_length_and_the_sum_is_zero() {
        let table = external_port_table(0x10);
        assert_eq!(&table[..4], b"SSDT");
        let length = u32::from_le_bytes(table[4..8].try_into().unwrap());
        assert_eq!(length as usize, table.len());
        let sum = table.iter().fold(0_u8, |sum, byte| sum.wrapping_add(*byte));
        assert_eq!(sum, 0);
    }

    #[test]
    fn the_scope_is_the_ports_and_reaches_to_the_tables_end() {
        let table = external_port_table(0x10);
        let body = &table[36..];
        assert_eq!(body[0], SCOPE);
        // The two-byte form of a length.
        let length = usize::from(body[1] & 0xf) | usize::from(body[2]) << 4;
        assert_eq!((body[1] >> 6, length), (1, body.len() - 1));
        assert_eq!(&body[3..18], b"\\\x2f\x03_SB_PCI0S80_");
        assert!(
            external_port_table(3)[36..]
                .windows(4)
                .any(|four| four == b"S18_")
        );
    }

    #[test]
    fn a_length_of_one_byte_counts_itself() {
        assert_eq!(package(BUFFER, &[BYTE, 0]), [BUFFER, 3, BYTE, 0]);
        assert_eq!(package(PACKAGE, &[0; 62])[1], 63);
        assert_eq!(package(PACKAGE, &[0; 63])[1..3], [0x41, 4]);
    }
}
