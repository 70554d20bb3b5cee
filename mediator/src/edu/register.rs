//! What the device has at which offset of its register window.

/// What an `edu` identifies itself as, whatever its version.
pub(super) const IDENTITY: u32 = 0x00ed;
pub(super) const IDENTITY_MASK: u32 = 0xffff;
/// What it can address, unless it was made with another mask.
pub(super) const LAST_ADDRESS: u64 = (1 << 28) - 1;

/// Where registers are.
pub(super) mod offset {
    pub(crate) const IDENTITY: u32 = 0x00;
    pub(crate) const LIVENESS: u32 = 0x04;
    pub(crate) const FACTORIAL: u32 = 0x08;
    pub(crate) const STATUS: u32 = 0x20;
    pub(crate) const INTERRUPT_STATUS: u32 = 0x24;
    pub(crate) const INTERRUPT_RAISE: u32 = 0x60;
    pub(crate) const INTERRUPT_ACKNOWLEDGE: u32 = 0x64;
    pub(crate) const SOURCE: u32 = 0x80;
    pub(crate) const DESTINATION: u32 = 0x88;
    pub(crate) const COUNT: u32 = 0x90;
    pub(crate) const COMMAND: u32 = 0x98;
}

/// Bits of the interrupt status that the device sets by itself.
pub(super) mod status {
    pub(crate) const FACTORIAL: u32 = 0x001;
    pub(crate) const TRANSFER: u32 = 0x100;
}

/// Where the device has its buffer, as transfers name it, and how long it is.
pub(super) const BUFFER: u64 = 0x4_0000;
pub(super) const BUFFER_BYTES: u64 = 4096;

/// The command register.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) struct Command(pub(super) u64);

impl Command {
    const RUN: u64 = 1 << 0;
    const TO_MEMORY: u64 = 1 << 1;
    const INTERRUPT: u64 = 1 << 2;

    /// Whether a transfer is to be started, or is not over.
    pub(super) fn is_running(self) -> bool {
        self.0 & Self::RUN != 0
    }

    /// Whether bytes go from the device to memory.
    pub(super) fn is_to_memory(self) -> bool {
        self.0 & Self::TO_MEMORY != 0
    }

    /// Whether an interrupt is to say that it is over.
    pub(super) fn wants_interrupt(self) -> bool {
        self.0 & Self::INTERRUPT != 0
    }

    /// The same while it runs, or after it.
    pub(super) fn running(self, is_running: bool) -> Self {
        Self(self.0 & !Self::RUN | u64::from(is_running))
    }

    /// What the device is told of it.
    pub(super) fn for_device(self) -> u32 {
        (self.0 & (Self::RUN | Self::TO_MEMORY | Self::INTERRUPT)) as u32
    }
}
