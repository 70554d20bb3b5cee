//! The MSI-X table of one function, as the guest believes it to be.
//!
//! Owns the guest's entries: what it wrote is read back, and no message address of its reaches
//! the device. When an entry is to take effect its message is handed out for translation
//! ([`Written::Translate`]), and the translated one becomes stores in an order that never lets the
//! device send half of one message and half of another. The function mask and the pending bits
//! are the device's own; the capability's control register is [`crate::mediation`]'s.
//!
//! Source: PCI Local Bus 3.0, section 6.8.2 and 6.8.3.

use core::fmt;

use crate::capabilities::{InBar, MsixLayout};

/// Most entries a table has.
pub const MAX_ENTRIES: usize = 2048;

/// Bytes of an entry.
pub const ENTRY_BYTES: u32 = 16;

const MASKED: u32 = 1;

/// What the guest wrote into one entry.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Message {
    /// The message address, a multiple of 4.
    pub address: u64,
    /// The message data.
    pub data: u32,
}

/// What lies at an offset of the memory that holds the table.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Region {
    /// The table, this many bytes into it.
    Table(u32),
    /// The pending bits, which the guest may read and the device owns.
    Pending,
    /// Something else of the device's.
    Elsewhere,
}

/// Tells what lies at `place`; an access of up to 8 bytes may end in another region.
pub fn region(layout: &MsixLayout, place: InBar) -> Region {
    let within = |start: InBar, bytes: u64| {
        let into = place.offset.checked_sub(start.offset)?;
        (place.bar == start.bar && u64::from(into) < bytes).then_some(into)
    };
    if let Some(into) = within(layout.table, layout.table_bytes()) {
        return Region::Table(into);
    }
    // One bit an entry, in units of 64.
    let pending_bytes = u64::from(layout.entries).div_ceil(64) * 8;
    match within(layout.pending, pending_bytes) {
        Some(_) => Region::Pending,
        None => Region::Elsewhere,
    }
}

/// Why an access to the table has no effect.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Refused {
    /// There are no entries, or more than the table here has room for.
    Entries {
        /// How many the device says it has.
        entries: u16,
    },
    /// The access is beyond the last entry.
    OutOfRange {
        /// Bytes into the table.
        offset: u32,
    },
    /// "Software must use only aligned full double word or quad word transactions"; what others
    /// do is undefined, and here they do nothing.
    Shape {
        /// Bytes into the table.
        offset: u32,
        /// Bytes of the access.
        bytes: u8,
    },
}

impl fmt::Display for Refused {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Entries { entries } => write!(
                f,
                "an MSI-X table of {entries} entries cannot be kept; the device gets no MSI-X"
            ),
            Self::OutOfRange { offset } => write!(
                f,
                "an access {offset:#x} bytes into an MSI-X table is beyond its last entry; it is lost"
            ),
            Self::Shape { offset, bytes } => write!(
                f,
                "an access of {bytes} bytes at {offset:#x} of an MSI-X table is no aligned double or quad word; it is lost"
            ),
        }
    }
}

/// What a write by the guest asks for.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Written {
    /// Nothing yet: the entry is masked.
    Kept,
    /// The vector is to be masked: store this.
    Mask(Store),
    /// The vector is unmasked and its message unchanged: store this.
    Unmask(Store),
    /// The vector is unmasked and its message is new: translate it, then take
    /// [`Table::program`]'s stores.
    Translate {
        /// Which entry.
        index: u16,
        /// What the guest wants sent.
        message: Message,
    },
}

/// A physical write of 32 bits into the table.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Store {
    /// Bytes into the table, a multiple of 4.
    pub offset: u32,
    /// What.
    pub value: u32,
}

impl Store {
    /// Which entry it is made to.
    pub const fn index(&self) -> u16 {
        (self.offset / ENTRY_BYTES) as u16
    }
}

/// The stores of [`Table::program`], to be made in order.
pub type Stores = heapless::Vec<Store, 5>;

/// One entry of a table; opaque storage for whoever provides the table's memory.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Entry {
    message: Message,
    control: u32,
    /// The device has been given a translation of `message`.
    is_current: bool,
    /// The device may send: its copy of the mask bit is clear.
    is_live: bool,
}

impl Entry {
    /// After reset every vector is masked.
    pub const RESET: Self = Self {
        message: Message {
            address: 0,
            data: 0,
        },
        control: MASKED,
        is_current: false,
        is_live: false,
    };

    const fn is_masked(&self) -> bool {
        self.control & MASKED != 0
    }

    const fn read(&self, field: u32) -> u32 {
        match field {
            0 => self.message.address as u32,
            4 => (self.message.address >> 32) as u32,
            8 => self.message.data,
            _ => self.control,
        }
    }

