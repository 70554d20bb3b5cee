use std::vec;
use std::vec::Vec;

use proptest::prelude::*;

use super::*;
use crate::FromDevice;

const PART: u64 = 0x20_0000;

fn part(pages: u32) -> ByteRange<Iova> {
    ByteRange::new(Iova::new(PART), u64::from(pages) * PAGE_SIZE).unwrap()
}

/// A pool beside the simplest account of it: who has each page.
struct Account<'a> {
    pool: Pool<'a, FromDevice>,
    taken: Vec<bool>,
    loans: Vec<Lent<FromDevice>>,
}

impl<'a> Account<'a> {
    fn new(pages: &'a mut [Page]) -> Self {
        let count = pages.len();
        Self {
            pool: Pool::new(part(count as u32), pages),
            taken: vec![false; count],
            loans: Vec::new(),
        }
    }

    fn lend(&mut self, offset: u16, bytes: u32) {
        let pages = (u32::from(offset) + bytes).div_ceil(PAGE_SIZE as u32);
        match self.pool.lend(offset, bytes) {
            Some(lent) => {
                assert!(bytes > 0, "a loan of nothing");
                assert_eq!(lent.at().page_offset(), u64::from(offset));
                assert_eq!((lent.bytes(), lent.pages()), (bytes, pages));
                assert_eq!(
                    lent.at().raw() - u64::from(offset),
                    self.pool.address(lent.first()).raw()
                );
                for page in self.of(&lent) {
                    assert!(!core::mem::replace(page, true), "lent twice: {lent:?}");
                }
                self.loans.push(lent);
            }
            None => assert!(
                bytes == 0 || !self.has_room(pages),
                "refused {pages} pages that are free"
            ),
        }
    }

    fn give_back(&mut self, choice: usize) {
        if let Some(index) = choice.checked_rem(self.loans.len()) {
            let lent = self.loans.swap_remove(index);
            for page in self.of(&lent) {
                assert!(core::mem::replace(page, false));
            }
            self.pool.put(lent.first(), lent.pages());
        }
    }

    fn of(&mut self, lent: &Lent<FromDevice>) -> &mut [bool] {
        let first = lent.first() as usize;
        &mut self.taken[first..first + lent.pages() as usize]
    }

    /// Whether there is a free run that is as long as the next power of two, and begins at a
    /// multiple of it.
    fn has_room(&self, pages: u32) -> bool {
        let unit = pages.next_power_of_two() as usize;
        self.taken
            .chunks_exact(unit)
            .any(|run| run.iter().all(|taken| !taken))
    }

    fn expect_conserved(&self) {
        let free = self.taken.iter().filter(|taken| !**taken).count();
        assert_eq!(self.pool.free_pages() as usize, free);
        let lent: u32 = self.loans.iter().map(Lent::pages).sum();
        assert_eq!(self.pool.free_pages() + lent, self.pool.pages());
    }

    /// Every free page is in one list, in the one that says how long its run is, and no two
    /// halves of a longer run are free apart.
    fn expect_sound_lists(&self) {
        let mut listed = self.taken.clone();
        for (order, head) in self.pool.heads.iter().enumerate() {
            assert_eq!(*head != NONE, self.pool.lengths & 1 << order != 0);
            let (mut at, mut previous) = (*head, NONE);
            while at != NONE {
                let page = self.pool.pages[at as usize];
                assert_eq!((page.free, page.previous), (Some(order as u8), previous));
                assert!(at.is_multiple_of(1 << order));
                for seen in &mut listed[at as usize..][..1 << order] {
                    assert!(!core::mem::replace(seen, true), "a page that is free twice");
                }
                let buddy = self.pool.pages.get((at ^ (1 << order)) as usize);
                let is_apart = buddy.is_some_and(|buddy| buddy.free == Some(order as u8));
                assert!(order + 1 == ORDERS || !is_apart, "halves that are apart");
                (previous, at) = (at, page.next);
            }
        }
        let mut kept = 0;
        for (count, head) in self.pool.kept.iter().enumerate() {
            let mut at = *head;
            while at != NONE {
                assert_eq!(self.pool.pages[at as usize].free, None);
                for seen in &mut listed[at as usize..][..count] {
                    assert!(!core::mem::replace(seen, true), "a page that is free twice");
                }
                kept += 1;
                at = self.pool.pages[at as usize].next;
            }
        }
        assert_eq!(kept, self.pool.kept_count);
        assert!(kept <= MOST_KEPT);
        assert!(listed.iter().all(|seen| *seen), "a free page in no list");
    }
}

