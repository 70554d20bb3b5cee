//! Amounts with a unit: pool sizes and periods.

use core::fmt;

/// The bounce memory of one domain, in whole pages of 4 KiB.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Debug, Hash)]
pub struct PoolSize {
    pages: u32,
}

impl PoolSize {
    /// The least a pool may have: sixteen pages.
    pub const MIN: Self = Self { pages: 16 };
    /// The most a pool may have: 1 GiB.
    pub const MAX: Self = Self { pages: 1 << 18 };
    /// What a pool has when no rule says: 16 MiB.
    pub const DEFAULT: Self = Self { pages: 1 << 12 };

    /// What all pools together have when the policy does not say: 32 MiB.
    pub const ALL_BY_DEFAULT: Self = Self { pages: 1 << 13 };

    /// The size in bytes: a multiple of 4096.
    pub const fn bytes(self) -> u64 {
        (self.pages as u64) << 12
    }

    /// Reads `32MiB`: decimal digits, then `KiB`, `MiB` or `GiB`.
    pub(crate) fn parse(text: &str) -> Result<Self, Misfit> {
        let (count, unit) = amount(text)?;
        let shift = match unit {
            "KiB" => 10,
            "MiB" => 20,
            "GiB" => 30,
            _ => return Err(Misfit::Malformed),
        };
        let bytes = count.checked_mul(1 << shift).ok_or(Misfit::OutOfRange)?;
        if bytes % 4096 != 0 {
            return Err(Misfit::OutOfRange);
        }
        let pages = u32::try_from(bytes / 4096).map_err(|_| Misfit::OutOfRange)?;
        let size = Self { pages };
        if size < Self::MIN || size > Self::MAX {
            return Err(Misfit::OutOfRange);
        }
        Ok(size)
    }
}

impl fmt::Display for PoolSize {
    /// The shortest exact spelling, as the policy file has it.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let kib = self.bytes() >> 10;
        match kib.trailing_zeros() {
            0..10 => write!(f, "{kib}KiB"),
            10..20 => write!(f, "{}MiB", kib >> 10),
            _ => write!(f, "{}GiB", kib >> 20),
        }
    }
}

/// A stretch of time, in milliseconds.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Debug, Hash)]
pub struct Period {
    milliseconds: u32,
}

impl Period {
    /// The shortest period.
    pub const MIN: Self = Self { milliseconds: 1 };
    /// The longest period: one hour.
    pub const MAX: Self = Self {
        milliseconds: 3_600_000,
    };
    /// The period over which faults are counted when no rule says: one second.
    pub const DEFAULT: Self = Self {
        milliseconds: 1_000,
    };

    /// The period in milliseconds, never zero.
    pub const fn milliseconds(self) -> u32 {
        self.milliseconds
    }

    /// Reads `500ms`: decimal digits, then `ms`, `s` or `min`.
    pub(crate) fn parse(text: &str) -> Result<Self, Misfit> {
        let (count, unit) = amount(text)?;
        let scale = match unit {
            "ms" => 1,
            "s" => 1_000,
            "min" => 60_000,
            _ => return Err(Misfit::Malformed),
        };
        let milliseconds = count
            .checked_mul(scale)
            .and_then(|all| u32::try_from(all).ok())
            .ok_or(Misfit::OutOfRange)?;
        let period = Self { milliseconds };
        if period < Self::MIN || period > Self::MAX {
            return Err(Misfit::OutOfRange);
        }
        Ok(period)
    }
}

impl fmt::Display for Period {
    /// The shortest exact spelling, as the policy file has it.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let all = self.milliseconds;
        if all.is_multiple_of(60_000) {
            write!(f, "{}min", all / 60_000)
        } else if all.is_multiple_of(1_000) {
            write!(f, "{}s", all / 1_000)
        } else {
            write!(f, "{all}ms")
        }
    }
}

/// Why a text is not the thing it should spell.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) enum Misfit {
    /// Not the form at all.
    Malformed,
    /// The right form, but outside the values allowed.
    OutOfRange,
}

/// Splits `32MiB` into 32 and `MiB`.
fn amount(text: &str) -> Result<(u64, &str), Misfit> {
    let unit = text.trim_start_matches(|c: char| c.is_ascii_digit());
    let digits = text.strip_suffix(unit).ok_or(Misfit::Malformed)?;
    if digits.is_empty() || (digits.len() > 1 && digits.starts_with('0')) {
        return Err(Misfit::Malformed);
    }
    let count = digits.parse().map_err(|_| Misfit::OutOfRange)?;
    Ok((count, unit))
}

#[cfg(test)]
mod tests {
    extern crate std;
    use super::*;
    use proptest::prelude::*;
    use std::string::ToString;

    #[test]
    fn sizes_are_powers_of_two_with_their_proper_names() {
        assert_eq!(PoolSize::parse("32MiB").map(PoolSize::bytes), Ok(32 << 20));
        assert_eq!(PoolSize::parse("64KiB"), Ok(PoolSize::MIN));
        assert_eq!(PoolSize::parse("1GiB"), Ok(PoolSize::MAX));
        for wrong in [
            "", "32", "32MB", "32 MiB", "MiB", "032MiB", "-1MiB", "3.5MiB", "32mib",
        ] {
            assert_eq!(PoolSize::parse(wrong), Err(Misfit::Malformed), "{wrong}");
        }
    }

    #[test]
    fn a_pool_outside_its_bounds_is_refused() {
        for wrong in [
            "0KiB",
            "63KiB",
            "65KiB",
            "1025MiB",
            "2GiB",
            "99999999999999999999GiB",
        ] {
            assert_eq!(PoolSize::parse(wrong), Err(Misfit::OutOfRange), "{wrong}");
        }
        // 2^34 GiB wraps 64 bits to zero bytes.
        assert_eq!(PoolSize::parse("17179869184GiB"), Err(Misfit::OutOfRange));
    }

    #[test]
    fn a_period_outside_its_bounds_is_refused() {
        assert_eq!(Period::parse("1s"), Ok(Period::DEFAULT));
        assert_eq!(Period::parse("60min"), Ok(Period::MAX));
        for wrong in ["0s", "61min", "4294967296ms", "99999999999999999999s"] {
            assert_eq!(Period::parse(wrong), Err(Misfit::OutOfRange), "{wrong}");
        }
        for wrong in ["1", "s", "1h", "1 s", "1S", "01s"] {
            assert_eq!(Period::parse(wrong), Err(Misfit::Malformed), "{wrong}");
        }
    }

    proptest! {
        #[test]
        fn a_printed_size_reads_back(pages in 16u32..=1 << 18) {
            let size = PoolSize { pages };
            prop_assert_eq!(PoolSize::parse(&size.to_string()), Ok(size));
        }

        #[test]
        fn a_printed_period_reads_back(milliseconds in 1u32..=3_600_000) {
            let period = Period { milliseconds };
            prop_assert_eq!(Period::parse(&period.to_string()), Ok(period));
        }
    }
}
