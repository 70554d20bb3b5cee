//! The hand-over: all a hypervisor learns from whoever loaded it.
//!
//! Owns the layout in memory and the rules that make it trustworthy, checked by the loader
//! before the jump and by the hypervisor after it. Does not know how a loader found any of it.

mod error;
mod start;
mod validate;

use core::fmt;

use memory::{ByteRange, Hpa};
use zerocopy::{FromBytes, FromZeros, Immutable, IntoBytes, KnownLayout};

use crate::memory_map::{MAX_REGIONS, MemoryMap, Region, RegionKind};
use crate::reservation::Reservation;

pub use error::{HandoffError, Part};
pub use start::{GuestKind, GuestStart, Register, SegmentState, TableState};

/// The first eight bytes.
pub const MAGIC: u64 = u64::from_le_bytes(*b"BOUNCER\0");

/// The layout this crate knows. Raised with every change of [`Handoff`].
pub const VERSION: u32 = 5;

/// How many segments of the image are told.
pub const MAX_SEGMENTS: usize = 8;

/// A run of bytes; `len` 0 means that there is none.
#[derive(Clone, Copy, PartialEq, Eq, Debug, FromBytes, IntoBytes, KnownLayout, Immutable)]
#[repr(C)]
pub struct Span {
    /// Host-physical address of the first byte.
    pub base: u64,
    /// How many bytes.
    pub len: u64,
}

impl Span {
    /// No bytes.
    pub const EMPTY: Self = Self { base: 0, len: 0 };

    /// The bytes, or `None` if there are none or they wrap.
    pub fn range(&self) -> Option<ByteRange<Hpa>> {
        ByteRange::new(Hpa::new(self.base), self.len)
    }
}

impl From<ByteRange<Hpa>> for Span {
    fn from(range: ByteRange<Hpa>) -> Self {
        Self {
            base: range.start().raw(),
            len: range.len(),
        }
    }
}

/// One region of the memory map.
#[derive(Clone, Copy, PartialEq, Eq, Debug, FromBytes, IntoBytes, KnownLayout, Immutable)]
#[repr(C)]
pub struct MapEntry {
    /// Which bytes.
    pub span: Span,
    /// What they are for.
    pub kind: RegionKind,
    /// Zero.
    pub reserved: u32,
}

/// A part of the image that is mapped with permissions of its own.
#[derive(Clone, Copy, PartialEq, Eq, Debug, FromBytes, IntoBytes, KnownLayout, Immutable)]
#[repr(C)]
pub struct Segment {
    /// First byte from the start of the image, page aligned.
    pub offset: u64,
    /// How many bytes, whole pages.
    pub len: u64,
    /// What may be done with them.
    pub access: Access,
    /// Zero.
    pub reserved: u32,
}

/// Permissions, numbered as in ELF's `p_flags`.
#[derive(Clone, Copy, PartialEq, Eq, Debug, FromBytes, IntoBytes, KnownLayout, Immutable)]
#[repr(transparent)]
pub struct Access(pub u32);

impl Access {
    /// Instructions may be fetched.
    pub const EXECUTE: u32 = 1;
    /// Bytes may be stored.
    pub const WRITE: u32 = 2;
    /// Bytes may be loaded.
    pub const READ: u32 = 4;
    /// All three.
    pub const ALL: u32 = Self::EXECUTE | Self::WRITE | Self::READ;

    /// Whether instructions may be fetched.
    pub const fn is_executable(self) -> bool {
        self.0 & Self::EXECUTE != 0
    }

    /// Whether bytes may be stored.
    pub const fn is_writable(self) -> bool {
        self.0 & Self::WRITE != 0
    }
}

/// When the loader was entered.
#[derive(Clone, Copy, PartialEq, Eq, Debug, FromBytes, IntoBytes, KnownLayout, Immutable)]
#[repr(C)]
pub struct TimeStamp {
    /// The processor's time-stamp counter.
    pub tsc: u64,
    /// The ACPI power-management timer (3.579545 MHz), read at the same moment.
    pub pm_timer: u32,
    /// 1 if `pm_timer` was read, else 0.
    pub has_pm_timer: u32,
}

