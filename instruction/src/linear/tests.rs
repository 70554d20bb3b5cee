//! Walks through tables that are first described, then built; what must come out is read off
//! the description.

use std::{format, vec, vec::Vec};

use proptest::prelude::*;

use super::*;
use crate::fakes::Sparse;

/// One table entry as a guest might write it.
#[derive(Clone, Debug)]
struct Described {
    is_present: bool,
    is_writable: bool,
    is_user: bool,
    is_unfetchable: bool,
    is_large: bool,
    /// Chooses a bit that must be zero in this entry, if there is one.
    offence: Option<prop::sample::Index>,
    /// Chooses the page of the next table, or of the memory.
    frame: u64,
    /// Bits that do not count.
    noise: u64,
}

/// The paging modes, by the shape of their tables.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
enum Kind {
    TwoLevels,
    Pae,
    FourLevels,
    FiveLevels,
}

#[derive(Clone, Debug)]
struct Case {
    kind: Kind,
    paging: Paging,
    linear: u64,
    access: Access,
    /// From the root to the page.
    entries: Vec<Described>,
}

impl Kind {
    /// The lowest bit of the index into the table of each level, from the root on.
    fn shifts(self) -> &'static [u32] {
        match self {
            Self::TwoLevels => &[22, 12],
            Self::Pae => &[30, 21, 12],
            Self::FourLevels => &[39, 30, 21, 12],
            Self::FiveLevels => &[48, 39, 30, 21, 12],
        }
    }

    fn index(self, linear: u64, shift: u32) -> u64 {
        let entries = match (self, shift) {
            (Self::TwoLevels, _) => 1024,
            (Self::Pae, 30) => 4,
            _ => 512,
        };
        (linear >> shift) % entries
    }

    fn entry_bytes(self) -> u64 {
        if self == Self::TwoLevels { 4 } else { 8 }
    }
}

impl Case {
    fn is_large(&self, level: usize) -> bool {
        let shift = self.kind.shifts()[level];
        let can_be_large = match self.kind {
            Kind::TwoLevels => shift == 22 && self.paging.cr4 & 1 << 4 != 0,
            Kind::Pae => shift == 21,
            Kind::FourLevels | Kind::FiveLevels => shift == 21 || shift == 30,
        };
        can_be_large && self.entries[level].is_large
    }

    fn nxe(&self) -> bool {
        self.paging.efer & 1 << 11 != 0 && self.kind != Kind::TwoLevels
    }

    /// The bits that must be zero, read from the tables of chapter 4.
    fn reserved_bits(&self, level: usize) -> Vec<u32> {
        let shift = self.kind.shifts()[level];
        let physical = u32::from(self.paging.physical_bits);
        let mut bits: Vec<u32> = match self.kind {
            // Table 4-4: PSE-36 has up to 8 more bits from bit 13 on.
            Kind::TwoLevels if self.is_large(level) => (physical.min(40) - 19..=21).collect(),
            Kind::TwoLevels => vec![],
            // Table 4-8.
            Kind::Pae if shift == 30 => {
                [1, 2, 5, 6, 7, 8].into_iter().chain(physical..64).collect()
            }
            // Tables 4-9 to 4-11.
            Kind::Pae => (physical..63).collect(),
            // Tables 4-15 to 4-20.
            Kind::FourLevels | Kind::FiveLevels => (physical..52).collect(),
        };
        if shift >= 39 {
            bits.push(7);
        }
        if self.is_large(level) && self.kind != Kind::TwoLevels {
            bits.extend(13..shift);
        }
        let has_bit_63 = self.kind != Kind::TwoLevels && !(self.kind == Kind::Pae && shift == 30);
        if has_bit_63 && !self.nxe() {
            bits.push(63);
        }
        bits
    }

    /// The bits that do not count in this entry, of those a guest may well set.
    fn ignored_bits(&self, level: usize) -> u64 {
        let shift = self.kind.shifts()[level];
        match self.kind {
            Kind::TwoLevels => 0xe78,
            Kind::Pae if shift == 30 => 0xe18,
            Kind::Pae => 0xe78,
            Kind::FourLevels | Kind::FiveLevels => 0x7ff0_0000_0000_0e78,
        }
    }

    /// The entry as a word; `next` is where it leads.
    fn encode(&self, level: usize, next: u64) -> u64 {
        let described = &self.entries[level];
        let is_top_of_pae = self.kind == Kind::Pae && level == 0;
        let mut word = described.noise & self.ignored_bits(level);
        word |= u64::from(described.is_present);
        if !is_top_of_pae {
            word |= u64::from(described.is_writable) << 1;
            word |= u64::from(described.is_user) << 2;
            word |= u64::from(self.is_large(level)) << 7;
            if self.nxe() {
                word |= u64::from(described.is_unfetchable) << 63;
            }
        }
        if self.kind == Kind::TwoLevels {
            word |= next & 0xffff_f000;
            if self.is_large(level) {
                word |= (next >> 32) << 13;
            }
        } else {
            word |= next;
        }
        if let Some(bit) = self.offence(level) {
            word |= 1 << bit;
        }
        word
    }

