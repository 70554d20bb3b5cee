//! What VM entry demands of activity, interruptibility, pending debug exceptions, the link pointer and
//! the entries of PAE paging. SDM vol. 3C, 27.3.1.5 and 27.3.1.6.

use super::{IF, PAE, PG, State, Violation};
use crate::spec::control::{PENDING_STEP, interruptibility, pin, secondary};
use crate::spec::field::Field;

const TF: u64 = 1 << 8;
const BTF: u64 = 1 << 1;
const HALTED: u64 = 1;

impl State<'_> {
    /// The first demand that is not met.
    pub(super) fn activity(&self) -> Option<Violation> {
        use interruptibility::{MOV_SS, NMI, STI};
        let blocked = self.get(Field::INTERRUPTIBILITY);
        let event = self.get(Field::ENTRY_EVENT);
        let is_nmi = event >> 31 & 1 == 1 && event >> 8 & 7 == 2;
        let has_virtual_nmis = self.get(Field::PIN_CONTROLS) & u64::from(pin::VIRTUAL_NMIS) != 0;
        let flags = self.get(Field::RFLAGS);
        let is_shadowed = blocked & (STI | MOV_SS) != 0;
        let is_halted = self.get(Field::ACTIVITY) == HALTED;
        let steps = flags & TF != 0 && self.get(Field::DEBUGCTL) & BTF == 0;
        let pending = self.get(Field::PENDING_DEBUG);
        let is_told = pending & PENDING_STEP != 0;
        let activity = self.get(Field::ACTIVITY);
        None.or_else(|| self.demand(activity <= 3, Field::ACTIVITY, "no such state"))
            .or_else(|| {
                self.demand(
                    activity == 0 || !is_shadowed,
                    Field::ACTIVITY,
                    "it must be active behind STI and MOV SS",
                )
            })
            .or_else(|| {
                self.demand(
                    blocked >> 5 == 0,
                    Field::INTERRUPTIBILITY,
                    "a reserved bit is set",
                )
            })
            .or_else(|| {
                self.demand(
                    blocked & (STI | MOV_SS) != STI | MOV_SS,
                    Field::INTERRUPTIBILITY,
                    "blocked by both STI and MOV SS",
                )
            })
            .or_else(|| {
                self.demand(
                    blocked & STI == 0 || flags & IF != 0,
                    Field::INTERRUPTIBILITY,
                    "blocked by STI while IF is clear",
                )
            })
            .or_else(|| {
                self.demand(
                    !is_nmi || blocked & MOV_SS == 0,
                    Field::INTERRUPTIBILITY,
                    "an NMI is raised behind MOV SS",
                )
            })
            .or_else(|| {
                self.demand(
                    !(is_nmi && has_virtual_nmis) || blocked & NMI == 0,
                    Field::INTERRUPTIBILITY,
                    "an NMI is raised within the handler of one",
                )
            })
            .or_else(|| {
                self.demand(
                    !(is_shadowed || is_halted) || steps == is_told,
                    Field::PENDING_DEBUG,
                    "behind STI, MOV SS or HLT it must tell of a single step exactly if one is due",
                )
            })
            .or_else(|| {
                self.demand(
                    pending & !0x1_700f == 0,
                    Field::PENDING_DEBUG,
                    "a reserved bit is set",
                )
            })
            .or_else(|| {
                self.demand(
                    self.get(Field::LINK_POINTER) == u64::MAX,
                    Field::LINK_POINTER,
                    "it must be all ones",
                )
            })
            .or_else(|| self.pdptes())
    }

    /// 27.3.1.6: the four entries that PAE paging holds in registers, under EPT.
    fn pdptes(&self) -> Option<Violation> {
        let (cr0, cr4) = (self.get(Field::CR0), self.get(Field::CR4));
        let has_ept = self.get(Field::SECONDARY_CONTROLS) & u64::from(secondary::EPT) != 0;
        if !has_ept || cr0 & PG == 0 || cr4 & PAE == 0 || self.is_long() {
            return None;
        }
        /// Reserved in an entry that is present: bits 8:5, 2:1.
        const RESERVED: u64 = 0x1e6;
        [Field::PDPTE0, Field::PDPTE1, Field::PDPTE2, Field::PDPTE3]
            .into_iter()
            .find_map(|field| {
                let entry = self.get(field);
                self.demand(
                    entry & 1 == 0 || entry & RESERVED == 0,
                    field,
                    "a reserved bit is set",
                )
            })
    }
}
