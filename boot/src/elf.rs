//! The hypervisor's file: a static position-independent ELF64, checked and laid out.
//!
//! Owns what a valid file is and how its bytes become an image that runs at any address. Does
//! not know where the image goes. The file comes out of our own build, but it is read like any
//! other: nothing in it can make the loader write outside the image.

mod error;
mod relocation;
#[cfg(test)]
pub(crate) mod sample;
mod spec;

use heapless::Vec;
use memory::PAGE_SIZE;
use zerocopy::FromBytes;

use crate::handoff::{Access, MAX_SEGMENTS, Segment};
use spec::{FileHeader, ProgramHeader};

pub use error::{ElfError, ElfField};

/// The largest image that is loaded.
pub const MAX_SPAN: u64 = 16 * 1024 * 1024;

/// A checked file.
#[derive(Clone, Debug)]
pub struct Image<'f> {
    file: &'f [u8],
    entry: u64,
    loads: Vec<Load, MAX_SEGMENTS>,
    relocations: &'f [u8],
}

/// A loadable segment; addresses count from the start of the image.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
struct Load {
    address: u64,
    memory_len: u64,
    file_offset: u64,
    file_len: u64,
    access: Access,
}

impl Load {
    fn end(&self) -> u64 {
        self.address.saturating_add(self.memory_len)
    }

    /// The whole pages the segment lies in.
    fn pages(&self) -> Segment {
        let offset = self.address - self.address % PAGE_SIZE;
        Segment {
            offset,
            len: self.end().next_multiple_of(PAGE_SIZE) - offset,
            access: self.access,
            reserved: 0,
        }
    }

    /// Whether the `len` bytes at `address` belong to the segment.
    fn holds(&self, address: u64, len: u64) -> bool {
        self.address <= address
            && address
                .checked_add(len)
                .is_some_and(|end| end <= self.end())
    }
}

impl<'f> Image<'f> {
    /// Checks a whole file: header, segments, and every relocation.
    ///
    /// # Errors
    /// [`ElfError`] naming the field, segment or relocation.
    pub fn parse(file: &'f [u8]) -> Result<Self, ElfError> {
        let (header, _) =
            FileHeader::read_from_prefix(file).map_err(|_| ElfError::TooShort(file.len()))?;
        header.check()?;
        let headers = program_headers(file, &header)?;

        let mut loads: Vec<Load, MAX_SEGMENTS> = Vec::new();
        for (number, header) in (0..).zip(segments(headers, ProgramHeader::LOAD)) {
            let load = load(file, &header, number)?;
            let end_of_previous = loads.last().map_or(0, |previous| {
                let pages = previous.pages();
                pages.offset.saturating_add(pages.len)
            });
            if load.pages().offset < end_of_previous {
                return Err(ElfError::SharedPage(number));
            }
            loads.push(load).map_err(|_| ElfError::TooManySegments)?;
        }
        let entry = header.entry.get();
        if !loads
            .iter()
            .any(|load| load.access.is_executable() && load.holds(entry, 1))
        {
            return Err(ElfError::Entry(entry));
        }
        let mut image = Self {
            file,
            entry,
            loads,
            relocations: &[],
        };
        if let Some(dynamic) = segments(headers, ProgramHeader::DYNAMIC).next() {
            image.relocations = relocation::table(&image, &dynamic)?;
        }
        relocation::check(&image)?;
        Ok(image)
    }

    /// How many bytes the image takes: whole pages from its start.
    pub fn span(&self) -> u64 {
        self.loads
            .last()
            .map_or(0, |load| load.end().next_multiple_of(PAGE_SIZE))
    }

    /// The segments with their permissions, as whole pages, ascending and disjoint.
    pub fn segments(&self) -> Vec<Segment, MAX_SEGMENTS> {
        self.loads.iter().map(Load::pages).collect()
    }

