//! The machine's memory as a sorted list of regions, and room found in it.
//!
//! Owns the order of precedence between overlapping regions and the search for free RAM. Does
//! not know who reports the map (`multiboot2`) nor who reads it (`handoff`, `linux`).

use core::fmt;

use heapless::Vec;
use memory::{ByteRange, Hpa};
use zerocopy::{FromBytes, Immutable, IntoBytes, KnownLayout};

/// How many regions a map may have; as many as Linux takes in its zero page.
pub const MAX_REGIONS: usize = 128;

/// What a region of memory is for, numbered as an E820 map does (ACPI 6.5, 15, address range types).
#[derive(Clone, Copy, PartialEq, Eq, Debug, FromBytes, IntoBytes, KnownLayout, Immutable)]
#[repr(transparent)]
pub struct RegionKind(u32);

impl RegionKind {
    /// RAM nobody needs.
    pub const USABLE: Self = Self(1);
    /// Not to be touched.
    pub const RESERVED: Self = Self(2);
    /// RAM once the ACPI tables in it have been read.
    pub const ACPI_RECLAIMABLE: Self = Self(3);
    /// Kept by the firmware across sleep.
    pub const ACPI_NVS: Self = Self(4);
    /// RAM found to be defective.
    pub const UNUSABLE: Self = Self(5);
    /// Memory that keeps its content without power.
    pub const PERSISTENT: Self = Self(7);
    /// Bouncer's own: never shown to the guest as anything but reserved. The number is ours,
    /// outside every range ACPI gives away.
    pub const BOUNCER: Self = Self(0x8000_b0ce);

    /// The kind an E820 or Multiboot2 number stands for; what is not known is reserved, as
    /// ACPI demands of unknown types.
    pub const fn from_e820(number: u32) -> Self {
        match number {
            1 | 3 | 4 | 5 | 7 => Self(number),
            _ => Self::RESERVED,
        }
    }

    /// The number to show a guest; ours reads as reserved.
    pub const fn e820(self) -> u32 {
        match self {
            Self::BOUNCER => Self::RESERVED.0,
            Self(number) => number,
        }
    }

    /// The number as it is stored in the hand-over.
    pub const fn raw(self) -> u32 {
        self.0
    }

    /// Whether this is one of the kinds above.
    pub const fn is_known(self) -> bool {
        matches!(self.0, 1..=5 | 7) || self.0 == Self::BOUNCER.0
    }

    /// How strongly the kind forbids; the strongest wins where regions overlap.
    const fn rank(self) -> u8 {
        match self {
            Self::USABLE => 0,
            Self::PERSISTENT => 1,
            Self::ACPI_RECLAIMABLE => 2,
            Self::ACPI_NVS => 3,
            Self::UNUSABLE => 5,
            Self::BOUNCER => 6,
            _ => 4,
        }
    }
}

impl fmt::Display for RegionKind {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match *self {
            Self::USABLE => f.write_str("usable"),
            Self::RESERVED => f.write_str("reserved"),
            Self::ACPI_RECLAIMABLE => f.write_str("ACPI tables"),
            Self::ACPI_NVS => f.write_str("ACPI NVS"),
            Self::UNUSABLE => f.write_str("defective"),
            Self::PERSISTENT => f.write_str("persistent"),
            Self::BOUNCER => f.write_str("Bouncer"),
            Self(number) => write!(f, "unknown kind {number}"),
        }
    }
}

/// Bytes of one kind.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Region {
    /// Which bytes.
    pub range: ByteRange<Hpa>,
    /// What they are for.
    pub kind: RegionKind,
}

/// What room is looked for.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Wanted {
    /// How many bytes; not 0.
    pub len: u64,
    /// What the first address is a multiple of; a power of two.
    pub align: u64,
    /// Where the bytes must lie.
    pub within: ByteRange<Hpa>,
}

