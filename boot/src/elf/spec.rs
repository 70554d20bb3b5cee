//! The structures of an ELF64 file, little-endian: bits and nothing else.

use zerocopy::little_endian::{U16, U32, U64};
use zerocopy::{FromBytes, Immutable, KnownLayout, Unaligned};

use super::{ElfError, ElfField};

/// `Elf64_Ehdr` (ELF-64 1.5, section 2).
#[derive(Clone, Copy, Debug, FromBytes, KnownLayout, Immutable, Unaligned)]
#[repr(C)]
pub(super) struct FileHeader {
    pub(super) ident: [u8; 16],
    pub(super) kind: U16,
    pub(super) machine: U16,
    pub(super) version: U32,
    pub(super) entry: U64,
    pub(super) program_headers: U64,
    pub(super) section_headers: U64,
    pub(super) flags: U32,
    pub(super) len: U16,
    pub(super) program_header_len: U16,
    pub(super) program_header_count: U16,
    pub(super) section_header_len: U16,
    pub(super) section_header_count: U16,
    pub(super) section_names: U16,
}

impl FileHeader {
    /// `\x7fELF`, 64-bit, little-endian, version 1.
    const IDENT: [u8; 7] = [0x7f, b'E', b'L', b'F', 2, 1, 1];
    /// `ET_DYN`: position independent.
    const DYNAMIC: u16 = 3;
    /// `EM_X86_64`.
    const X86_64: u16 = 62;

    /// Checks that this is a position-independent file for x86-64.
    pub(super) fn check(&self) -> Result<(), ElfError> {
        let error = |field, found| Err(ElfError::Field { field, found });
        if !self.ident.starts_with(&Self::IDENT) {
            let [m0, m1, m2, m3, class, data, version, ..] = self.ident;
            let found = [m0, m1, m2, m3, class, data, version, 0];
            return error(ElfField::Ident, u64::from_le_bytes(found));
        }
        if self.kind.get() != Self::DYNAMIC {
            return error(ElfField::Kind, u64::from(self.kind.get()));
        }
        if self.machine.get() != Self::X86_64 {
            return error(ElfField::Machine, u64::from(self.machine.get()));
        }
        if usize::from(self.program_header_len.get()) != size_of::<ProgramHeader>() {
            return error(
                ElfField::ProgramHeaderLen,
                u64::from(self.program_header_len.get()),
            );
        }
        Ok(())
    }
}

/// `Elf64_Phdr` (ELF-64 1.5, section 7).
#[derive(Clone, Copy, Debug, FromBytes, KnownLayout, Immutable, Unaligned)]
#[repr(C)]
pub(super) struct ProgramHeader {
    pub(super) kind: U32,
    pub(super) flags: U32,
    pub(super) offset: U64,
    pub(super) address: U64,
    pub(super) physical_address: U64,
    pub(super) file_len: U64,
    pub(super) memory_len: U64,
    pub(super) alignment: U64,
}

impl ProgramHeader {
    /// `PT_LOAD`.
    pub(super) const LOAD: u32 = 1;
    /// `PT_DYNAMIC`.
    pub(super) const DYNAMIC: u32 = 2;
}

/// `Elf64_Dyn` (ELF-64 1.5, section 8).
#[derive(Clone, Copy, Debug, FromBytes, KnownLayout, Immutable, Unaligned)]
#[repr(C)]
pub(super) struct DynamicEntry {
    pub(super) tag: U64,
    pub(super) value: U64,
}

/// Tags of [`DynamicEntry`] (ELF-64 1.5, section 8; `RELR` from the generic ABI).
pub(super) mod dynamic {
    pub(in super::super) const NULL: u64 = 0;
    pub(in super::super) const NEEDED: u64 = 1;
    pub(in super::super) const RELA: u64 = 7;
    pub(in super::super) const REL: u64 = 17;
    pub(in super::super) const TEXT_RELOCATIONS: u64 = 22;
    pub(in super::super) const PLT_RELOCATIONS: u64 = 23;
    pub(in super::super) const RELR_LEN: u64 = 35;
    pub(in super::super) const RELR: u64 = 36;
    pub(in super::super) const RELR_ENTRY_LEN: u64 = 37;
}

/// `Elf64_Relr` (generic ABI, "Relative Relocation Table"): even, the place of a word to which the image's address is
/// added, behind which the next map begins; odd, a map of the next 63 words, bit 1 for the first.
pub(super) type Relocation = U64;

/// Words that a map covers.
pub(super) const MAPPED_WORDS: u64 = 63;
