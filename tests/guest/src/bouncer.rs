//! What Bouncer tells its guest through CPUID.
//!
//! Owns the numbers of the hypervisor leaves and their shapes; reads them with the CPUID
//! instruction, which needs no driver. Knows nothing else of Bouncer.

use core::arch::x86_64::{__cpuid, CpuidResult};

/// Signature and highest leaf: EAX = highest, EBX, ECX, EDX = twelve ASCII characters.
const SIGNATURE_LEAF: u32 = 0x4000_0000;
/// EAX = version of this interface.
const VERSION_LEAF: u32 = 0x4000_0001;
/// Bouncer's own memory: base in EAX and EBX, length in bytes in ECX and EDX, low half first.
const MEMORY_LEAF: u32 = 0x4000_0002;
/// The first exit counter: count in EAX and EBX, name in ECX and EDX; an empty name ends.
const COUNTER_LEAF: u32 = 0x4000_0100;
/// No more counters than this are read, whatever the leaves say.
const COUNTER_LIMIT: u32 = 0x100;

/// The twelve characters by which Bouncer is known.
pub(crate) const SIGNATURE: &[u8; 12] = b"Bouncer VT-d";
/// The version of the interface described here.
pub(crate) const VERSION: u32 = 1;
/// The highest leaf that every version has.
pub(crate) const HIGHEST_AT_LEAST: u32 = MEMORY_LEAF;

/// A range of physical memory.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Physical {
    /// The first byte's address.
    pub(crate) base: u64,
    /// Bytes.
    pub(crate) length: u64,
}

/// One reason to leave the guest and how often it did, over all processors.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Counter {
    /// A short name, as Bouncer spells it.
    pub(crate) reason: String,
    /// Exits since the start.
    pub(crate) count: u64,
}

/// Whether the processor says that some hypervisor is there (leaf 1, ECX bit 31).
pub(crate) fn is_a_guest() -> bool {
    __cpuid(1).ecx & (1 << 31) != 0
}

/// The highest hypervisor leaf and the signature.
pub(crate) fn signature() -> (u32, [u8; 12]) {
    let leaf = __cpuid(SIGNATURE_LEAF);
    (leaf.eax, text([leaf.ebx, leaf.ecx, leaf.edx]))
}

/// Whether the hypervisor there is Bouncer.
pub(crate) fn is_there() -> bool {
    is_a_guest() && signature().1 == *SIGNATURE
}

/// The version of the interface that Bouncer speaks.
pub(crate) fn interface_version() -> u32 {
    __cpuid(VERSION_LEAF).eax
}

/// Where Bouncer's own memory is.
pub(crate) fn own_memory() -> Physical {
    let leaf = __cpuid(MEMORY_LEAF);
    Physical {
        base: wide(leaf.eax, leaf.ebx),
        length: wide(leaf.ecx, leaf.edx),
    }
}

/// Every exit counter; none where Bouncer is not.
pub(crate) fn exit_counters() -> Vec<Counter> {
    if !is_there() {
        return Vec::new();
    }
    let leaves = (0..COUNTER_LIMIT).map(|index| __cpuid(COUNTER_LEAF + index));
    leaves.map_while(counter).collect()
}

/// Reads a counter's leaf; `None` for the one after the last.
fn counter(leaf: CpuidResult) -> Option<Counter> {
    let name: [u8; 8] = text([leaf.ecx, leaf.edx]);
    let used = name.split(|&byte| byte == 0).next().unwrap_or_default();
    (!used.is_empty()).then(|| Counter {
        reason: String::from_utf8_lossy(used).into_owned(),
        count: wide(leaf.eax, leaf.ebx),
    })
}

fn wide(low: u32, high: u32) -> u64 {
    u64::from(low) | u64::from(high) << 32
}

/// Registers as the characters they hold, in order.
fn text<const REGISTERS: usize, const CHARACTERS: usize>(
    registers: [u32; REGISTERS],
) -> [u8; CHARACTERS] {
    const { assert!(CHARACTERS == REGISTERS * 4) };
    let mut characters = [0; CHARACTERS];
    for (place, register) in characters.chunks_exact_mut(4).zip(registers) {
        place.copy_from_slice(&register.to_le_bytes());
    }
    characters
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_signature_is_read_in_the_order_ebx_ecx_edx() {
        // "Boun", "cer ", "VT-d" as little-endian registers.
        let signature: [u8; 12] = text([0x6e75_6f42, 0x2072_6563, 0x642d_5456]);
        assert_eq!(&signature, SIGNATURE);
    }

    #[test]
    fn a_counter_has_a_name_of_up_to_eight_characters_and_a_wide_count() {
        let leaf = CpuidResult {
            eax: 5,
            ebx: 1,
            ecx: u32::from_le_bytes(*b"cpui"),
            edx: 0x64,
        };
        let expected = Counter {
            reason: "cpuid".into(),
            count: 0x1_0000_0005,
        };
        assert_eq!(counter(leaf), Some(expected));
    }

    #[test]
    fn an_empty_name_ends_the_counters() {
        assert_eq!(
            counter(CpuidResult {
                eax: 9,
                ebx: 9,
                ecx: 0,
                edx: 0
            }),
            None
        );
    }
}