    fn offence(&self, level: usize) -> Option<u32> {
        let bits = self.reserved_bits(level);
        let offence = self.entries[level].offence.as_ref()?;
        (!bits.is_empty()).then(|| *offence.get(&bits))
    }

    /// Where the entry leads: a page all of whose addresses exist, aligned to its size.
    fn frame(&self, level: usize) -> u64 {
        let shift = self.kind.shifts()[level];
        let size = if self.is_large(level) {
            1 << shift
        } else {
            4096
        };
        let widest = match self.kind {
            Kind::TwoLevels if self.is_large(level) => self.paging.physical_bits.min(40),
            Kind::TwoLevels => 32,
            _ => self.paging.physical_bits,
        };
        (self.entries[level].frame % (1 << widest)) & !(size - 1)
    }

    /// Builds the tables. Tables that collide are avoided by the caller.
    fn build(&self) -> Sparse {
        let mut memory = Sparse::default();
        let mut table = self.paging.cr3;
        for (level, shift) in self.kind.shifts().iter().enumerate() {
            let at = table + self.kind.index(self.linear, *shift) * self.kind.entry_bytes();
            let word = self.encode(level, self.frame(level)).to_le_bytes();
            memory.put(at, &word[..self.kind.entry_bytes() as usize]);
            table = self.frame(level);
            if self.is_large(level) {
                break;
            }
        }
        memory
    }

    /// What chapter 4 says must happen.
    fn expected(&self) -> Result<Gpa, Fault> {
        let mut used = vec![];
        for level in 0..self.entries.len() {
            let entry = &self.entries[level];
            if !entry.is_present {
                return Err(self.fault(0));
            }
            if self.offence(level).is_some() {
                return Err(self.fault(0b1001));
            }
            if !(self.kind == Kind::Pae && level == 0) {
                used.push(entry);
            }
            if self.is_large(level) {
                break;
            }
        }
        // "If the U/S flag is 0 in at least one of the paging-structure entries, the address is
        // a supervisor-mode address."
        let is_user_page = used.iter().all(|entry| entry.is_user);
        let is_writable = used.iter().all(|entry| entry.is_writable);
        let is_unfetchable = self.nxe() && used.iter().any(|entry| entry.is_unfetchable);
        let (wp, smep, smap, ac) = (
            self.paging.cr0 & 1 << 16 != 0,
            self.paging.cr4 & 1 << 20 != 0,
            self.paging.cr4 & 1 << 21 != 0,
            self.paging.rflags & 1 << 18 != 0,
        );
        let is_user = self.paging.privilege == Privilege::User;
        let mut is_allowed = true;
        if is_user && !is_user_page {
            is_allowed = false;
        }
        match self.access {
            Access::Read | Access::Write if !is_user && is_user_page && smap && !ac => {
                is_allowed = false;
            }
            Access::Write if !is_writable && (is_user || wp) => is_allowed = false,
            Access::Fetch if is_unfetchable => is_allowed = false,
            Access::Fetch if !is_user && is_user_page && smep => is_allowed = false,
            _ => {}
        }
        if !is_allowed {
            return Err(self.fault(1));
        }
        let last = used.len() - 1 + usize::from(self.kind == Kind::Pae);
        let size = if self.is_large(last) {
            1 << self.kind.shifts()[last]
        } else {
            4096
        };
        Ok(Gpa::new(self.frame(last) + self.linear % size))
    }

    fn fault(&self, cause: u32) -> Fault {
        let write = u32::from(self.access == Access::Write) << 1;
        let user = u32::from(self.paging.privilege == Privilege::User) << 2;
        let can_differ = self.nxe() || self.paging.cr4 & 1 << 20 != 0;
        let fetch = u32::from(self.access == Access::Fetch && can_differ) << 4;
        Fault::Page(PageFault {
            linear: self.linear,
            code: ErrorCode(cause | write | user | fetch),
        })
    }

    /// Whether no table overlaps another one, which would make the description ambiguous.
    fn is_unambiguous(&self) -> bool {
        let mut pages = vec![self.paging.cr3 >> 12];
        for level in 0..self.entries.len() {
            if self.is_large(level) || level + 1 == self.entries.len() {
                break;
            }
            pages.push(self.frame(level) >> 12);
        }
        let count = pages.len();
        pages.sort_unstable();
        pages.dedup();
        pages.len() == count
    }
}

