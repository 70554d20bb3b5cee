//! The rules of a hand-over, from the frame to what it frames.

use heapless::Vec;
use memory::{ByteRange, Hpa, PAGE_SIZE};

use super::{
    GuestKind, Handoff, HandoffError, Loader, MAGIC, MAX_SEGMENTS, Part, Segment, Span, VERSION,
};
use crate::memory_map::{MAX_REGIONS, RegionKind};
use crate::reservation::LARGE_PAGE;

/// Processors start in real mode, which ends here.
const REAL_MODE_END: u64 = 1 << 20;

/// What the RSDT of ACPI names tables by ends here.
const TABLES_END: u64 = 1 << 32;

pub(super) fn validate(handoff: &Handoff) -> Result<(), HandoffError> {
    frame(handoff)?;
    memory_map(handoff)?;
    let own = own_memory(handoff)?;
    image(handoff)?;
    trampoline(handoff)?;
    tables(handoff, &own)?;
    echo(handoff)?;
    guest(handoff, &own)
}

/// Magic, version, size and checksum, and the words that are numbers.
fn frame(handoff: &Handoff) -> Result<(), HandoffError> {
    if handoff.magic != MAGIC {
        return Err(HandoffError::Magic(handoff.magic));
    }
    if handoff.version != VERSION {
        return Err(HandoffError::Version(handoff.version));
    }
    if handoff.size as usize != size_of::<Handoff>() {
        return Err(HandoffError::Size(handoff.size));
    }
    if handoff.sum() != 0 {
        return Err(HandoffError::Checksum(handoff.sum()));
    }
    if !matches!(handoff.loader, Loader::MULTIBOOT2 | Loader::EFI) {
        return Err(HandoffError::Loader(handoff.loader));
    }
    if !matches!(handoff.guest.kind, GuestKind::LINUX64 | GuestKind::FIRMWARE) {
        return Err(HandoffError::Guest(handoff.guest.kind));
    }
    if !handoff.serial_port.is_multiple_of(8) {
        return Err(HandoffError::SerialPort(handoff.serial_port));
    }
    if !(1..=MAX_SEGMENTS).contains(&(handoff.segment_count as usize)) {
        return Err(HandoffError::SegmentCount(handoff.segment_count));
    }
    if !(1..=MAX_REGIONS).contains(&(handoff.region_count as usize)) {
        return Err(HandoffError::RegionCount(handoff.region_count));
    }
    if handoff.rsdp == 0 {
        return Err(HandoffError::Missing(Part::Rsdp));
    }
    Ok(())
}

/// Regions are real, known, ascending and disjoint.
fn memory_map(handoff: &Handoff) -> Result<(), HandoffError> {
    let mut previous: Option<(Part, ByteRange<Hpa>)> = None;
    for (number, entry) in (0..).zip(handoff.told_regions()) {
        let part = Part::Region(number);
        let range = existing(part, entry.span)?;
        if !entry.kind.is_known() {
            return Err(HandoffError::UnknownKind(part, entry.kind));
        }
        if let Some((earlier, before)) = previous
            && before.last() >= range.start()
        {
            return Err(HandoffError::Overlap(earlier, part));
        }
        previous = Some((part, range));
    }
    Ok(())
}

