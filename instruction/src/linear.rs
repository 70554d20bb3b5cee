//! The walk from linear addresses to guest-physical ones.
//!
//! Owns the five paging modes, the rights they grant and the error codes they owe (SDM vol. 3A,
//! chapter 4). Knows neither segments (`address`) nor what lies at the end of a walk.
//!
//! Accessed and dirty bits are not set. The processor sets them with an atomic compare and
//! exchange; [`GuestMemory`] can only store, and between our fetch of an entry and our store of
//! it the guest may have revoked the page on another processor: the store would bring a dead
//! mapping back. A missing bit costs less. The walk by hardware that led to the exit has set the
//! accessed bits of the trapped operand already, and trapped memory is not paged out; what remains
//! is the other operand of a MOVS, in ordinary memory.
//!
//! 1 GiB pages are taken as supported; the protection keys in entries are not looked at.

use memory::{ByteRange, Gpa, GuestMemory, PAGE_SIZE};

use crate::{
    fault::{ErrorCode, Fault, PageFault},
    spec::{Cr0, Cr4, Efer, Rflags},
};

/// What is done to the bytes.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Access {
    /// Data are read.
    Read,
    /// Data are written, or read and then written.
    Write,
    /// Code is fetched.
    Fetch,
}

/// On whose behalf an access is made.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Privilege {
    /// CPL 0, 1 and 2.
    Supervisor,
    /// CPL 3.
    User,
}

/// All that paging depends on.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Paging {
    /// CR0.
    pub cr0: u64,
    /// CR3.
    pub cr3: u64,
    /// CR4.
    pub cr4: u64,
    /// The extended feature enable register.
    pub efer: u64,
    /// RFLAGS, for the alignment-check flag.
    pub rflags: u64,
    /// The current privilege level.
    pub privilege: Privilege,
    /// How many bits a physical address has, as CPUID 8000_0008 tells the guest.
    pub physical_bits: u8,
}

/// Where an operand lies: it may cross into one further page, which may be anywhere.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Span {
    /// The bytes up to the end of the operand or of the page.
    pub first: ByteRange<Gpa>,
    /// The bytes of the next page.
    pub rest: Option<ByteRange<Gpa>>,
}

/// Where the processor itself found the operand of an instruction, in which it was not let on.
///
/// Paging has granted the access by then: a walk would come to the same place again, if the guest
/// has not changed its tables meanwhile.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Found {
    /// The first byte that was asked for.
    pub at: Gpa,
    /// What was asked; a write may have been a read before it.
    pub access: Access,
}

impl Found {
    /// Where `length` bytes at `linear` are, if they can be what was found: of the instruction's
    /// only operand in memory the processor asks for nothing else. `None` where only a walk tells,
    /// as for an operand that crosses into a further page.
    pub fn span(self, linear: u64, length: u64, access: Access) -> Option<Span> {
        let is_granted = access == self.access || access == Access::Read;
        let offset = linear % PAGE_SIZE;
        let is_there = offset == self.at.page_offset() && length <= PAGE_SIZE - offset;
        let first = ByteRange::new(self.at, length).filter(|_| is_granted && is_there)?;
        Some(Span { first, rest: None })
    }
}

/// Translates all of an operand of `length` bytes at `linear`, before any byte of it is touched.
///
/// # Errors
///
/// As [`translate`], for the first page that faults.
///
/// # Panics
///
/// If `length` is 0 or more than a page.
pub fn span(
    memory: &impl GuestMemory,
    paging: &Paging,
    linear: u64,
    length: u64,
    access: Access,
) -> Result<Span, Fault> {
    assert!(
        (1..=PAGE_SIZE).contains(&length),
        "an operand of {length} bytes"
    );
    let in_first = length.min(PAGE_SIZE - linear % PAGE_SIZE);
    let first = bytes_at(translate(memory, paging, linear, access)?, in_first)?;
    let rest = if in_first == length {
        None
    } else {
        let next = linear.wrapping_add(in_first);
        Some(bytes_at(
            translate(memory, paging, next, access)?,
            length - in_first,
        )?)
    };
    Ok(Span { first, rest })
}

fn bytes_at(at: Gpa, length: u64) -> Result<ByteRange<Gpa>, Fault> {
    // Pages do not wrap; the error is for the type's sake.
    ByteRange::new(at, length).ok_or(Fault::GeneralProtection)
}

/// Translates one linear address.
///
/// # Errors
///
/// - [`Fault::Page`] where the guest's tables do not allow `access`,
/// - [`Fault::GeneralProtection`] where `linear` is not canonical,
/// - [`Fault::Hole`] where a table lies in no memory.
pub fn translate(
    memory: &impl GuestMemory,
    paging: &Paging,
    linear: u64,
    access: Access,
) -> Result<Gpa, Fault> {
    let walk = Walk {
        memory,
        paging,
        linear,
        access,
    };
    match paging.mode() {
        Mode::Off => Ok(Gpa::new(linear & u64::from(u32::MAX))),
        Mode::TwoLevels => walk.two_levels(),
        Mode::Pae => walk.pae(),
        Mode::Long { levels } => walk.long(levels),
    }
}

