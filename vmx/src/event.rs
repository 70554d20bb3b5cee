//! Events: as a VMCS tells what came, and as it is told what to raise. SDM vol. 3C, tables 25-17,
//! 25-19 and 25-20.

use bitfield::bitfield;

use crate::spec::control::interruptibility::{MOV_SS, NMI, STI};

bitfield! {
    /// Interruption information: the same layout in three fields.
    #[derive(Clone, Copy, PartialEq, Eq)]
    struct Information(u32);
    impl Debug;
    u8;
    vector, set_vector: 7, 0;
    kind, set_kind: 10, 8;
    has_error_code, set_has_error_code: 11;
    /// NMI unblocking due to IRET, in the exit's field alone.
    unblocked_nmi, _: 12;
    is_valid, set_valid: 31;
}

/// Types of events.
mod kind {
    pub(super) const NMI: u8 = 2;
    pub(super) const HARDWARE_EXCEPTION: u8 = 3;
    pub(super) const SOFTWARE_INTERRUPT: u8 = 4;
    pub(super) const PRIVILEGED_EXCEPTION: u8 = 5;
    pub(super) const SOFTWARE_EXCEPTION: u8 = 6;
}

/// An event that came or is to be raised.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Event {
    information: Information,
    error_code: Option<u32>,
    /// Length of the instruction that raised it, which the processor asks back for some types.
    instruction_len: u32,
}

const NMI_VECTOR: u8 = 2;

impl Event {
    /// A non-maskable interrupt.
    pub fn nmi() -> Self {
        Self::new(kind::NMI, NMI_VECTOR, None)
    }

    /// An exception of the processor's.
    pub fn exception(vector: u8, error_code: Option<u32>) -> Self {
        Self::new(kind::HARDWARE_EXCEPTION, vector, error_code)
    }

    fn new(kind: u8, vector: u8, error_code: Option<u32>) -> Self {
        let mut information = Information(0);
        information.set_vector(vector);
        information.set_kind(kind);
        information.set_has_error_code(error_code.is_some());
        information.set_valid(true);
        Self {
            information,
            error_code,
            instruction_len: 0,
        }
    }

    /// What a field of interruption information tells, with the field beside it for the error code and
    /// the length of the instruction. `None` if there was no event.
    pub fn told(information: u32, error_code: u32, instruction_len: u32) -> Option<Self> {
        let told = Information(information);
        let mut event = Self::new(
            told.kind(),
            told.vector(),
            told.has_error_code().then_some(error_code),
        );
        if event.needs_instruction_len() {
            event.instruction_len = instruction_len;
        }
        told.is_valid().then_some(event)
    }

    /// The word for the VM-entry interruption information.
    ///
    /// "Deliver error code" must be clear in a guest without protected mode (SDM vol. 3C, 27.2.1.3).
    pub fn word(self, is_protected: bool) -> u32 {
        let mut information = self.information;
        information.set_has_error_code(self.error_code.is_some() && is_protected);
        information.0
    }

    /// The error code, where one is delivered.
    pub fn error_code(self) -> u32 {
        self.error_code.unwrap_or(0)
    }

    /// The length of the instruction.
    pub fn instruction_len(self) -> u32 {
        self.instruction_len
    }

    /// Its vector.
    pub fn vector(self) -> u8 {
        self.information.vector()
    }

    /// Whether it is an NMI.
    pub fn is_nmi(self) -> bool {
        self.information.kind() == kind::NMI
    }

    /// Whether the processor asks for the length of the instruction when it is raised (27.2.1.3).
    fn needs_instruction_len(self) -> bool {
        matches!(
            self.information.kind(),
            kind::SOFTWARE_INTERRUPT | kind::PRIVILEGED_EXCEPTION | kind::SOFTWARE_EXCEPTION
        )
    }
}

/// Whether an NMI can be raised now.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum NmiChance {
    /// Yes, with this interruptibility state.
    Now(u64),
    /// When the processor says that its window is open.
    Window,
}

/// Whether an NMI can be raised in a guest with `interruptibility`, while another event is to be raised or
/// not.
///
/// STI holds no NMI back (SDM vol. 2B, STI), but VM entry may refuse one behind it (vol. 3C, 27.3.1.5),
/// and whether the window opens behind it is the processor's choice (26.2): so its shadow ends.
pub fn nmi_chance(interruptibility: u64, has_event: bool) -> NmiChance {
    if has_event || interruptibility & (MOV_SS | NMI) != 0 {
        NmiChance::Window
    } else {
        NmiChance::Now(interruptibility & !STI)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn words_are_those_of_the_manuals_table() {
        assert_eq!(Event::nmi().word(true), 0x8000_0202);
        assert_eq!(Event::exception(6, None).word(true), 0x8000_0306);
        assert_eq!(Event::exception(13, Some(0)).word(true), 0x8000_0b0d);
        assert!(Event::nmi().is_nmi() && !Event::exception(2, None).is_nmi());
    }

    #[test]
    fn an_nmi_waits_for_mov_ss_for_the_handler_of_another_and_for_another_event() {
        assert_eq!(nmi_chance(0, false), NmiChance::Now(0));
        assert_eq!(nmi_chance(MOV_SS, false), NmiChance::Window);
        assert_eq!(nmi_chance(NMI, false), NmiChance::Window);
        assert_eq!(nmi_chance(NMI | STI, false), NmiChance::Window);
        assert_eq!(nmi_chance(STI, true), NmiChance::Window);
    }

    #[test]
    fn an_nmi_does_not_wait_for_sti() {
        assert_eq!(nmi_chance(STI, false), NmiChance::Now(0));
        let enclave = 1 << 4;
        assert_eq!(nmi_chance(STI | enclave, false), NmiChance::Now(enclave));
    }

    #[test]
    fn real_mode_gets_no_error_code() {
        assert_eq!(Event::exception(13, Some(0)).word(false), 0x8000_030d);
    }

    #[test]
    fn nothing_told_is_nothing() {
        assert_eq!(Event::told(0x0000_0b0e, 2, 3), None);
    }

    #[test]
    fn an_interrupted_int_3_keeps_its_length() {
        let event = Event::told(0x8000_0603, 0, 1).unwrap();
        assert_eq!(
            (event.word(true), event.instruction_len()),
            (0x8000_0603, 1)
        );
        let page_fault = Event::told(0x8000_0b0e, 7, 3).unwrap();
        assert_eq!(
            (page_fault.error_code(), page_fault.instruction_len()),
            (7, 0)
        );
    }

    proptest! {
        /// Bit 12 and the reserved bits must be clear in the entry's field.
        #[test]
        fn whatever_came_can_be_raised_again(information: u32, error: u32, len in 0..16_u32) {
            if let Some(event) = Event::told(information, error, len) {
                prop_assert_eq!(event.word(true), information & 0x8000_0fff);
            }
        }
    }
}