/// Bouncer's memory is made of large pages, carved out of the map, and its parts are disjoint.
fn own_memory(handoff: &Handoff) -> Result<ByteRange<Hpa>, HandoffError> {
    let own = existing(Part::Own, handoff.own)?;
    aligned(Part::Own, handoff.own, LARGE_PAGE)?;
    let mut carved = handoff
        .regions()
        .filter(|region| region.kind == RegionKind::BOUNCER);
    if carved.next().map(|region| region.range) != Some(own) || carved.next().is_some() {
        return Err(HandoffError::OwnNotCarvedOut(handoff.own));
    }

    let image = inside(Part::Image, handoff.image, &own)?;
    aligned(Part::Image, handoff.image, PAGE_SIZE)?;
    if image.start() != own.start() {
        return Err(HandoffError::ImageNotFirst(handoff.image));
    }
    let free = inside(Part::Free, handoff.free, &own)?;
    aligned(Part::Free, handoff.free, PAGE_SIZE)?;
    if free.overlaps(&image) {
        return Err(HandoffError::Overlap(Part::Image, Part::Free));
    }
    if handoff.policy.len != 0 {
        let policy = inside(Part::Policy, handoff.policy, &own)?;
        if policy.overlaps(&image) {
            return Err(HandoffError::Overlap(Part::Image, Part::Policy));
        }
        if policy.overlaps(&free) {
            return Err(HandoffError::Overlap(Part::Policy, Part::Free));
        }
    }
    pools(handoff, &own)?;
    Ok(own)
}

/// What devices reach is nothing else.
fn pools(handoff: &Handoff, own: &ByteRange<Hpa>) -> Result<(), HandoffError> {
    if handoff.cleared > handoff.pools.len {
        let (base, len) = (handoff.pools.base, handoff.cleared);
        return Err(HandoffError::Outside {
            part: Part::Cleared,
            span: Span { base, len },
            within: Part::Pools,
        });
    }
    if handoff.pools.len == 0 {
        return Ok(());
    }
    let pools = inside(Part::Pools, handoff.pools, own)?;
    aligned(Part::Pools, handoff.pools, LARGE_PAGE)?;
    let others = [
        (Part::Image, handoff.image),
        (Part::Policy, handoff.policy),
        (Part::Free, handoff.free),
    ];
    for (part, span) in others {
        if span.range().is_some_and(|range| range.overlaps(&pools)) {
            return Err(HandoffError::Overlap(part, Part::Pools));
        }
    }
    Ok(())
}

/// Segments are whole pages of the image, ascending, disjoint, and never writable code.
fn image(handoff: &Handoff) -> Result<(), HandoffError> {
    let mut end_of_previous = 0;
    for (number, segment) in (0..).zip(handoff.told_segments()) {
        let part = Part::Segment(number);
        let end = segment_end(part, segment)?;
        if segment.offset < end_of_previous {
            return Err(HandoffError::Overlap(
                Part::Segment(number.saturating_sub(1)),
                part,
            ));
        }
        if end > handoff.image.len {
            return Err(HandoffError::Outside {
                part,
                span: span_of(segment),
                within: Part::Image,
            });
        }
        if segment.access.is_writable() && segment.access.is_executable() {
            return Err(HandoffError::WritableCode(part));
        }
        end_of_previous = end;
    }
    Ok(())
}

fn segment_end(part: Part, segment: &Segment) -> Result<u64, HandoffError> {
    let span = span_of(segment);
    aligned(part, span, PAGE_SIZE)?;
    segment
        .offset
        .checked_add(segment.len)
        .filter(|_| segment.len != 0)
        .ok_or(HandoffError::NoRange(part, span))
}

fn span_of(segment: &Segment) -> Span {
    Span {
        base: segment.offset,
        len: segment.len,
    }
}

/// A start-up IPI names a page below 1 MiB by its number, 00h to FFh; page 0 is the vector
/// table of real mode.
fn trampoline(handoff: &Handoff) -> Result<(), HandoffError> {
    let span = Span {
        base: handoff.trampoline,
        len: PAGE_SIZE,
    };
    if span.base == 0 {
        return Err(HandoffError::Missing(Part::Trampoline));
    }
    if span.base >= REAL_MODE_END {
        return Err(HandoffError::TrampolineTooHigh(span.base));
    }
    aligned(Part::Trampoline, span, PAGE_SIZE)?;
    usable(handoff, Part::Trampoline, span)
}

