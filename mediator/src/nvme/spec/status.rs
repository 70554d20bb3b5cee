//! How a command ended: section 3.3.3.2.1.

/// The status field of a completion queue entry.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) struct Status(u16);

impl Status {
    pub(crate) const SUCCESS: Self = Self(0);
    pub(crate) const INVALID_OPCODE: Self = Self::generic(0x01);
    pub(crate) const INVALID_FIELD: Self = Self::generic(0x02);
    pub(crate) const DATA_TRANSFER_ERROR: Self = Self::generic(0x04);
    /// Asking again may change it.
    pub(crate) const INTERNAL_ERROR: Self = Self(0x06);
    pub(crate) const INVALID_NAMESPACE_OR_FORMAT: Self = Self::generic(0x0b);
    pub(crate) const PRP_OFFSET_INVALID: Self = Self::generic(0x13);
    pub(crate) const COMPLETION_QUEUE_INVALID: Self = Self::specific(0x00);
    pub(crate) const INVALID_QUEUE_IDENTIFIER: Self = Self::specific(0x01);
    pub(crate) const INVALID_QUEUE_SIZE: Self = Self::specific(0x02);
    pub(crate) const EVENT_REQUEST_LIMIT_EXCEEDED: Self = Self::specific(0x05);
    pub(crate) const INVALID_INTERRUPT_VECTOR: Self = Self::specific(0x08);
    pub(crate) const INVALID_QUEUE_DELETION: Self = Self::specific(0x0c);

    /// What the device says.
    pub(crate) const fn new(field: u16) -> Self {
        Self(field & 0x7fff)
    }

    /// A refusal that asking again does not change: Do Not Retry is set.
    const fn generic(code: u16) -> Self {
        Self(1 << 14 | code)
    }

    /// The same of a code that is the command's own.
    const fn specific(code: u16) -> Self {
        Self(1 << 14 | 1 << 8 | code)
    }

    /// Whether the command did what it was asked; status code and its type are 0.
    pub(crate) fn is_success(self) -> bool {
        self.0 & 0x7ff == 0
    }

    /// The last double word of an entry that says so.
    pub(crate) fn last_dword(self, id: u16, phase: bool) -> u32 {
        u32::from(self.0) << 17 | u32::from(phase) << 16 | u32::from(id)
    }
}
