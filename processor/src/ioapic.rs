//! The I/O APIC as the guest believes it to be.
//!
//! Owns the index the guest selected and the redirection entries it wrote. What reaches the real
//! one is somebody else's translation of [`Model::entry`]; where there is nobody to translate,
//! [`admitted`] says which entries could take a processor from the guest.
//!
//! 82093AA I/O APIC datasheet, section 3.

/// Offset of the register that selects an index.
pub const SELECT: u32 = 0x00;
/// Offset of the window to the selected index.
pub const WINDOW: u32 = 0x10;
/// Offset of the register that ends an interrupt, on those that have it.
pub const END_OF_INTERRUPT: u32 = 0x40;

/// Index of the register whose bits 23:16 are the number of the last entry.
pub const VERSION: u8 = 0x01;

/// Most entries a model has: as many as an index of eight bits reaches. The register could say 256.
pub const MAX_PINS: usize = 120;

/// Bit 16 of an entry: no interrupt.
pub const MASKED: u64 = 1 << 16;

const FIRST_ENTRY: u8 = 0x10;
/// Delivery status and remote IRR, which only the hardware sets.
const READ_ONLY: u64 = 1 << 12 | 1 << 14;

/// What a guest's write asks for.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Written {
    /// Nothing.
    Kept,
    /// The entry of this pin is another now.
    Entry(u8),
    /// This is for the register at this offset as it is.
    Pass {
        /// Offset in the page.
        offset: u32,
        /// What.
        value: u32,
    },
}

/// What a guest's read is answered with.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Read {
    /// This.
    Value(u32),
    /// The real register with this index, as it is.
    Register(u8),
    /// Bits of an entry, and those in `mask` from the real register with this index.
    Merged {
        /// What the guest wrote.
        value: u32,
        /// The real register.
        index: u8,
        /// Its bits that count.
        mask: u32,
    },
}

/// One I/O APIC's registers.
#[derive(Clone, Debug)]
pub struct Model {
    selected: u8,
    entries: heapless::Vec<u64, MAX_PINS>,
}

impl Model {
    /// One whose entries are `entries`, as the hardware has them. Entries beyond [`MAX_PINS`] stay
    /// out of the guest's reach.
    pub fn new(entries: impl IntoIterator<Item = u64>) -> Self {
        Self {
            selected: 0,
            entries: entries.into_iter().take(MAX_PINS).collect(),
        }
    }

    /// How many pins there are.
    pub fn pins(&self) -> u8 {
        self.entries.len() as u8
    }

    /// The entry of `pin` as the guest wrote it, masked beyond the last.
    pub fn entry(&self, pin: u8) -> u64 {
        self.entries
            .get(usize::from(pin))
            .map_or(MASKED, |entry| entry & !READ_ONLY)
    }

    /// The index of the low half of the entry of `pin`; the high half follows.
    pub const fn index_of(pin: u8) -> u8 {
        FIRST_ENTRY.wrapping_add(pin.wrapping_mul(2))
    }

    /// Takes a write of a double word at `offset` of the page.
    pub fn write(&mut self, offset: u32, value: u32) -> Written {
        match offset {
            SELECT => {
                self.selected = value as u8;
                Written::Kept
            }
            WINDOW => {
                let Some((pin, shift)) = self.half() else {
                    return Written::Kept;
                };
                let Some(entry) = self.entries.get_mut(usize::from(pin)) else {
                    return Written::Kept;
                };
                let new = *entry & !(0xffff_ffff << shift) | u64::from(value) << shift;
                *entry = new & !READ_ONLY;
                Written::Entry(pin)
            }
            END_OF_INTERRUPT => Written::Pass { offset, value },
            _ => Written::Kept,
        }
    }

    /// Answers a read of a double word at `offset` of the page.
    pub fn read(&self, offset: u32) -> Read {
        match offset {
            SELECT => Read::Value(u32::from(self.selected)),
            WINDOW if self.selected < FIRST_ENTRY => Read::Register(self.selected),
            WINDOW => match self.half() {
                Some((pin, shift)) => Read::Merged {
                    value: (self.entry(pin) >> shift) as u32,
                    index: self.selected,
                    mask: (READ_ONLY >> shift) as u32,
                },
                None => Read::Value(0),
            },
            _ => Read::Value(0),
        }
    }

