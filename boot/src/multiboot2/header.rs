//! The header by which a boot loader knows the program for one of its own.

/// What the header asks for (Multiboot2 2.0, 3.1.3): type, flags in the high half, size, and
/// padding to eight bytes.
const TAGS: [u32; 14] = [
    // An information request that must be met: the memory map.
    INFORMATION_REQUEST,
    12,
    6,
    0,
    // One that may be ignored: framebuffer, EFI system table, ACPI old and new.
    INFORMATION_REQUEST | OPTIONAL,
    24,
    8,
    12,
    14,
    15,
    // "Modules must be page aligned": Linux takes no other initrd.
    MODULE_ALIGNMENT,
    8,
    END,
    8,
];

const INFORMATION_REQUEST: u32 = 1;
const MODULE_ALIGNMENT: u32 = 6;
const END: u32 = 0;
const OPTIONAL: u32 = 1 << 16;

const MAGIC: u32 = 0xe852_50d6;
/// 32-bit protected mode of i386.
const ARCHITECTURE: u32 = 0;
const LEN: usize = 4 * (4 + TAGS.len());

/// The header's bytes (Multiboot2 2.0, 3.1.1), to be placed on an eight-byte boundary in the
/// first 32 KiB of the program's file.
pub const HEADER: [u8; LEN] = {
    let len = LEN as u32;
    // "Must have a 32-bit unsigned sum of zero" with magic, architecture and length.
    let checksum = 0_u32.wrapping_sub(MAGIC.wrapping_add(ARCHITECTURE).wrapping_add(len));
    let mut bytes = [0; LEN];
    let fixed = [MAGIC, ARCHITECTURE, len, checksum];
    let mut word = 0;
    while word < LEN / 4 {
        let value = if word < 4 {
            fixed[word]
        } else {
            TAGS[word - 4]
        };
        let value = value.to_le_bytes();
        let mut byte = 0;
        while byte < 4 {
            bytes[word * 4 + byte] = value[byte];
            byte += 1;
        }
        word += 1;
    }
    bytes
};

#[cfg(test)]
mod tests {
    extern crate std;

    use std::vec::Vec;

    use super::*;
    use crate::bytes::{u16_at, u32_at};

    #[test]
    fn magic_architecture_length_and_checksum_add_up_to_zero() {
        let sum = (0..4).fold(0_u32, |sum, word| {
            sum.wrapping_add(u32_at(&HEADER, word * 4).unwrap())
        });
        assert_eq!(sum, 0);
        assert_eq!(u32_at(&HEADER, 8), Some(HEADER.len() as u32));
    }

    #[test]
    fn tags_follow_each_other_on_eight_byte_boundaries_up_to_the_end_tag() {
        let (mut offset, mut kinds) = (16, Vec::new());
        while offset < HEADER.len() {
            kinds.push(u16_at(&HEADER, offset).unwrap());
            let size = u32_at(&HEADER, offset + 4).unwrap() as usize;
            offset += size.next_multiple_of(8);
        }
        assert_eq!(offset, HEADER.len());
        assert_eq!(kinds, [1, 1, 6, 0]);
    }
}