/// Numbers without a pattern, the same each time.
struct Dice(u64);

impl Dice {
    fn roll(&mut self, sides: u64) -> u64 {
        self.0 ^= self.0 << 13;
        self.0 ^= self.0 >> 7;
        self.0 ^= self.0 << 17;
        self.0 % sides
    }
}

#[test]
fn a_million_loans_never_overlap_and_lose_no_page() {
    const EACH: u32 = 1_000_000 / 8;
    for count in [1, 2, 3, 7, 12, 96, 1536, 5000] {
        let mut pages = vec![Page::NEW; count];
        let mut account = Account::new(&mut pages);
        let mut dice = Dice(0x9e37_79b9_7f4a_7c15 + count as u64);
        for step in 0..EACH {
            // Times of lending and times of giving back: the pool is now full, now empty.
            let lends = if step / 500 % 2 == 0 { 3 } else { 1 };
            if dice.roll(4) < lends {
                let most = match dice.roll(8) {
                    0 => count as u64 * PAGE_SIZE + 2,
                    1..4 => 64 * PAGE_SIZE,
                    _ => 2 * PAGE_SIZE,
                };
                let offset = dice.roll(PAGE_SIZE) as u16 * dice.roll(2) as u16;
                account.lend(offset, dice.roll(most) as u32);
            } else {
                account.give_back(dice.roll(u64::MAX) as usize);
            }
            if step % 64 == 0 {
                account.expect_conserved();
                account.expect_sound_lists();
            }
        }
        while !account.loans.is_empty() {
            account.give_back(0);
        }
        account.expect_conserved();
        account.expect_sound_lists();
        account.lend(0, account.pool.longest() * PAGE_SIZE as u32);
        assert_eq!(account.loans.len(), 1, "the longest loan is sure");
    }
}

proptest! {
    #[test]
    fn any_orders_keep_the_account(
        count in 1_usize..200,
        orders in prop::collection::vec((any::<bool>(), any::<u16>(), any::<u32>(), any::<usize>()), 1..200),
    ) {
        let mut pages = vec![Page::NEW; count];
        let mut account = Account::new(&mut pages);
        for (lends, offset, bytes, choice) in orders {
            if lends {
                account.lend(offset % PAGE_SIZE as u16, bytes % (count as u32 * 4096 + 2));
            } else {
                account.give_back(choice);
            }
            account.expect_conserved();
            account.expect_sound_lists();
        }
    }

    #[test]
    fn any_size_is_a_loan_or_none(offset: u16, bytes: u32, count in 1_usize..40) {
        let mut pages = vec![Page::NEW; count];
        let mut pool = Pool::<FromDevice>::new(part(count as u32), &mut pages);
        if let Some(lent) = pool.lend(offset, bytes) {
            prop_assert_eq!(lent.bytes(), bytes);
            prop_assert!(part(count as u32).covers(&lent.range()));
            prop_assert_eq!(lent.at().page_offset(), u64::from(offset) % PAGE_SIZE);
        }
    }

    #[test]
    fn the_longest_loan_is_sure_once_all_else_is_back(
        count in 1_u32..3000,
        lengths in prop::collection::vec(1_u32..70, 0..100),
        order in any::<u64>(),
    ) {
        let mut pages = vec![Page::NEW; count as usize];
        let mut account = Account::new(&mut pages);
        for length in lengths {
            account.lend(0, length * PAGE_SIZE as u32);
        }
        let mut dice = Dice(order | 1);
        while !account.loans.is_empty() {
            account.give_back(dice.roll(1 << 32) as usize);
        }
        let longest = account.pool.longest();
        prop_assert!(longest <= count && longest > count / 2);
        account.lend(0, longest * PAGE_SIZE as u32);
        prop_assert_eq!(account.loans.len(), 1);
    }
}

