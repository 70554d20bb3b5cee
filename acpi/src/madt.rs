//! The multiple APIC description table: processors and interrupt controllers.

use memory::Gpa;

use crate::bytes::{u16_at, u32_at, u64_at};
use crate::{AcpiError, Content, Fault, Signature};

/// Where the first entry lies, behind the header, the local APIC's address and the flags.
const ENTRIES: usize = 44;

/// A checked copy of the MADT, every entry of which fits the table (ACPI 6.5, 5.2.12).
#[derive(Clone, Copy, Debug)]
pub struct Madt<'b> {
    bytes: &'b [u8],
}

/// A logical processor.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Processor {
    /// Its local APIC's identifier.
    pub apic_id: u32,
    /// The name AML knows it by.
    pub uid: u32,
    /// It may be started now.
    pub is_enabled: bool,
    /// It is not there yet but may come while the machine runs.
    pub is_online_capable: bool,
}

/// An I/O APIC.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct IoApic {
    /// Its identifier.
    pub id: u8,
    /// Where its registers lie.
    pub base: Gpa,
    /// The global interrupt its first input is.
    pub first_gsi: u32,
}

/// An ISA interrupt that is wired to another global interrupt than its own number.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct SourceOverride {
    /// The ISA interrupt.
    pub source: u8,
    /// The global interrupt.
    pub gsi: u32,
    /// How it is signalled.
    pub flags: InterruptFlags,
}

/// An I/O APIC input that raises a non-maskable interrupt.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct NmiSource {
    /// The global interrupt.
    pub gsi: u32,
    /// How it is signalled.
    pub flags: InterruptFlags,
}

/// A local APIC pin that raises a non-maskable interrupt.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct LocalNmi {
    /// Which processor, by the name AML knows it by; `None` for all.
    pub uid: Option<u32>,
    /// The pin, LINT0 or LINT1.
    pub lint: u8,
    /// How it is signalled.
    pub flags: InterruptFlags,
}

/// Polarity and trigger mode of an interrupt (ACPI 6.5, 5.2.12.5).
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct InterruptFlags(pub u16);

impl InterruptFlags {
    /// Polarity says active low; otherwise it is active high or as the bus has it.
    pub const fn is_active_low(self) -> bool {
        self.0 & 0b11 == 0b11
    }

    /// Trigger mode says level; otherwise it is edge or as the bus has it.
    pub const fn is_level_triggered(self) -> bool {
        self.0 & 0b1100 == 0b1100
    }
}

/// One entry of the table.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum MadtEntry {
    /// A processor with a local APIC (kind 0) or local x2APIC (kind 9).
    Processor(Processor),
    /// An I/O APIC (kind 1).
    IoApic(IoApic),
    /// An interrupt source override (kind 2).
    SourceOverride(SourceOverride),
    /// A non-maskable interrupt source (kind 3).
    NmiSource(NmiSource),
    /// A local APIC NMI (kind 4) or local x2APIC NMI (kind 10).
    LocalNmi(LocalNmi),
    /// The 64-bit address of the local APICs (kind 5).
    LocalApicAddress(Gpa),
    /// An entry of another kind, which is nobody's business here.
    Other {
        /// Its kind.
        kind: u8,
    },
}

impl<'b> Madt<'b> {
    /// Walks the copy once and believes it if every entry has the length its kind needs and
    /// lies inside the table.
    ///
    /// # Errors
    /// [`AcpiError`] naming the entry.
    pub fn parse(content: &Content<'b>) -> Result<Self, AcpiError> {
        content.expect(Signature::MADT, ENTRIES as u32)?;
        let bytes = content.bytes();
        let mut offset = ENTRIES;
        while offset < bytes.len() {
            offset = raw_entry(bytes, offset)
                .map_err(|fault| content.table().error(fault))?
                .next;
        }
        Ok(Self { bytes })
    }

