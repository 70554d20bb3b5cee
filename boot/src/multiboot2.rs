//! What a Multiboot2 boot loader tells: its information structure, walked as an allegation.
//!
//! Owns the header that asks for it. Does not know what the modules are for (`modules`) nor
//! what becomes of the memory map (`memory_map`).

mod error;
mod framebuffer;
mod header;
#[cfg(test)]
pub(crate) mod sample;

use heapless::Vec;
use memory::{ByteRange, Hpa};

use crate::bytes::{u32_at, u64_at};
use crate::memory_map::{Region, RegionKind};

pub use error::{MultibootError, TagFault, TagKind};
pub use framebuffer::{Channel, Framebuffer, PixelFormat};
pub use header::HEADER;

/// What EAX holds when a Multiboot2 boot loader starts the program (Multiboot2 2.0, 3.3).
pub const BOOT_MAGIC: u32 = 0x36d7_6289;

/// How many modules are taken.
pub const MAX_MODULES: usize = 8;

/// The largest information structure that is read; GRUB's have a few KiB.
pub const MAX_INFORMATION: u32 = 1024 * 1024;

/// The fixed part and the end tag.
const MIN_INFORMATION: u32 = 16;

/// Bytes of a tag before its content: type and size.
const TAG_HEADER: usize = 8;

/// A file loaded beside the program.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Module<'i> {
    /// Where it lies.
    pub range: ByteRange<Hpa>,
    /// What the boot loader's menu says behind the file's name.
    pub string: &'i [u8],
}

/// The boot loader's copy of ACPI's root pointer.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct RootPointer<'i> {
    /// The copy, still to be checked.
    pub bytes: &'i [u8],
    /// Where it lies in the information structure.
    pub offset: u32,
}

/// The information structure (Multiboot2 2.0, 3.6), every tag of which has been checked.
#[derive(Clone, Debug)]
pub struct Information<'i> {
    /// The program's command line; empty if none was told.
    pub command_line: &'i [u8],
    /// The boot loader's name; empty if none was told.
    pub loader_name: &'i [u8],
    /// The modules in the order of the menu.
    pub modules: Vec<Module<'i>, MAX_MODULES>,
    /// ACPI's root pointer, the one with an XSDT if both are told.
    pub root_pointer: Option<RootPointer<'i>>,
    /// What the screen shows.
    pub framebuffer: Option<Framebuffer>,
    /// Where the EFI system table lies, if 64-bit EFI firmware started the boot loader.
    pub efi_system_table: Option<u64>,
    memory: MemoryTag<'i>,
}

impl<'i> Information<'i> {
    /// How many bytes the structure has, from its first eight bytes, for whoever then makes the
    /// slice to [`Self::parse`].
    ///
    /// # Errors
    /// [`MultibootError::TotalSize`] if no boot loader would make a structure of that size.
    pub fn total_size(head: [u8; 8]) -> Result<u32, MultibootError> {
        let found = u32_at(&head, 0).unwrap_or(0);
        if (MIN_INFORMATION..=MAX_INFORMATION).contains(&found) {
            Ok(found)
        } else {
            Err(MultibootError::TotalSize {
                found,
                least: MIN_INFORMATION,
                most: MAX_INFORMATION,
            })
        }
    }

    /// Walks the whole structure.
    ///
    /// # Errors
    /// [`MultibootError`] naming the tag, where it lies and what is wrong with it.
    pub fn parse(bytes: &'i [u8]) -> Result<Self, MultibootError> {
        let len = u32::try_from(bytes.len()).unwrap_or(u32::MAX);
        let found = u32_at(bytes, 0).unwrap_or(0);
        if found != len || !(MIN_INFORMATION..=MAX_INFORMATION).contains(&len) {
            return Err(MultibootError::TotalSize {
                found,
                least: len.max(MIN_INFORMATION),
                most: len.min(MAX_INFORMATION),
            });
        }
        let mut told = Told::default();
        let mut offset = TAG_HEADER;
        loop {
            let tag = Tag::at(bytes, offset)?;
            if tag.kind == TagKind::END {
                return told.complete();
            }
            told.note(&tag)?;
            // Always further on, as a tag has at least its header.
            offset = tag.next;
        }
    }

    /// The machine's memory in the order the boot loader tells it; entries may overlap.
    pub fn memory(&self) -> impl Iterator<Item = Region> + Clone + use<'i> {
        self.memory.regions()
    }
}