/// Where a table of Bouncer's is shown, the guest keeps what is there.
fn tables(handoff: &Handoff, own: &ByteRange<Hpa>) -> Result<(), HandoffError> {
    let span = handoff.tables;
    if span.len == 0 {
        return Ok(());
    }
    let range = existing(Part::Tables, span)?;
    if range.overlaps(own) {
        return Err(HandoffError::Overlap(Part::Own, Part::Tables));
    }
    let is_used = handoff
        .regions()
        .any(|region| region.kind == RegionKind::USABLE && region.range.overlaps(&range));
    if is_used || range.last().raw() >= TABLES_END {
        return Err(HandoffError::TablesNotKept(span));
    }
    Ok(())
}

/// What is said to the loader goes where nothing is kept.
fn echo(handoff: &Handoff) -> Result<(), HandoffError> {
    if handoff.echo.len == 0 {
        return Ok(());
    }
    aligned(Part::Echo, handoff.echo, PAGE_SIZE)?;
    usable(handoff, Part::Echo, handoff.echo)
}

/// The guest's state is one of 64-bit mode, and nothing it starts with is Bouncer's; for Linux, all of
/// it is RAM.
fn guest(handoff: &Handoff, own: &ByteRange<Hpa>) -> Result<(), HandoffError> {
    let start = &handoff.guest;
    if let Some((register, value)) = start.impossible() {
        return Err(HandoffError::State(register, value));
    }
    // The stack grows down from `rsp`: the first push lands in the eight bytes below it.
    let stack = start.rsp.wrapping_sub(8);
    let gdt_len = u64::from(start.gdt.limit) + 1;
    let mut parts: Vec<(Part, u64, u64, u64), 5> = Vec::from_array([
        (Part::GuestRip, start.rip, 1, 1),
        (Part::GuestStack, stack, 8, 8),
    ]);
    let is_linux = start.kind == GuestKind::LINUX64;
    if is_linux {
        parts.extend([
            (Part::GuestGdt, start.gdt.base, gdt_len, 8),
            (Part::GuestZeroPage, start.rsi, PAGE_SIZE, PAGE_SIZE),
            (Part::GuestPageTables, start.cr3, PAGE_SIZE, PAGE_SIZE),
        ]);
    } else {
        // Firmware's tables lie as it likes; of Linux there are no vectors yet.
        let idt_len = u64::from(start.idt.limit) + 1;
        let root = start.cr3 & !(PAGE_SIZE - 1);
        parts.extend([
            (Part::GuestGdt, start.gdt.base, gdt_len, 1),
            (Part::GuestIdt, start.idt.base, idt_len, 1),
            (Part::GuestPageTables, root, PAGE_SIZE, PAGE_SIZE),
        ]);
    }
    for (part, base, len, alignment) in parts {
        let span = Span { base, len };
        let range = existing(part, span)?;
        if !base.is_multiple_of(alignment) {
            return Err(HandoffError::Unaligned {
                part,
                span,
                to: alignment,
            });
        }
        if range.overlaps(own) {
            return Err(HandoffError::Overlap(Part::Own, part));
        }
        if is_linux {
            usable(handoff, part, span)?;
        }
    }
    Ok(())
}

fn existing(part: Part, span: Span) -> Result<ByteRange<Hpa>, HandoffError> {
    span.range().ok_or(HandoffError::NoRange(part, span))
}

fn inside(part: Part, span: Span, own: &ByteRange<Hpa>) -> Result<ByteRange<Hpa>, HandoffError> {
    let range = existing(part, span)?;
    if own.covers(&range) {
        Ok(range)
    } else {
        Err(HandoffError::Outside {
            part,
            span,
            within: Part::Own,
        })
    }
}

fn aligned(part: Part, span: Span, to: u64) -> Result<(), HandoffError> {
    if span.base.is_multiple_of(to) && span.len.is_multiple_of(to) {
        Ok(())
    } else {
        Err(HandoffError::Unaligned { part, span, to })
    }
}

