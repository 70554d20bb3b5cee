//! Capability lists as a device alleges them: bounded walks that end with a reason.
//!
//! Owns where capabilities are and what the interrupt capabilities say of their layout. Believes
//! no pointer: a loop, a pointer into the header or out of the space ends the walk with what was
//! found so far and a [`Malformed`]. Refuses to know what a guest may do with a capability.

use core::fmt;

use crate::config::ConfigSpace;
use crate::spec::capability::{Id, MsiControl, MsixControl, MsixPlace};
use crate::spec::{extended, header};
use crate::{Address, Bdf};

/// Capabilities kept of one function's first list; 192 bytes hold at most 48 headers.
pub const MAX_CAPABILITIES: usize = 48;

/// Extended capabilities kept of one function. Real ones have up to about twenty.
pub const MAX_EXTENDED: usize = 32;

/// Where a capability of the first list is.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Capability {
    /// What it is.
    pub id: Id,
    /// Where it starts: 0x40..=0xfc, a multiple of 4.
    pub offset: u16,
}

/// Where an extended capability is.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Extended {
    /// Its first double word as read.
    pub header: extended::Header,
    /// Where it starts: 0x100..=0xffc, a multiple of 4.
    pub offset: u16,
}

impl Extended {
    /// What it is.
    pub fn id(&self) -> extended::Id {
        self.header.id()
    }
}

/// Why a walk ended before the end of its list. The device is to blame.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Malformed {
    /// A pointer leads back to a capability already seen.
    Loop {
        /// Whose list.
        bdf: Bdf,
        /// Where the pointer leads.
        to: u16,
    },
    /// A pointer leads where no capability of its list may be.
    OutOfRange {
        /// Whose list.
        bdf: Bdf,
        /// Where the pointer leads.
        to: u16,
    },
    /// There are more capabilities than are kept; the rest are not shown to the guest.
    TooMany {
        /// Whose list.
        bdf: Bdf,
    },
}

impl fmt::Display for Malformed {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Loop { bdf, to } => write!(
                f,
                "{bdf}: its capability list loops back to {to:#x}; the device is broken or hostile, the list ends there"
            ),
            Self::OutOfRange { bdf, to } => write!(
                f,
                "{bdf}: its capability list points to {to:#x}, where no capability can be; the device is broken or hostile, the list ends there"
            ),
            Self::TooMany { bdf } => write!(
                f,
                "{bdf}: it has more than {MAX_EXTENDED} extended capabilities; the rest stay hidden"
            ),
        }
    }
}

/// What a walk found, and why it stopped early if it did.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Walked<T, const N: usize> {
    /// The capabilities in the order of the list.
    pub found: heapless::Vec<T, N>,
    /// Why the list was not followed to its end.
    pub stopped: Option<Malformed>,
}

impl<T, const N: usize> Walked<T, N> {
    const fn new() -> Self {
        Self {
            found: heapless::Vec::new(),
            stopped: None,
        }
    }
}

/// The capabilities of the first 256 bytes.
pub type Capabilities = Walked<Capability, MAX_CAPABILITIES>;

/// The extended capabilities.
pub type ExtendedCapabilities = Walked<Extended, MAX_EXTENDED>;

impl Capabilities {
    /// Follows the list of `at` (header type 0 or 1).
    ///
    /// PCI Local Bus 3.0, section 6.7: "the bottom two bits are reserved ... software must mask
    /// these bits off".
    pub fn walk(space: &impl ConfigSpace, at: Address) -> Self {
        let mut walk = Self::new();
        let status = header::Status::new(space.read_u16(at, header::STATUS));
        if !status.capabilities() {
            return walk;
        }
        let mut to = u16::from(space.read_u8(at, header::CAPABILITIES)) & 0xfc;
        while to != 0 {
            if to < header::DEVICE_SPECIFIC {
                walk.stopped = Some(Malformed::OutOfRange { bdf: at.bdf, to });
                break;
            }
            if walk.found.iter().any(|seen| seen.offset == to) {
                walk.stopped = Some(Malformed::Loop { bdf: at.bdf, to });
                break;
            }
            let [id, next] = space.read_u16(at, to).to_le_bytes();
            let capability = Capability {
                id: Id(id),
                offset: to,
            };
            if walk.found.push(capability).is_err() {
                walk.stopped = Some(Malformed::TooMany { bdf: at.bdf });
                break;
            }
            to = u16::from(next) & 0xfc;
        }
        walk
    }

