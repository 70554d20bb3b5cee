//! How much memory Bouncer keeps for itself, and what lies where in it.
//!
//! Owns the one sum both sides must agree on. Does not look for the memory; that is
//! `memory_map`.

use core::fmt;

use memory::PAGE_SIZE;

use crate::handoff::Handoff;

/// Each processor's stack, control blocks and saved state.
pub const PER_CPU_BYTES: u64 = 64 * 1024;

/// Table pages beyond the two identity maps: the pieces of split large pages and the levels above
/// the counted ones; VT-d's root, interrupt and second-stage tables, and a context table for each bus
/// number of a segment, since a guest can renumber its buses through all of them.
pub const SLACK_FRAMES: u64 = 192 + 256;

/// What the model of the machine's devices takes, the shadows of their MSI-X tables with it.
pub const DEVICES_BYTES: u64 = 768 * 1024;

/// The memory is a whole number of these, so that one large page never holds both ours and the
/// guest's.
pub const LARGE_PAGE: u64 = 2 * 1024 * 1024;

/// More processors than this are refused.
pub const MAX_CPUS: u32 = 64;

/// What the sum depends on.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Needs {
    /// Bytes the hypervisor's image takes once loaded.
    pub image_span: u64,
    /// How many processors may run.
    pub cpus: u32,
    /// Bits of a physical address: CPUID leaf 8000_0008h, EAX bits 7:0.
    pub physical_width: u8,
    /// Whether the processor has pages of 1 GiB: CPUID leaf 8000_0001h, EDX bit 26.
    pub has_1gib_pages: bool,
    /// Bytes of policy text; 0 if there is none.
    pub policy_len: u64,
    /// Bytes for the pages of untrusted devices; 0 if there are none.
    pub pool_bytes: u64,
}

/// Bouncer's memory, as offsets from its base. Every part begins on a page.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Reservation {
    /// Bytes in all, a multiple of [`LARGE_PAGE`].
    pub total: u64,
    /// Bytes of the image, which lies at offset 0.
    pub image_len: u64,
    /// Where the [`Handoff`] lies.
    pub handoff: u64,
    /// Where the policy text lies.
    pub policy: u64,
    /// Where the free memory for processors and tables begins; it goes up to `pools`.
    pub free: u64,
    /// Where the pages of untrusted devices begin, on a [`LARGE_PAGE`]; they go up to `total`.
    pub pools: u64,
    /// Table pages counted into the free memory.
    pub table_frames: u64,
}

/// Why no reservation could be computed.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum ReservationError {
    /// No processor, or more than [`MAX_CPUS`].
    Cpus(u32),
    /// A physical width outside 32..=52, which no x86-64 processor has.
    PhysicalWidth(u8),
    /// An image or a policy so large that the sum leaves the 4 GiB it must fit in.
    TooLarge,
}

impl fmt::Display for ReservationError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Cpus(found) => write!(
                f,
                "the machine reports {found} processors; Bouncer runs on 1 to {MAX_CPUS}"
            ),
            Self::PhysicalWidth(found) => write!(
                f,
                "the processor reports {found}-bit physical addresses; 32 to 52 bits are known"
            ),
            Self::TooLarge => f.write_str(
                "image and policy together need more than 4 GiB; the policy module is not a text file",
            ),
        }
    }
}

impl core::error::Error for ReservationError {}

/// Sums up what Bouncer needs.
///
/// # Errors
/// [`ReservationError`] if a need is outside what any machine has.
pub fn reserve(needs: Needs) -> Result<Reservation, ReservationError> {
    if !(1..=MAX_CPUS).contains(&needs.cpus) {
        return Err(ReservationError::Cpus(needs.cpus));
    }
    if !(32..=52).contains(&needs.physical_width) {
        return Err(ReservationError::PhysicalWidth(needs.physical_width));
    }
    layout(needs)
        .filter(|reservation| reservation.total <= 1 << 32)
        .ok_or(ReservationError::TooLarge)
}