    fn write(&mut self, field: u32, value: u32) {
        let before = self.message;
        match field {
            0 => self.message.address = before.address & !0xffff_ffff | u64::from(value & !3),
            4 => self.message.address = before.address & 0xffff_ffff | u64::from(value) << 32,
            8 => self.message.data = value,
            // Steering tags and reserved bits are not kept.
            _ => self.control = value & MASKED,
        }
        self.is_current &= self.message == before;
    }
}

/// A table in the memory `S`: one place for each entry.
#[derive(Clone, Debug)]
pub struct Table<S> {
    entries: S,
}

impl<S: AsRef<[Entry]> + AsMut<[Entry]>> Table<S> {
    /// The table of a device that says it has as many entries as there are places in `entries`,
    /// as after reset. The device's own must be masked entry by entry: [`Table::mask_all`].
    ///
    /// # Errors
    /// [`Refused::Entries`] if there are none, or more than [`MAX_ENTRIES`].
    pub fn new(mut entries: S) -> Result<Self, Refused> {
        let count = entries.as_ref().len();
        if count == 0 || count > MAX_ENTRIES {
            let entries = u16::try_from(count).unwrap_or(u16::MAX);
            return Err(Refused::Entries { entries });
        }
        entries.as_mut().fill(Entry::RESET);
        Ok(Self { entries })
    }

    /// How many entries there are.
    pub fn len(&self) -> usize {
        self.entries.as_ref().len()
    }

    /// Whether there are none, which never is.
    pub fn is_empty(&self) -> bool {
        self.entries.as_ref().is_empty()
    }

    /// Forgets everything, as the device does when it is reset.
    pub fn reset(&mut self) {
        self.entries.as_mut().fill(Entry::RESET);
    }

    /// The stores that mask every vector of the device, whatever it held.
    pub fn mask_all(&self) -> impl Iterator<Item = Store> + use<S> {
        let count = self.entries.as_ref().len() as u32;
        (0..count).map(|index| Store {
            offset: index * ENTRY_BYTES + 12,
            value: MASKED,
        })
    }

    /// The `bytes` (1, 2, 4 or 8) bytes at `offset` of the table as the guest wrote them.
    ///
    /// # Errors
    /// [`Refused`] if they are not naturally aligned or beyond the last entry; the guest reads
    /// all ones.
    pub fn read(&self, offset: u32, bytes: u8) -> Result<u64, Refused> {
        if !matches!(bytes, 1 | 2 | 4 | 8) || !offset.is_multiple_of(u32::from(bytes)) {
            return Err(Refused::Shape { offset, bytes });
        }
        let entry = self.entry(offset)?;
        let field = (offset % ENTRY_BYTES) & !3;
        let low = u64::from(entry.read(field));
        Ok(match bytes {
            8 => u64::from(entry.read(field + 4)) << 32 | low,
            4 => low,
            _ => low >> (8 * (offset & 3)) & ((1 << (8 * u32::from(bytes))) - 1),
        })
    }

    /// Takes a write of the guest of `bytes` (4 or 8) bytes.
    ///
    /// # Errors
    /// [`Refused`] if it has another shape or is beyond the last entry; it is lost.
    pub fn write(&mut self, offset: u32, bytes: u8, value: u64) -> Result<Written, Refused> {
        if !matches!(bytes, 4 | 8) || !offset.is_multiple_of(u32::from(bytes)) {
            return Err(Refused::Shape { offset, bytes });
        }
        let entry = self.entry_mut(offset)?;
        let field = offset % ENTRY_BYTES;
        entry.write(field, value as u32);
        if bytes == 8 {
            entry.write(field + 4, (value >> 32) as u32);
        }
        let mask = Store {
            offset: offset - field + 12,
            value: entry.control,
        };
        Ok(match (entry.is_masked(), entry.is_live) {
            (true, true) => {
                entry.is_live = false;
                Written::Mask(mask)
            }
            (true, false) => Written::Kept,
            (false, true) if entry.is_current => Written::Kept,
            (false, false) if entry.is_current => {
                entry.is_live = true;
                Written::Unmask(mask)
            }
            (false, _) => Written::Translate {
                index: (offset / ENTRY_BYTES) as u16,
                message: entry.message,
            },
        })
    }

    /// What the guest wants entry `index` to send, or `None` if there is no such entry or it is
    /// masked.
    pub fn wanted(&self, index: u16) -> Option<Message> {
        let entry = self.entries.as_ref().get(usize::from(index))?;
        (!entry.is_masked()).then_some(entry.message)
    }

    /// What the guest wrote into entry `index`, masked or not.
    pub fn message(&self, index: u16) -> Option<Message> {
        let entry = self.entries.as_ref().get(usize::from(index))?;
        Some(entry.message)
    }

