//! Why an access or an emulation did not happen.
//!
//! Owns the exceptions a guest is owed and the two answers that are no exception. Knows neither
//! how an exception is injected nor who asked.

use core::fmt;

use bitfield::bitfield;
use memory::Hole;

bitfield! {
    /// The error code of a page fault (SDM vol. 3A, 4.7).
    #[derive(Clone, Copy, PartialEq, Eq)]
    pub struct ErrorCode(pub u32);
    impl Debug;
    /// The page was there; a right was missing or a reserved bit set.
    pub present, set_present: 0;
    /// The access was a write.
    pub write, set_write: 1;
    /// The access was made at CPL 3.
    pub user, set_user: 2;
    /// A paging entry had a reserved bit set.
    pub reserved, set_reserved: 3;
    /// The access was a fetch, and fetches can be forbidden.
    pub fetch, set_fetch: 4;
}

/// #PF: the guest's own page tables do not allow the access.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct PageFault {
    /// What goes to CR2.
    pub linear: u64,
    /// What goes to the stack.
    pub code: ErrorCode,
}

/// Why an access or an emulation did not happen. Nothing changed.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Fault {
    /// #PF, to be injected.
    Page(PageFault),
    /// #GP(0), to be injected: outside of a segment, or an address that is not canonical.
    GeneralProtection,
    /// #SS(0), to be injected: the same, by way of SS.
    Stack,
    /// No exception: the guest uses physical memory that does not exist, or that is not for this
    /// kind of access.
    Hole(Hole),
    /// No exception: the instruction is known by its length only. Whoever came here from a
    /// memory access raced with a change of the code; resume the guest.
    NotEmulated,
}

impl Fault {
    /// The vector of the exception the guest is owed.
    pub fn vector(self) -> Option<u8> {
        match self {
            Self::Page(_) => Some(14),
            Self::GeneralProtection => Some(13),
            Self::Stack => Some(12),
            Self::Hole(_) | Self::NotEmulated => None,
        }
    }

    /// The error code of that exception.
    pub fn error_code(self) -> Option<u32> {
        match self {
            Self::Page(fault) => Some(fault.code.0),
            Self::GeneralProtection | Self::Stack => Some(0),
            Self::Hole(_) | Self::NotEmulated => None,
        }
    }
}

impl From<Hole> for Fault {
    fn from(hole: Hole) -> Self {
        Self::Hole(hole)
    }
}

impl From<PageFault> for Fault {
    fn from(fault: PageFault) -> Self {
        Self::Page(fault)
    }
}

impl fmt::Display for PageFault {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let who = if self.code.user() {
            "user"
        } else {
            "supervisor"
        };
        let what = if self.code.write() {
            "write"
        } else if self.code.fetch() {
            "fetch"
        } else {
            "read"
        };
        let why = if self.code.reserved() {
            "a paging entry has a reserved bit set"
        } else if self.code.present() {
            "the page does not allow it"
        } else {
            "no page is there"
        };
        write!(
            f,
            "guest {who} {what} at linear {:#x}: {why} (#PF, error code {:#x})",
            self.linear, self.code.0
        )
    }
}

impl fmt::Display for Fault {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Page(fault) => fault.fmt(f),
            Self::GeneralProtection => f.write_str(
                "guest operand lies outside its segment or is not canonical (#GP): the guest's \
                 own error, it is told",
            ),
            Self::Stack => f.write_str(
                "guest operand lies outside the stack segment or is not canonical (#SS): the \
                 guest's own error, it is told",
            ),
            Self::Hole(Hole(range)) => write!(
                f,
                "guest uses physical memory {} to {} which is not there or not for this access: \
                 look for the guest's page tables pointing there",
                range.start(),
                range.last()
            ),
            Self::NotEmulated => f.write_str(
                "guest changed its code while it was looked at: the processor tries again",
            ),
        }
    }
}

impl core::error::Error for PageFault {}
impl core::error::Error for Fault {}