    /// The pin whose entry is selected, and how far its selected half is shifted.
    fn half(&self) -> Option<(u8, u32)> {
        let at = self.selected.checked_sub(FIRST_ENTRY)?;
        let is_there = usize::from(at / 2) < self.entries.len();
        is_there.then_some((at / 2, u32::from(at % 2) * 32))
    }
}

/// What to store in the window when the guest writes `value` while `index` is selected and nobody
/// translates: an entry whose delivery mode is SMI, INIT or reserved stays masked, anything else is
/// the guest's.
pub fn admitted(index: u32, value: u32) -> u32 {
    let is_low_half = index >= u32::from(FIRST_ENTRY) && index.is_multiple_of(2);
    match value >> 8 & 0b111 {
        // Fixed, lowest priority, NMI, ExtINT.
        0b000 | 0b001 | 0b100 | 0b111 => value,
        _ if is_low_half => value | MASKED as u32,
        _ => value,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn selected(model: &mut Model, index: u32) {
        assert_eq!(model.write(SELECT, index), Written::Kept);
    }

    #[test]
    fn an_entry_is_written_in_halves_and_read_back() {
        let mut model = Model::new([MASKED; 24]);
        selected(&mut model, 0x15);
        assert_eq!(model.write(WINDOW, 0x0300_0000), Written::Entry(2));
        selected(&mut model, 0x14);
        assert_eq!(model.write(WINDOW, 0x0000_a939), Written::Entry(2));
        assert_eq!(model.entry(2), 0x0300_0000_0000_a939);
        assert_eq!(model.entry(3), MASKED);
        assert_eq!(model.read(SELECT), Read::Value(0x14));
    }

    /// "Delivery Status ... read-only", "Remote IRR ... read-only".
    #[test]
    fn what_only_hardware_sets_is_read_from_it() {
        let mut model = Model::new([MASKED; 24]);
        selected(&mut model, 0x10);
        assert_eq!(model.write(WINDOW, 0xffff_ffff), Written::Entry(0));
        let (value, mask) = (0xffff_afff, 0x5000);
        assert_eq!(
            model.read(WINDOW),
            Read::Merged {
                value,
                index: 0x10,
                mask
            }
        );
    }

    #[test]
    fn identity_and_version_are_the_hardwares_and_not_written() {
        let mut model = Model::new([MASKED; 24]);
        for index in 0..u32::from(FIRST_ENTRY) {
            selected(&mut model, index);
            assert_eq!(model.read(WINDOW), Read::Register(index as u8));
            assert_eq!(model.write(WINDOW, 0x0f00_0000), Written::Kept);
        }
    }

    #[test]
    fn the_end_of_an_interrupt_passes() {
        let mut model = Model::new([MASKED; 24]);
        let pass = Written::Pass {
            offset: END_OF_INTERRUPT,
            value: 0x39,
        };
        assert_eq!(model.write(END_OF_INTERRUPT, 0x39), pass);
    }

    #[test]
    fn linux_programs_its_entries() {
        assert_eq!(admitted(0x14, 0x0000_0030), 0x0000_0030);
        assert_eq!(
            admitted(0x15, 0x0500_0000),
            0x0500_0000,
            "a destination is no mode"
        );
        assert_eq!(admitted(0x00, 0x0500_0000), 0x0500_0000, "nor is the id");
    }

    proptest! {
        #[test]
        fn no_entry_that_raises_smi_or_init_is_unmasked(entry in 0_u32..120, value: u32) {
            let stored = admitted(u32::from(FIRST_ENTRY) + 2 * entry, value);
            let mode = stored >> 8 & 7;
            prop_assert!([0, 1, 4, 7].contains(&mode) || stored & MASKED as u32 != 0);
            prop_assert_eq!(stored & !(MASKED as u32), value & !(MASKED as u32));
        }

        /// Whatever is selected and written, only entries that exist change.
        #[test]
        fn any_writes_change_entries_that_exist(writes in proptest::collection::vec((0_u32..0x50, any::<u32>()), 0..50)) {
            let mut model = Model::new([MASKED; 3]);
            for (offset, value) in writes {
                if let Written::Entry(pin) = model.write(offset & !3, value) {
                    prop_assert!(pin < 3);
                }
                let _ = model.read(offset);
            }
        }
    }
}