fn usable(handoff: &Handoff, part: Part, span: Span) -> Result<(), HandoffError> {
    let range = existing(part, span)?;
    let is_usable = handoff
        .regions()
        .any(|region| region.kind == RegionKind::USABLE && region.range.covers(&range));
    if is_usable {
        Ok(())
    } else {
        Err(HandoffError::NotUsable(part, span))
    }
}

#[cfg(test)]
mod tests {
    extern crate std;

    use std::format;
    use std::vec::Vec;

    use proptest::prelude::*;
    use zerocopy::{FromBytes, IntoBytes};

    use super::*;
    use crate::handoff::{
        Access, GuestStart, MapEntry, Register, SegmentState, TableState, TimeStamp,
    };
    use crate::linux;

    const OWN: u64 = 0x7fe0_0000;

    fn entry(base: u64, end: u64, kind: RegionKind) -> MapEntry {
        MapEntry {
            span: Span {
                base,
                len: end - base,
            },
            kind,
            reserved: 0,
        }
    }

    /// A hand-over as the Multiboot2 loader makes it, sealed.
    fn sample() -> Handoff {
        let mut handoff = Handoff::new(Loader::MULTIBOOT2);
        let span = |base, len| Span { base, len };
        handoff.serial_port = 0x3f8;
        handoff.own = span(OWN, 0x20_0000);
        handoff.image = span(OWN, 0x4_0000);
        handoff.policy = span(OWN + 0x4_2000, 77);
        handoff.free = span(OWN + 0x4_3000, 0x1b_d000);
        handoff.rsdp = 0x1a000;
        handoff.trampoline = 0x9_e000;
        handoff.entry = TimeStamp {
            tsc: 12345,
            pm_timer: 6,
            has_pm_timer: 1,
        };
        handoff.tables = span(0xf_0040, 0xfc0);
        handoff.guest = linux::sample::start();
        let segment = |offset, len, access| Segment {
            offset,
            len,
            access: Access(access),
            reserved: 0,
        };
        handoff.describe_image(&[
            segment(0, 0x1_0000, Access::READ),
            segment(0x1_0000, 0x2_0000, Access::READ | Access::EXECUTE),
            segment(0x3_0000, 0x1_0000, Access::READ | Access::WRITE),
        ]);
        let regions = [
            entry(0, 0x9_fc00, RegionKind::USABLE),
            entry(0xf_0000, 0x10_0000, RegionKind::RESERVED),
            entry(0x10_0000, OWN, RegionKind::USABLE),
            entry(OWN, OWN + 0x20_0000, RegionKind::BOUNCER),
        ];
        handoff.region_count = regions.len() as u32;
        handoff.regions[..regions.len()].copy_from_slice(&regions);
        handoff.seal();
        handoff
    }

    /// The sample after `change`, sealed again.
    fn changed(change: impl FnOnce(&mut Handoff)) -> Result<(), HandoffError> {
        let mut handoff = sample();
        change(&mut handoff);
        handoff.seal();
        handoff.validate()
    }

    #[test]
    fn what_devices_reach_is_whole_large_pages_of_nothing_else() {
        let pools = |base, len| {
            changed(|handoff| {
                handoff.own.len = 0x40_0000;
                handoff.own.base -= 0x20_0000;
                handoff.image.base -= 0x20_0000;
                handoff.regions[2].span.len -= 0x20_0000;
                handoff.regions[3].span = handoff.own;
                handoff.pools = Span { base, len };
            })
        };
        assert_eq!(
            pools(OWN, 0x20_0000),
            Err(HandoffError::Overlap(Part::Policy, Part::Pools))
        );
        assert!(matches!(
            pools(OWN - 0x20_0000, 0x1000),
            Err(HandoffError::Unaligned { .. })
        ));
        assert!(matches!(
            pools(OWN - 0x40_0000, 0x20_0000),
            Err(HandoffError::Outside { .. })
        ));
        assert_eq!(pools(0, 0), Ok(()));
    }

