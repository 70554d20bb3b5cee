//! What VM entry demands of a guest's state, so that a refusal can be told by name. SDM vol. 3C, 27.3.1.
//!
//! Owns the checks for a guest under EPT and "unrestricted guest", in the manual's order. The
//! processor says only that one of them failed.

mod activity;
mod segments;

use core::fmt;

use crate::spec::control::entry;
use crate::spec::field::Field;
use segments::rights;

/// Bits of CR0 and CR4 that are fixed in VMX operation (A.7, A.8), as read.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Fixed {
    /// IA32_VMX_CR0_FIXED0: bits that must be set, but for PE and PG in an unrestricted guest.
    pub cr0_set: u64,
    /// IA32_VMX_CR0_FIXED1: bits that may be set.
    pub cr0_may: u64,
    /// IA32_VMX_CR4_FIXED0.
    pub cr4_set: u64,
    /// IA32_VMX_CR4_FIXED1.
    pub cr4_may: u64,
}

/// A demand that the guest's state does not meet.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Violation {
    /// The field, or the first of two that do not fit each other.
    pub field: Field,
    /// What it holds.
    pub value: u64,
    /// What is demanded of it.
    pub demand: &'static str,
}

impl fmt::Display for Violation {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(
            f,
            "{} is {:#x}: {}",
            self.field.name(),
            self.value,
            self.demand
        )
    }
}

const PE: u64 = 1 << 0;
const PG: u64 = 1 << 31;
const PAE: u64 = 1 << 5;
const PCIDE: u64 = 1 << 17;
const CET: u64 = 1 << 23;
const WP: u64 = 1 << 16;
const LME: u64 = 1 << 8;
const LMA: u64 = 1 << 10;
const VM: u64 = 1 << 17;
const IF: u64 = 1 << 9;
/// Bits of EFER that some processor defines.
const EFER_DEFINED: u64 = 0xd01;
/// Bits of RFLAGS that are reserved, and of those the one that is set.
const RFLAGS_RESERVED: u64 = !0x3f_7fd5;
const RFLAGS_SET: u64 = 1 << 1;

/// The first demand that is not met, or `None` if the manual knows no reason to refuse the state.
///
/// `read` gives a field of the VMCS; `fixed` is what the processor says of CR0 and CR4.
pub fn first_violation(read: &dyn Fn(Field) -> u64, fixed: &Fixed) -> Option<Violation> {
    let state = State { read, fixed };
    state
        .registers()
        .or_else(|| state.segments())
        .or_else(|| state.tables())
        .or_else(|| state.rip_and_flags())
        .or_else(|| state.activity())
}

struct State<'a> {
    read: &'a dyn Fn(Field) -> u64,
    fixed: &'a Fixed,
}

