//! What can be wrong with a boot loader's information, in sentences for the console.

use core::fmt;

use super::MAX_MODULES;

/// A tag's type (Multiboot2 2.0, 3.6).
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct TagKind(pub u32);

impl TagKind {
    /// The end of the structure.
    pub const END: Self = Self(0);
    /// The program's command line.
    pub const COMMAND_LINE: Self = Self(1);
    /// The boot loader's name.
    pub const LOADER_NAME: Self = Self(2);
    /// A module.
    pub const MODULE: Self = Self(3);
    /// The memory map.
    pub const MEMORY_MAP: Self = Self(6);
    /// The screen.
    pub const FRAMEBUFFER: Self = Self(8);
    /// The 64-bit EFI system table.
    pub const EFI64_SYSTEM_TABLE: Self = Self(12);
    /// ACPI's root pointer of version 1.
    pub const OLD_ROOT_POINTER: Self = Self(14);
    /// ACPI's root pointer of version 2 or above.
    pub const NEW_ROOT_POINTER: Self = Self(15);
    /// EFI boot services have not been terminated.
    pub const BOOT_SERVICES: Self = Self(18);
}

impl fmt::Display for TagKind {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let name = match *self {
            Self::END => "end",
            Self::COMMAND_LINE => "command line",
            Self::LOADER_NAME => "boot loader name",
            Self::MODULE => "module",
            Self::MEMORY_MAP => "memory map",
            Self::FRAMEBUFFER => "framebuffer",
            Self::EFI64_SYSTEM_TABLE => "EFI system table",
            Self::OLD_ROOT_POINTER => "ACPI 1.0 root pointer",
            Self::NEW_ROOT_POINTER => "ACPI root pointer",
            Self::BOOT_SERVICES => "EFI boot services",
            Self(number) => return write!(f, "tag of type {number}"),
        };
        write!(f, "{name} tag (type {})", self.0)
    }
}

/// Why a boot loader's information is not believed. Offsets count from the structure's first
/// byte.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum MultibootError {
    /// The structure's own size makes no sense.
    TotalSize {
        /// What it says.
        found: u32,
        /// The smallest possible.
        least: u32,
        /// The largest accepted.
        most: u32,
    },
    /// The structure ends at `offset`, where a tag or the end tag should be.
    NoEnd {
        /// Where the structure ends.
        offset: u32,
    },
    /// A tag is malformed.
    Tag {
        /// Which.
        kind: TagKind,
        /// Where it begins.
        offset: u32,
        /// What is wrong.
        fault: TagFault,
    },
    /// A tag that is needed is not there.
    Missing(TagKind),
    /// The boot loader left the firmware's boot services running.
    BootServicesRun,
}

/// What is wrong with a tag.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum TagFault {
    /// Its size is too small for its type, or leads past the end of the structure.
    Size {
        /// What it says.
        found: u32,
        /// The smallest possible.
        least: u32,
        /// The largest possible.
        most: u32,
    },
    /// There is a second one of a type that may stand once.
    Again,
    /// Its text is not ended by a zero.
    NoTerminator,
    /// Its entries are too small or not whole.
    EntrySize {
        /// Bytes it says an entry has.
        found: u32,
        /// Bytes all its entries have.
        bytes: u32,
    },
    /// An entry wraps the address space.
    Wraps {
        /// Where it begins.
        base: u64,
        /// How many bytes it says it has.
        len: u64,
    },
    /// A module is empty or ends before it begins.
    ModuleRange {
        /// Its first byte.
        start: u32,
        /// The byte behind it.
        end: u32,
    },
    /// There is no room for another module.
    TooManyModules,
    /// Colours are announced and not told.
    Colours,
}

impl fmt::Display for MultibootError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::TotalSize { found, least, most } => write!(
                f,
                "the boot loader's information says it has {found} bytes; {least} to {most} are \
                 possible; was Bouncer started by a Multiboot2 boot loader?"
            ),
            Self::NoEnd { offset } => write!(
                f,
                "the boot loader's information has no end tag before its end at offset {offset:#x}"
            ),
            Self::Tag {
                kind,
                offset,
                fault,
            } => write!(
                f,
                "the boot loader's {kind} at offset {offset:#x} is malformed: {fault}"
            ),
            Self::Missing(kind) => write!(
                f,
                "the boot loader's information has no {kind}; Bouncer cannot start without it"
            ),
            Self::BootServicesRun => f.write_str(
                "the boot loader left EFI boot services running, which Bouncer did not ask for; \
                 start it with multiboot2 and without an EFI entry",
            ),
        }
    }
}

impl fmt::Display for TagFault {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Size { found, least, most } => {
                write!(
                    f,
                    "it says it has {found} bytes, {least} to {most} are possible"
                )
            }
            Self::Again => f.write_str("there was one before, and there may be only one"),
            Self::NoTerminator => f.write_str("its text is not ended by a zero"),
            Self::EntrySize { found, bytes } => write!(
                f,
                "its {bytes} bytes of entries are not whole entries of {found} bytes, which must \
                 be a multiple of 8 and at least 24"
            ),
            Self::Wraps { base, len } => write!(
                f,
                "the entry at {base:#x} with {len:#x} bytes wraps the address space"
            ),
            Self::ModuleRange { start, end } => write!(
                f,
                "the module from {start:#x} to {end:#x} is empty; is its file empty?"
            ),
            Self::TooManyModules => write!(f, "Bouncer takes at most {MAX_MODULES} modules"),
            Self::Colours => f.write_str("it announces colours and does not tell them"),
        }
    }
}

impl core::error::Error for MultibootError {}