    /// Every entry in the order of the table.
    pub fn entries(&self) -> impl Iterator<Item = MadtEntry> + Clone + use<'b> {
        let bytes = self.bytes;
        let mut offset = ENTRIES;
        core::iter::from_fn(move || {
            let raw = raw_entry(bytes, offset).ok()?;
            offset = raw.next;
            Some(decode(raw.kind, raw.bytes).unwrap_or(MadtEntry::Other { kind: raw.kind }))
        })
    }

    /// The processors that are there or may come, each local APIC once.
    ///
    /// Firmware may list one processor both as local APIC and as local x2APIC; it is enabled if
    /// any of its entries says so.
    pub fn processors(&self) -> impl Iterator<Item = Processor> + Clone + use<'b> {
        let madt = *self;
        let mut seen = 0;
        madt.present().filter_map(move |processor| {
            let mut earlier = madt.present().take(seen);
            seen += 1;
            let same = |other: &Processor| other.apic_id == processor.apic_id;
            if earlier.any(|other| same(&other)) {
                return None;
            }
            let is_enabled = madt.present().any(|other| same(&other) && other.is_enabled);
            Some(Processor {
                is_enabled,
                is_online_capable: !is_enabled,
                ..processor
            })
        })
    }

    /// The I/O APICs.
    pub fn io_apics(&self) -> impl Iterator<Item = IoApic> + Clone + use<'b> {
        self.entries().filter_map(|entry| match entry {
            MadtEntry::IoApic(io_apic) => Some(io_apic),
            _ => None,
        })
    }

    /// Where the local APICs' registers lie: the last 64-bit override, or the 32-bit field.
    pub fn local_apic(&self) -> Gpa {
        let narrow = u32_at(self.bytes, 36).unwrap_or(0);
        self.entries()
            .filter_map(|entry| match entry {
                MadtEntry::LocalApicAddress(at) => Some(at),
                _ => None,
            })
            .last()
            .unwrap_or(Gpa::new(u64::from(narrow)))
    }

    /// Whether the machine also has a pair of 8259s, which must be masked (flag `PCAT_COMPAT`).
    pub fn has_legacy_pics(&self) -> bool {
        u32_at(self.bytes, 40).is_some_and(|flags| flags & 1 != 0)
    }

    /// Processors that may run now or later, duplicates included.
    fn present(&self) -> impl Iterator<Item = Processor> + Clone + use<'b> {
        self.entries().filter_map(|entry| match entry {
            MadtEntry::Processor(processor)
                if processor.is_enabled || processor.is_online_capable =>
            {
                Some(processor)
            }
            _ => None,
        })
    }
}

struct RawEntry<'b> {
    kind: u8,
    bytes: &'b [u8],
    /// Where the next entry begins; always further on.
    next: usize,
}

/// The entry at `offset`, if its length suits its kind and the table.
fn raw_entry(table: &[u8], offset: usize) -> Result<RawEntry<'_>, Fault> {
    let rest = table.get(offset..).unwrap_or(&[]);
    let kind = rest.first().copied().unwrap_or(0);
    let length = rest.get(1).copied().unwrap_or(0);
    let least = least_length(kind);
    match rest.get(..usize::from(length)) {
        Some(bytes) if length >= least => Ok(RawEntry {
            kind,
            bytes,
            next: offset.saturating_add(usize::from(length)),
        }),
        _ => Err(Fault::EntryLength {
            offset: u32::try_from(offset).unwrap_or(u32::MAX),
            kind,
            found: u32::from(length),
            least: u32::from(least),
            most: u32::try_from(rest.len()).unwrap_or(u32::MAX),
        }),
    }
}

/// The length ACPI gives each kind of entry; 2 holds kind and length themselves.
const fn least_length(kind: u8) -> u8 {
    match kind {
        0 | 3 => 8,
        1 | 5 | 10 => 12,
        2 => 10,
        4 => 6,
        9 => 16,
        _ => 2,
    }
}

/// `None` for kinds that do not matter here, and for processors without a real APIC id.
fn decode(kind: u8, bytes: &[u8]) -> Option<MadtEntry> {
    let u8_at = |offset: usize| bytes.get(offset).copied();
    Some(match kind {
        0 => {
            let apic_id = u8_at(3).filter(|id| *id != u8::MAX)?;
            processor(u32::from(apic_id), u32::from(u8_at(2)?), u32_at(bytes, 4)?)
        }
        9 => {
            let apic_id = u32_at(bytes, 4).filter(|id| *id != u32::MAX)?;
            processor(apic_id, u32_at(bytes, 12)?, u32_at(bytes, 8)?)
        }
        1 => MadtEntry::IoApic(IoApic {
            id: u8_at(2)?,
            base: Gpa::new(u64::from(u32_at(bytes, 4)?)),
            first_gsi: u32_at(bytes, 8)?,
        }),
        2 => MadtEntry::SourceOverride(SourceOverride {
            source: u8_at(3)?,
            gsi: u32_at(bytes, 4)?,
            flags: InterruptFlags(u16_at(bytes, 8)?),
        }),
        3 => MadtEntry::NmiSource(NmiSource {
            flags: InterruptFlags(u16_at(bytes, 2)?),
            gsi: u32_at(bytes, 4)?,
        }),
        4 => MadtEntry::LocalNmi(LocalNmi {
            uid: u8_at(2).filter(|uid| *uid != u8::MAX).map(u32::from),
            flags: InterruptFlags(u16_at(bytes, 3)?),
            lint: u8_at(5)?,
        }),
        10 => MadtEntry::LocalNmi(LocalNmi {
            uid: u32_at(bytes, 4).filter(|uid| *uid != u32::MAX),
            flags: InterruptFlags(u16_at(bytes, 2)?),
            lint: u8_at(8)?,
        }),
        5 => MadtEntry::LocalApicAddress(Gpa::new(u64_at(bytes, 4)?)),
        _ => return None,
    })
}

