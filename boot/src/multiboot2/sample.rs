//! Information structures as GRUB makes them, for tests.

extern crate std;

use std::vec::Vec;

/// An information structure of these tags, each of a type and a content.
pub(crate) fn information(tags: &[(u32, Vec<u8>)]) -> Vec<u8> {
    let mut bytes = std::vec![0; 8];
    for (kind, content) in tags {
        bytes.extend(kind.to_le_bytes());
        bytes.extend((content.len() as u32 + 8).to_le_bytes());
        bytes.extend(content);
        bytes.resize(bytes.len().next_multiple_of(8), 0);
    }
    bytes.extend([0, 0, 0, 0, 8, 0, 0, 0]);
    let total = bytes.len() as u32;
    bytes[..4].copy_from_slice(&total.to_le_bytes());
    bytes
}

/// The content of a memory map of entries of 24 bytes.
pub(crate) fn memory_map(entries: &[(u64, u64, u32)]) -> Vec<u8> {
    let mut content = Vec::from([24, 0, 0, 0, 0, 0, 0, 0]);
    for (base, len, kind) in entries {
        content.extend(base.to_le_bytes());
        content.extend(len.to_le_bytes());
        content.extend(kind.to_le_bytes());
        content.extend([0; 4]);
    }
    content
}

/// The content of a module tag.
pub(crate) fn module(start: u32, end: u32, string: &str) -> Vec<u8> {
    let mut content = start.to_le_bytes().to_vec();
    content.extend(end.to_le_bytes());
    content.extend(string.as_bytes());
    content.push(0);
    content
}

/// The content of a tag of text.
pub(crate) fn text(text: &str) -> Vec<u8> {
    let mut content = text.as_bytes().to_vec();
    content.push(0);
    content
}

/// The content of a framebuffer tag: 1024 by 768 pixels of 32 bits, 8 for each colour.
pub(crate) fn framebuffer() -> Vec<u8> {
    let mut content = 0x8_0000_0000_u64.to_le_bytes().to_vec();
    for number in [4096_u32, 1024, 768] {
        content.extend(number.to_le_bytes());
    }
    content.extend([32, 1, 0, 0, 16, 8, 8, 8, 0, 8]);
    content
}

/// ACPI's root pointer of version 1.
pub(crate) const ROOT_POINTER: &[u8; 20] = b"RSD PTR \x24BOCHS \x00\xff\x22\xfe\x0f";

/// What GRUB tells on a machine with a BIOS and 2 GiB, started with three modules.
pub(crate) fn grub() -> Vec<(u32, Vec<u8>)> {
    Vec::from([
        (1, text("serial=0x3e8")),
        (2, text("GRUB 2.06-13+deb12u1")),
        (
            3,
            module(0x20_0000, 0x30_0000, "kernel console=ttyS0 quiet"),
        ),
        (3, module(0x30_0000, 0x30_1234, "initrd")),
        (3, module(0x30_2000, 0x30_2100, "policy")),
        (
            6,
            memory_map(&[
                (0, 0x9_fc00, 1),
                (0x9_fc00, 0x400, 2),
                (0xf_0000, 0x1_0000, 2),
                (0x10_0000, 0x7fee_0000, 1),
                (0x7ffe_0000, 0x2_0000, 2),
                (0xb000_0000, 0x1000_0000, 2),
            ]),
        ),
        (14, ROOT_POINTER.to_vec()),
    ])
}
