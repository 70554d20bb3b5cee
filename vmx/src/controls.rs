//! The controls of a guest, as the processor at hand allows them.

use crate::capability::{Capabilities, Lacking};
use crate::spec::control::{entry, exit, pin, primary, secondary};

/// The five words of controls for the VMCS.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Controls {
    /// Pin-based.
    pub pin: u32,
    /// Primary processor-based.
    pub primary: u32,
    /// Secondary processor-based.
    pub secondary: u32,
    /// VM exit.
    pub exit: u32,
    /// VM entry, for a guest that is not in long mode.
    pub entry: u32,
}

/// A control and the manual's name for it.
type Named = (u32, &'static str);

const REQUIRED_PIN: &[Named] = &[
    (pin::NMI_EXITING, "NMI exiting"),
    (pin::VIRTUAL_NMIS, "virtual NMIs"),
];
const REQUIRED_PRIMARY: &[Named] = &[
    (primary::IO_BITMAPS, "use I/O bitmaps"),
    (primary::MSR_BITMAPS, "use MSR bitmaps"),
    (primary::SECONDARY, "activate secondary controls"),
];
/// Toggled while the guest runs, so that it must be possible and is not set at first.
const TOGGLED_PRIMARY: Named = (primary::NMI_WINDOW, "NMI-window exiting");
const REQUIRED_EXIT: &[Named] = &[
    (exit::HOST_64_BIT, "host address-space size"),
    (exit::SAVE_DEBUG, "save debug controls"),
    (exit::SAVE_EFER, "save IA32_EFER"),
    (exit::LOAD_EFER, "load IA32_EFER"),
    (exit::SAVE_PAT, "save IA32_PAT"),
    (exit::LOAD_PAT, "load IA32_PAT"),
];
const REQUIRED_ENTRY: &[Named] = &[
    (entry::LOAD_DEBUG, "load debug controls"),
    (entry::LOAD_EFER, "load IA32_EFER"),
    (entry::LOAD_PAT, "load IA32_PAT"),
];
/// Instructions that fault in the guest unless they are allowed: as the processor has them.
const WANTED_SECONDARY: u32 =
    secondary::RDTSCP | secondary::INVPCID | secondary::XSAVES | secondary::USER_WAIT;

impl Controls {
    /// Chooses the controls: everything Bouncer needs, what the guest's instructions need as far as
    /// the processor has it, and what the processor forces.
    ///
    /// # Errors
    /// Names what cannot be had.
    pub fn choose(of: &Capabilities) -> Result<Self, Lacking> {
        let nested = of.nested()?;
        if may(of.secondary) & secondary::EPT == 0 {
            return Err(Lacking::Ept);
        }
        if may(of.secondary) & secondary::UNRESTRICTED_GUEST == 0 {
            return Err(Lacking::UnrestrictedGuest);
        }
        let vpid = nested.invvpid.map_or(0, |_| secondary::VPID);
        let wanted = secondary::EPT | secondary::UNRESTRICTED_GUEST | vpid | WANTED_SECONDARY;
        let chosen = Self {
            pin: with(of.pin, REQUIRED_PIN)?,
            primary: with(of.primary, REQUIRED_PRIMARY)?,
            secondary: (wanted | must(of.secondary)) & may(of.secondary),
            exit: with(of.exit, REQUIRED_EXIT)?,
            entry: with(of.entry, REQUIRED_ENTRY)?,
        };
        with(of.primary, &[TOGGLED_PRIMARY])?;
        // An exit that nobody answers would end the guest.
        for (bit, name) in [
            (primary::CR3_LOAD_EXITING, "CR3-load exiting"),
            (primary::CR3_STORE_EXITING, "CR3-store exiting"),
            TOGGLED_PRIMARY,
        ] {
            if chosen.primary & bit != 0 {
                return Err(Lacking::Forced(name));
            }
        }
        Ok(chosen)
    }

    /// Whether the guest's translations have a tag.
    pub const fn has_vpid(&self) -> bool {
        self.secondary & secondary::VPID != 0
    }
}

/// Bits that must be set: those of the low half (SDM vol. 3D, A.3.1).
const fn must(capability: u64) -> u32 {
    capability as u32
}

/// Bits that may be set: those of the high half.
const fn may(capability: u64) -> u32 {
    (capability >> 32) as u32
}

fn with(capability: u64, required: &[Named]) -> Result<u32, Lacking> {
    required
        .iter()
        .try_fold(must(capability), |word, (bit, name)| {
            match may(capability) & bit {
                0 => Err(Lacking::Control(name)),
                _ => Ok(word | bit),
            }
        })
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    /// Everything may be set, and what "default1" bits remain in the true controls must be.
    const GENEROUS: Capabilities = Capabilities {
        basic: 1 << 55,
        pin: 0xffff_ffff_0000_0016,
        primary: 0xffff_ffff_0400_6172,
        secondary: 0xffff_ffff_0000_0000,
        exit: 0xffff_ffff_0003_6dfb,
        entry: 0xffff_ffff_0000_11fb,
        ept_vpid: 0x0f01_0673_4141,
    };

    #[test]
    fn what_the_processor_forces_is_set_too() {
        let chosen = Controls::choose(&GENEROUS).unwrap();
        assert_eq!(chosen.pin, 0x3e);
        assert_eq!(chosen.primary, 0x9600_6172);
        assert_eq!(chosen.secondary, 0x0410_10aa);
        assert_eq!(chosen.exit & 0x3c_0204, 0x3c_0204);
        assert_eq!(chosen.entry, 0x0000_d1ff);
        assert!(chosen.has_vpid());
    }

    #[test]
    fn external_interrupts_and_halts_stay_the_guests() {
        let chosen = Controls::choose(&GENEROUS).unwrap();
        assert_eq!(chosen.pin & 1, 0, "external-interrupt exiting");
        assert_eq!(chosen.primary & 1 << 7, 0, "HLT exiting");
        assert_eq!(chosen.primary & 1 << 12, 0, "RDTSC exiting");
    }

    #[test]
    fn what_lacks_is_named() {
        let lacking = |change: fn(&mut Capabilities)| {
            let mut capabilities = GENEROUS;
            change(&mut capabilities);
            Controls::choose(&capabilities).unwrap_err()
        };
        let without = |word: u64, bit: u32| word & !(u64::from(bit) << 32);
        assert_eq!(
            lacking(|it| it.secondary &= !(0x80 << 32)),
            Lacking::UnrestrictedGuest
        );
        assert_eq!(lacking(|it| it.secondary &= !(2 << 32)), Lacking::Ept);
        assert_eq!(lacking(|it| it.ept_vpid = 0), Lacking::Ept);
        assert_eq!(
            lacking(|it| it.primary |= 1 << 15),
            Lacking::Forced("CR3-load exiting")
        );
        for (bit, name) in REQUIRED_PIN {
            let capabilities = Capabilities {
                pin: without(GENEROUS.pin, *bit),
                ..GENEROUS
            };
            assert_eq!(Controls::choose(&capabilities), Err(Lacking::Control(name)));
        }
        let capabilities = Capabilities {
            primary: without(GENEROUS.primary, TOGGLED_PRIMARY.0),
            ..GENEROUS
        };
        assert_eq!(
            Controls::choose(&capabilities),
            Err(Lacking::Control("NMI-window exiting"))
        );
    }

    #[test]
    fn instructions_the_processor_lacks_are_not_offered() {
        let old = Capabilities {
            secondary: 0x0000_00a2 << 32,
            ..GENEROUS
        };
        assert_eq!(Controls::choose(&old).unwrap().secondary, 0xa2);
    }

    proptest! {
        /// "VM entry fails if bit X is 1 in the low half and 0 in the control, or 0 in the high half
        /// and 1 in the control" (A.3.1). What must be set may be; what Bouncer needs may be, too.
        #[test]
        fn a_choice_is_always_one_the_processor_takes(
            must: [u32; 5], may: [u32; 5],
        ) {
            let needed = |named: &[Named]| named.iter().fold(0, |bits, (bit, _)| bits | bit);
            let exits = primary::CR3_LOAD_EXITING | primary::CR3_STORE_EXITING | TOGGLED_PRIMARY.0;
            let word = |index: usize, needed: u32, never: u32| {
                let must = must[index] & !never;
                u64::from(may[index] | must | needed) << 32 | u64::from(must)
            };
            let nested = secondary::EPT | secondary::UNRESTRICTED_GUEST;
            let capabilities = Capabilities {
                pin: word(0, needed(REQUIRED_PIN), 0),
                primary: word(1, needed(REQUIRED_PRIMARY) | TOGGLED_PRIMARY.0, exits),
                exit: word(2, needed(REQUIRED_EXIT), 0),
                entry: word(3, needed(REQUIRED_ENTRY), 0),
                secondary: word(4, nested, 0),
                ..GENEROUS
            };
            let Ok(chosen) = Controls::choose(&capabilities) else {
                return Err(TestCaseError::fail("everything needed may be set"));
            };
            for (word, capability) in [
                (chosen.pin, capabilities.pin),
                (chosen.primary, capabilities.primary),
                (chosen.secondary, capabilities.secondary),
                (chosen.exit, capabilities.exit),
                (chosen.entry, capabilities.entry),
            ] {
                prop_assert_eq!(word & super::must(capability), super::must(capability));
                prop_assert_eq!(word & !super::may(capability), 0);
            }
        }
    }
}