fn processor(apic_id: u32, uid: u32, flags: u32) -> MadtEntry {
    let is_enabled = flags & 1 != 0;
    MadtEntry::Processor(Processor {
        apic_id,
        uid,
        is_enabled,
        // "If the Enabled bit is set, this bit is reserved and must be zero."
        is_online_capable: !is_enabled && flags & 2 != 0,
    })
}

#[cfg(test)]
mod tests {
    extern crate std;

    use std::string::ToString;
    use std::vec::Vec;

    use proptest::prelude::*;

    use super::*;
    use crate::Table;
    use crate::q35::{self, Memory};

    /// Checks, copies and parses `bytes`, and hands the result to `look`.
    fn parsed<T>(bytes: &[u8], look: impl FnOnce(Result<Madt<'_>, AcpiError>) -> T) -> T {
        let memory = Memory::default().with(0x1000, bytes);
        let table = Table::check(&memory, Signature::MADT, Gpa::new(0x1000)).unwrap();
        let mut buffer = [0; 4096];
        look(Madt::parse(&table.copy(&memory, &mut buffer).unwrap()))
    }

    /// A table of these entries.
    fn madt(entries: &[&[u8]]) -> Vec<u8> {
        let mut body = Vec::from([0, 0, 0xe0, 0xfe, 1, 0, 0, 0]);
        body.extend(entries.concat());
        q35::table(b"APIC", &body)
    }

    fn processors(entries: &[&[u8]]) -> Vec<(u32, bool, bool)> {
        parsed(&madt(entries), |madt| {
            madt.unwrap()
                .processors()
                .map(|one| (one.apic_id, one.is_enabled, one.is_online_capable))
                .collect()
        })
    }

    const fn x2apic(id: u8, flags: u8) -> [u8; 16] {
        [9, 16, 0, 0, id, 0, 0, 0, flags, 0, 0, 0, 7, 0, 0, 0]
    }

    #[test]
    fn qemus_processors_and_io_apic_are_told() {
        parsed(&q35::MADT, |madt| {
            let madt = madt.unwrap();
            let ids: Vec<u32> = madt.processors().map(|one| one.apic_id).collect();
            assert_eq!(ids, [0, 1]);
            assert_eq!(
                madt.io_apics().collect::<Vec<_>>(),
                [IoApic {
                    id: 0,
                    base: Gpa::new(0xfec0_0000),
                    first_gsi: 0
                }]
            );
            assert_eq!(madt.local_apic(), Gpa::new(0xfee0_0000));
            assert!(madt.has_legacy_pics());
        });
    }

    #[test]
    fn qemus_overrides_and_nmi_are_told() {
        parsed(&q35::MADT, |madt| {
            let entries: Vec<MadtEntry> = madt.unwrap().entries().collect();
            assert_eq!(
                entries[3],
                MadtEntry::SourceOverride(SourceOverride {
                    source: 0,
                    gsi: 2,
                    flags: InterruptFlags(0)
                })
            );
            let MadtEntry::SourceOverride(sci) = entries[5] else {
                panic!("{:?}", entries[5]);
            };
            assert!(sci.flags.is_level_triggered() && !sci.flags.is_active_low());
            assert_eq!(
                entries[8],
                MadtEntry::LocalNmi(LocalNmi {
                    uid: None,
                    lint: 1,
                    flags: InterruptFlags(0)
                })
            );
            assert_eq!(entries.len(), 9);
        });
    }

    #[test]
    fn a_processor_neither_enabled_nor_online_capable_is_not_there() {
        assert_eq!(
            processors(&[&[0, 8, 0, 3, 0, 0, 0, 0], &x2apic(4, 2)]),
            [(4, false, true)]
        );
    }

    #[test]
    fn online_capable_means_nothing_if_enabled_is_set() {
        assert_eq!(processors(&[&x2apic(4, 3)]), [(4, true, false)]);
    }

    #[test]
    fn a_processor_listed_twice_counts_once_and_is_enabled_if_either_says_so() {
        assert_eq!(
            processors(&[&x2apic(4, 2), &x2apic(5, 1), &[0, 8, 0, 4, 1, 0, 0, 0]]),
            [(4, true, false), (5, true, false)]
        );
    }

    #[test]
    fn the_broadcast_identifiers_are_no_processors() {
        let broadcast = [9, 16, 0, 0, 255, 255, 255, 255, 1, 0, 0, 0, 7, 0, 0, 0];
        assert_eq!(processors(&[&[0, 8, 0, 255, 1, 0, 0, 0], &broadcast]), []);
    }

    #[test]
    fn the_64_bit_address_overrides_the_32_bit_one() {
        let at = [5, 12, 0, 0, 0, 0, 0, 0xd0, 0x0f, 0, 0, 0];
        parsed(&madt(&[&at]), |madt| {
            assert_eq!(madt.unwrap().local_apic(), Gpa::new(0xf_d000_0000));
        });
    }

    #[test]
    fn x2apic_nmis_and_nmi_sources_are_told() {
        let entries = madt(&[
            &[10, 12, 5, 0, 9, 0, 0, 0, 1, 0, 0, 0],
            &[3, 8, 0x0f, 0, 17, 0, 0, 0],
            &[0x7f, 2],
        ]);
        parsed(&entries, |madt| {
            assert_eq!(
                madt.unwrap().entries().collect::<Vec<_>>(),
                [
                    MadtEntry::LocalNmi(LocalNmi {
                        uid: Some(9),
                        lint: 1,
                        flags: InterruptFlags(5)
                    }),
                    MadtEntry::NmiSource(NmiSource {
                        gsi: 17,
                        flags: InterruptFlags(15)
                    }),
                    MadtEntry::Other { kind: 0x7f },
                ]
            );
        });
    }

    #[test]
    fn an_entry_of_no_length_is_refused_and_named() {
        parsed(&madt(&[&[0, 0]]), |madt| {
            assert_eq!(
                madt.unwrap_err().to_string(),
                "ACPI table APIC at 0x1000: expected the entry of kind 0 at offset 0x2c to have \
                 at least 8 of the 2 bytes left, found 0"
            );
        });
    }

    #[test]
    fn an_entry_past_the_end_is_refused() {
        parsed(&madt(&[&[0, 8, 0, 1, 1, 0, 0]]), |madt| {
            let fault = madt.unwrap_err().fault;
            assert!(matches!(
                fault,
                Fault::EntryLength {
                    found: 8,
                    most: 7,
                    ..
                }
            ));
        });
    }

    #[test]
    fn an_entry_shorter_than_its_kind_is_refused() {
        for kind in [0, 1, 2, 3, 4, 5, 9, 10] {
            let mut entry = [0; 16];
            entry[0] = kind;
            entry[1] = least_length(kind) - 1;
            let entry = &entry[..usize::from(entry[1])];
            parsed(&madt(&[entry]), |madt| {
                assert!(madt.is_err(), "kind {kind}");
            });
        }
    }

    proptest! {
        #[test]
        fn resealed_with_any_byte_changed_it_parses_or_names_an_offset_inside(
            offset in 36_usize..128,
            byte: u8,
        ) {
            let mut bytes = q35::MADT;
            bytes[offset] = byte;
            parsed(&q35::resealed(&bytes), |madt| match madt {
                Ok(madt) => assert!(madt.processors().count() <= madt.entries().count()),
                Err(error) => assert!(
                    matches!(error.fault, Fault::EntryLength { offset: 44..128, .. }),
                    "{error}"
                ),
            });
        }

        #[test]
        fn each_local_apic_is_told_once(body in proptest::collection::vec(0_u8..12, 8..400)) {
            parsed(&q35::table(b"APIC", &body), |madt| {
                let Ok(madt) = madt else { return };
                let mut ids: Vec<u32> = madt.processors().map(|one| one.apic_id).collect();
                let told = ids.len();
                ids.sort_unstable();
                ids.dedup();
                assert_eq!(ids.len(), told);
            });
        }
    }
}
