//! Addresses that never convert by accident.

use core::fmt;

/// Bytes in a page of every format this project walks.
pub const PAGE_SIZE: u64 = 4096;

/// An address of one address space; the type says which.
pub trait Address: Copy + Ord + fmt::Debug {
    /// Makes an address of its number.
    fn new(raw: u64) -> Self;
    /// The address as a number, for encoding.
    fn raw(self) -> u64;
}

macro_rules! address {
    ($(#[$doc:meta])* $name:ident) => {
        $(#[$doc])*
        #[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
        #[repr(transparent)]
        pub struct $name(u64);

        impl $name {
            /// Makes an address of its number.
            pub const fn new(raw: u64) -> Self {
                Self(raw)
            }
            /// The address as a number, for encoding.
            pub const fn raw(self) -> u64 {
                self.0
            }
            /// The offset inside its 4 KiB page.
            pub const fn page_offset(self) -> u64 {
                self.0 % PAGE_SIZE
            }
            /// The address `bytes` further on, or `None` past the end of the address space.
            pub const fn checked_add(self, bytes: u64) -> Option<Self> {
                match self.0.checked_add(bytes) {
                    Some(raw) => Some(Self(raw)),
                    None => None,
                }
            }
        }

        impl Address for $name {
            fn new(raw: u64) -> Self {
                Self(raw)
            }
            fn raw(self) -> u64 {
                self.0
            }
        }

        impl fmt::Debug for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                write!(f, concat!(stringify!($name), "({:#x})"), self.0)
            }
        }

        impl fmt::Display for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                write!(f, "{:#x}", self.0)
            }
        }
    };
}

address!(
    /// An address as the guest's processors see physical memory.
    Gpa
);
address!(
    /// An address on the machine's real memory bus.
    Hpa
);
address!(
    /// An address as a device writes it into its requests.
    Iova
);

address!(
    /// An address as the hypervisor's own instructions use it.
    Hva
);

impl Gpa {
    /// The same address on the machine's bus: the guest's memory is mapped one to one.
    pub const fn identity(self) -> Hpa {
        Hpa(self.0)
    }
}

impl Hpa {
    /// The same address as the guest names it.
    pub const fn identity(self) -> Gpa {
        Gpa(self.0)
    }
}

/// A page of our own, named by its 4 KiB-aligned host-physical address.
///
/// Whoever holds a `Frame` owns the page: it is neither `Clone` nor `Copy`, and it goes back to
/// its pool only in exchange for a [`crate::Flushed`].
#[derive(PartialEq, Eq, Debug)]
pub struct Frame(Hpa);

impl Frame {
    /// Names the page at `base`, or `None` if `base` is not page aligned.
    ///
    /// For implementations of [`crate::Frames`]: nobody else can say that a page is free.
    pub const fn new(base: Hpa) -> Option<Self> {
        if base.page_offset() == 0 {
            Some(Self(base))
        } else {
            None
        }
    }

    /// Where the page starts.
    pub const fn base(&self) -> Hpa {
        self.0
    }
}

#[cfg(test)]
mod tests {
    extern crate std;
    use super::*;
    use std::format;

    #[test]
    fn an_address_past_the_end_of_its_space_is_none() {
        let last = Gpa::new(u64::MAX);
        assert_eq!(last.checked_add(0), Some(last));
        assert_eq!(last.checked_add(1), None);
        assert_eq!(Gpa::new(1).checked_add(u64::MAX), None);
    }

    #[test]
    fn the_guest_is_mapped_one_to_one() {
        assert_eq!(Gpa::new(0x1234).identity(), Hpa::new(0x1234));
        assert_eq!(Hpa::new(0x1234).identity(), Gpa::new(0x1234));
    }

    #[test]
    fn a_frame_starts_at_a_page() {
        assert!(Frame::new(Hpa::new(0x3000)).is_some());
        for odd in [1, 0x800, 0x3fff, u64::MAX] {
            assert_eq!(Frame::new(Hpa::new(odd)), None);
        }
    }

    #[test]
    fn an_address_is_printed_with_its_space_for_us_and_without_for_the_console() {
        assert_eq!(format!("{:?}", Iova::new(0x1000)), "Iova(0x1000)");
        assert_eq!(format!("{}", Iova::new(0x1000)), "0x1000");
    }
}