    /// The message of entry `index` means something else by now: it is translated again before
    /// the vector is unmasked.
    pub fn outdate(&mut self, index: u16) {
        if let Some(entry) = self.entries.as_mut().get_mut(usize::from(index)) {
            entry.is_current = false;
        }
    }

    /// The stores that make the device's entry `index` send `translated`: masked first if it is
    /// live, "software must not modify the address, data ... of an entry while it is unmasked";
    /// unmasked last if the guest has it unmasked.
    ///
    /// # Errors
    /// [`Refused::OutOfRange`] if there is no such entry.
    pub fn program(&mut self, index: u16, translated: Message) -> Result<Stores, Refused> {
        let base = u32::from(index) * ENTRY_BYTES;
        let entry = self.entry_mut(base)?;
        let mut stores = Stores::new();
        let mut store = |field, value| {
            let store = Store {
                offset: base + field,
                value,
            };
            assert!(stores.push(store).is_ok(), "an entry takes five stores");
        };
        if entry.is_live {
            store(12, MASKED);
        }
        store(0, translated.address as u32 & !3);
        store(4, (translated.address >> 32) as u32);
        store(8, translated.data);
        entry.is_live = !entry.is_masked();
        entry.is_current = true;
        if entry.is_live {
            store(12, 0);
        }
        Ok(stores)
    }

    /// The store that silences entry `index` until it is programmed again, for messages that
    /// cannot be translated. The guest goes on reading what it wrote.
    ///
    /// # Errors
    /// [`Refused::OutOfRange`] if there is no such entry.
    pub fn silence(&mut self, index: u16) -> Result<Store, Refused> {
        let base = u32::from(index) * ENTRY_BYTES;
        let entry = self.entry_mut(base)?;
        entry.is_live = false;
        entry.is_current = false;
        Ok(Store {
            offset: base + 12,
            value: MASKED,
        })
    }

    fn entry(&self, offset: u32) -> Result<&Entry, Refused> {
        let index = (offset / ENTRY_BYTES) as usize;
        self.entries
            .as_ref()
            .get(index)
            .ok_or(Refused::OutOfRange { offset })
    }

    fn entry_mut(&mut self, offset: u32) -> Result<&mut Entry, Refused> {
        let index = (offset / ENTRY_BYTES) as usize;
        self.entries
            .as_mut()
            .get_mut(index)
            .ok_or(Refused::OutOfRange { offset })
    }
}

#[cfg(test)]
mod tests {
    extern crate std;

    use proptest::prelude::*;
    use std::vec;
    use std::vec::Vec;

    use super::*;

    const GUEST: Message = Message {
        address: 0xfee0_1000,
        data: 0x41,
    };
    const OURS: Message = Message {
        address: 0xfee0_0110,
        data: 0,
    };

    fn table(entries: usize) -> Table<Vec<Entry>> {
        Table::new(vec![Entry::RESET; entries]).unwrap()
    }

    fn unmasked_entry() -> Table<Vec<Entry>> {
        let mut table = table(4);
        table.write(0x20, 8, GUEST.address).unwrap();
        table.write(0x28, 8, u64::from(GUEST.data)).unwrap();
        table
    }

    /// "After reset, the state of all implemented Mask bits is 1 (vectors are masked)".
    #[test]
    fn every_vector_is_masked_after_reset() {
        let table = table(4);
        assert_eq!(table.read(0x3c, 4), Ok(1));
        assert_eq!(table.wanted(3), None);
    }

    #[test]
    fn an_outdated_message_is_translated_again_when_it_is_unmasked() {
        let mut table = unmasked_entry();
        table.write(0x2c, 4, 0).unwrap();
        table.program(2, OURS).unwrap();
        table.write(0x2c, 4, 1).unwrap();
        table.outdate(2);
        assert_eq!(table.message(2), Some(GUEST));
        assert!(matches!(
            table.write(0x2c, 4, 0),
            Ok(Written::Translate { index: 2, .. })
        ));
    }

    #[test]
    fn a_masked_entry_asks_for_nothing_until_it_is_unmasked() {
        let mut table = table(4);
        assert_eq!(table.write(0x20, 4, GUEST.address), Ok(Written::Kept));
        assert_eq!(
            table.write(0x28, 4, u64::from(GUEST.data)),
            Ok(Written::Kept)
        );
        let asked = table.write(0x2c, 4, 0);
        assert_eq!(
            asked,
            Ok(Written::Translate {
                index: 2,
                message: GUEST
            })
        );
        assert_eq!(table.read(0x20, 8), Ok(GUEST.address));
    }