/// Why a memory map was refused.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum MapError {
    /// More than [`MAX_REGIONS`] regions are left after merging; the one at `at` has no place.
    TooManyRegions {
        /// Where the first region without a place begins.
        at: Hpa,
    },
    /// Not a single usable byte.
    NothingUsable,
}

impl fmt::Display for MapError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::TooManyRegions { at } => write!(
                f,
                "the memory map has more than {MAX_REGIONS} regions; the one at {at} has no \
                 place; this firmware's map is too fragmented for Bouncer"
            ),
            Self::NothingUsable => f.write_str(
                "the memory map has no usable memory; the boot loader passed an empty or broken map",
            ),
        }
    }
}

impl core::error::Error for MapError {}

/// The machine's memory: regions in ascending order that do not overlap.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct MemoryMap {
    regions: Vec<Region, MAX_REGIONS>,
}

impl MemoryMap {
    /// Sorts regions, lets the most restrictive kind win where they overlap, and merges
    /// neighbours of one kind.
    ///
    /// # Errors
    /// [`MapError`] if too many regions are left, or no usable one.
    pub fn normalise(reported: impl Iterator<Item = Region> + Clone) -> Result<Self, MapError> {
        let mut map = Self {
            regions: Vec::new(),
        };
        // Goes from boundary to boundary: at most two per reported region, each one larger than
        // the last, so the loop ends.
        let mut at = Some(Hpa::new(0));
        while let Some(start) = at {
            let next = next_boundary(reported.clone(), start);
            let last = next.map_or(u64::MAX, |next| next.raw().saturating_sub(1));
            if let Some(kind) = strongest_kind(reported.clone(), start)
                && let Some(range) = ByteRange::inclusive(start, Hpa::new(last))
            {
                map.append(Region { range, kind })?;
            }
            at = next;
        }
        if map
            .regions
            .iter()
            .any(|region| region.kind == RegionKind::USABLE)
        {
            Ok(map)
        } else {
            Err(MapError::NothingUsable)
        }
    }

    /// The same memory with `region` laid over it; a weaker kind does not hide a stronger one.
    ///
    /// # Errors
    /// [`MapError`] if too many regions are left, or no usable one.
    pub fn overlaid(&self, region: Region) -> Result<Self, MapError> {
        Self::normalise(self.regions.iter().copied().chain(core::iter::once(region)))
    }

    /// The regions in ascending order.
    pub fn regions(&self) -> &[Region] {
        &self.regions
    }

    /// Whether every byte of `range` is usable RAM.
    pub fn is_usable(&self, range: &ByteRange<Hpa>) -> bool {
        self.usable().any(|usable| usable.covers(range))
    }

    /// The highest usable room that shares no byte with any of `avoid`.
    ///
    /// `None` if there is none, or if `wanted` asks for no bytes or an alignment that is not a
    /// power of two.
    pub fn highest(
        &self,
        wanted: Wanted,
        avoid: impl Iterator<Item = ByteRange<Hpa>> + Clone,
    ) -> Option<ByteRange<Hpa>> {
        self.usable()
            .rev()
            .filter_map(|usable| usable.intersection(&wanted.within))
            .find_map(|room| highest_in(&room, wanted, avoid.clone()))
    }

    /// The lowest usable room that shares no byte with any of `avoid`; otherwise as
    /// [`Self::highest`].
    pub fn lowest(
        &self,
        wanted: Wanted,
        avoid: impl Iterator<Item = ByteRange<Hpa>> + Clone,
    ) -> Option<ByteRange<Hpa>> {
        self.usable()
            .filter_map(|usable| usable.intersection(&wanted.within))
            .find_map(|room| lowest_in(&room, wanted, avoid.clone()))
    }

    fn usable(&self) -> impl DoubleEndedIterator<Item = ByteRange<Hpa>> {
        self.regions
            .iter()
            .filter(|region| region.kind == RegionKind::USABLE)
            .map(|region| region.range)
    }

