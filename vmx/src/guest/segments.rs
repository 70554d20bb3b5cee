//! What VM entry demands of segment registers. SDM vol. 3C, 27.3.1.2.

use super::{PE, State, VM, Violation, is_canonical};
use crate::spec::field::{Field, Segment};

/// Access rights, table 25-2.
pub(super) mod rights {
    pub(in crate::guest) const UNUSABLE: u64 = 1 << 16;
    pub(in crate::guest) const NOT_SYSTEM: u64 = 1 << 4;
    pub(in crate::guest) const PRESENT: u64 = 1 << 7;
    pub(in crate::guest) const LONG: u64 = 1 << 13;
    pub(in crate::guest) const BIG: u64 = 1 << 14;
    pub(in crate::guest) const GRANULAR: u64 = 1 << 15;
    pub(in crate::guest) const RESERVED: u64 = 0xfffe_0f00;
}

impl State<'_> {
    /// The first demand that is not met.
    pub(super) fn segments(&self) -> Option<Violation> {
        if self.get(Field::RFLAGS) & VM != 0 {
            return Segment::ALL
                .iter()
                .find_map(|segment| self.virtual_8086(segment));
        }
        None.or_else(|| self.code())
            .or_else(|| self.stack())
            .or_else(|| {
                Segment::ALL
                    .iter()
                    .filter(|it| **it != Segment::CS && **it != Segment::SS)
                    .find_map(|it| self.data(it))
            })
            .or_else(|| Segment::ALL.iter().find_map(|segment| self.usable(segment)))
            .or_else(|| self.task())
            .or_else(|| self.local_table())
    }

    fn virtual_8086(&self, segment: &Segment) -> Option<Violation> {
        let base = self.get(segment.selector) << 4;
        None.or_else(|| {
            self.demand(
                self.get(segment.base) == base,
                segment.base,
                "in virtual-8086 mode it must be the selector times 16",
            )
        })
        .or_else(|| {
            self.demand(
                self.get(segment.limit) == 0xffff,
                segment.limit,
                "in virtual-8086 mode it must be ffffh",
            )
        })
        .or_else(|| {
            self.demand(
                self.get(segment.rights) == 0xf3,
                segment.rights,
                "in virtual-8086 mode they must be f3h",
            )
        })
    }

    fn code(&self) -> Option<Violation> {
        let rights = self.get(Segment::CS.rights);
        let kind = rights & 0xf;
        let is_long_code = self.is_long() && rights & rights::LONG != 0;
        None.or_else(|| {
            self.demand(
                matches!(kind, 3 | 9 | 11 | 13 | 15),
                Field::CS_RIGHTS,
                "the type is not one of code",
            )
        })
        .or_else(|| {
            self.demand(
                rights & rights::UNUSABLE == 0,
                Field::CS_RIGHTS,
                "the code segment must be usable",
            )
        })
        .or_else(|| {
            self.demand(
                !is_long_code || rights & rights::BIG == 0,
                Field::CS_RIGHTS,
                "L and D are both set",
            )
        })
        .or_else(|| {
            self.demand(
                self.get(Field::CS_BASE) >> 32 == 0,
                Field::CS_BASE,
                "bits 63:32 must be clear",
            )
        })
    }

    fn stack(&self) -> Option<Violation> {
        let rights = self.get(Segment::SS.rights);
        let is_usable = rights & rights::UNUSABLE == 0;
        let level = rights >> 5 & 3;
        let is_real = self.get(Field::CR0) & PE == 0;
        None.or_else(|| {
            self.demand(
                !is_usable || matches!(rights & 0xf, 3 | 7),
                Field::SS_RIGHTS,
                "the type is not one of writable data",
            )
        })
        .or_else(|| {
            self.demand(
                !is_real || level == 0,
                Field::SS_RIGHTS,
                "the privilege level in real mode must be 0",
            )
        })
        .or_else(|| {
            self.demand(
                !is_usable || self.get(Field::SS_BASE) >> 32 == 0,
                Field::SS_BASE,
                "bits 63:32 must be clear",
            )
        })
    }

    fn data(&self, segment: &Segment) -> Option<Violation> {
        let rights = self.get(segment.rights);
        let is_usable = rights & rights::UNUSABLE == 0;
        let is_readable = rights & 0b1000 == 0 || rights & 0b10 != 0;
        None.or_else(|| {
            self.demand(
                !is_usable || rights & 1 != 0,
                segment.rights,
                "a usable segment must be accessed",
            )
        })
        .or_else(|| {
            self.demand(
                !is_usable || is_readable,
                segment.rights,
                "code in a data segment must be readable",
            )
        })
    }

    fn usable(&self, segment: &Segment) -> Option<Violation> {
        let rights = self.get(segment.rights);
        if rights & rights::UNUSABLE != 0 {
            return None;
        }
        None.or_else(|| {
            self.demand(
                rights & rights::NOT_SYSTEM != 0,
                segment.rights,
                "a system segment",
            )
        })
        .or_else(|| {
            self.demand(
                rights & rights::PRESENT != 0,
                segment.rights,
                "a usable segment must be present",
            )
        })
        .or_else(|| {
            self.demand(
                rights & rights::RESERVED == 0,
                segment.rights,
                "a reserved bit is set",
            )
        })
        .or_else(|| self.limit(segment))
    }

    fn task(&self) -> Option<Violation> {
        let rights = self.get(Segment::TR.rights);
        let kind = rights & 0xf;
        None.or_else(|| {
            self.demand(
                self.get(Field::TR_SELECTOR) & 4 == 0,
                Field::TR_SELECTOR,
                "it must be in the global table",
            )
        })
        .or_else(|| {
            self.demand(
                kind == 11 || (kind == 3 && !self.is_long()),
                Field::TR_RIGHTS,
                "the type is not that of a busy task",
            )
        })
        .or_else(|| {
            self.demand(
                rights & rights::NOT_SYSTEM == 0,
                Field::TR_RIGHTS,
                "not a system segment",
            )
        })
        .or_else(|| {
            self.demand(
                rights & rights::PRESENT != 0,
                Field::TR_RIGHTS,
                "it must be present",
            )
        })
        .or_else(|| {
            self.demand(
                rights & (rights::RESERVED | rights::UNUSABLE) == 0,
                Field::TR_RIGHTS,
                "unusable, or a reserved bit is set",
            )
        })
        .or_else(|| self.limit(&Segment::TR))
        .or_else(|| {
            self.demand(
                is_canonical(self.get(Field::TR_BASE)),
                Field::TR_BASE,
                "the address is not canonical",
            )
        })
    }

    fn local_table(&self) -> Option<Violation> {
        let rights = self.get(Segment::LDTR.rights);
        if rights & rights::UNUSABLE != 0 {
            return None;
        }
        None.or_else(|| {
            self.demand(
                rights & 0x1f == 2,
                Field(Segment::LDTR.rights.0),
                "the type is not that of a local table",
            )
        })
        .or_else(|| {
            self.demand(
                rights & rights::PRESENT != 0,
                Field(Segment::LDTR.rights.0),
                "it must be present",
            )
        })
        .or_else(|| self.limit(&Segment::LDTR))
    }

    /// "If any bit in the limit field in the range 11:0 is 0, G must be 0; if any bit in the range 31:20
    /// is 1, G must be 1."
    fn limit(&self, segment: &Segment) -> Option<Violation> {
        let limit = self.get(segment.limit);
        let is_granular = self.get(segment.rights) & rights::GRANULAR != 0;
        let fits = match is_granular {
            true => limit & 0xfff == 0xfff,
            false => limit & 0xfff0_0000 == 0,
        };
        self.demand(fits, segment.limit, "it does not fit the granularity")
    }
}