#[test]
fn a_loan_is_cut_to_the_page_and_the_rest_stays_free() {
    let mut pages = vec![Page::NEW; 64];
    let mut pool = Pool::<FromDevice>::new(part(64), &mut pages);
    let first = pool.lend(0, 33 * 4096).unwrap();
    assert_eq!((first.pages(), pool.free_pages()), (33, 31));
    let second = pool.lend(0, 16 * 4096).unwrap();
    assert_eq!((second.pages(), pool.free_pages()), (16, 15));
    assert!(!first.range().overlaps(&second.range()));
}

#[test]
fn a_pool_in_pieces_is_whole_again_once_all_are_back() {
    const COUNT: u32 = 1536;
    let mut pages = vec![Page::NEW; COUNT as usize];
    let mut pool = Pool::<FromDevice>::new(part(COUNT), &mut pages);
    let loans: Vec<_> = (0..COUNT).map(|_| pool.lend(0, 1).unwrap()).collect();
    assert_eq!(pool.lend(0, 1), None);
    let (odd, even): (Vec<_>, Vec<_>) = loans.into_iter().partition(|lent| lent.first() % 2 == 1);
    odd.into_iter()
        .for_each(|lent| pool.put(lent.first(), lent.pages()));
    assert_eq!(pool.free_pages(), COUNT / 2);
    assert_eq!(pool.lend(0, 4097), None, "no two free pages are neighbours");
    even.into_iter()
        .for_each(|lent| pool.put(lent.first(), lent.pages()));
    let whole = pool.lend(0, pool.longest() * 4096).unwrap();
    assert_eq!(whole.pages(), 1024);
    assert_eq!(pool.lend(0, 512 * 4096).unwrap().pages(), 512);
    assert_eq!(pool.free_pages(), 0);
}

#[test]
fn nothing_is_not_lent_and_costs_nothing() {
    let mut pages = vec![Page::NEW; 4];
    let mut pool = Pool::<FromDevice>::new(part(4), &mut pages);
    assert_eq!(pool.lend(0, 0), None);
    assert_eq!(pool.lend(1, 0), None);
    assert_eq!(pool.free_pages(), 4);
}

#[test]
fn more_than_any_pool_has_is_refused_without_overflow() {
    let mut pages = vec![Page::NEW; 4];
    let mut pool = Pool::<FromDevice>::new(part(4), &mut pages);
    assert_eq!(pool.lend(0, u32::MAX), None);
    assert_eq!(pool.lend(u16::MAX, u32::MAX), None);
    assert_eq!(pool.lend(4095, u32::MAX - 4095), None);
    assert_eq!(pool.free_pages(), 4);
}

#[test]
fn the_largest_part_of_the_largest_arena_can_be_lent_whole_lengths() {
    let arena = crate::Arena::new(1 << 30).unwrap();
    let part = arena.part(crate::Part::FromDevice);
    let mut pages = vec![Page::NEW; (part.len() / PAGE_SIZE) as usize];
    let mut pool = Pool::<FromDevice>::new(part, &mut pages);
    let bytes = u64::from(pool.longest()) * PAGE_SIZE;
    let lent = pool.lend(0, bytes as u32).unwrap();
    assert!(part.covers(&lent.range()));
}

#[test]
#[should_panic(expected = "an element for each page")]
fn a_pool_is_not_made_with_the_wrong_account() {
    let mut pages = vec![Page::NEW; 3];
    let _ = Pool::<FromDevice>::new(part(4), &mut pages);
}
