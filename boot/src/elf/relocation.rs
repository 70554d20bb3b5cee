//! Relocations: the words of the image that depend on where it lies.

use zerocopy::FromBytes;

use super::spec::{DynamicEntry, MAPPED_WORDS, ProgramHeader, Relocation, dynamic};
use super::{ElfError, ElfField, Image, slice};

/// Bytes of the word a relocation writes.
const WORD: u64 = 8;

/// The relocations the dynamic segment names, as bytes of the file.
pub(super) fn table<'f>(image: &Image<'f>, segment: &ProgramHeader) -> Result<&'f [u8], ElfError> {
    let bytes =
        slice(image.file, segment.offset.get(), segment.file_len.get()).ok_or(ElfError::Field {
            field: ElfField::Dynamic,
            found: segment.offset.get(),
        })?;
    let (mut address, mut len) = (None, 0);
    for entry in entries::<DynamicEntry>(bytes) {
        let value = entry.value.get();
        match entry.tag.get() {
            dynamic::NULL => break,
            dynamic::RELR => address = Some(value),
            dynamic::RELR_LEN => len = value,
            dynamic::RELR_ENTRY_LEN if value != size_of::<Relocation>() as u64 => {
                return Err(ElfError::Field {
                    field: ElfField::RelocationLen,
                    found: value,
                });
            }
            tag @ (dynamic::NEEDED
            | dynamic::RELA
            | dynamic::REL
            | dynamic::TEXT_RELOCATIONS
            | dynamic::PLT_RELOCATIONS) => return Err(ElfError::NotStatic(tag)),
            _ => {}
        }
    }
    match address {
        Some(address) if len != 0 => image
            .file_bytes(address, len)
            .filter(|table| table.len().is_multiple_of(size_of::<Relocation>()))
            .ok_or(ElfError::Field {
                field: ElfField::Relocations,
                found: address,
            }),
        _ => Ok(&[]),
    }
}

/// Every relocation writes a word of one segment.
pub(super) fn check(image: &Image<'_>) -> Result<(), ElfError> {
    let is_inside = |offset| image.loads.iter().any(|load| load.holds(offset, WORD));
    let mut outside = (0..).zip(places(image.relocations));
    match outside.find(|(_, offset)| !is_inside(*offset)) {
        Some((number, offset)) => Err(ElfError::RelocationOffset { number, offset }),
        None => Ok(()),
    }
}

/// Adds the image's address `at` to the words that depend on it; all of them have been checked.
pub(super) fn apply(image: &Image<'_>, into: &mut [u8], at: u64) {
    for place in places(image.relocations) {
        if let Some(word) = into
            .get_mut(place as usize..)
            .and_then(|rest| rest.first_chunk_mut())
        {
            *word = at.wrapping_add(u64::from_le_bytes(*word)).to_le_bytes();
        }
    }
}

/// Where the words lie that a table names.
fn places(table: &[u8]) -> impl Iterator<Item = u64> {
    let mut next = 0_u64;
    entries::<Relocation>(table).flat_map(move |entry| {
        let entry = entry.get();
        let is_map = entry & 1 != 0;
        let (first, words) = if is_map {
            (next, entry >> 1)
        } else {
            (entry, 1)
        };
        let covered = if is_map { MAPPED_WORDS } else { 1 };
        next = first.wrapping_add(covered * WORD);
        let named = (0..covered).filter(move |word| words >> word & 1 != 0);
        named.map(move |word| first.wrapping_add(word * WORD))
    })
}

fn entries<T: FromBytes>(bytes: &[u8]) -> impl Iterator<Item = T> {
    bytes
        .chunks_exact(size_of::<T>())
        .filter_map(|entry| T::read_from_bytes(entry).ok())
}