    /// Adds a region behind all others, merged with the last one if it continues it.
    fn append(&mut self, region: Region) -> Result<(), MapError> {
        if let Some(previous) = self.regions.last_mut()
            && previous.kind == region.kind
            && previous.range.last().checked_add(1) == Some(region.range.start())
            && let Some(joined) = ByteRange::inclusive(previous.range.start(), region.range.last())
        {
            previous.range = joined;
            return Ok(());
        }
        self.regions
            .push(region)
            .map_err(|region| MapError::TooManyRegions {
                at: region.range.start(),
            })
    }
}

/// The lowest address above `at` where some region begins or has just ended.
fn next_boundary(regions: impl Iterator<Item = Region>, at: Hpa) -> Option<Hpa> {
    regions
        .flat_map(|region| {
            [
                Some(region.range.start()),
                region.range.last().checked_add(1),
            ]
        })
        .flatten()
        .filter(|boundary| *boundary > at)
        .min()
}

fn strongest_kind(regions: impl Iterator<Item = Region>, at: Hpa) -> Option<RegionKind> {
    regions
        .filter(|region| region.range.contains(at))
        .map(|region| region.kind)
        .max_by_key(|kind| kind.rank())
}

fn highest_in(
    room: &ByteRange<Hpa>,
    wanted: Wanted,
    avoid: impl Iterator<Item = ByteRange<Hpa>> + Clone,
) -> Option<ByteRange<Hpa>> {
    if !wanted.align.is_power_of_two() {
        return None;
    }
    let mut last = room.last();
    // Each round succeeds or moves below one more range of `avoid`, for good.
    for _ in 0..=avoid.clone().count() {
        let lowest_byte = last.raw().checked_sub(wanted.len.checked_sub(1)?)?;
        let base = lowest_byte & !(wanted.align - 1);
        let candidate = ByteRange::new(Hpa::new(base), wanted.len)?;
        if !room.covers(&candidate) {
            return None;
        }
        match avoid.clone().find(|taken| taken.overlaps(&candidate)) {
            None => return Some(candidate),
            Some(taken) => last = Hpa::new(taken.start().raw().checked_sub(1)?),
        }
    }
    None
}

fn lowest_in(
    room: &ByteRange<Hpa>,
    wanted: Wanted,
    avoid: impl Iterator<Item = ByteRange<Hpa>> + Clone,
) -> Option<ByteRange<Hpa>> {
    if !wanted.align.is_power_of_two() {
        return None;
    }
    let mut first = room.start();
    // Each round succeeds or moves above one more range of `avoid`, for good.
    for _ in 0..=avoid.clone().count() {
        let base = first.raw().checked_next_multiple_of(wanted.align)?;
        let candidate = ByteRange::new(Hpa::new(base), wanted.len)?;
        if !room.covers(&candidate) {
            return None;
        }
        match avoid.clone().find(|taken| taken.overlaps(&candidate)) {
            None => return Some(candidate),
            Some(taken) => first = taken.last().checked_add(1)?,
        }
    }
    None
}

#[cfg(test)]
mod tests {
    extern crate std;

    use core::iter;
    use std::vec::Vec;

    use proptest::prelude::*;

    use super::*;

    fn range(start: u64, end: u64) -> ByteRange<Hpa> {
        ByteRange::new(Hpa::new(start), end - start).unwrap()
    }

    fn region(start: u64, end: u64, kind: RegionKind) -> Region {
        Region {
            range: range(start, end),
            kind,
        }
    }

    fn map(regions: &[Region]) -> MemoryMap {
        MemoryMap::normalise(regions.iter().copied()).unwrap()
    }

    fn wanted(len: u64, align: u64) -> Wanted {
        Wanted {
            len,
            align,
            within: range(0, 1 << 32),
        }
    }

    /// What a byte is for, by the definition: the strongest of all that claim it.
    fn kind_at(regions: &[Region], at: u64) -> Option<RegionKind> {
        regions
            .iter()
            .filter(|region| region.range.contains(Hpa::new(at)))
            .map(|region| region.kind)
            .max_by_key(|kind| kind.rank())
    }