impl State<'_> {
    fn get(&self, field: Field) -> u64 {
        (self.read)(field)
    }

    /// The violation, unless `holds`.
    fn demand(&self, holds: bool, field: Field, demand: &'static str) -> Option<Violation> {
        (!holds).then(|| Violation {
            field,
            value: self.get(field),
            demand,
        })
    }

    fn is_long(&self) -> bool {
        self.get(Field::ENTRY_CONTROLS) & u64::from(entry::LONG_MODE) != 0
    }

    /// 27.3.1.1: control registers, debug registers, MSRs.
    fn registers(&self) -> Option<Violation> {
        let (cr0, cr4) = (self.get(Field::CR0), self.get(Field::CR4));
        let efer = self.get(Field::EFER);
        let must = self.fixed.cr0_set & !(PE | PG);
        let is_paging = cr0 & PG != 0;
        let loads_efer = self.get(Field::ENTRY_CONTROLS) & u64::from(entry::LOAD_EFER) != 0;
        None.or_else(|| {
            self.demand(
                cr0 & must == must,
                Field::CR0,
                "a bit that VMX operation fixes to 1 is clear",
            )
        })
        .or_else(|| {
            self.demand(
                cr0 & !self.fixed.cr0_may == 0,
                Field::CR0,
                "a bit that VMX operation fixes to 0 is set",
            )
        })
        .or_else(|| {
            self.demand(
                !is_paging || cr0 & PE != 0,
                Field::CR0,
                "paging without protection",
            )
        })
        .or_else(|| {
            self.demand(
                cr4 & self.fixed.cr4_set == self.fixed.cr4_set,
                Field::CR4,
                "a bit that VMX operation fixes to 1 is clear",
            )
        })
        .or_else(|| {
            self.demand(
                cr4 & !self.fixed.cr4_may == 0,
                Field::CR4,
                "a bit that the processor does not have is set",
            )
        })
        .or_else(|| {
            self.demand(
                cr4 & CET == 0 || cr0 & WP != 0,
                Field::CR4,
                "CET without CR0.WP",
            )
        })
        .or_else(|| {
            self.demand(
                !self.is_long() || is_paging,
                Field::CR0,
                "long mode without paging",
            )
        })
        .or_else(|| {
            self.demand(
                !self.is_long() || cr4 & PAE != 0,
                Field::CR4,
                "long mode without PAE",
            )
        })
        .or_else(|| {
            self.demand(
                self.is_long() || cr4 & PCIDE == 0,
                Field::CR4,
                "PCIDE outside long mode",
            )
        })
        .or_else(|| {
            self.demand(
                self.get(Field::CR3) >> 52 & 0x7ff == 0,
                Field::CR3,
                "a bit beyond the physical addresses is set",
            )
        })
        .or_else(|| {
            self.demand(
                self.get(Field::DR7) >> 32 == 0,
                Field::DR7,
                "bits 63:32 must be clear",
            )
        })
        .or_else(|| {
            self.demand(
                is_canonical(self.get(Field::SYSENTER_ESP)),
                Field::SYSENTER_ESP,
                "the address is not canonical",
            )
        })
        .or_else(|| {
            self.demand(
                is_canonical(self.get(Field::SYSENTER_EIP)),
                Field::SYSENTER_EIP,
                "the address is not canonical",
            )
        })
        .or_else(|| {
            self.demand(
                is_pat(self.get(Field::PAT)),
                Field::PAT,
                "a byte is no memory type",
            )
        })
        .or_else(|| {
            self.demand(
                !loads_efer || efer & !EFER_DEFINED == 0,
                Field::EFER,
                "a reserved bit is set",
            )
        })
        .or_else(|| {
            self.demand(
                !loads_efer || (efer & LMA != 0) == self.is_long(),
                Field::EFER,
                "LMA differs from the VM-entry control \"IA-32e mode guest\"",
            )
        })
        .or_else(|| {
            self.demand(
                !loads_efer || !is_paging || (efer & LMA != 0) == (efer & LME != 0),
                Field::EFER,
                "LMA differs from LME while paging is on",
            )
        })
    }

    /// 27.3.1.3: descriptor tables.
    fn tables(&self) -> Option<Violation> {
        None.or_else(|| {
            self.demand(
                is_canonical(self.get(Field::GDTR_BASE)),
                Field::GDTR_BASE,
                "the address is not canonical",
            )
        })
        .or_else(|| {
            self.demand(
                is_canonical(self.get(Field::IDTR_BASE)),
                Field::IDTR_BASE,
                "the address is not canonical",
            )
        })
        .or_else(|| {
            self.demand(
                self.get(Field::GDTR_LIMIT) >> 16 == 0,
                Field::GDTR_LIMIT,
                "bits 31:16 must be clear",
            )
        })
        .or_else(|| {
            self.demand(
                self.get(Field::IDTR_LIMIT) >> 16 == 0,
                Field::IDTR_LIMIT,
                "bits 31:16 must be clear",
            )
        })
    }

    /// 27.3.1.4: RIP, RFLAGS.
    fn rip_and_flags(&self) -> Option<Violation> {
        let (rip, flags) = (self.get(Field::RIP), self.get(Field::RFLAGS));
        let is_long_code = self.is_long() && self.get(Field::CS_RIGHTS) & rights::LONG != 0;
        let is_real = self.get(Field::CR0) & PE == 0;
        let event = self.get(Field::ENTRY_EVENT);
        let is_interrupt = event >> 31 & 1 == 1 && event >> 8 & 7 == 0;
        None.or_else(|| {
            self.demand(
                is_long_code || rip >> 32 == 0,
                Field::RIP,
                "bits 63:32 must be clear outside 64-bit code",
            )
        })
        .or_else(|| {
            self.demand(
                !is_long_code || is_canonical(rip),
                Field::RIP,
                "the address is not canonical",
            )
        })
        .or_else(|| {
            self.demand(
                flags & RFLAGS_RESERVED == RFLAGS_SET,
                Field::RFLAGS,
                "a reserved bit is wrong",
            )
        })
        .or_else(|| {
            self.demand(
                flags & VM == 0 || !(self.is_long() || is_real),
                Field::RFLAGS,
                "virtual-8086 mode in real or long mode",
            )
        })
        .or_else(|| {
            self.demand(
                !is_interrupt || flags & IF != 0,
                Field::RFLAGS,
                "an interrupt is raised while IF is clear",
            )
        })
    }
}

/// Whether an address is one of 48 bits, or of 57 where they are in use: the wider is allowed, because
/// the processor compares with what CR4 says.
fn is_canonical(address: u64) -> bool {
    let upper = (address as i64) >> 56;
    upper == 0 || upper == -1
}

fn is_pat(value: u64) -> bool {
    value
        .to_le_bytes()
        .iter()
        .all(|byte| matches!(byte, 0 | 1 | 4 | 5 | 6 | 7))
}

#[cfg(test)]
mod tests;