/// One tag: its kind, its content, and where both lie.
struct Tag<'i> {
    kind: TagKind,
    offset: usize,
    content: &'i [u8],
    next: usize,
}

impl<'i> Tag<'i> {
    /// The tag at `offset`, if it lies wholly in the structure.
    fn at(bytes: &'i [u8], offset: usize) -> Result<Self, MultibootError> {
        let rest = bytes.get(offset..).unwrap_or(&[]);
        let (Some(kind), Some(size)) = (u32_at(rest, 0), u32_at(rest, 4)) else {
            return Err(MultibootError::NoEnd {
                offset: offset as u32,
            });
        };
        let kind = TagKind(kind);
        let content = rest
            .get(..size as usize)
            .and_then(|tag| tag.get(TAG_HEADER..))
            .ok_or(MultibootError::Tag {
                kind,
                offset: offset as u32,
                fault: TagFault::Size {
                    found: size,
                    least: TAG_HEADER as u32,
                    most: rest.len() as u32,
                },
            })?;
        // Padding between tags makes each begin on a multiple of eight bytes.
        let next = (size as usize)
            .checked_next_multiple_of(8)
            .and_then(|size| offset.checked_add(size))
            .unwrap_or(usize::MAX);
        Ok(Self {
            kind,
            offset,
            content,
            next,
        })
    }

    fn error(&self, fault: TagFault) -> MultibootError {
        MultibootError::Tag {
            kind: self.kind,
            offset: self.offset as u32,
            fault,
        }
    }

    /// The content if it has at least `least` bytes.
    fn at_least(&self, least: usize) -> Result<&'i [u8], MultibootError> {
        if self.content.len() >= least {
            return Ok(self.content);
        }
        Err(self.error(TagFault::Size {
            found: (self.content.len() + TAG_HEADER) as u32,
            least: (least + TAG_HEADER) as u32,
            most: MAX_INFORMATION,
        }))
    }

    /// The text from `start` of the content up to the zero that must end it.
    fn text(&self, start: usize) -> Result<&'i [u8], MultibootError> {
        let bytes = self.content.get(start..).unwrap_or(&[]);
        let end = bytes.iter().position(|byte| *byte == 0);
        end.and_then(|end| bytes.get(..end))
            .ok_or(self.error(TagFault::NoTerminator))
    }
}

/// What the tags met so far tell.
#[derive(Default)]
struct Told<'i> {
    command_line: Option<&'i [u8]>,
    loader_name: Option<&'i [u8]>,
    modules: Vec<Module<'i>, MAX_MODULES>,
    memory: Option<MemoryTag<'i>>,
    old_root_pointer: Option<RootPointer<'i>>,
    new_root_pointer: Option<RootPointer<'i>>,
    framebuffer: Option<Framebuffer>,
    efi_system_table: Option<u64>,
}

impl<'i> Told<'i> {
    fn note(&mut self, tag: &Tag<'i>) -> Result<(), MultibootError> {
        match tag.kind {
            TagKind::COMMAND_LINE => once(&mut self.command_line, tag.text(0)?, tag),
            TagKind::LOADER_NAME => once(&mut self.loader_name, tag.text(0)?, tag),
            TagKind::MODULE => self
                .modules
                .push(module(tag)?)
                .map_err(|_| tag.error(TagFault::TooManyModules)),
            TagKind::MEMORY_MAP => once(&mut self.memory, MemoryTag::parse(tag)?, tag),
            TagKind::FRAMEBUFFER => {
                let bytes = tag.at_least(Framebuffer::LEN)?;
                let told = Framebuffer::decode(bytes).ok_or(tag.error(TagFault::Colours))?;
                once(&mut self.framebuffer, told, tag)
            }
            TagKind::EFI64_SYSTEM_TABLE => {
                let at = u64_at(tag.at_least(8)?, 0).unwrap_or(0);
                once(&mut self.efi_system_table, at, tag)
            }
            TagKind::OLD_ROOT_POINTER => once(&mut self.old_root_pointer, root_pointer(tag), tag),
            TagKind::NEW_ROOT_POINTER => once(&mut self.new_root_pointer, root_pointer(tag), tag),
            TagKind::BOOT_SERVICES => Err(MultibootError::BootServicesRun),
            // Tags nobody asked for are no error; boot loaders tell more than they must.
            _ => Ok(()),
        }
    }

