//! The state the guest's first processor starts in: a 64-bit mode, told register by register.
//!
//! Owns what makes such a state one that a processor can be in. Does not know whose it is: a kernel's
//! boot protocol made it, or firmware was found in it.

use core::fmt;

use zerocopy::{FromBytes, Immutable, IntoBytes, KnownLayout};

/// Which guest is entered.
#[derive(Clone, Copy, PartialEq, Eq, Debug, FromBytes, IntoBytes, KnownLayout, Immutable)]
#[repr(transparent)]
pub struct GuestKind(pub u32);

impl GuestKind {
    /// A Linux kernel, by its 64-bit boot protocol: all that it starts with is usable memory.
    pub const LINUX64: Self = Self(1);
    /// The firmware that called the loader, which goes on where it was.
    pub const FIRMWARE: Self = Self(2);
}

/// A segment register with its hidden part.
#[derive(Clone, Copy, PartialEq, Eq, Debug, FromBytes, IntoBytes, KnownLayout, Immutable)]
#[repr(C)]
pub struct SegmentState {
    /// The selector.
    pub selector: u16,
    /// Zero.
    pub reserved: u16,
    /// The last offset in bytes.
    pub limit: u32,
    /// The linear address of offset 0.
    pub base: u64,
    /// Access rights as a VMCS holds them (SDM vol. 3C, 25.4.1): the bits of the descriptor, and bit 16
    /// where the segment is unusable.
    pub rights: u32,
    /// Zero.
    pub reserved_too: u32,
}

impl SegmentState {
    /// Access rights of a segment that cannot be used.
    pub const UNUSABLE: u32 = 1 << 16;
    /// 64-bit code.
    const LONG: u32 = 1 << 13;
    /// Default operand size: never set together with `LONG`.
    const BIG: u32 = 1 << 14;
    /// Present.
    const PRESENT: u32 = 1 << 7;
    /// Code or data rather than a system segment.
    const CODE_OR_DATA: u32 = 1 << 4;
    /// Code rather than data.
    const CODE: u32 = 1 << 3;
    /// The privilege level.
    const LEVEL: u32 = 3 << 5;
    /// What a task register of a processor in 64-bit mode holds: a busy 64-bit TSS, present.
    const BUSY_TASK: u32 = 0x8b;

    /// A segment of nothing, as INIT leaves the tables that nobody has loaded.
    pub const fn of_nothing(rights: u32) -> Self {
        Self {
            selector: 0,
            reserved: 0,
            limit: 0xffff,
            base: 0,
            rights,
            reserved_too: 0,
        }
    }

    /// Whether it holds 64-bit code of the most privileged level.
    fn is_kernel_code(&self) -> bool {
        let wanted = Self::LONG | Self::PRESENT | Self::CODE_OR_DATA | Self::CODE;
        let refused = Self::UNUSABLE | Self::BIG | Self::LEVEL;
        self.rights & (wanted | refused) == wanted
    }

    fn is_task(&self) -> bool {
        self.rights & 0xff == Self::BUSY_TASK && self.rights & Self::UNUSABLE == 0
    }
}

/// A descriptor-table register.
#[derive(Clone, Copy, PartialEq, Eq, Debug, FromBytes, IntoBytes, KnownLayout, Immutable)]
#[repr(C)]
pub struct TableState {
    /// Where the table lies.
    pub base: u64,
    /// Its last byte's offset.
    pub limit: u32,
    /// Zero.
    pub reserved: u32,
}

/// The first state of the guest's first processor. Interrupts are off and general registers that are not
/// here are zero.
#[derive(Clone, Copy, PartialEq, Eq, Debug, FromBytes, IntoBytes, KnownLayout, Immutable)]
#[repr(C)]
pub struct GuestStart {
    /// Which guest.
    pub kind: GuestKind,
    /// Zero.
    pub reserved: u32,
    /// The first instruction.
    pub rip: u64,
    /// The stack pointer.
    pub rsp: u64,
    /// For Linux, where the zero page (`boot_params`) lies.
    pub rsi: u64,
    /// Protected mode, paging and what goes with them.
    pub cr0: u64,
    /// The root of the guest's page tables, which map what it starts with one to one.
    pub cr3: u64,
    /// Four-level paging and what goes with it.
    pub cr4: u64,
    /// Extended features: long mode.
    pub efer: u64,
    /// The page-attribute table.
    pub pat: u64,
    /// The global descriptor table.
    pub gdt: TableState,
    /// The interrupt descriptor table.
    pub idt: TableState,
    /// ES, CS, SS, DS, FS, GS.
    pub segments: [SegmentState; 6],
    /// The local descriptor table.
    pub ldtr: SegmentState,
    /// The task register.
    pub tr: SegmentState,
}