    #[test]
    fn no_more_is_cleared_than_devices_reach() {
        let cleared = changed(|handoff| handoff.cleared = 1);
        assert!(matches!(
            cleared,
            Err(HandoffError::Outside {
                part: Part::Cleared,
                within: Part::Pools,
                ..
            })
        ));
    }

    #[test]
    fn a_sealed_hand_over_is_believed() {
        assert_eq!(sample().validate(), Ok(()));
    }

    #[test]
    fn a_hand_over_without_a_policy_is_believed() {
        assert_eq!(changed(|handoff| handoff.policy = Span::EMPTY), Ok(()));
    }

    #[test]
    fn what_is_said_to_the_loader_goes_to_whole_pages_of_usable_memory() {
        let echo = |base, len| changed(|handoff| handoff.echo = Span { base, len });
        assert_eq!(echo(0x20_0000, 0x4000), Ok(()));
        assert!(matches!(
            echo(0x20_0008, 0x4000),
            Err(HandoffError::Unaligned { .. })
        ));
        assert!(matches!(
            echo(OWN, 0x4000),
            Err(HandoffError::NotUsable(Part::Echo, _))
        ));
    }

    #[test]
    fn another_version_or_size_is_refused() {
        assert_eq!(
            changed(|handoff| handoff.version = VERSION + 1),
            Err(HandoffError::Version(VERSION + 1))
        );
        assert_eq!(
            changed(|handoff| handoff.size += 8),
            Err(HandoffError::Size(sample().size + 8))
        );
    }

    #[test]
    fn the_image_must_begin_our_memory() {
        let result = changed(|handoff| handoff.image.base += 0x1000);
        assert!(matches!(result, Err(HandoffError::ImageNotFirst(_))));
    }

    #[test]
    fn free_memory_must_be_our_own() {
        let result = changed(|handoff| handoff.free.len += 0x1000);
        assert!(matches!(
            result,
            Err(HandoffError::Outside {
                part: Part::Free,
                ..
            })
        ));
    }

    #[test]
    fn free_memory_must_not_lie_over_image_or_policy() {
        assert_eq!(
            changed(|handoff| handoff.free = Span {
                base: OWN + 0x3_f000,
                len: 0x1000
            }),
            Err(HandoffError::Overlap(Part::Image, Part::Free))
        );
        assert_eq!(
            changed(|handoff| handoff.policy.base = OWN + 0x4_3000),
            Err(HandoffError::Overlap(Part::Policy, Part::Free))
        );
    }

    #[test]
    fn our_memory_is_whole_large_pages() {
        let result = changed(|handoff| handoff.own.len = 0x1f_f000);
        assert!(matches!(
            result,
            Err(HandoffError::Unaligned {
                part: Part::Own,
                ..
            })
        ));
    }

    #[test]
    fn our_memory_must_be_carved_out_of_the_map() {
        let result = changed(|handoff| handoff.regions[3].kind = RegionKind::RESERVED);
        assert!(matches!(result, Err(HandoffError::OwnNotCarvedOut(_))));
    }

    #[test]
    fn regions_must_ascend_without_overlap() {
        assert_eq!(
            changed(|handoff| handoff.regions[1].span.base = 0x9_fbff),
            Err(HandoffError::Overlap(Part::Region(0), Part::Region(1)))
        );
    }

    #[test]
    fn a_region_of_an_unknown_kind_is_refused() {
        let nonsense = RegionKind::read_from_bytes(&99_u32.to_le_bytes()).unwrap();
        assert_eq!(
            changed(|handoff| handoff.regions[1].kind = nonsense),
            Err(HandoffError::UnknownKind(Part::Region(1), nonsense))
        );
    }

    #[test]
    fn no_segment_is_writable_and_executable() {
        assert_eq!(
            changed(|handoff| handoff.segments[1].access = Access(Access::ALL)),
            Err(HandoffError::WritableCode(Part::Segment(1)))
        );
    }