    #[test]
    fn regions_are_sorted() {
        let sorted = map(&[
            region(0x10_0000, 0x800_0000, RegionKind::USABLE),
            region(0xf_0000, 0x10_0000, RegionKind::RESERVED),
            region(0, 0x9_fc00, RegionKind::USABLE),
        ]);
        let starts: Vec<u64> = sorted
            .regions()
            .iter()
            .map(|region| region.range.start().raw())
            .collect();
        assert_eq!(starts, [0, 0xf_0000, 0x10_0000]);
    }

    #[test]
    fn the_most_restrictive_kind_wins_where_regions_overlap() {
        assert_eq!(
            map(&[
                region(0, 0x10000, RegionKind::USABLE),
                region(0x4000, 0x8000, RegionKind::RESERVED),
                region(0x6000, 0xa000, RegionKind::ACPI_RECLAIMABLE),
            ])
            .regions(),
            [
                region(0, 0x4000, RegionKind::USABLE),
                region(0x4000, 0x8000, RegionKind::RESERVED),
                region(0x8000, 0xa000, RegionKind::ACPI_RECLAIMABLE),
                region(0xa000, 0x10000, RegionKind::USABLE),
            ]
        );
    }

    #[test]
    fn neighbours_of_one_kind_are_merged() {
        assert_eq!(
            map(&[
                region(0x1000, 0x2000, RegionKind::USABLE),
                region(0, 0x1000, RegionKind::USABLE),
            ])
            .regions(),
            [region(0, 0x2000, RegionKind::USABLE)]
        );
    }

    #[test]
    fn the_last_byte_of_the_address_space_may_belong_to_a_region() {
        let last = Region {
            range: ByteRange::inclusive(Hpa::new(u64::MAX - 4095), Hpa::new(u64::MAX)).unwrap(),
            kind: RegionKind::USABLE,
        };
        assert_eq!(map(&[last]).regions(), [last]);
    }

    #[test]
    fn what_is_not_known_is_reserved() {
        assert_eq!(RegionKind::from_e820(6), RegionKind::RESERVED);
        assert_eq!(RegionKind::from_e820(0x8000_b0ce), RegionKind::RESERVED);
    }

    #[test]
    fn the_guest_sees_bouncers_memory_as_reserved() {
        assert_eq!(RegionKind::BOUNCER.e820(), 2);
    }

    #[test]
    fn more_regions_than_there_is_room_for_are_a_refusal() {
        let scattered = |count: u64| {
            MemoryMap::normalise(
                (0..count)
                    .map(|page| region(page * 0x2000, page * 0x2000 + 0x1000, RegionKind::USABLE)),
            )
        };
        assert!(scattered(128).is_ok());
        assert_eq!(
            scattered(129),
            Err(MapError::TooManyRegions {
                at: Hpa::new(128 * 0x2000)
            })
        );
    }

    #[test]
    fn a_map_without_usable_memory_is_refused() {
        let reserved = iter::once(region(0, 0x1000, RegionKind::RESERVED));
        assert_eq!(MemoryMap::normalise(reserved), Err(MapError::NothingUsable));
    }

    #[test]
    fn a_carved_region_is_no_longer_usable() {
        let carved = map(&[region(0, 0x40_0000, RegionKind::USABLE)])
            .overlaid(region(0x20_0000, 0x40_0000, RegionKind::BOUNCER))
            .unwrap();
        assert!(carved.is_usable(&range(0, 0x20_0000)));
        assert!(!carved.is_usable(&range(0x1f_f000, 0x20_1000)));
        assert_eq!(
            carved.highest(wanted(0x1000, 0x1000), iter::empty()),
            Some(range(0x1f_f000, 0x20_0000))
        );
    }

