//! The I/O APIC's redirection table, as far as an entry could take a processor from the guest.
//!
//! 82093AA I/O APIC datasheet, section 3.2.4.

/// Offset of the register that selects an index.
pub const SELECT: u32 = 0x00;
/// Offset of the window to the selected index.
pub const WINDOW: u32 = 0x10;

const FIRST_ENTRY: u32 = 0x10;
const MASKED: u32 = 1 << 16;

/// What to store in the window when the guest writes `value` while `index` is selected: an entry whose
/// delivery mode is SMI, INIT or reserved stays masked, anything else is the guest's.
pub fn admitted(index: u32, value: u32) -> u32 {
    let is_low_half = index >= FIRST_ENTRY && index.is_multiple_of(2);
    match value >> 8 & 0b111 {
        // Fixed, lowest priority, NMI, ExtINT.
        0b000 | 0b001 | 0b100 | 0b111 => value,
        _ if is_low_half => value | MASKED,
        _ => value,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

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
            let stored = admitted(FIRST_ENTRY + 2 * entry, value);
            let mode = stored >> 8 & 7;
            prop_assert!([0, 1, 4, 7].contains(&mode) || stored & MASKED != 0);
            prop_assert_eq!(stored & !MASKED, value & !MASKED);
        }
    }
}
