//! The interrupt command register: which commands start or stop a processor.
//!
//! INIT, start-up and SMI are what Bouncer keeps of the local APIC: they would put a processor
//! outside the guest. Every ordinary interrupt is the guest's own business.
//! SDM vol. 3A, section 12.6.1 (xAPIC) and 12.12.9 (x2APIC).

/// How the destination field of a command is to be read.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Format {
    /// Eight bits of APIC id in bits 63:56.
    Xapic,
    /// Thirty-two bits of APIC id in bits 63:32.
    X2apic,
}

/// Which processors a command names.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Targets {
    /// The one with this APIC id.
    One(u32),
    /// The sender alone.
    Sender,
    /// All, with the sender.
    All,
    /// All but the sender.
    Others,
    /// Members of a cluster of sixteen x2APIC ids, a bit for each.
    Cluster {
        /// Bits 19:4 of their ids.
        number: u16,
        /// Which of them.
        members: u16,
    },
}

impl Targets {
    /// Whether a processor is named, given its APIC id and the sender's.
    pub fn includes(self, id: u32, sender: u32) -> bool {
        match self {
            Self::One(one) => one == id,
            Self::Sender => id == sender,
            Self::All => true,
            Self::Others => id != sender,
            Self::Cluster { number, members } => {
                id >> 4 == u32::from(number) && members >> (id & 0xf) & 1 == 1
            }
        }
    }
}

/// What a write to the command register asks.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Command {
    /// An ordinary interrupt: the local APIC sends it itself.
    Pass,
    /// Put the targets into wait-for-SIPI.
    Init(Targets),
    /// Start those of the targets that wait, in real mode at `vector << 12`.
    Startup {
        /// Page number of the first instruction.
        vector: u8,
        /// Which processors.
        targets: Targets,
    },
    /// INIT level de-assert, which current processors ignore.
    Nothing,
    /// INIT or start-up to a logical destination, which no operating system known to us sends, or
    /// a delivery mode that is not the guest's (an SMI would run code outside the guest): it is
    /// dropped and reported.
    Unsupported,
}

/// Reads a command: the value for both halves of the register.
pub fn read(value: u64, format: Format) -> Command {
    let delivery = value >> 8 & 0b111;
    let is_logical = value & 1 << 11 != 0;
    let is_asserted = value & 1 << 14 != 0;
    let is_level = value & 1 << 15 != 0;
    let targets = targets(value, format);
    match delivery {
        0b101 if is_level && !is_asserted => Command::Nothing,
        0b101 | 0b110 if is_logical && matches!(targets, Targets::One(_)) => Command::Unsupported,
        0b101 => Command::Init(targets),
        0b110 => Command::Startup {
            vector: (value & 0xff) as u8,
            targets,
        },
        // Fixed, lowest priority, NMI.
        0b000 | 0b001 | 0b100 => Command::Pass,
        _ => Command::Unsupported,
    }
}

/// Which processors a command sends an NMI to, as far as it says: an xAPIC's logical destination may be any,
/// an x2APIC's follows from the ids (SDM vol. 3A, 12.12.10.2).
pub fn nmi_targets(value: u64, format: Format) -> Option<Targets> {
    const NMI: u64 = 0b100;
    if value >> 8 & 0b111 != NMI {
        return None;
    }
    let is_logical = value & 1 << 11 != 0;
    match targets(value, format) {
        Targets::One(destination) if is_logical && format == Format::X2apic => {
            Some(Targets::Cluster {
                number: (destination >> 16) as u16,
                members: destination as u16,
            })
        }
        Targets::One(_) if is_logical => Some(Targets::All),
        targets => Some(targets),
    }
}

fn targets(value: u64, format: Format) -> Targets {
    let destination = match format {
        Format::Xapic => (value >> 56) as u32,
        Format::X2apic => (value >> 32) as u32,
    };
    match (value >> 18 & 0b11, format) {
        (0b01, _) => Targets::Sender,
        (0b10, _) => Targets::All,
        (0b11, _) => Targets::Others,
        // SDM 12.6.1: physical destination FFh (FFFF_FFFFh) is a broadcast to all.
        (_, Format::Xapic) if destination == 0xff => Targets::All,
        (_, Format::X2apic) if destination == u32::MAX => Targets::All,
        _ => Targets::One(destination),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn an_nmi_is_known_by_its_targets() {
        let to_3 = |low: u64| nmi_targets(3 << 56 | low, Format::Xapic);
        assert_eq!(to_3(0x0400), Some(Targets::One(3)));
        assert_eq!(to_3(0xc_0400), Some(Targets::Others));
        assert_eq!(to_3(0x0c00), Some(Targets::All), "a logical destination");
        assert_eq!(to_3(0x00fd), None);
    }

    /// "Logical x2APIC ID = [(x2APIC ID[19:4] << 16) | (1 << x2APIC ID[3:0])]" (SDM vol. 3A, 12.12.10.2).
    #[test]
    fn a_logical_destination_of_an_x2apic_names_members_of_a_cluster() {
        let to = |logical: u64| nmi_targets(logical << 32 | 0x0c00, Format::X2apic).unwrap();
        let named = |logical| (0..64).filter(move |id| to(logical).includes(*id, 0));
        assert!(named(0x0000_0002).eq([1]));
        assert!(named(0x0002_8001).eq([32, 47]));
    }

    #[test]
    fn linux_starts_a_processor_with_init_deassert_and_two_startups() {
        // Values as Linux 6.1 writes them for APIC id 3.
        let to_3 = |low: u64| read(3 << 56 | low, Format::Xapic);
        assert_eq!(to_3(0xc500), Command::Init(Targets::One(3)));
        assert_eq!(to_3(0x8500), Command::Nothing);
        assert_eq!(
            to_3(0x0699),
            Command::Startup {
                vector: 0x99,
                targets: Targets::One(3)
            }
        );
        assert_eq!(
            read(3 << 32 | 0xc500, Format::X2apic),
            Command::Init(Targets::One(3))
        );
    }

    #[test]
    fn firmware_starts_everybody_else_by_shorthand() {
        assert_eq!(
            read(0xc_4500, Format::Xapic),
            Command::Init(Targets::Others)
        );
        let startup = Command::Startup {
            vector: 0x10,
            targets: Targets::Others,
        };
        assert_eq!(read(0xc_4610, Format::Xapic), startup);
    }

    #[test]
    fn the_broadcast_destination_is_everybody() {
        assert_eq!(
            read(0xff << 56 | 0x4500, Format::Xapic),
            Command::Init(Targets::All)
        );
        let all = u64::from(u32::MAX) << 32;
        assert_eq!(
            read(all | 0x4500, Format::X2apic),
            Command::Init(Targets::All)
        );
        assert_eq!(
            read(0xff << 32 | 0x4500, Format::X2apic),
            Command::Init(Targets::One(0xff))
        );
    }

    proptest! {
        #[test]
        fn nothing_but_ordinary_interrupts_ever_passes(value: u64, x2apic: bool) {
            let format = if x2apic { Format::X2apic } else { Format::Xapic };
            let delivery = value >> 8 & 7;
            let passes = read(value, format) == Command::Pass;
            prop_assert_eq!(passes, [0, 1, 4].contains(&delivery));
        }

        #[test]
        fn shorthands_name_whom_they_say(id: u32, sender: u32) {
            prop_assert_eq!(Targets::Sender.includes(id, sender), id == sender);
            prop_assert_eq!(Targets::Others.includes(id, sender), id != sender);
            prop_assert!(Targets::All.includes(id, sender));
        }
    }
}