    /// Lays the image out in `into`, whose first byte will be at address `at`, and returns the
    /// address of its first instruction. Every byte of the span that the file does not fill
    /// becomes zero.
    ///
    /// # Errors
    /// [`ElfError::NoRoom`] if `into` is smaller than [`Self::span`], [`ElfError::Unaligned`] if
    /// `at` is not page aligned, [`ElfError::Wraps`] if the image would wrap the address space.
    pub fn load(&self, into: &mut [u8], at: u64) -> Result<u64, ElfError> {
        if !at.is_multiple_of(PAGE_SIZE) {
            return Err(ElfError::Unaligned(at));
        }
        if at.checked_add(self.span()).is_none() {
            return Err(ElfError::Wraps(at));
        }
        let room = into.len();
        let into = into
            .get_mut(..self.span() as usize)
            .ok_or(ElfError::NoRoom {
                span: self.span(),
                room,
            })?;
        into.fill(0);
        for load in &self.loads {
            let from = slice(self.file, load.file_offset, load.file_len).unwrap_or(&[]);
            let to = into
                .get_mut(load.address as usize..)
                .and_then(|rest| rest.get_mut(..from.len()))
                .unwrap_or(&mut []);
            // Both were checked when the file was parsed; the lengths are the same.
            to.copy_from_slice(from);
        }
        relocation::apply(self, into, at);
        Ok(at.wrapping_add(self.entry))
    }

    /// The file's bytes that become the `len` bytes at `address` of the image.
    fn file_bytes(&self, address: u64, len: u64) -> Option<&'f [u8]> {
        let load = self.loads.iter().find(|load| load.holds(address, len))?;
        let content = slice(self.file, load.file_offset, load.file_len)?;
        slice(content, address.checked_sub(load.address)?, len)
    }
}

fn program_headers<'f>(
    file: &'f [u8],
    header: &FileHeader,
) -> Result<&'f [ProgramHeader], ElfError> {
    let count = usize::from(header.program_header_count.get());
    let offset = header.program_headers.get();
    usize::try_from(offset)
        .ok()
        .and_then(|offset| file.get(offset..))
        .and_then(|rest| <[ProgramHeader]>::ref_from_prefix_with_elems(rest, count).ok())
        .map(|(headers, _)| headers)
        .ok_or(ElfError::Field {
            field: ElfField::ProgramHeaders,
            found: offset,
        })
}

fn segments(headers: &[ProgramHeader], kind: u32) -> impl Iterator<Item = ProgramHeader> {
    headers
        .iter()
        .copied()
        .filter(move |header| header.kind.get() == kind)
}

/// A loadable segment that lies in the file and in the largest span.
fn load(file: &[u8], header: &ProgramHeader, number: u32) -> Result<Load, ElfError> {
    let load = Load {
        address: header.address.get(),
        memory_len: header.memory_len.get(),
        file_offset: header.offset.get(),
        file_len: header.file_len.get(),
        access: Access(header.flags.get() & Access::ALL),
    };
    let fits = load.memory_len != 0
        && load
            .address
            .checked_add(load.memory_len)
            .is_some_and(|end| end <= MAX_SPAN);
    if !fits || load.file_len > load.memory_len {
        return Err(ElfError::Span(number));
    }
    if slice(file, load.file_offset, load.file_len).is_none() {
        return Err(ElfError::Truncated(number));
    }
    if load.access.is_writable() && load.access.is_executable() {
        return Err(ElfError::WritableCode(number));
    }
    Ok(load)
}

/// The `len` bytes at `offset`.
fn slice(bytes: &[u8], offset: u64, len: u64) -> Option<&[u8]> {
    bytes
        .get(usize::try_from(offset).ok()?..)?
        .get(..usize::try_from(len).ok()?)
}

#[cfg(test)]
mod tests {
    extern crate std;

    use std::string::ToString;
    use std::vec::Vec;

    use proptest::prelude::*;

    use super::sample::{DATA, DYNAMIC, ENTRY, PROGRAM_HEADERS, RELOCATIONS, SPAN, WORDS};
    use super::*;
    use crate::bytes::u64_at;

    const AT: u64 = 0x7fe0_0000;

