//! The registers of a controller: section 3.1.

/// Where registers are; figure 35.
pub(crate) mod offset {
    pub(crate) const CAP: u32 = 0x00;
    pub(crate) const CAP_HIGH: u32 = 0x04;
    pub(crate) const VS: u32 = 0x08;
    pub(crate) const INTMS: u32 = 0x0c;
    pub(crate) const INTMC: u32 = 0x10;
    pub(crate) const CC: u32 = 0x14;
    pub(crate) const CSTS: u32 = 0x1c;
    pub(crate) const AQA: u32 = 0x24;
    pub(crate) const ASQ: u32 = 0x28;
    pub(crate) const ASQ_HIGH: u32 = 0x2c;
    pub(crate) const ACQ: u32 = 0x30;
    pub(crate) const ACQ_HIGH: u32 = 0x34;
    pub(crate) const DOORBELLS: u32 = 0x1000;
}

/// Controller Status; section 3.1.3.6.
pub(crate) mod csts {
    pub(crate) const READY: u32 = 1 << 0;
    pub(crate) const FATAL: u32 = 1 << 1;
    pub(crate) const SHUTDOWN_STATUS: u32 = 0b11 << 2;
}

/// Controller Capabilities; section 3.1.3.1.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) struct Capabilities(pub(crate) u64);

impl Capabilities {
    /// Contiguous Queues Required: bit 16.
    pub(crate) const CONTIGUOUS: u64 = 1 << 16;
    /// Arbitration Mechanism Supported: bits 18:17.
    pub(crate) const ARBITRATION: u64 = 0b11 << 17;
    /// Timeout: bits 31:24.
    pub(crate) const TIMEOUT: u64 = 0xff << 24;
    /// Command Sets Supported, the NVM command set: bit 37.
    pub(crate) const NVM_COMMANDS: u64 = 1 << 37;

    /// Maximum Queue Entries Supported, counted from 1 here: bits 15:0.
    pub(crate) fn most_entries(self) -> u32 {
        (self.0 & 0xffff) as u32 + 1
    }

    /// Bytes from one doorbell to the next, by Doorbell Stride: bits 35:32.
    pub(crate) fn doorbell_stride(self) -> u32 {
        4 << (self.0 >> 32 & 0xf)
    }

    /// The smallest page, as a power of two: Memory Page Size Minimum, bits 51:48.
    pub(crate) fn smallest_page(self) -> u32 {
        12 + (self.0 >> 48 & 0xf) as u32
    }
}

/// Controller Configuration; section 3.1.3.5.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) struct Configuration(pub(crate) u32);

impl Configuration {
    /// Every bit that a controller keeps: all but the reserved ones.
    pub(crate) const KEPT: u32 = 0x01ff_fff1;
    /// Entries of 64 and of 16 bytes: IOSQES and IOCQES.
    pub(crate) const ENTRY_SIZES: u32 = 6 << 16 | 4 << 20;
    const ENABLE: u32 = 1 << 0;
    const COMMAND_SET: u32 = 0b111 << 4;
    const PAGE_SIZE: u32 = 0xf << 7;
    const ARBITRATION: u32 = 0b111 << 11;
    const SHUTDOWN: u32 = 0b11 << 14;

    pub(crate) fn is_enabled(self) -> bool {
        self.0 & Self::ENABLE != 0
    }

    /// The value for a device that is not to be enabled.
    pub(crate) fn without_enable(self) -> u32 {
        self.0 & !Self::ENABLE
    }

    /// Whether it asks for pages of 4 KiB, the NVM command set, and entries of the sizes that
    /// there are; no size is said before there are queues.
    pub(crate) fn is_plain(self) -> bool {
        let sizes = self.0 >> 16 & 0xff;
        self.0 & (Self::COMMAND_SET | Self::PAGE_SIZE) == 0
            && matches!(sizes & 0xf, 0 | 6)
            && matches!(sizes >> 4, 0 | 4)
    }

    /// Arbitration Mechanism Selected: bits 13:11.
    pub(crate) fn arbitration(self) -> u32 {
        (self.0 & Self::ARBITRATION) >> 11
    }

    /// What the device is told of it: enabled or not, arbitration, shutdown.
    pub(crate) fn for_device(self) -> u32 {
        self.0 & (Self::ENABLE | Self::ARBITRATION | Self::SHUTDOWN) | Self::ENTRY_SIZES
    }
}
