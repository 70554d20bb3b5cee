//! How the processor caches a piece of physical memory.

use core::fmt;

/// A memory type, in the encoding MTRRs, PAT entries and EPT entries share (SDM vol. 3A, table
/// 12-8).
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug)]
pub struct MemoryType(u8);

impl MemoryType {
    /// UC: every access goes to the bus, in order.
    pub const UNCACHEABLE: Self = Self(0);
    /// WC: not cached, stores may be combined.
    pub const WRITE_COMBINING: Self = Self(1);
    /// WT: loads are cached, stores go to memory at once.
    pub const WRITE_THROUGH: Self = Self(4);
    /// WP: loads are cached, stores go to memory and drop the line everywhere.
    pub const WRITE_PROTECTED: Self = Self(5);
    /// WB: loads and stores are cached.
    pub const WRITE_BACK: Self = Self(6);

    /// The type with this encoding, or `None` if the encoding is reserved.
    pub const fn from_bits(bits: u8) -> Option<Self> {
        match bits {
            0 | 1 | 4 | 5 | 6 => Some(Self(bits)),
            _ => None,
        }
    }

    /// The encoding, of three bits.
    pub const fn bits(self) -> u8 {
        self.0
    }
}

impl fmt::Display for MemoryType {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match *self {
            Self::UNCACHEABLE => "UC",
            Self::WRITE_COMBINING => "WC",
            Self::WRITE_THROUGH => "WT",
            Self::WRITE_PROTECTED => "WP",
            _ => "WB",
        })
    }
}
