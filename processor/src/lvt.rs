//! What a guest may write to its local APIC besides the interrupt command register.

/// Offsets of the xAPIC page that take writes which concern the guest alone. SDM vol. 3A, table
/// 12-1. What is not here is read-only, reserved, or the APIC's id, by which Bouncer finds it.
const WRITABLE: &[u32] = &[
    0x80,  // task priority
    0xb0,  // end of interrupt
    0xd0,  // logical destination
    0xe0,  // destination format
    0xf0,  // spurious vector
    0x280, // error status
    0x2f0, // corrected machine check vector
    0x310, // interrupt command, upper half
    0x320, // timer vector
    0x330, // thermal vector
    0x340, // performance vector
    0x350, // LINT0 vector
    0x360, // LINT1 vector
    0x370, // error vector
    0x380, // timer, initial count
    0x3e0, // timer, divisor
    0x410, // specific end of interrupt, AMD's
    0x500, // extended vectors, AMD's
    0x510, 0x520, 0x530,
];

/// Whether a vector of the table has a delivery mode (the timer's has none).
fn has_delivery_mode(offset: u32) -> bool {
    matches!(offset, 0x2f0 | 0x330..=0x370 | 0x500..=0x530)
}

/// Whether the guest's write of `value` to `offset` of the xAPIC page (not the low half of the
/// interrupt command) may be repeated.
pub fn may_write(offset: u32, value: u32) -> bool {
    WRITABLE.contains(&offset) && (!has_delivery_mode(offset) || may_deliver(value))
}

/// Whether a vector of the local table may have the delivery mode that `value` names: fixed, NMI or
/// ExtINT. An SMI or INIT would put the processor outside the guest. SDM vol. 3A, 12.5.1.
pub fn may_deliver(value: u32) -> bool {
    matches!(value >> 8 & 0b111, 0b000 | 0b100 | 0b111)
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn linux_sets_its_apic_up() {
        for (offset, value) in [
            (0x80, 0),
            (0xf0, 0x1ff),
            (0xe0, u32::MAX),
            (0xd0, 1 << 24),
            (0x320, 0x0004_00ec),
            (0x350, 0x700),
            (0x360, 0x400),
            (0x370, 0xfe),
            (0xb0, 0),
        ] {
            assert!(may_write(offset, value), "{offset:#x} {value:#x}");
        }
    }

    #[test]
    fn the_id_keeps_its_value_and_the_start_of_the_page_sends_nothing() {
        assert!(!may_write(0x20, 5 << 24));
        assert!(!may_write(0, 0x500), "some emulators take it for a message");
        assert!(!may_write(0x300, 0xc500), "the command register is `icr`'s");
    }

    proptest! {
        #[test]
        fn no_local_vector_raises_smi_or_init(
            offset in prop::sample::select(&[0x2f0_u32, 0x330, 0x340, 0x350, 0x360, 0x370, 0x500][..]),
            value: u32,
        ) {
            let mode = value >> 8 & 7;
            prop_assert_eq!(may_write(offset, value), [0, 4, 7].contains(&mode));
        }
    }
}