    #[test]
    fn segments_must_ascend_inside_the_image() {
        assert_eq!(
            changed(|handoff| handoff.segments[1].offset = 0xf000),
            Err(HandoffError::Overlap(Part::Segment(0), Part::Segment(1)))
        );
        let result = changed(|handoff| handoff.segments[2].len += 0x1000);
        assert!(matches!(
            result,
            Err(HandoffError::Outside {
                part: Part::Segment(2),
                ..
            })
        ));
    }

    #[test]
    fn the_trampoline_is_a_usable_page_below_1_mib() {
        assert_eq!(
            changed(|handoff| handoff.trampoline = 0x10_0000),
            Err(HandoffError::TrampolineTooHigh(0x10_0000))
        );
        for (at, blame) in [(0x9_f000, "usable"), (0x9_e800, "units"), (0, "missing")] {
            let error = changed(|handoff| handoff.trampoline = at).unwrap_err();
            assert!(format!("{error}").contains(blame), "{error}");
        }
    }

    #[test]
    fn nothing_the_guest_starts_with_is_ours() {
        let places: [fn(&mut GuestStart, u64); 5] = [
            |guest, at| guest.rip = at,
            |guest, at| guest.rsp = at,
            |guest, at| guest.rsi = at,
            |guest, at| guest.cr3 = at,
            |guest, at| guest.gdt.base = at,
        ];
        for place in places {
            let result = changed(|handoff| place(&mut handoff.guest, OWN + 0x1000));
            assert!(matches!(result, Err(HandoffError::Overlap(Part::Own, _))));
        }
    }

    /// The sample as an EFI loader makes it: firmware's own stack, code and tables, wherever they lie.
    fn of_firmware() -> Handoff {
        let mut handoff = sample();
        handoff.loader = Loader::EFI;
        let guest = &mut handoff.guest;
        guest.kind = GuestKind::FIRMWARE;
        (guest.rip, guest.rsp, guest.rsi) = (0x7e12_3457, 0x7f0f_eff8, 0);
        (guest.cr0, guest.cr3, guest.cr4) = (0x8001_0033, 0x7fc0_1018, 0x668);
        guest.gdt = TableState {
            base: 0x7f5d_c001,
            limit: 0x47,
            reserved: 0,
        };
        guest.idt = TableState {
            base: 0x7f00_0018,
            limit: 0xfff,
            reserved: 0,
        };
        handoff.seal();
        handoff
    }

    #[test]
    fn a_firmware_guest_goes_on_in_its_own_memory_of_whatever_kind() {
        assert_eq!(of_firmware().validate(), Ok(()));
        let mut reserved = of_firmware();
        reserved.regions[2].kind = RegionKind::RESERVED;
        reserved.seal();
        assert_eq!(reserved.validate(), Ok(()));
    }

    #[test]
    fn nothing_a_firmware_guest_goes_on_with_is_ours() {
        let places: [fn(&mut GuestStart, u64); 5] = [
            |guest, at| guest.rip = at,
            |guest, at| guest.rsp = at,
            |guest, at| guest.cr3 = at,
            |guest, at| guest.gdt.base = at,
            |guest, at| guest.idt.base = at,
        ];
        for place in places {
            let mut handoff = of_firmware();
            place(&mut handoff.guest, OWN + 0x1000);
            handoff.seal();
            let result = handoff.validate();
            assert!(matches!(result, Err(HandoffError::Overlap(Part::Own, _))));
        }
    }