enum Mode {
    Off,
    TwoLevels,
    Pae,
    Long { levels: u32 },
}

impl Paging {
    /// SDM vol. 3A, 4.1.1.
    fn mode(&self) -> Mode {
        if !Cr0(self.cr0).pg() {
            Mode::Off
        } else if !Cr4(self.cr4).pae() {
            Mode::TwoLevels
        } else if !Efer(self.efer).lma() {
            Mode::Pae
        } else if Cr4(self.cr4).la57() {
            Mode::Long { levels: 5 }
        } else {
            Mode::Long { levels: 4 }
        }
    }

    fn can_forbid_fetches(&self) -> bool {
        Efer(self.efer).nxe() && Cr4(self.cr4).pae()
    }

    /// The bits of a physical address: those that 64-bit entries have room for, at most.
    fn physical_mask(&self) -> u64 {
        low_bits(u32::from(self.physical_bits).clamp(32, 52))
    }
}

/// Bits of a paging entry.
mod entry {
    pub(super) const PRESENT: u64 = 1 << 0;
    pub(super) const WRITABLE: u64 = 1 << 1;
    pub(super) const USER: u64 = 1 << 2;
    pub(super) const LARGE: u64 = 1 << 7;
    pub(super) const NO_FETCH: u64 = 1 << 63;
    pub(super) const ADDRESS: u64 = 0x000f_ffff_ffff_f000;
}

/// What the entries of one walk grant together (SDM vol. 3A, 4.6): a right that one of them
/// withholds is not there. The bits are an entry's; that which forbids fetches is turned round.
#[derive(Clone, Copy)]
struct Grant(u64);

impl Grant {
    const ALL: Self = Self(entry::USER | entry::WRITABLE | entry::NO_FETCH);

    fn and(self, entry: u64) -> Self {
        Self(self.0 & (entry ^ entry::NO_FETCH))
    }

    fn is_users(self) -> bool {
        self.0 & entry::USER != 0
    }

    fn is_writable(self) -> bool {
        self.0 & entry::WRITABLE != 0
    }

    fn is_fetchable(self) -> bool {
        self.0 & entry::NO_FETCH != 0
    }
}

/// One translation under way.
struct Walk<'a, M> {
    memory: &'a M,
    paging: &'a Paging,
    linear: u64,
    access: Access,
}

