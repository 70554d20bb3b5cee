//! Why a kernel cannot be started, in sentences for the console.

use core::fmt;

use acpi::Fault;
use memory::Hpa;

use crate::memory_map::MapError;

/// A field of the setup header with a rule, named by what the rule demands.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum HeaderField {
    /// `boot_flag` is AA55h.
    BootFlag,
    /// `header` is `HdrS`.
    Magic,
    /// `version` is at least 2.12.
    Version,
    /// `xloadflags` has `XLF_KERNEL_64`.
    Entry64,
    /// `relocatable_kernel` is not 0.
    Relocatable,
    /// `syssize` is not 0.
    Syssize,
    /// `jump` ends the header behind `init_size`.
    HeaderEnd,
    /// `kernel_alignment` is a power of two.
    Alignment,
    /// `init_size` is at least the size of the kernel.
    InitSize,
}

impl fmt::Display for HeaderField {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::BootFlag => "boot_flag at offset 0x1fe to be 0xaa55",
            Self::Magic => "'HdrS' at offset 0x202",
            Self::Version => "version at offset 0x206 to be at least 0x20c (2.12)",
            Self::Entry64 => "xloadflags at offset 0x236 to announce a 64-bit entry (bit 0)",
            Self::Relocatable => "relocatable_kernel at offset 0x234 to be set",
            Self::Syssize => "syssize at offset 0x1f4 not to be 0",
            Self::HeaderEnd => "the setup header to end at or behind offset 0x268",
            Self::Alignment => "kernel_alignment at offset 0x230 to be a power of two",
            Self::InitSize => "init_size at offset 0x260 to be no smaller than the kernel",
        })
    }
}

/// Why a kernel cannot be started.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum LinuxError {
    /// The file ends in its setup header.
    TooShort(u64),
    /// A field of the setup header breaks its rule.
    Header {
        /// The rule.
        field: HeaderField,
        /// What is there.
        found: u64,
    },
    /// The file ends before the kernel does.
    Truncated {
        /// Bytes the setup header says the file has.
        says: u64,
        /// Bytes it has.
        has: u64,
    },
    /// No free memory for the kernel.
    NoRoomForKernel {
        /// Bytes it needs.
        len: u64,
        /// What its address must be a multiple of.
        align: u64,
        /// The lowest address it may have.
        from: u64,
    },
    /// No free memory below 4 GiB for the pages the kernel starts with.
    NoRoomForLaunch,
    /// The command line is longer than the kernel or its page allows.
    CommandLineTooLong {
        /// Bytes it has.
        len: u64,
        /// Bytes it may have.
        most: u64,
    },
    /// The initial RAM disk reaches higher than the kernel looks.
    InitrdTooHigh {
        /// Its last byte.
        last: Hpa,
        /// The last byte it may have.
        most: u64,
    },
    /// The initial RAM disk does not begin on a page.
    InitrdUnaligned(Hpa),
    /// The initial RAM disk does not lie in usable memory.
    InitrdNotUsable(Hpa),
    /// ACPI's root pointer is damaged.
    RootPointer(Fault),
    /// The guest's memory map has no place for another region.
    Map(MapError),
}

impl From<MapError> for LinuxError {
    fn from(error: MapError) -> Self {
        Self::Map(error)
    }
}

impl fmt::Display for LinuxError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::TooShort(len) => write!(
                f,
                "the kernel module has only {len} bytes, less than a setup header; is it a bzImage?"
            ),
            Self::Header { field, found } => write!(
                f,
                "the kernel module is no kernel Bouncer can start: expected {field}, found \
                 {found:#x}; give a relocatable 64-bit bzImage of Linux 3.8 or later"
            ),
            Self::Truncated { says, has } => write!(
                f,
                "the kernel module is truncated: its header says {says} bytes, the module has \
                 {has}; rebuild the boot image"
            ),
            Self::NoRoomForKernel { len, align, from } => write!(
                f,
                "there is no free memory for the kernel: it needs {len:#x} bytes on a multiple \
                 of {align:#x} between {from:#x} and 4 GiB; give the machine more memory"
            ),
            Self::NoRoomForLaunch => f.write_str(
                "there is no free memory below 4 GiB for the pages the kernel starts with; give \
                 the machine more memory",
            ),
            Self::CommandLineTooLong { len, most } => write!(
                f,
                "the kernel's command line has {len} bytes, this kernel takes {most}; shorten it \
                 in the boot loader's menu"
            ),
            Self::InitrdTooHigh { last, most } => write!(
                f,
                "the initrd module ends at {last}, this kernel looks for it no higher than \
                 {most:#x}; use a newer kernel or a smaller initrd"
            ),
            Self::InitrdUnaligned(at) => write!(
                f,
                "the initrd module at {at} does not begin on a page, although Bouncer's header \
                 asks for it; use another boot loader"
            ),
            Self::InitrdNotUsable(at) => write!(
                f,
                "the initrd module at {at} does not lie in usable memory of the memory map; use \
                 another boot loader"
            ),
            Self::RootPointer(_) => f.write_str(
                "the boot loader's copy of ACPI's root pointer is damaged; update the firmware \
                 or use another boot loader",
            ),
            Self::Map(error) => error.fmt(f),
        }
    }
}

impl core::error::Error for LinuxError {}
