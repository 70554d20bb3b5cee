//! Runs of I/O ports: never empty, never beyond the last port a processor has.

use core::fmt;

/// Ports from a first one to a last one, both included.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Debug, Hash)]
pub struct Ports {
    first: u16,
    last: u16,
}

impl Ports {
    /// The `count` ports from `first` on, or `None` if that is none, or goes beyond the last port.
    pub const fn new(first: u16, count: u64) -> Option<Self> {
        let Some(last) = (first as u64).checked_add(count) else {
            return None;
        };
        if count == 0 || last > 0x1_0000 {
            return None;
        }
        Some(Self {
            first,
            last: (last - 1) as u16,
        })
    }

    /// The ports from `first` to `last`, or `None` if `first` is above `last`.
    pub const fn inclusive(first: u16, last: u16) -> Option<Self> {
        if first > last {
            return None;
        }
        Some(Self { first, last })
    }

    /// The first port.
    pub const fn first(self) -> u16 {
        self.first
    }

    /// The last port.
    pub const fn last(self) -> u16 {
        self.last
    }

    /// The two as one run, if they overlap or touch.
    pub fn joined(self, other: Self) -> Option<Self> {
        let touch = self.last.checked_add(1) == Some(other.first)
            || other.last.checked_add(1) == Some(self.first);
        (touch || self.overlap(other)).then(|| Self {
            first: self.first.min(other.first),
            last: self.last.max(other.last),
        })
    }

    /// Whether the two have a port in common.
    pub const fn overlap(self, other: Self) -> bool {
        self.first <= other.last && other.first <= self.last
    }
}

impl fmt::Display for Ports {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:#x}..={:#x}", self.first, self.last)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn no_run_is_empty_or_goes_beyond_the_last_port() {
        assert_eq!(Ports::new(0x3f8, 0), None);
        assert_eq!(Ports::new(0xfff8, 9), None);
        assert_eq!(Ports::new(0xfff8, u64::MAX), None);
        assert_eq!(Ports::new(0xfff8, 8).map(Ports::last), Some(0xffff));
        assert_eq!(Ports::inclusive(2, 1), None);
    }

    #[test]
    fn neighbours_have_nothing_in_common() {
        let ports = |first, count| Ports::new(first, count).unwrap();
        assert!(!ports(0x3f0, 8).overlap(ports(0x3f8, 8)));
        assert_eq!(
            ports(0x3f8, 8).joined(ports(0x3f0, 8)),
            Some(ports(0x3f0, 16))
        );
        assert_eq!(ports(0x3f8, 8).joined(ports(0x3e0, 8)), None);
        assert!(ports(0x3c0, 0x40).overlap(ports(0x3f8, 8)));
        assert!(ports(0, 0x1_0000).overlap(ports(0xffff, 1)));
    }
}