fn described() -> impl Strategy<Value = Described> {
    (
        prop::bool::weighted(0.95),
        prop::bool::weighted(0.8),
        prop::bool::weighted(0.7),
        prop::bool::weighted(0.1),
        prop::bool::weighted(0.3),
        prop::option::weighted(0.04, any::<prop::sample::Index>()),
        any::<u64>(),
        any::<u64>(),
    )
        .prop_map(|(p, w, u, nx, large, offence, frame, noise)| Described {
            is_present: p,
            is_writable: w,
            is_user: u,
            is_unfetchable: nx,
            is_large: large,
            offence,
            frame,
            noise,
        })
}

fn case() -> impl Strategy<Value = Case> {
    let kinds = vec![
        Kind::TwoLevels,
        Kind::Pae,
        Kind::FourLevels,
        Kind::FiveLevels,
    ];
    let accesses = vec![Access::Read, Access::Write, Access::Fetch];
    let privileges = vec![Privilege::Supervisor, Privilege::User];
    (
        prop::sample::select(kinds),
        any::<[u64; 5]>(),
        prop::sample::select(accesses),
        prop::sample::select(privileges),
        36u8..=52,
        prop::collection::vec(described(), 5),
    )
        .prop_map(
            |(kind, numbers, access, privilege, physical_bits, mut entries)| {
                let [linear, root, cr0, cr4, others] = numbers;
                let (linear, cr4, efer) = match kind {
                    Kind::TwoLevels => (linear & 0xffff_ffff, cr4 & !(1 << 5), 0),
                    Kind::Pae => (linear & 0xffff_ffff, cr4 | 1 << 5, 0),
                    Kind::FourLevels => (
                        ((linear << 16) as i64 >> 16) as u64,
                        cr4 & !(1 << 12) | 1 << 5,
                        1 << 10,
                    ),
                    Kind::FiveLevels => (
                        ((linear << 7) as i64 >> 7) as u64,
                        cr4 | 1 << 12 | 1 << 5,
                        1 << 10,
                    ),
                };
                entries.truncate(kind.shifts().len());
                let root_bits = match kind {
                    Kind::TwoLevels | Kind::Pae => 32,
                    _ => physical_bits,
                };
                let paging = Paging {
                    cr0: cr0 | 1 << 31,
                    cr3: (root % (1 << root_bits)) & !0xfff,
                    cr4,
                    efer: efer | others & 1 << 11,
                    rflags: others & 1 << 18,
                    privilege,
                    physical_bits,
                };
                Case {
                    kind,
                    paging,
                    linear,
                    access,
                    entries,
                }
            },
        )
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(4_000))]

    #[test]
    fn a_walk_ends_where_its_tables_lead(case in case()) {
        prop_assume!(case.is_unambiguous());
        let memory = case.build();
        prop_assert_eq!(
            translate(&memory, &case.paging, case.linear, case.access),
            case.expected(),
            "{}", format!("{case:x?}")
        );
    }

    #[test]
    fn each_entry_is_fetched_once(case in case()) {
        prop_assume!(case.is_unambiguous());
        let memory = case.build();
        let _ = translate(&memory, &case.paging, case.linear, case.access);
        let mut reads = memory.reads.borrow().clone();
        prop_assert!(reads.len() <= case.entries.len());
        let count = reads.len();
        reads.sort_unstable();
        reads.dedup();
        prop_assert_eq!(reads.len(), count);
    }

    #[test]
    fn whatever_the_registers_and_the_tables_hold_a_walk_ends(
        registers in any::<[u64; 5]>(),
        linear: u64,
        physical_bits: u8,
        seed: u64,
        length in 1..=PAGE_SIZE,
    ) {
        let [cr0, cr3, cr4, efer, rflags] = registers;
        for privilege in [Privilege::User, Privilege::Supervisor] {
            let paging = Paging { cr0, cr3, cr4, efer, rflags, privilege, physical_bits };
            for access in [Access::Read, Access::Write, Access::Fetch] {
                let _ = span(&Noise(seed), &paging, linear, length, access);
            }
        }
    }

    #[test]
    fn where_the_processor_found_an_operand_a_walk_leads_too(case in case(), length in 1..=16_u64) {
        let memory = case.build();
        let Ok(at) = translate(&memory, &case.paging, case.linear, case.access) else {
            return Ok(());
        };
        let found = Found { at, access: case.access };
        let walked = span(&memory, &case.paging, case.linear, length, case.access);
        let span = found.span(case.linear, length, case.access);
        let is_in_one_page = case.linear % PAGE_SIZE + length <= PAGE_SIZE;
        prop_assert_eq!(span, walked.ok().filter(|_| is_in_one_page));
        // Whoever may write may read; no other access was granted with it.
        for access in [Access::Read, Access::Write, Access::Fetch] {
            let is_granted = access == case.access || access == Access::Read;
            let span = found.span(case.linear, 1, access);
            prop_assert_eq!(span.is_some(), is_granted);
        }
        prop_assert_eq!(found.span(case.linear ^ 1, 1, case.access), None);
    }

    #[test]
    fn a_span_covers_exactly_its_bytes(linear: u32, length in 1..=PAGE_SIZE) {
        let span = span(&Sparse::default(), &unpaged(), u64::from(linear), length, Access::Read)
            .expect("without paging every address is there");
        let rest = span.rest.map_or(0, |rest| rest.len());
        prop_assert_eq!(span.first.len() + rest, length);
        prop_assert_eq!(span.first.start(), Gpa::new(u64::from(linear)));
        let page = |at: Gpa| at.raw() / PAGE_SIZE;
        prop_assert_eq!(page(span.first.start()), page(span.first.last()));
        if let Some(rest) = span.rest {
            prop_assert_eq!(rest.start().page_offset(), 0);
            prop_assert_eq!(span.first.last().page_offset(), PAGE_SIZE - 1);
        }
    }
}