    fn complete(self) -> Result<Information<'i>, MultibootError> {
        Ok(Information {
            command_line: self.command_line.unwrap_or(&[]),
            loader_name: self.loader_name.unwrap_or(&[]),
            modules: self.modules,
            root_pointer: self.new_root_pointer.or(self.old_root_pointer),
            framebuffer: self.framebuffer,
            efi_system_table: self.efi_system_table,
            memory: self
                .memory
                .ok_or(MultibootError::Missing(TagKind::MEMORY_MAP))?,
        })
    }
}

/// Fills `slot`, which a well-made structure does once.
fn once<T>(slot: &mut Option<T>, value: T, tag: &Tag<'_>) -> Result<(), MultibootError> {
    match slot.replace(value) {
        None => Ok(()),
        Some(_) => Err(tag.error(TagFault::Again)),
    }
}

fn module<'i>(tag: &Tag<'i>) -> Result<Module<'i>, MultibootError> {
    let content = tag.at_least(8)?;
    let start = u32_at(content, 0).unwrap_or(0);
    let end = u32_at(content, 4).unwrap_or(0);
    let range = end
        .checked_sub(start)
        .and_then(|len| ByteRange::new(Hpa::new(u64::from(start)), u64::from(len)))
        .ok_or(tag.error(TagFault::ModuleRange { start, end }))?;
    Ok(Module {
        range,
        string: tag.text(8)?,
    })
}

fn root_pointer<'i>(tag: &Tag<'i>) -> RootPointer<'i> {
    RootPointer {
        bytes: tag.content,
        offset: (tag.offset + TAG_HEADER) as u32,
    }
}

/// The memory map: entries of one size, each with base, length and type.
#[derive(Clone, Copy, Debug)]
struct MemoryTag<'i> {
    entries: &'i [u8],
    entry_size: usize,
}

impl<'i> MemoryTag<'i> {
    /// Bytes of an entry of version 0; later versions may add to it, in steps of eight.
    const ENTRY: u32 = 24;

    fn parse(tag: &Tag<'i>) -> Result<Self, MultibootError> {
        let content = tag.at_least(8)?;
        let entry_size = u32_at(content, 0).unwrap_or(0);
        let entries = content.get(8..).unwrap_or(&[]);
        let is_whole = entry_size >= Self::ENTRY
            && entry_size.is_multiple_of(8)
            && entries.len().is_multiple_of(entry_size as usize);
        if !is_whole {
            return Err(tag.error(TagFault::EntrySize {
                found: entry_size,
                bytes: entries.len() as u32,
            }));
        }
        let memory = Self {
            entries,
            entry_size: entry_size as usize,
        };
        match memory
            .spans()
            .find(|(base, len, _)| *len != 0 && ByteRange::new(Hpa::new(*base), *len).is_none())
        {
            Some((base, len, _)) => Err(tag.error(TagFault::Wraps { base, len })),
            None => Ok(memory),
        }
    }

    fn regions(self) -> impl Iterator<Item = Region> + Clone + use<'i> {
        self.spans().filter_map(|(base, len, kind)| {
            Some(Region {
                range: ByteRange::new(Hpa::new(base), len)?,
                kind: RegionKind::from_e820(kind),
            })
        })
    }

    /// Base, length and type of each entry.
    fn spans(self) -> impl Iterator<Item = (u64, u64, u32)> + Clone + use<'i> {
        self.entries
            .chunks_exact(self.entry_size)
            .filter_map(|entry| Some((u64_at(entry, 0)?, u64_at(entry, 8)?, u32_at(entry, 16)?)))
    }
}

#[cfg(test)]
mod tests {
    extern crate std;

    use std::string::ToString;
    use std::vec::Vec;

    use proptest::prelude::*;

    use super::*;