    /// Where the first capability `id` starts.
    pub fn offset_of(&self, id: Id) -> Option<u16> {
        self.found.iter().find(|c| c.id == id).map(|c| c.offset)
    }
}

impl ExtendedCapabilities {
    /// Follows the list of `at`, which must be a PCI Express function: others have none.
    ///
    /// PCI Express Base 6.0, section 7.6.3: an absent list is a header of zeros.
    pub fn walk(space: &impl ConfigSpace, at: Address) -> Self {
        let mut walk = Self::new();
        let mut to = extended::FIRST;
        loop {
            let header = extended::Header::new(space.read_u32(at, to));
            if header.raw() == 0 || header.raw() == u32::MAX {
                break;
            }
            let found = Extended { header, offset: to };
            if walk.found.push(found).is_err() {
                walk.stopped = Some(Malformed::TooMany { bdf: at.bdf });
                break;
            }
            to = header.next() & 0xffc;
            if to == 0 {
                break;
            }
            if to < extended::FIRST {
                walk.stopped = Some(Malformed::OutOfRange { bdf: at.bdf, to });
                break;
            }
            if walk.found.iter().any(|seen| seen.offset == to) {
                walk.stopped = Some(Malformed::Loop { bdf: at.bdf, to });
                break;
            }
        }
        walk
    }

    /// Where the first extended capability `id` starts.
    pub fn offset_of(&self, id: extended::Id) -> Option<u16> {
        self.found.iter().find(|c| c.id() == id).map(|c| c.offset)
    }
}

/// The layout of an MSI capability.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct MsiLayout {
    /// Where the capability starts.
    pub offset: u16,
    /// Whether there is an upper address register.
    pub is_wide: bool,
}

impl MsiLayout {
    /// Bytes from the start to the end of message data, mask and pending left out.
    pub const fn message_end(&self) -> u16 {
        self.data() + 4
    }

    /// Reads the layout of the capability at `offset` of `at`.
    pub fn read(space: &impl ConfigSpace, at: Address, offset: u16) -> Self {
        let control = MsiControl::new(space.read_u16(at, offset + 2));
        Self {
            offset,
            is_wide: control.wide(),
        }
    }

    /// The offset of the message address.
    pub const fn address(&self) -> u16 {
        self.offset + 4
    }

    /// The offset of the upper half of the message address.
    pub const fn upper_address(&self) -> Option<u16> {
        if self.is_wide {
            Some(self.offset + 8)
        } else {
            None
        }
    }

    /// The offset of the message data.
    pub const fn data(&self) -> u16 {
        if self.is_wide {
            self.offset + 12
        } else {
            self.offset + 8
        }
    }
}

/// A place in the memory one base address register maps.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct InBar {
    /// The index of the register, 0 to 5.
    pub bar: u8,
    /// The offset from its base, a multiple of 8.
    pub offset: u32,
}

/// Where the parts of MSI-X are.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct MsixLayout {
    /// Where the capability starts.
    pub offset: u16,
    /// Entries in the table, 1 to 2048.
    pub entries: u16,
    /// Where the table is.
    pub table: InBar,
    /// Where the pending bits are.
    pub pending: InBar,
}

impl MsixLayout {
    /// Reads the layout of the capability at `offset` of `at`, or `None` if it names a reserved
    /// base address register.
    pub fn read(space: &impl ConfigSpace, at: Address, offset: u16) -> Option<Self> {
        let control = MsixControl::new(space.read_u16(at, offset + 2));
        let place = |offset| {
            let place = MsixPlace::new(space.read_u32(at, offset));
            (u16::from(place.bar()) < header::ENDPOINT_BARS).then_some(InBar {
                bar: place.bar(),
                offset: place.offset(),
            })
        };
        Some(Self {
            offset,
            entries: control.last_entry() + 1,
            table: place(offset + 4)?,
            pending: place(offset + 8)?,
        })
    }

    /// Bytes of the table.
    pub fn table_bytes(&self) -> u64 {
        u64::from(self.entries) * 16
    }
}

#[cfg(test)]
mod tests {
    extern crate std;

    use proptest::prelude::*;
    use std::string::ToString;
    use std::vec;
    use std::vec::Vec;

    use super::*;
    use crate::Register;
    use crate::simulated::{EDU, Machine, NVME};

    /// One function's bytes, whoever is asked.
    struct Bytes(Vec<u8>);

    impl ConfigSpace for Bytes {
        fn read(&self, _: Address, register: Register) -> u32 {
            let at = usize::from(register.dword_offset());
            let dword = [self.0[at], self.0[at + 1], self.0[at + 2], self.0[at + 3]];
            register.extract(u32::from_le_bytes(dword))
        }