    /// The sample with words laid over it.
    fn changed(changes: &[(usize, u64)]) -> Vec<u8> {
        let mut file = sample::file();
        for (at, word) in changes {
            sample::put_words(&mut file, *at, &[*word]);
        }
        file
    }

    fn refusal(changes: &[(usize, u64)]) -> ElfError {
        Image::parse(&changed(changes)).unwrap_err()
    }

    /// Where a word of program header `number` lies: 1 offset, 2 address, 4 and 5 sizes.
    fn word(number: usize, word: usize) -> usize {
        PROGRAM_HEADERS + number * 56 + word * 8
    }

    fn loaded(file: &[u8]) -> Vec<u8> {
        let image = Image::parse(file).unwrap();
        let mut into = std::vec![0xff; image.span() as usize];
        assert_eq!(image.load(&mut into, AT), Ok(AT + ENTRY));
        into
    }

    #[test]
    fn segments_lie_where_their_addresses_say() {
        let file = sample::file();
        let into = loaded(&file);
        assert_eq!(into.len() as u64, SPAN);
        assert_eq!(into[..0x400], file[..0x400]);
        assert_eq!(into[0x1000..0x1200], file[0x400..0x600]);
        assert_eq!(into[0x3010..0x3018], [0xda; 8]);
    }

    #[test]
    fn bytes_the_file_does_not_fill_are_zero() {
        let into = loaded(&sample::file());
        for gap in [0x400..0x1000, 0x1200..0x3008, 0x3100..SPAN as usize] {
            assert!(into[gap].iter().all(|byte| *byte == 0));
        }
    }

    #[test]
    fn a_relative_relocation_is_base_plus_addend() {
        let into = loaded(&sample::file());
        assert_eq!(u64_at(&into, DATA as usize), Some(AT + 0x1010));
        assert_eq!(u64_at(&into, DATA as usize + 16), Some(AT + 0x20));
    }

    #[test]
    fn an_addend_may_be_negative() {
        let into = loaded(&changed(&[(WORDS, u64::MAX)]));
        assert_eq!(u64_at(&into, DATA as usize), Some(AT - 1));
    }

    #[test]
    fn segments_are_told_as_whole_pages() {
        let file = sample::file();
        let told: Vec<_> = Image::parse(&file)
            .unwrap()
            .segments()
            .iter()
            .map(|segment| (segment.offset, segment.len, segment.access.0))
            .collect();
        assert_eq!(
            told,
            [(0, 0x1000, 4), (0x1000, 0x1000, 5), (0x3000, 0x3000, 6)]
        );
    }

    #[test]
    fn a_file_without_relocations_is_loaded() {
        let into = loaded(&changed(&[(DYNAMIC, 0)]));
        assert_eq!(u64_at(&into, DATA as usize), Some(0x1010));
    }

    #[test]
    fn a_file_that_is_no_static_pie_for_x86_64_is_refused() {
        for (at, word, field) in [
            (0, 0x7f, ElfField::Ident),
            (16, 0x1_003e_0002, ElfField::Kind),
            (16, 0x1_0028_0003, ElfField::Machine),
            (48, 0x20_0040_0000_0000, ElfField::ProgramHeaderLen),
            (32, u64::MAX, ElfField::ProgramHeaders),
            (DYNAMIC + 40, 16, ElfField::RelocationLen),
            (DYNAMIC + 24, 47, ElfField::Relocations),
            (DYNAMIC + 8, 0x5000, ElfField::Relocations),
            (word(3, 1), 0x700, ElfField::Dynamic),
        ] {
            let error = refusal(&[(at, word)]);
            assert!(
                matches!(error, ElfError::Field { field: found, .. } if found == field),
                "{field:?}: {error:?}"
            );
        }
    }

    #[test]
    fn a_file_that_needs_a_dynamic_linker_is_refused() {
        for tag in [1, 7, 17, 22, 23] {
            assert_eq!(refusal(&[(DYNAMIC + 48, tag)]), ElfError::NotStatic(tag));
        }
    }