    /// "If a dword address or data is changed while the entry is unmasked, the result is
    /// undefined": so the device's entry is masked around the change.
    #[test]
    fn a_live_entry_is_masked_while_its_message_changes() {
        let mut table = unmasked_entry();
        let first = table.program(2, OURS).unwrap();
        assert_eq!(
            first.last(),
            Some(&Store {
                offset: 0x2c,
                value: 0
            })
        );
        let asked = table.write(0x28, 4, 0x42).unwrap();
        assert!(matches!(asked, Written::Translate { index: 2, .. }));
        let again = table.program(2, OURS).unwrap();
        let controls: Vec<u32> = again
            .iter()
            .filter(|s| s.offset == 0x2c)
            .map(|s| s.value)
            .collect();
        assert_eq!(controls, vec![1, 0]);
        assert_eq!(again[0].offset, 0x2c);
    }

    #[test]
    fn masking_and_unmasking_an_unchanged_entry_translates_nothing() {
        let mut table = unmasked_entry();
        table.program(2, OURS).unwrap();
        let mask = Store {
            offset: 0x2c,
            value: 1,
        };
        let unmask = Store {
            offset: 0x2c,
            value: 0,
        };
        assert_eq!(table.write(0x2c, 4, 1), Ok(Written::Mask(mask)));
        assert_eq!(table.write(0x2c, 4, 0), Ok(Written::Unmask(unmask)));
    }

    #[test]
    fn entries_out_of_range_are_refused() {
        let mut table = table(3);
        assert_eq!(
            table.write(0x30, 4, 1),
            Err(Refused::OutOfRange { offset: 0x30 })
        );
        assert_eq!(
            table.program(3, OURS),
            Err(Refused::OutOfRange { offset: 0x30 })
        );
    }

    #[test]
    fn a_table_without_room_is_refused() {
        assert!(Table::new(vec![Entry::RESET; MAX_ENTRIES + 1]).is_err());
        assert!(Table::new(vec![]).is_err());
    }

    /// "Software must use only aligned full DWORD or aligned full QWORD transactions".
    #[test]
    fn a_write_of_another_shape_is_lost() {
        let mut table = unmasked_entry();
        assert!(matches!(
            table.write(0x21, 4, 0),
            Err(Refused::Shape { .. })
        ));
        assert!(matches!(
            table.write(0x20, 2, 0),
            Err(Refused::Shape { .. })
        ));
        assert_eq!(table.read(0x20, 8), Ok(GUEST.address));
    }

    #[test]
    fn pending_bits_and_neighbours_are_told_from_the_table() {
        let at = |offset| InBar { bar: 4, offset };
        let layout = MsixLayout {
            offset: 0x70,
            entries: 65,
            table: at(0x1000),
            pending: at(0x2000),
        };
        assert_eq!(region(&layout, at(0x140f)), Region::Table(0x40f));
        assert_eq!(region(&layout, at(0x1410)), Region::Elsewhere);
        assert_eq!(region(&layout, at(0x200f)), Region::Pending);
        assert_eq!(region(&layout, at(0x2010)), Region::Elsewhere);
        assert_eq!(
            region(
                &layout,
                InBar {
                    bar: 0,
                    offset: 0x1000
                }
            ),
            Region::Elsewhere
        );
    }

    proptest! {
        /// The device's table, driven only by what the model stores, never sends what the guest
        /// wrote, never sends while masked by the guest, and never a torn message.
        #[test]
        fn a_device_only_ever_sends_translated_messages(
            writes in prop::collection::vec((0u32..80, any::<bool>(), any::<u64>()), 1..60),
        ) {
            let mut table = table(4);
            let mut device = [0xdead_beefu32; 16];
            let translate = |m: Message| Message {
                address: 0xfee0_0000 | (m.address & 0xff000) | 0x10,
                data: m.data & 0xff,
            };
            for store in table.mask_all() {
                device[store.offset as usize / 4] = store.value;
            }
            for (dword, wide, value) in writes {
                let bytes = if wide { 8 } else { 4 };
                let mut stores = Vec::new();
                match table.write(dword * 4, bytes, value) {
                    Ok(Written::Mask(store) | Written::Unmask(store)) => stores.push(store),
                    Ok(Written::Translate { index, message }) => {
                        stores.extend(table.program(index, translate(message)).unwrap());
                    }
                    Ok(Written::Kept) | Err(_) => {}
                }
                for store in stores {
                    let entry = store.offset as usize / 16 * 4;
                    let is_message = store.offset % 16 != 12;
                    prop_assert!(!is_message || device[entry + 3] & 1 == 1, "torn");
                    device[store.offset as usize / 4] = store.value;
                }
                for index in 0..4u16 {
                    let entry = &device[usize::from(index) * 4..][..4];
                    let guest = table.wanted(index);
                    prop_assert_eq!(entry[3] & 1 == 0, guest.is_some());
                    if let Some(message) = guest.map(translate) {
                        prop_assert_eq!(u64::from(entry[0]) | u64::from(entry[1]) << 32, message.address);
                        prop_assert_eq!(entry[2], message.data);
                    }
                }
            }
        }
    }
}