        fn write(&mut self, _: Address, _: Register, _: u32) {}
    }

    fn at() -> Address {
        Address::new(0, Bdf::from_parts(0, 8))
    }

    fn with_list(links: &[(usize, u8)]) -> Bytes {
        let mut bytes = vec![0; 4096];
        bytes[6] = 0x10;
        for &(offset, value) in links {
            bytes[offset] = value;
        }
        Bytes(bytes)
    }

    #[test]
    fn the_lists_of_a_real_function_are_walked_in_order() {
        let machine = Machine::new();
        let nvme = machine.address_of(NVME).unwrap();
        let list = Capabilities::walk(&machine, nvme);
        let ids: Vec<_> = list.found.iter().map(|c| c.id).collect();
        assert_eq!(ids, [Id::MSI, Id::POWER, Id::EXPRESS]);
        assert_eq!(list.stopped, None);
        let edu = machine.address_of(EDU).unwrap();
        let list = ExtendedCapabilities::walk(&machine, edu);
        assert_eq!(list.offset_of(extended::Id::ARI), Some(0x200));
    }

    #[test]
    fn a_list_that_loops_ends_where_it_loops() {
        let space = with_list(&[(0x34, 0x40), (0x41, 0x50), (0x51, 0x40)]);
        let list = Capabilities::walk(&space, at());
        assert_eq!(list.found.len(), 2);
        assert_eq!(
            list.stopped,
            Some(Malformed::Loop {
                bdf: at().bdf,
                to: 0x40
            })
        );
        assert!(list.stopped.unwrap().to_string().starts_with("00:01.0:"));
    }

    #[test]
    fn a_pointer_into_the_header_ends_the_list() {
        let space = with_list(&[(0x34, 0x40), (0x41, 0x10)]);
        let list = Capabilities::walk(&space, at());
        assert_eq!(
            list.stopped,
            Some(Malformed::OutOfRange {
                bdf: at().bdf,
                to: 0x10
            })
        );
    }

    /// "The bottom two bits are reserved": software masks them off.
    #[test]
    fn the_low_bits_of_a_pointer_are_masked() {
        let space = with_list(&[(0x34, 0x43), (0x40, 0x11)]);
        let list = Capabilities::walk(&space, at());
        assert_eq!(list.offset_of(Id::MSIX), Some(0x40));
    }

    #[test]
    fn an_extended_list_that_loops_or_leaves_its_space_ends_there() {
        let mut space = with_list(&[]);
        space.0[0x100..0x104].copy_from_slice(&0x1401_0001u32.to_le_bytes());
        space.0[0x140..0x144].copy_from_slice(&0x1001_000du32.to_le_bytes());
        let list = ExtendedCapabilities::walk(&space, at());
        assert_eq!(
            list.stopped,
            Some(Malformed::Loop {
                bdf: at().bdf,
                to: 0x100
            })
        );
        space.0[0x140..0x144].copy_from_slice(&0x0401_000du32.to_le_bytes());
        let list = ExtendedCapabilities::walk(&space, at());
        assert_eq!(
            list.stopped,
            Some(Malformed::OutOfRange {
                bdf: at().bdf,
                to: 0x40
            })
        );
    }

    /// BIR values 6 and 7 are reserved.
    #[test]
    fn a_table_in_a_reserved_register_is_no_table() {
        let mut space = with_list(&[(0x34, 0x40), (0x40, 0x11), (0x42, 0x40)]);
        assert_eq!(MsixLayout::read(&space, at(), 0x40).unwrap().entries, 65);
        space.0[0x44] = 0x06;
        assert_eq!(MsixLayout::read(&space, at(), 0x40), None);
    }

    proptest! {
        #[test]
        fn any_bytes_are_walked_to_an_end(seed in prop::collection::vec(any::<u8>(), 64)) {
            let mut bytes: Vec<u8> = (0..4096usize).map(|i| seed[(i * 7 + i / 64) % 64]).collect();
            bytes[6] |= 0x10;
            let space = Bytes(bytes);
            let list = Capabilities::walk(&space, at());
            prop_assert!(list.found.iter().all(|c| (0x40..0x100).contains(&c.offset) && c.offset % 4 == 0));
            let list = ExtendedCapabilities::walk(&space, at());
            prop_assert!(list.found.iter().all(|c| (0x100..0x1000).contains(&c.offset) && c.offset % 4 == 0));
        }
    }
}