    #[test]
    fn a_map_names_up_to_63_words_and_the_next_one_those_behind() {
        let file = changed(&[
            (DYNAMIC + 24, 24),
            (RELOCATIONS + 8, u64::MAX),
            (RELOCATIONS + 16, 0b11),
        ]);
        let (before, into) = (loaded(&changed(&[(DYNAMIC, 0)])), loaded(&file));
        let word = |image: &[u8], index: usize| u64_at(image, DATA as usize + index * 8).unwrap();
        for index in 0..66 {
            let at = if index <= 64 { AT } else { 0 };
            assert_eq!(
                word(&into, index),
                at.wrapping_add(word(&before, index)),
                "{index}"
            );
        }
    }

    #[test]
    fn a_relocation_outside_the_segments_is_refused() {
        for offset in [0x2000, 0x5100 - 6, 0xffa, u64::MAX - 3] {
            assert_eq!(
                refusal(&[(RELOCATIONS, offset)]),
                ElfError::RelocationOffset { number: 0, offset }
            );
        }
    }

    #[test]
    fn a_segment_past_the_end_of_the_file_is_refused() {
        let file = sample::file();
        let error = Image::parse(&file[..file.len() - 1]).unwrap_err();
        assert_eq!(error, ElfError::Truncated(2));
    }

    #[test]
    fn a_segment_larger_in_the_file_than_in_memory_is_refused() {
        assert_eq!(refusal(&[(word(1, 4), 0x201)]), ElfError::Span(1));
    }

    #[test]
    fn an_image_beyond_the_largest_span_is_refused() {
        assert_eq!(refusal(&[(word(2, 5), MAX_SPAN)]), ElfError::Span(2));
        assert_eq!(refusal(&[(word(2, 5), u64::MAX)]), ElfError::Span(2));
    }

    #[test]
    fn segments_that_share_a_page_are_refused() {
        assert_eq!(refusal(&[(word(2, 2), 0x1208)]), ElfError::SharedPage(2));
        assert_eq!(refusal(&[(word(2, 2), 0)]), ElfError::SharedPage(2));
    }

    #[test]
    fn writable_code_is_refused() {
        assert_eq!(
            refusal(&[(word(1, 0), 7 << 32 | 1)]),
            ElfError::WritableCode(1)
        );
    }

    #[test]
    fn a_first_instruction_outside_code_is_refused() {
        assert_eq!(refusal(&[(24, DATA)]), ElfError::Entry(DATA));
    }

    #[test]
    fn an_image_goes_nowhere_it_does_not_fit() {
        let file = sample::file();
        let image = Image::parse(&file).unwrap();
        let mut small = std::vec![0; SPAN as usize - 1];
        assert!(matches!(
            image.load(&mut small, AT),
            Err(ElfError::NoRoom { .. })
        ));
        let mut room = std::vec![0; SPAN as usize];
        assert_eq!(
            image.load(&mut room, AT + 8),
            Err(ElfError::Unaligned(AT + 8))
        );
        let top = 0u64.wrapping_sub(0x1000);
        assert_eq!(image.load(&mut room, top), Err(ElfError::Wraps(top)));
    }

    proptest! {
        #[test]
        fn any_changed_byte_is_loaded_or_refused_and_nothing_behind_the_image_is_touched(
            changes in proptest::collection::vec((0_usize..0x340, any::<u8>()), 1..4),
        ) {
            let mut file = sample::file();
            for (at, byte) in changes {
                file[at] = byte;
            }
            match Image::parse(&file) {
                Ok(image) => {
                    let span = image.span() as usize;
                    let mut into = std::vec![0xee; span + 64];
                    prop_assert!(image.load(&mut into, AT).is_ok());
                    prop_assert!(into[span..].iter().all(|byte| *byte == 0xee));
                }
                Err(error) => prop_assert!(!error.to_string().is_empty()),
            }
        }

        #[test]
        fn a_file_cut_anywhere_never_panics(len in 0_usize..0x700) {
            let _ = Image::parse(&sample::file()[..len]);
        }
    }
}