    #[test]
    fn the_highest_room_lies_below_4_gib_and_touches_nothing_to_avoid() {
        let map = map(&[
            region(0, 0x8000_0000, RegionKind::USABLE),
            region(1 << 32, 2 << 32, RegionKind::USABLE),
        ]);
        let modules = [
            range(0x7fe0_0000, 0x7fe0_1000),
            range(0x7fc0_0000, 0x7fc0_0001),
        ];
        assert_eq!(
            map.highest(wanted(0x40_0000, 0x20_0000), modules.iter().copied()),
            Some(range(0x7f80_0000, 0x7fc0_0000))
        );
    }

    #[test]
    fn no_bytes_or_an_odd_alignment_find_no_room() {
        let map = map(&[region(0, 0x8000_0000, RegionKind::USABLE)]);
        for wanted in [wanted(0, 1), wanted(1, 0), wanted(1, 3)] {
            assert_eq!(map.highest(wanted, iter::empty()), None);
            assert_eq!(map.lowest(wanted, iter::empty()), None);
        }
    }

    fn any_region() -> impl Strategy<Value = Region> {
        (0_u64..64, 1_u64..16, 0_u32..8)
            .prop_map(|(start, len, kind)| region(start, start + len, RegionKind::from_e820(kind)))
    }

    proptest! {
        #[test]
        fn every_byte_keeps_the_strongest_kind_claimed_for_it(
            regions in proptest::collection::vec(any_region(), 1..20),
        ) {
            let Ok(map) = MemoryMap::normalise(regions.iter().copied()) else { return Ok(()) };
            for at in 0..90 {
                prop_assert_eq!(kind_at(map.regions(), at), kind_at(&regions, at));
            }
            for pair in map.regions().windows(2) {
                prop_assert!(pair[0].range.last() < pair[1].range.start());
            }
        }

        #[test]
        fn a_normal_map_stays_as_it_is(regions in proptest::collection::vec(any_region(), 1..20)) {
            let Ok(map) = MemoryMap::normalise(regions.iter().copied()) else { return Ok(()) };
            prop_assert_eq!(MemoryMap::normalise(map.regions().iter().copied()), Ok(map));
        }

        #[test]
        fn found_room_is_the_outermost_there_is(
            regions in proptest::collection::vec(any_region(), 1..12),
            avoid in proptest::collection::vec((0_u64..70, 1_u64..8), 0..6),
            len in 1_u64..8,
            log_align in 0_u32..4,
        ) {
            let Ok(map) = MemoryMap::normalise(regions.iter().copied()) else { return Ok(()) };
            let avoid: Vec<_> = avoid.iter().map(|(start, len)| range(*start, start + len)).collect();
            let wanted = Wanted { len, align: 1 << log_align, within: range(0, 60) };
            let fits = |base: u64| {
                let room = range(base, base + len);
                base.is_multiple_of(wanted.align)
                    && wanted.within.covers(&room)
                    && map.is_usable(&room)
                    && !avoid.iter().any(|taken| taken.overlaps(&room))
            };
            let room = |base: u64| range(base, base + len);
            prop_assert_eq!(
                map.highest(wanted, avoid.iter().copied()),
                (0..60).rev().find(|base| fits(*base)).map(room)
            );
            prop_assert_eq!(
                map.lowest(wanted, avoid.iter().copied()),
                (0..60).find(|base| fits(*base)).map(room)
            );
        }

        #[test]
        fn a_search_at_the_edges_of_the_address_space_never_panics(
            start: u64, len in 1_u64.., log_align in 0_u32..64, want: u64,
        ) {
            let Some(range) = ByteRange::new(Hpa::new(start), len) else { return Ok(()) };
            let map = map(&[Region { range, kind: RegionKind::USABLE }]);
            let all = ByteRange::inclusive(Hpa::new(0), Hpa::new(u64::MAX)).unwrap();
            let wanted = Wanted { len: want, align: 1 << log_align, within: all };
            for found in [map.highest(wanted, iter::empty()), map.lowest(wanted, iter::empty())] {
                prop_assert!(found.is_none_or(|found| range.covers(&found)));
            }
        }
    }
}