    #[test]
    fn a_state_that_no_processor_is_in_is_refused_by_register() {
        type Change = fn(&mut GuestStart);
        let wrong: [(Register, Change); 17] = [
            (Register::Cr0, |guest| guest.cr0 &= !(1 << 31)),
            (Register::Cr0, |guest| guest.cr0 |= 1 << 32),
            (Register::Cr0, |guest| guest.cr0 |= 1 << 29),
            (Register::Cr3, |guest| guest.cr3 |= 1 << 63),
            (Register::Cr4, |guest| guest.cr4 &= !(1 << 5)),
            (Register::Cr4, |guest| guest.cr4 |= 1 << 12),
            (Register::Cr4, |guest| guest.cr4 |= 1 << 17),
            (Register::Efer, |guest| guest.efer &= !(1 << 10)),
            (Register::Efer, |guest| guest.efer |= 1 << 12),
            (Register::Pat, |guest| guest.pat |= 8),
            (Register::Rip, |guest| guest.rip = 1 << 47),
            (Register::Rsp, |guest| guest.rsp = 0xffff_0000_0000_0000),
            (Register::Cs, |guest| guest.segments[1].rights = 0xc09b),
            (Register::Cs, |guest| guest.segments[1].rights |= 3 << 5),
            (Register::Tr, |guest| {
                guest.tr.rights = SegmentState::UNUSABLE
            }),
            (Register::Base, |guest| guest.segments[5].base = 1 << 50),
            (Register::Base, |guest| guest.idt.base = 1 << 60),
        ];
        for (register, change) in wrong {
            for mut handoff in [sample(), of_firmware()] {
                change(&mut handoff.guest);
                handoff.seal();
                let result = handoff.validate();
                assert!(
                    matches!(result, Err(HandoffError::State(found, _)) if found == register),
                    "{register}: {result:?}"
                );
            }
        }
    }

    #[test]
    fn memory_for_tables_is_kept_by_the_guest_and_not_ours() {
        let tables = |base, len| changed(|handoff| handoff.tables = Span { base, len });
        assert_eq!(tables(0, 0), Ok(()));
        assert_eq!(
            tables(OWN, 64),
            Err(HandoffError::Overlap(Part::Own, Part::Tables))
        );
        for (base, len) in [
            (0xf_ffc0, 0x41),
            (0x10_0000, 64),
            (1 << 32, 64),
            (0xffff_ffff, 2),
        ] {
            assert!(matches!(
                tables(base, len),
                Err(HandoffError::TablesNotKept(_))
            ));
        }
        assert!(matches!(
            tables(u64::MAX, 2),
            Err(HandoffError::NoRange(Part::Tables, _))
        ));
    }

    proptest! {
        #[test]
        fn any_changed_byte_after_sealing_is_noticed(
            offset in 0..size_of::<Handoff>(),
            change in 1_u8..,
        ) {
            let mut handoff = sample();
            handoff.as_mut_bytes()[offset] ^= change;
            prop_assert!(handoff.validate().is_err());
        }

        #[test]
        fn whatever_is_sealed_and_believed_keeps_the_rules(
            changes in proptest::collection::vec((0_usize..900, any::<u8>()), 1..4),
        ) {
            let mut handoff = sample();
            for (offset, byte) in changes {
                handoff.as_mut_bytes()[offset] = byte;
            }
            handoff.seal();
            let _ = format!("{:?}", handoff.validate().map_err(|error| format!("{error}")));
            if handoff.validate().is_ok() {
                let own = handoff.own.range().unwrap();
                prop_assert!(own.covers(&handoff.free.range().unwrap()));
                let usable: Vec<_> = handoff
                    .regions()
                    .filter(|region| region.kind != RegionKind::BOUNCER)
                    .collect();
                prop_assert!(!usable.iter().any(|region| region.range.overlaps(&own)));
            }
        }

        #[test]
        fn nonsense_never_panics(bytes in proptest::collection::vec(any::<u8>(), size_of::<Handoff>())) {
            let mut handoff = Handoff::read_from_bytes(&bytes).unwrap();
            let (version, size) = (sample().version, sample().size);
            (handoff.magic, handoff.version, handoff.size) = (MAGIC, version, size);
            handoff.loader = Loader::EFI;
            handoff.guest.kind = GuestKind::LINUX64;
            handoff.serial_port = 0;
            handoff.segment_count %= 9;
            handoff.region_count %= 129;
            handoff.seal();
            let _ = handoff.validate();
        }
    }
}
