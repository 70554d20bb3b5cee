//! Relocations: the words of the image that depend on where it lies.

use zerocopy::FromBytes;

use super::spec::{DynamicEntry, ProgramHeader, Relocation, dynamic};
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
            dynamic::RELA => address = Some(value),
            dynamic::RELA_LEN => len = value,
            dynamic::RELA_ENTRY_LEN if value != size_of::<Relocation>() as u64 => {
                return Err(ElfError::Field {
                    field: ElfField::RelocationLen,
                    found: value,
                });
            }
            tag @ (dynamic::NEEDED
            | dynamic::REL
            | dynamic::TEXT_RELOCATIONS
            | dynamic::PLT_RELOCATIONS
            | dynamic::RELR) => return Err(ElfError::NotStatic(tag)),
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

/// Every relocation is relative and writes a word of one segment.
pub(super) fn check(image: &Image<'_>) -> Result<(), ElfError> {
    for (number, relocation) in (0..).zip(entries::<Relocation>(image.relocations)) {
        if relocation.kind() != Relocation::RELATIVE {
            return Err(ElfError::RelocationKind {
                number,
                found: relocation.kind(),
            });
        }
        let offset = relocation.offset.get();
        if !image.loads.iter().any(|load| load.holds(offset, WORD)) {
            return Err(ElfError::RelocationOffset { number, offset });
        }
    }
    Ok(())
}

/// Writes the words for an image at address `at`; all of them have been checked.
pub(super) fn apply(image: &Image<'_>, into: &mut [u8], at: u64) {
    for relocation in entries::<Relocation>(image.relocations) {
        let value = at.wrapping_add_signed(relocation.addend.get());
        if let Some(word) = into
            .get_mut(relocation.offset.get() as usize..)
            .and_then(|rest| rest.first_chunk_mut())
        {
            *word = value.to_le_bytes();
        }
    }
}

fn entries<T: FromBytes>(bytes: &[u8]) -> impl Iterator<Item = T> {
    bytes
        .chunks_exact(size_of::<T>())
        .filter_map(|entry| T::read_from_bytes(entry).ok())
}