/// Memory all of whose words are there, present, and otherwise anything.
struct Noise(u64);

impl GuestMemory for Noise {
    fn read(&self, at: Gpa, to: &mut [u8]) -> Result<(), memory::Hole> {
        let mixed = (at.raw() ^ self.0)
            .wrapping_mul(0x9e37_79b9_7f4a_7c15)
            .rotate_left(29)
            | 1;
        for (to, from) in to.iter_mut().zip(mixed.to_le_bytes()) {
            *to = from;
        }
        Ok(())
    }

    fn write(&self, _: Gpa, _: &[u8]) -> Result<(), memory::Hole> {
        Ok(())
    }
}

fn unpaged() -> Paging {
    Paging {
        cr0: 0,
        cr3: 0,
        cr4: 0,
        efer: 0,
        rflags: 0,
        privilege: Privilege::Supervisor,
        physical_bits: 40,
    }
}

#[test]
fn without_paging_a_linear_address_is_physical_and_has_32_bits() {
    let at = translate(&Sparse::default(), &unpaged(), 0x1_2345_6789, Access::Write);
    assert_eq!(at, Ok(Gpa::new(0x2345_6789)));
}

#[test]
fn an_address_that_is_not_canonical_is_a_general_protection_fault() {
    let mut paging = unpaged();
    (paging.cr0, paging.cr4, paging.efer) = (1 << 31, 1 << 5, 1 << 10);
    let four = translate(&Noise(0), &paging, 0x0000_8000_0000_0000, Access::Read);
    assert_eq!(four, Err(Fault::GeneralProtection));
    paging.cr4 |= 1 << 12;
    let five = translate(&Noise(0), &paging, 0x0100_0000_0000_0000, Access::Read);
    assert_eq!(five, Err(Fault::GeneralProtection));
}

#[test]
fn bit_7_is_reserved_where_no_page_is_large_enough() {
    // A top-level entry of four levels that claims to be a page at address 0.
    let mut memory = Sparse::default();
    memory.put(0, &0x83u64.to_le_bytes());
    let mut paging = unpaged();
    (paging.cr0, paging.cr4, paging.efer) = (1 << 31, 1 << 5, 1 << 10);
    let fault = PageFault {
        linear: 0,
        code: ErrorCode(0b1001),
    };
    let walk = translate(&memory, &paging, 0, Access::Read);
    assert_eq!(walk, Err(Fault::Page(fault)));
}

#[test]
fn a_table_that_lies_in_no_memory_is_a_hole_and_no_exception() {
    let mut paging = unpaged();
    (paging.cr0, paging.cr4, paging.efer) = (1 << 31, 1 << 5, 1 << 10);
    let walk = translate(&Sparse::default(), &paging, 0, Access::Read);
    assert!(matches!(walk, Err(Fault::Hole(_))), "{walk:?}");
    assert_eq!(walk.map_err(Fault::vector), Err(None));
}

#[test]
fn an_operand_whose_second_page_is_missing_faults_with_the_address_of_that_page() {
    // 32-bit paging: one page at 0x1000, nothing at 0x2000.
    let mut memory = Sparse::default();
    memory.put(0x8000, &0x9003u32.to_le_bytes());
    memory.put(0x9004, &[0x03, 0x50, 0, 0, 0, 0, 0, 0]);
    let mut paging = unpaged();
    (paging.cr0, paging.cr3) = (1 << 31, 0x8000);
    let fault = span(&memory, &paging, 0x1ffd, 8, Access::Write);
    let code = ErrorCode(0b10);
    assert_eq!(
        fault,
        Err(Fault::Page(PageFault {
            linear: 0x2000,
            code
        }))
    );
}
