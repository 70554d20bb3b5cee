//! Descriptors as constructors: one for each thing a unit can be told to forget.
//!
//! Owns the choice of granularity: what the unit cannot do exactly is done more broadly, never
//! more narrowly. Knows no queue.

use memory::{ByteRange, Hpa, Iova, PAGE_SIZE};
use pci::Bdf;

use crate::domain::DomainId;
use crate::spec::invalidation::{
    ContextCacheLow, InterruptEntryLow, IotlbHigh, IotlbLow, WaitLow, granularity, kind,
};
use crate::spec::registers::{Cap, Ecap};

/// One descriptor: bits 63:0, bits 127:64.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) struct Descriptor([u64; 2]);

/// What a unit can do when it invalidates.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) struct Abilities {
    drains_reads: bool,
    drains_writes: bool,
    /// The largest address mask, if single pages can be named at all.
    page_mask: Option<u8>,
    index_mask: u8,
}

impl Descriptor {
    /// Forget which device has which domain.
    pub(crate) fn contexts() -> Self {
        Self::context_cache(granularity::GLOBAL, 0, 0)
    }

    /// Forget the entry of `source`, which named `domain`.
    pub(crate) fn context(domain: DomainId, source: Bdf) -> Self {
        Self::context_cache(
            granularity::SELECTIVE,
            domain.number(),
            source.requester_id(),
        )
    }

    /// Forget every interrupt-remapping entry.
    pub(crate) fn interrupts() -> Self {
        let mut low = InterruptEntryLow(0);
        low.set_kind(kind::INTERRUPT_ENTRY);
        Self([low.0, 0])
    }

    /// Write `data` to `status` once everything before is done, before anything behind starts.
    pub(crate) fn wait(status: Hpa, data: u32) -> Self {
        let mut low = WaitLow(0);
        low.set_kind(kind::WAIT);
        low.set_sw(true);
        low.set_fence(true);
        low.set_status(data);
        Self([low.0, status.raw()])
    }

    /// The words as the unit reads them.
    pub(crate) const fn words(self) -> [u64; 2] {
        self.0
    }

    fn context_cache(g: u8, did: u16, sid: u16) -> Self {
        let mut low = ContextCacheLow(0);
        low.set_kind(kind::CONTEXT_CACHE);
        low.set_g(g);
        low.set_did(did);
        low.set_sid(sid);
        Self([low.0, 0])
    }
}

impl Abilities {
    /// Reads them off the unit's capabilities.
    pub(crate) fn of(cap: Cap, ecap: Ecap) -> Self {
        Self {
            drains_reads: cap.drd(),
            drains_writes: cap.dwd(),
            page_mask: cap.psi().then_some(cap.mamv()),
            index_mask: ecap.mhmv(),
        }
    }

    /// Forget every translation of every domain.
    pub(crate) fn iotlb(self) -> Descriptor {
        Descriptor([self.iotlb_low(granularity::GLOBAL, 0), 0])
    }

    /// Forget every translation of `domain`.
    pub(crate) fn iotlb_of(self, domain: DomainId) -> Descriptor {
        Descriptor([self.iotlb_low(granularity::DOMAIN, domain.number()), 0])
    }

    /// Forget the translations of `pages` in `domain`: the smallest aligned run of 2^n pages
    /// around them, or the whole domain where the unit cannot name as many.
    pub(crate) fn iotlb_pages(self, domain: DomainId, pages: ByteRange<Iova>) -> Descriptor {
        let first = pages.start().raw() / PAGE_SIZE;
        let last = pages.last().raw() / PAGE_SIZE;
        let mask = covering_mask(first, last);
        if self.page_mask.is_none_or(|largest| mask > largest) {
            return self.iotlb_of(domain);
        }
        let mut high = IotlbHigh(0);
        high.set_am(mask);
        high.set_address(first >> mask << mask);
        Descriptor([
            self.iotlb_low(granularity::SELECTIVE, domain.number()),
            high.0,
        ])
    }

    /// Forget `count` interrupt-remapping entries from `first` on, or all of them where the unit
    /// cannot name as many.
    pub(crate) fn interrupt_entries(self, first: u16, count: u16) -> Descriptor {
        let last = first.saturating_add(count.saturating_sub(1));
        let mask = covering_mask(first.into(), last.into());
        if mask > self.index_mask {
            return Descriptor::interrupts();
        }
        let mut low = InterruptEntryLow(0);
        low.set_kind(kind::INTERRUPT_ENTRY);
        low.set_g(true);
        low.set_im(mask);
        low.set_iidx((u32::from(first) >> mask << mask) as u16);
        Descriptor([low.0, 0])
    }

