//! A small static PIE, for tests.

extern crate std;

use std::vec::Vec;

/// Where the program headers lie in the file.
pub(crate) const PROGRAM_HEADERS: usize = 64;
/// Where the dynamic segment lies in the file and in the image.
pub(crate) const DYNAMIC: usize = 0x200;
/// Where the relocations lie in the file and in the image.
pub(crate) const RELOCATIONS: usize = 0x300;
/// Where the first instruction lies in the image.
pub(crate) const ENTRY: u64 = 0x1010;
/// Where the writable segment lies in the image; its words 0 and 2 are relocated.
pub(crate) const DATA: u64 = 0x3008;
/// Where that segment lies in the file.
pub(crate) const WORDS: usize = 0x608;
/// Bytes of the image.
pub(crate) const SPAN: u64 = 0x6000;

/// Headers and relocations at 0, code at 1000h, data at 3008h, and bss up to 5100h.
pub(crate) fn file() -> Vec<u8> {
    let mut file = std::vec![0; 0x700];
    put(&mut file, 0, &[0x7f, b'E', b'L', b'F', 2, 1, 1]);
    put(&mut file, 16, &3_u16.to_le_bytes());
    put(&mut file, 18, &62_u16.to_le_bytes());
    put(&mut file, 20, &1_u32.to_le_bytes());
    put(&mut file, 24, &ENTRY.to_le_bytes());
    put(&mut file, 32, &(PROGRAM_HEADERS as u64).to_le_bytes());
    put(&mut file, 52, &64_u16.to_le_bytes());
    put(&mut file, 54, &56_u16.to_le_bytes());
    put(&mut file, 56, &4_u16.to_le_bytes());

    // Type, flags, offset, address, bytes in the file, bytes in memory.
    let headers: [(u32, u32, u64, u64, u64, u64); 4] = [
        (1, 4, 0, 0, 0x400, 0x400),
        (1, 5, 0x400, 0x1000, 0x200, 0x200),
        (1, 6, 0x608, DATA, 0xf8, 0x20f8),
        (2, 4, DYNAMIC as u64, DYNAMIC as u64, 0x60, 0x60),
    ];
    for (number, (kind, flags, offset, address, file_len, memory_len)) in
        headers.into_iter().enumerate()
    {
        let at = PROGRAM_HEADERS + number * 56;
        put(&mut file, at, &kind.to_le_bytes());
        put(&mut file, at + 4, &flags.to_le_bytes());
        let words = [offset, address, address, file_len, memory_len, 0x1000];
        put_words(&mut file, at + 8, &words);
    }

    let tags = [36, RELOCATIONS as u64, 35, 16, 37, 8, 0x6fff_fffb, 0, 0, 0];
    put_words(&mut file, DYNAMIC, &tags);
    // The first word, and of the map behind it the second.
    put_words(&mut file, RELOCATIONS, &[DATA, 0b101]);
    file[0x400..0x600].fill(0x90);
    file[0x608..0x700].fill(0xda);
    put_words(&mut file, WORDS, &[0x1010]);
    put_words(&mut file, WORDS + 16, &[0x20]);
    file
}

pub(crate) fn put(file: &mut [u8], at: usize, bytes: &[u8]) {
    file[at..at + bytes.len()].copy_from_slice(bytes);
}

pub(crate) fn put_words(file: &mut [u8], at: usize, words: &[u64]) {
    for (number, word) in words.iter().enumerate() {
        put(file, at + number * 8, &word.to_le_bytes());
    }
}
