//! How many bits of a physical address name memory.
//!
//! Encryption of memory takes the highest bits of an address for the number of a key: with any of them
//! set it names the same memory as without. What is hidden, mapped or lent is told apart by the bits
//! below.

/// What the processor says of its physical addresses.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Told {
    /// CPUID 8000_0008h, EAX\[7:0].
    pub width: u32,
    /// IA32_TME_ACTIVATE, where CPUID 7, ECX\[13] says that it exists.
    pub key_ids: Option<u64>,
    /// CPUID 8000_001Fh, EBX, and SYSCFG, where the leaf says that memory can be encrypted.
    pub encryption: Option<(u32, u64)>,
}

/// Bits of an address that four levels of tables translate.
const TRANSLATED: u32 = 48;

impl Told {
    /// Bits of an address that name memory and that tables of four levels translate.
    ///
    /// Keys count whether encryption is turned on or not: their bits are no memory's in either case.
    pub fn width(&self) -> u32 {
        // IA32_TME_ACTIVATE[35:32], MK_TME_KEYID_BITS, those that are set aside for trust domains
        // among them (SDM vol. 4, table 2-2).
        let key_ids = self.key_ids.map_or(0, |activate| activate >> 32 & 0xf) as u32;
        // 8000_001Fh, EBX[11:6]: how many bits fewer there are while SYSCFG[23] is set (APM vol. 3,
        // E.4.17; vol. 2, 7.10.1).
        let reduced = match self.encryption {
            Some((ebx, syscfg)) if syscfg >> 23 & 1 == 1 => ebx >> 6 & 0x3f,
            _ => 0,
        };
        let width = self.width.saturating_sub(key_ids).saturating_sub(reduced);
        width.min(TRANSLATED)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const PLAIN: Told = Told {
        width: 46,
        key_ids: None,
        encryption: None,
    };

    #[test]
    fn without_encryption_all_bits_name_memory() {
        assert_eq!(PLAIN.width(), 46);
    }

    /// "MK_TME_KEYID_BITS: the number of key identifier bits to allocate to TME-MK usage", taken from the
    /// most significant bits of the physical address.
    #[test]
    fn the_bits_of_a_keys_number_name_no_memory() {
        let told = |activate| Told {
            key_ids: Some(activate),
            ..PLAIN
        };
        assert_eq!(told(0x0000_0006_0000_0003).width(), 40);
        assert_eq!(told(0x0000_0026_0000_0003).width(), 40, "two of six");
        assert_eq!(told(0x0000_0006_0000_0000).width(), 40, "not turned on");
        assert_eq!(told(0x0001_0000_0000_0003).width(), 46, "no keys");
    }

    #[test]
    fn encryption_by_page_tables_takes_bits_while_it_is_on() {
        let told = |syscfg| Told {
            width: 48,
            key_ids: None,
            encryption: Some((5 << 6 | 47, syscfg)),
        };
        assert_eq!(told(1 << 23).width(), 43);
        assert_eq!(told(1 << 22).width(), 48);
    }

    #[test]
    fn what_four_levels_cannot_translate_is_nothing() {
        assert_eq!(Told { width: 52, ..PLAIN }.width(), 48);
        let few = Told {
            width: 52,
            key_ids: Some(6 << 32),
            encryption: None,
        };
        assert_eq!(few.width(), 46);
    }

    #[test]
    fn nonsense_is_a_width_that_nobody_takes() {
        let told = Told {
            width: 3,
            key_ids: Some(u64::MAX),
            encryption: Some((u32::MAX, u64::MAX)),
        };
        assert_eq!(told.width(), 0);
    }
}