    /// Walks GRUB's structure with its first tag of `kind` replaced.
    fn with(
        kind: u32,
        content: Vec<u8>,
        look: impl FnOnce(Result<Information<'_>, MultibootError>),
    ) {
        let mut tags = sample::grub();
        match tags.iter_mut().find(|tag| tag.0 == kind) {
            Some(tag) => tag.1 = content,
            None => tags.push((kind, content)),
        }
        look(Information::parse(&sample::information(&tags)));
    }

    fn fault(kind: u32, content: Vec<u8>) -> TagFault {
        let mut found = None;
        with(kind, content, |result| match result {
            Err(MultibootError::Tag { fault, .. }) => found = Some(fault),
            other => panic!("{other:?}"),
        });
        found.unwrap()
    }

    #[test]
    fn what_grub_tells_is_understood() {
        let bytes = sample::information(&sample::grub());
        let information = Information::parse(&bytes).unwrap();
        assert_eq!(information.command_line, b"serial=0x3e8");
        assert_eq!(information.loader_name, b"GRUB 2.06-13+deb12u1");
        assert_eq!(information.modules.len(), 3);
        assert_eq!(information.modules[0].string, b"kernel console=ttyS0 quiet");
        assert_eq!(information.modules[1].range.len(), 0x1234);
        assert_eq!(information.memory().count(), 6);
        assert_eq!(information.efi_system_table, None);
    }

    #[test]
    fn the_root_pointer_is_told_with_its_place() {
        let bytes = sample::information(&sample::grub());
        let pointer = Information::parse(&bytes).unwrap().root_pointer.unwrap();
        assert_eq!(pointer.bytes, sample::ROOT_POINTER);
        assert_eq!(bytes[pointer.offset as usize..][..8], *b"RSD PTR ");
    }

    #[test]
    fn the_newer_root_pointer_wins() {
        with(15, [7; 36].to_vec(), |information| {
            assert_eq!(information.unwrap().root_pointer.unwrap().bytes, [7; 36]);
        });
    }

    #[test]
    fn the_screen_is_told_with_its_colours() {
        with(8, sample::framebuffer(), |information| {
            let screen = information.unwrap().framebuffer.unwrap();
            assert_eq!(
                (screen.width, screen.height, screen.pitch),
                (1024, 768, 4096)
            );
            let PixelFormat::Direct { red, .. } = screen.format else {
                panic!("{screen:?}");
            };
            assert_eq!((red.position, red.size), (16, 8));
        });
    }

    #[test]
    fn a_text_screen_needs_no_colours() {
        let mut content = sample::framebuffer();
        content[21] = 2;
        content.truncate(24);
        with(8, content, |information| {
            assert_eq!(
                information.unwrap().framebuffer.unwrap().format,
                PixelFormat::Text
            );
        });
    }

    #[test]
    fn announced_colours_must_be_told() {
        let mut content = sample::framebuffer();
        content.truncate(29);
        assert_eq!(fault(8, content), TagFault::Colours);
    }

    #[test]
    fn the_efi_system_table_is_told() {
        with(12, 0x7f00_1234_u64.to_le_bytes().to_vec(), |information| {
            assert_eq!(information.unwrap().efi_system_table, Some(0x7f00_1234));
        });
    }

    #[test]
    fn running_boot_services_are_refused_in_a_sentence() {
        with(18, Vec::new(), |information| {
            let error = information.unwrap_err();
            assert_eq!(error, MultibootError::BootServicesRun);
            assert!(error.to_string().contains("EFI boot services running"));
        });
    }

    #[test]
    fn larger_entries_of_later_versions_are_understood() {
        let mut content = Vec::from([32, 0, 0, 0, 1, 0, 0, 0]);
        content.extend([0; 8]);
        content.extend(0x1000_u64.to_le_bytes());
        content.extend([1, 0, 0, 0, 9, 9, 9, 9, 9, 9, 9, 9, 9, 9, 9, 9]);
        with(6, content, |information| {
            let regions: Vec<Region> = information.unwrap().memory().collect();
            assert_eq!(regions.len(), 1);
            assert_eq!(regions[0].kind, RegionKind::USABLE);
        });
    }

    #[test]
    fn a_memory_map_of_odd_entries_is_refused() {
        for size in [0, 8, 16, 20, 25, 48] {
            let mut content = sample::memory_map(&[(0, 1, 1); 3]);
            content[0] = size;
            assert!(
                matches!(fault(6, content), TagFault::EntrySize { .. }),
                "{size}"
            );
        }
    }

    #[test]
    fn an_entry_that_wraps_is_refused() {
        let content = sample::memory_map(&[(u64::MAX, 2, 1)]);
        assert!(matches!(fault(6, content), TagFault::Wraps { .. }));
    }

    #[test]
    fn empty_entries_are_left_out() {
        with(
            6,
            sample::memory_map(&[(5, 0, 1), (0, 9, 1)]),
            |information| {
                assert_eq!(information.unwrap().memory().count(), 1);
            },
        );
    }

    #[test]
    fn an_empty_or_reversed_module_is_refused() {
        for end in [0x1000, 0xfff] {
            let content = sample::module(0x1000, end, "kernel");
            assert!(matches!(fault(3, content), TagFault::ModuleRange { .. }));
        }
    }

    #[test]
    fn text_without_an_end_is_refused() {
        assert_eq!(fault(1, b"serial".to_vec()), TagFault::NoTerminator);
        assert_eq!(
            fault(3, [0, 0, 0, 0, 1, 0, 0, 0, b'k'].to_vec()),
            TagFault::NoTerminator
        );
    }

    #[test]
    fn a_second_memory_map_is_refused() {
        let mut tags = sample::grub();
        tags.push(tags[5].clone());
        let bytes = sample::information(&tags);
        let error = Information::parse(&bytes).unwrap_err();
        assert!(matches!(
            error,
            MultibootError::Tag {
                fault: TagFault::Again,
                ..
            }
        ));
    }

    #[test]
    fn more_modules_than_there_is_room_for_are_a_refusal() {
        let mut tags = sample::grub();
        tags.extend((0..6).map(|_| (3, sample::module(1, 2, "x"))));
        let error = Information::parse(&sample::information(&tags)).unwrap_err();
        assert!(matches!(
            error,
            MultibootError::Tag {
                fault: TagFault::TooManyModules,
                ..
            }
        ));
    }

    #[test]
    fn a_missing_memory_map_is_refused() {
        let bytes = sample::information(&[(1, sample::text("x"))]);
        let error = Information::parse(&bytes).unwrap_err();
        assert_eq!(error, MultibootError::Missing(TagKind::MEMORY_MAP));
    }

    #[test]
    fn a_tag_past_the_end_is_refused_and_named() {
        let mut bytes = sample::information(&[(1, sample::text("serial=0"))]);
        bytes[12] = 0xff;
        assert_eq!(
            Information::parse(&bytes).unwrap_err().to_string(),
            "the boot loader's command line tag (type 1) at offset 0x8 is malformed: it says it \
             has 255 bytes, 8 to 32 are possible"
        );
    }

    #[test]
    fn a_tag_without_even_its_header_is_refused() {
        let mut bytes = sample::information(&sample::grub());
        bytes[12] = 7;
        assert!(matches!(
            Information::parse(&bytes),
            Err(MultibootError::Tag {
                offset: 8,
                fault: TagFault::Size { found: 7, .. },
                ..
            })
        ));
    }

    #[test]
    fn a_structure_without_an_end_tag_is_refused() {
        let mut bytes = sample::information(&sample::grub());
        bytes.truncate(bytes.len() - 8);
        let len = bytes.len() as u32;
        bytes[..4].copy_from_slice(&len.to_le_bytes());
        assert_eq!(
            Information::parse(&bytes).unwrap_err(),
            MultibootError::NoEnd { offset: len }
        );
    }

    #[test]
    fn a_size_no_boot_loader_makes_is_refused() {
        for size in [0_u32, 15, MAX_INFORMATION + 1, u32::MAX] {
            let mut head = [0; 8];
            head[..4].copy_from_slice(&size.to_le_bytes());
            assert!(Information::total_size(head).is_err());
        }
    }

    proptest! {
        #[test]
        fn any_changed_bytes_are_understood_or_refused(
            changes in proptest::collection::vec((0_usize..500, any::<u8>()), 1..6),
        ) {
            let mut bytes = sample::information(&sample::grub());
            for (offset, byte) in changes {
                if let Some(slot) = bytes.get_mut(offset) {
                    *slot = byte;
                }
            }
            match Information::parse(&bytes) {
                Ok(information) => {
                    prop_assert!(information.memory().count() <= bytes.len() / 24);
                }
                Err(error) => prop_assert!(!error.to_string().is_empty()),
            }
        }

        #[test]
        fn a_structure_of_nonsense_never_panics(
            mut bytes in proptest::collection::vec(0_u8..20, 16..300),
        ) {
            let len = bytes.len() as u32;
            bytes[..4].copy_from_slice(&len.to_le_bytes());
            let _ = Information::parse(&bytes).map(|information| information.memory().count());
        }
    }
}