    fn iotlb_low(self, g: u8, did: u16) -> u64 {
        let mut low = IotlbLow(0);
        low.set_kind(kind::IOTLB);
        low.set_g(g);
        low.set_dr(self.drains_reads);
        low.set_dw(self.drains_writes);
        low.set_did(did);
        low.0
    }
}

/// The smallest n such that `first` and `last` lie in one run of 2^n, aligned to 2^n.
fn covering_mask(first: u64, last: u64) -> u8 {
    (u64::BITS - (first ^ last).leading_zeros()) as u8
}

#[cfg(test)]
mod tests {
    extern crate std;

    use proptest::prelude::*;

    use super::*;

    /// A unit with draining, masks up to 18 bits for pages and 15 for interrupts.
    fn emulated() -> Abilities {
        Abilities::of(Cap(0x00d2_008c_222f_0606), Ecap(0x00f0_0f4a))
    }

    fn domain(number: u16) -> DomainId {
        DomainId::new(number).unwrap()
    }

    fn pages(start: u64, len: u64) -> ByteRange<Iova> {
        ByteRange::new(Iova::new(start), len).unwrap()
    }

    /// Section 6.5.2.1: type 1, granularity 11b, domain in 31:16, source in 47:32.
    #[test]
    fn a_device_is_forgotten_by_source_and_domain() {
        let source = Bdf::new(3, 4, 5).unwrap();
        assert_eq!(
            Descriptor::context(domain(7), source).words(),
            [0x0000_0325_0007_0031, 0]
        );
    }

    /// Section 6.5.2.3: type 2, DW in bit 6, DR in bit 7, mask in 69:64, page in 127:76.
    #[test]
    fn one_page_is_forgotten_exactly() {
        assert_eq!(
            emulated()
                .iotlb_pages(domain(2), pages(0x4000_0123, 1))
                .words(),
            [0x0002_00f2, 0x4000_0000]
        );
    }

    /// Section 6.5.2.3: AM is at most CAP.MAMV. What cannot be named is forgotten with its whole domain.
    #[test]
    fn more_pages_than_the_unit_can_name_are_forgotten_with_their_domain() {
        let whole = emulated().iotlb_of(domain(2));
        assert_eq!(emulated().iotlb_pages(domain(2), pages(0, 1 << 31)), whole);
        // Two pages on either side of a large boundary.
        let astride = pages((1 << 40) - 0x1000, 0x2000);
        assert_eq!(emulated().iotlb_pages(domain(2), astride), whole);
        let mut cap = Cap(0x00d2_008c_222f_0606);
        cap.set_psi(false);
        let no_pages = Abilities::of(cap, Ecap(0));
        assert_eq!(no_pages.iotlb_pages(domain(2), pages(0, 1)), whole);
    }

    /// Section 6.5.2.7: type 4, granularity in bit 4, mask in 31:27, index in 47:32.
    #[test]
    fn interrupt_entries_are_forgotten_by_index() {
        assert_eq!(
            emulated().interrupt_entries(5, 1).words(),
            [0x0000_0005_0000_0014, 0]
        );
        assert_eq!(
            emulated().interrupt_entries(5, 2).words(),
            [0x0000_0004_1000_0014, 0]
        );
    }

    /// Section 6.5.2.8: type 5, SW in bit 5, FN in bit 6, data in 63:32, address in 127:66.
    #[test]
    fn a_wait_reports_and_fences() {
        assert_eq!(
            Descriptor::wait(Hpa::new(0x1000), 9).words(),
            [0x0000_0009_0000_0065, 0x1000]
        );
    }

    proptest! {
        /// Whatever is chosen covers every page asked for.
        #[test]
        fn no_page_of_a_range_is_left_out(start in 0u64..1 << 57, len in 1u64..1 << 40) {
            let range = pages(start, len);
            let [low, high] = emulated().iotlb_pages(domain(1), range).words();
            if IotlbLow(low).g() == granularity::SELECTIVE {
                let high = IotlbHigh(high);
                prop_assert!(high.am() <= 18);
                let first = high.address() << 12;
                prop_assert!(first <= range.start().raw());
                prop_assert!(first + (0x1000 << high.am()) > range.last().raw());
                prop_assert!(high.address().is_multiple_of(1 << high.am()));
            } else {
                prop_assert_eq!(IotlbLow(low).g(), granularity::DOMAIN);
            }
        }

        #[test]
        fn no_interrupt_entry_of_a_run_is_left_out(first: u16, count in 1u16..) {
            let [low, _] = emulated().interrupt_entries(first, count).words();
            let low = InterruptEntryLow(low);
            if low.g() {
                let begin = u32::from(low.iidx());
                prop_assert!(begin <= u32::from(first));
                let last = (u32::from(first) + u32::from(count) - 1).min(0xffff);
                prop_assert!(begin + (1 << low.im()) > last);
            }
        }
    }
}