impl<M: GuestMemory> Walk<'_, M> {
    /// 4-level and 5-level paging (SDM vol. 3A, 4.5).
    fn long(&self, levels: u32) -> Result<Gpa, Fault> {
        let unused = 64 - (12 + 9 * levels);
        if ((self.linear << unused) as i64 >> unused) as u64 != self.linear {
            return Err(Fault::GeneralProtection);
        }
        let root = self.paging.cr3 & entry::ADDRESS & self.paging.physical_mask();
        self.descend(root, levels, Grant::ALL)
    }

    /// PAE paging (SDM vol. 3A, 4.4). Processors that keep the four top entries in registers read
    /// them when CR3 is loaded; here, as with nested paging on AMD, they are read by each walk.
    fn pae(&self) -> Result<Gpa, Fault> {
        let reserved = !self.paging.physical_mask() | 0x1e6;
        let table = self.paging.cr3 & 0xffff_ffe0;
        let index = (self.linear >> 30) & 3;
        let top = self.present(self.memory.read_u64(Gpa::new(table | (index << 3)))?)?;
        if top & reserved != 0 {
            return Err(self.fault(Cause::Reserved));
        }
        self.descend(top & entry::ADDRESS, 2, Grant::ALL)
    }

    /// The part that PAE and long paging share: tables of 512 entries of 64 bits.
    fn descend(&self, root: u64, levels: u32, mut grant: Grant) -> Result<Gpa, Fault> {
        let mut table = root;
        let reserved = self.reserved();
        let mut shift = 3 + 9 * levels;
        loop {
            let index = (self.linear >> shift) & 0x1ff;
            let entry = self.present(self.memory.read_u64(Gpa::new(table | (index << 3)))?)?;
            let offset = low_bits(shift);
            let is_large = entry & entry::LARGE != 0 && shift != PAGE_SHIFT;
            let reserved_here = match is_large {
                true if shift > LARGEST_SHIFT => entry::LARGE,
                // Below the address of a large page; bit 12 is its PAT bit.
                true => offset & !low_bits(13),
                false => 0,
            };
            if entry & (reserved | reserved_here) != 0 {
                return Err(self.fault(Cause::Reserved));
            }
            grant = grant.and(entry);
            if is_large || shift == PAGE_SHIFT {
                self.check(grant)?;
                return Ok(Gpa::new(
                    (entry & entry::ADDRESS & !offset) | (self.linear & offset),
                ));
            }
            table = entry & entry::ADDRESS;
            shift -= 9;
        }
    }

    /// The bits of every 64-bit entry that must be zero (SDM vol. 3A, tables 4-8 to 4-20).
    fn reserved(&self) -> u64 {
        let mut reserved = entry::ADDRESS & !self.paging.physical_mask();
        if !self.paging.can_forbid_fetches() {
            reserved |= entry::NO_FETCH;
        }
        if !Efer(self.paging.efer).lma() {
            // Bits 62:52, which long mode ignores.
            reserved |= !entry::NO_FETCH & !low_bits(52);
        }
        reserved
    }

    /// 32-bit paging (SDM vol. 3A, 4.3).
    fn two_levels(&self) -> Result<Gpa, Fault> {
        let linear = self.linear & u64::from(u32::MAX);
        let directory = self.paging.cr3 & 0xffff_f000;
        let entry = self.entry_of_32_bits(directory | ((linear >> 22) << 2))?;
        if entry & entry::LARGE != 0 && Cr4(self.paging.cr4).pse() {
            // PSE-36: bits 20:13 are address bits 39:32, as far as the processor has them.
            let high = (entry >> 13) & 0x1ff;
            if high & !(self.paging.physical_mask() >> 32 & 0xff) != 0 {
                return Err(self.fault(Cause::Reserved));
            }
            self.check(Grant::ALL.and(entry))?;
            let page = (high << 32) | (entry & 0xffc0_0000);
            return Ok(Gpa::new(page | (linear & low_bits(22))));
        }
        let table = entry & 0xffff_f000;
        let last = self.entry_of_32_bits(table | (((linear >> 12) & 0x3ff) << 2))?;
        self.check(Grant::ALL.and(entry).and(last))?;
        Ok(Gpa::new((last & 0xffff_f000) | (linear & low_bits(12))))
    }

    fn entry_of_32_bits(&self, at: u64) -> Result<u64, Fault> {
        self.present(u64::from(self.memory.read_u32(Gpa::new(at))?))
    }

    fn present(&self, entry: u64) -> Result<u64, Fault> {
        if entry & entry::PRESENT != 0 {
            Ok(entry)
        } else {
            Err(self.fault(Cause::NotPresent))
        }
    }

    /// SDM vol. 3A, 4.6.1.
    fn check(&self, grant: Grant) -> Result<(), Fault> {
        let paging = self.paging;
        let (cr0, cr4) = (Cr0(paging.cr0), Cr4(paging.cr4));
        let is_fetchable = grant.is_fetchable() || !paging.can_forbid_fetches();
        let is_allowed = match (paging.privilege, self.access) {
            (Privilege::User, Access::Read) => grant.is_users(),
            (Privilege::User, Access::Write) => grant.is_users() && grant.is_writable(),
            (Privilege::User, Access::Fetch) => grant.is_users() && is_fetchable,
            (Privilege::Supervisor, Access::Fetch) => {
                !(grant.is_users() && cr4.smep()) && is_fetchable
            }
            (Privilege::Supervisor, Access::Read | Access::Write) => {
                let is_touchable = !grant.is_users() || !cr4.smap() || Rflags(paging.rflags).ac();
                let is_read_only = self.access == Access::Write && cr0.wp() && !grant.is_writable();
                is_touchable && !is_read_only
            }
        };
        if is_allowed {
            Ok(())
        } else {
            Err(self.fault(Cause::Protection))
        }
    }

    /// SDM vol. 3A, 4.7.
    fn fault(&self, cause: Cause) -> Fault {
        let paging = self.paging;
        let mut code = ErrorCode(0);
        code.set_present(cause != Cause::NotPresent);
        code.set_reserved(cause == Cause::Reserved);
        code.set_write(self.access == Access::Write);
        code.set_user(paging.privilege == Privilege::User);
        let is_told_apart = Cr4(paging.cr4).smep() || paging.can_forbid_fetches();
        code.set_fetch(self.access == Access::Fetch && is_told_apart);
        Fault::Page(PageFault {
            linear: self.linear,
            code,
        })
    }
}

#[derive(Clone, Copy, PartialEq, Eq)]
enum Cause {
    NotPresent,
    Protection,
    Reserved,
}

/// Bits of an address within a page, and within the largest page, as powers of two.
const PAGE_SHIFT: u32 = 12;
const LARGEST_SHIFT: u32 = 30;

fn low_bits(count: u32) -> u64 {
    (1 << count) - 1
}

#[cfg(test)]
mod tests;