/// What the hypervisor is to die of once it runs, so that its last words can be seen.
#[derive(Clone, Copy, PartialEq, Eq, Debug, FromBytes, IntoBytes, KnownLayout, Immutable)]
#[repr(transparent)]
pub struct Rehearsal(pub u16);

impl Rehearsal {
    /// Nothing.
    pub const NONE: Self = Self(0);
    /// A panic.
    pub const PANIC: Self = Self(1);
    /// An exception of the processor.
    pub const FAULT: Self = Self(2);
    /// A guest whose flags no processor takes: SVM runs it all the same, VMX refuses to.
    pub const ENTRY: Self = Self(3);
}

/// Who made the hand-over.
#[derive(Clone, Copy, PartialEq, Eq, Debug, FromBytes, IntoBytes, KnownLayout, Immutable)]
#[repr(transparent)]
pub struct Loader(pub u32);

impl Loader {
    /// The Multiboot2 loader.
    pub const MULTIBOOT2: Self = Self(1);
    /// The EFI application.
    pub const EFI: Self = Self(2);
}

impl fmt::Display for Loader {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match *self {
            Self::MULTIBOOT2 => f.write_str("Multiboot2"),
            Self::EFI => f.write_str("EFI"),
            Self(number) => write!(f, "unknown loader {number}"),
        }
    }
}

/// All that is handed over. Made by [`Handoff::new`], filled in, then [`Handoff::seal`]ed.
#[derive(Clone, PartialEq, Eq, Debug, FromBytes, IntoBytes, KnownLayout, Immutable)]
#[repr(C)]
pub struct Handoff {
    /// [`MAGIC`].
    pub magic: u64,
    /// [`VERSION`].
    pub version: u32,
    /// Bytes of this structure.
    pub size: u32,
    /// Makes the 64-bit words of the structure add up to zero.
    pub checksum: u64,
    /// Who made it.
    pub loader: Loader,
    /// First port of Bouncer's serial line, 0 for none.
    pub serial_port: u16,
    /// What the hypervisor is to die of.
    pub rehearsal: Rehearsal,
    /// All of Bouncer's memory: whole 2 MiB pages, no byte of which the guest may see.
    pub own: Span,
    /// The loaded image, at the start of `own`.
    pub image: Span,
    /// The policy text in `own`; empty if there is none.
    pub policy: Span,
    /// Memory in `own` nobody uses yet: for processors and tables. Whole pages.
    pub free: Span,
    /// Memory in `own` for the pages of untrusted devices: whole 2 MiB pages, or empty.
    pub pools: Span,
    /// Bytes of `pools`, from their start, that the loader has filled with zeros.
    pub cleared: u64,
    /// Where ACPI's root pointer (RSDP) lies.
    pub rsdp: u64,
    /// Memory below 4 GiB that the guest keeps for ACPI tables, in which it may be shown one of Bouncer's;
    /// empty if there is none.
    pub tables: Span,
    /// A page below 1 MiB in usable RAM, used only to start the other processors.
    pub trampoline: u64,
    /// Memory of the loader's in which it finds what the hypervisor said before its guest started ([`crate::echo`]);
    /// empty if it does not ask. A loader that has it, and whom the hypervisor refuses, gets the processor back.
    pub echo: Span,
    /// When the loader was entered.
    pub entry: TimeStamp,
    /// How to enter the guest.
    pub guest: GuestStart,
    /// How many of `segments` count.
    pub segment_count: u32,
    /// How many of `regions` count.
    pub region_count: u32,
    /// The parts of the image, in ascending order.
    pub segments: [Segment; MAX_SEGMENTS],
    /// The machine's memory in ascending order, Bouncer's own carved out of it.
    pub regions: [MapEntry; MAX_REGIONS],
}

// The checksum is a sum of whole 64-bit words.
const _: () = assert!(size_of::<Handoff>().is_multiple_of(8));