fn layout(needs: Needs) -> Option<Reservation> {
    let pages = |bytes: u64| bytes.checked_next_multiple_of(PAGE_SIZE);
    // The nested and our own tables map the whole width. One page-directory-pointer page covers 2^39
    // bytes with pages of 1 GiB; without those, a directory for every GiB comes to it.
    // Tables have four levels, which translate 48 bits.
    let width = needs.physical_width.min(48);
    let pages_of = |bits: u8| 1_u64 << width.saturating_sub(bits);
    let directories = if needs.has_1gib_pages {
        0
    } else {
        pages_of(30)
    };
    let table_frames = (pages_of(39) + directories) * 2 + SLACK_FRAMES;

    let image_len = pages(needs.image_span)?;
    let handoff = image_len;
    let policy = handoff.checked_add(pages(size_of::<Handoff>() as u64)?)?;
    let free = policy.checked_add(pages(needs.policy_len)?)?;
    let pools = free
        .checked_add(u64::from(needs.cpus) * PER_CPU_BYTES)?
        .checked_add(table_frames * PAGE_SIZE)?
        .checked_add(DEVICES_BYTES)?
        .checked_next_multiple_of(LARGE_PAGE)?;
    let total = pools
        .checked_add(needs.pool_bytes)?
        .checked_next_multiple_of(LARGE_PAGE)?;
    Some(Reservation {
        total,
        pools,
        image_len,
        handoff,
        policy,
        free,
        table_frames,
    })
}

#[cfg(test)]
mod tests {
    extern crate std;

    use proptest::prelude::*;

    use super::*;

    const NEEDS: Needs = Needs {
        image_span: 0x4_2001,
        cpus: 2,
        physical_width: 40,
        has_1gib_pages: true,
        policy_len: 700,
        pool_bytes: 0,
    };

    #[test]
    fn the_parts_follow_each_other_on_pages() {
        let found = reserve(NEEDS).unwrap();
        assert_eq!(found.image_len, 0x4_3000);
        assert_eq!(found.handoff, 0x4_3000);
        assert_eq!(found.policy, 0x4_4000);
        assert_eq!(found.free, 0x4_5000);
    }

    #[test]
    fn a_40_bit_machine_has_two_directory_pointer_pages_in_each_tree() {
        assert_eq!(reserve(NEEDS).unwrap().table_frames, 4 + SLACK_FRAMES);
    }

    #[test]
    fn a_machine_narrower_than_one_directory_pointer_page_still_needs_it() {
        let needs = Needs {
            physical_width: 36,
            ..NEEDS
        };
        assert_eq!(reserve(needs).unwrap().table_frames, 2 + SLACK_FRAMES);
    }

    #[test]
    fn without_pages_of_1_gib_every_gib_takes_a_directory_in_each_tree() {
        let needs = Needs {
            has_1gib_pages: false,
            ..NEEDS
        };
        assert_eq!(
            reserve(needs).unwrap().table_frames,
            2 * (2 + 1024) + SLACK_FRAMES
        );
    }

    #[test]
    fn a_small_machine_fits_two_large_pages() {
        assert_eq!(reserve(NEEDS).unwrap().total, 2 * LARGE_PAGE);
    }

    #[test]
    fn pools_come_last_in_large_pages_of_their_own() {
        let pool_bytes = 5 << 20;
        let found = reserve(Needs {
            pool_bytes,
            ..NEEDS
        })
        .unwrap();
        assert_eq!(found.pools, 2 * LARGE_PAGE);
        assert_eq!(found.total, 2 * LARGE_PAGE + (6 << 20));
    }

    #[test]
    fn impossible_processors_are_refused() {
        for cpus in [0, MAX_CPUS + 1] {
            assert_eq!(
                reserve(Needs { cpus, ..NEEDS }),
                Err(ReservationError::Cpus(cpus))
            );
        }
        for physical_width in [0, 31, 53, 255] {
            assert_eq!(
                reserve(Needs {
                    physical_width,
                    ..NEEDS
                }),
                Err(ReservationError::PhysicalWidth(physical_width))
            );
        }
    }

    proptest! {
        #[test]
        fn the_free_part_holds_all_that_was_counted(
            image_span: u64, cpus: u32, physical_width: u8, has_1gib_pages: bool, policy_len: u64,
            pool_bytes: u64,
        ) {
            let needs =
                Needs { image_span, cpus, physical_width, has_1gib_pages, policy_len, pool_bytes };
            if let Ok(found) = reserve(needs) {
                prop_assert!(found.total.is_multiple_of(LARGE_PAGE));
                prop_assert!(found.image_len >= image_span);
                prop_assert!(found.free - found.policy >= policy_len);
                prop_assert!(found.pools.is_multiple_of(LARGE_PAGE));
                prop_assert!(found.total - found.pools >= pool_bytes);
                prop_assert!(
                    found.pools - found.free
                        >= u64::from(cpus) * PER_CPU_BYTES + found.table_frames * PAGE_SIZE
                );
            }
        }
    }
}