/// A register whose value no processor in four-level 64-bit mode has.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
#[allow(missing_docs, reason = "the names are the registers'")]
pub enum Register {
    Cr0,
    Cr3,
    Cr4,
    Efer,
    Pat,
    Rip,
    Rsp,
    Cs,
    Tr,
    /// The base of a segment or a descriptor table.
    Base,
}

impl fmt::Display for Register {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Cr0 => "CR0",
            Self::Cr3 => "CR3",
            Self::Cr4 => "CR4",
            Self::Efer => "EFER",
            Self::Pat => "PAT",
            Self::Rip => "RIP",
            Self::Rsp => "RSP",
            Self::Cs => "CS",
            Self::Tr => "TR",
            Self::Base => "the base of a segment or table",
        })
    }
}

const CR0_PE: u64 = 1 << 0;
const CR0_WP: u64 = 1 << 16;
const CR0_NW: u64 = 1 << 29;
const CR0_CD: u64 = 1 << 30;
const CR0_PG: u64 = 1 << 31;
const CR4_PAE: u64 = 1 << 5;
const CR4_LA57: u64 = 1 << 12;
const CR4_VMXE: u64 = 1 << 13;
const CR4_PCIDE: u64 = 1 << 17;
const CR4_CET: u64 = 1 << 23;
const EFER_SCE: u64 = 1 << 0;
const EFER_LME: u64 = 1 << 8;
const EFER_LMA: u64 = 1 << 10;
const EFER_NXE: u64 = 1 << 11;

impl GuestStart {
    /// The register that no processor in four-level 64-bit mode, at its most privileged level, could
    /// hold so, and its value. SDM vol. 3A, 2.5, 4.1 and 12.12; vol. 3C, 27.3.1.
    pub fn impossible(&self) -> Option<(Register, u64)> {
        let cr0 = CR0_PE | CR0_PG;
        let efer = EFER_LME | EFER_LMA;
        let rules = [
            (
                Register::Cr0,
                self.cr0,
                self.cr0 & cr0 == cr0
                    && self.cr0 >> 32 == 0
                    && (self.cr0 & CR0_NW == 0 || self.cr0 & CR0_CD != 0),
            ),
            (Register::Cr3, self.cr3, self.cr3 >> 52 == 0),
            // Shadow stacks need write protection; process tags and five levels are not what Bouncer
            // starts a guest with.
            (
                Register::Cr4,
                self.cr4,
                self.cr4 & CR4_PAE != 0
                    && self.cr4 >> 32 == 0
                    && self.cr4 & (CR4_LA57 | CR4_VMXE | CR4_PCIDE) == 0
                    && (self.cr4 & CR4_CET == 0 || self.cr0 & CR0_WP != 0),
            ),
            (
                Register::Efer,
                self.efer,
                self.efer & efer == efer && self.efer & !(efer | EFER_SCE | EFER_NXE) == 0,
            ),
            (Register::Pat, self.pat, is_page_attributes(self.pat)),
            (Register::Rip, self.rip, is_canonical(self.rip)),
            (Register::Rsp, self.rsp, is_canonical(self.rsp)),
        ];
        let wrong = rules.iter().find(|(.., is_possible)| !is_possible);
        if let Some((register, value, _)) = wrong {
            return Some((*register, *value));
        }
        let [_, cs, ..] = &self.segments;
        if !cs.is_kernel_code() {
            return Some((Register::Cs, cs.rights.into()));
        }
        if !self.tr.is_task() {
            return Some((Register::Tr, self.tr.rights.into()));
        }
        let all = self.segments.iter().chain([&self.ldtr, &self.tr]);
        let bases = all.map(|segment| segment.base);
        bases
            .chain([self.gdt.base, self.idt.base])
            .find(|base| !is_canonical(*base))
            .map(|base| (Register::Base, base))
    }
}

/// Bits 63:47 are equal.
fn is_canonical(address: u64) -> bool {
    let high = address as i64 >> 47;
    high == 0 || high == -1
}

/// Each of the eight types is UC, WC, WT, WP, WB or UC-. SDM vol. 3A, 13.12.2.
fn is_page_attributes(pat: u64) -> bool {
    pat.to_le_bytes()
        .iter()
        .all(|kind| matches!(kind, 0 | 1 | 4..=7))
}