impl Handoff {
    /// An empty hand-over of this layout, still to be filled in and sealed.
    pub fn new(loader: Loader) -> Self {
        Self {
            magic: MAGIC,
            version: VERSION,
            size: size_of::<Self>() as u32,
            loader,
            ..Self::new_zeroed()
        }
    }

    /// Tells what lies where in Bouncer's memory, which was set aside for `reservation` at `own`.
    pub fn describe_own(
        &mut self,
        own: ByteRange<Hpa>,
        reservation: &Reservation,
        policy_len: u64,
    ) {
        let part = |offset: u64, len| Span {
            base: own.start().raw().saturating_add(offset),
            len,
        };
        self.own = own.into();
        self.image = part(0, reservation.image_len);
        self.policy = part(reservation.policy, policy_len);
        self.free = part(
            reservation.free,
            reservation.pools.saturating_sub(reservation.free),
        );
        self.pools = part(
            reservation.pools,
            reservation.total.saturating_sub(reservation.pools),
        );
    }

    /// Tells the machine's memory, Bouncer's own already carved out of it.
    pub fn describe_memory(&mut self, map: &MemoryMap) {
        self.regions = [MapEntry::EMPTY; MAX_REGIONS];
        self.region_count = 0;
        for (entry, region) in self.regions.iter_mut().zip(map.regions()) {
            *entry = MapEntry::from(*region);
            self.region_count += 1;
        }
    }

    /// Tells the parts of the image; more than [`MAX_SEGMENTS`] do not occur, as `elf` refuses
    /// such an image.
    pub fn describe_image(&mut self, segments: &[Segment]) {
        self.segments = [Segment::EMPTY; MAX_SEGMENTS];
        self.segment_count = 0;
        for (told, segment) in self.segments.iter_mut().zip(segments) {
            *told = *segment;
            self.segment_count += 1;
        }
    }

    /// Makes the checksum right. Any change after this must be sealed again.
    pub fn seal(&mut self) {
        self.checksum = 0;
        self.checksum = self.sum().wrapping_neg();
    }

    /// Checks everything a hypervisor relies on; called by the loader before it jumps and by
    /// the hypervisor before it believes.
    ///
    /// # Errors
    /// The first [`HandoffError`] met.
    pub fn validate(&self) -> Result<(), HandoffError> {
        validate::validate(self)
    }

    /// The regions of the memory map, in ascending order once validated.
    pub fn regions(&self) -> impl Iterator<Item = Region> + Clone + '_ {
        self.told_regions().iter().filter_map(|entry| {
            Some(Region {
                range: entry.span.range()?,
                kind: entry.kind,
            })
        })
    }

    /// The parts of the image, in ascending order once validated.
    pub fn told_segments(&self) -> &[Segment] {
        let count = (self.segment_count as usize).min(MAX_SEGMENTS);
        self.segments.get(..count).unwrap_or(&[])
    }

    fn told_regions(&self) -> &[MapEntry] {
        let count = (self.region_count as usize).min(MAX_REGIONS);
        self.regions.get(..count).unwrap_or(&[])
    }

    /// The wrapping sum of the structure's 64-bit words; 0 once sealed.
    fn sum(&self) -> u64 {
        self.as_bytes()
            .chunks_exact(8)
            .filter_map(|word| word.try_into().ok())
            .fold(0, |sum: u64, word| {
                sum.wrapping_add(u64::from_le_bytes(word))
            })
    }
}

impl MapEntry {
    /// No region.
    pub const EMPTY: Self = Self {
        span: Span::EMPTY,
        kind: RegionKind::RESERVED,
        reserved: 0,
    };
}

impl From<Region> for MapEntry {
    fn from(region: Region) -> Self {
        Self {
            span: region.range.into(),
            kind: region.kind,
            reserved: 0,
        }
    }
}

impl Segment {
    /// No segment.
    pub const EMPTY: Self = Self {
        offset: 0,
        len: 0,
        access: Access(0),
        reserved: 0,
    };
}
