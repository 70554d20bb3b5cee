//! The words the policy file chooses between.

use core::fmt;

/// A closed set of words, each standing for one value.
pub(crate) trait Word: Copy + Sized + 'static {
    /// The value `word` stands for, if it is one of the set.
    fn from_word(word: &str) -> Option<Self>;
}

macro_rules! words {
    ($(#[$about:meta])* $name:ident { $($(#[$each:meta])* $value:ident = $word:literal,)+ }) => {
        $(#[$about])*
        #[derive(Clone, Copy, PartialEq, Eq, Debug, Hash)]
        pub enum $name {
            $($(#[$each])* $value,)+
        }

        impl $name {
            /// Every word of the set, as the policy file spells it.
            pub const WORDS: &'static [&'static str] = &[$($word),+];

            /// How the policy file spells this value.
            pub const fn word(self) -> &'static str {
                match self { $(Self::$value => $word,)+ }
            }
        }

        impl Word for $name {
            fn from_word(word: &str) -> Option<Self> {
                match word { $($word => Some(Self::$value),)+ _ => None }
            }
        }

        impl fmt::Display for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.pad(self.word())
            }
        }
    };
}

words! {
    /// The single switch over every verdict.
    Enforcement {
        /// Untrusted devices are confined.
        On = "on",
        /// Nothing is refused; what would have been is recorded.
        Audit = "audit",
        /// Every device is treated as trusted.
        Off = "off",
    }
}

words! {
    /// Whether a device may reach guest memory directly.
    Trust {
        /// The device reaches all of guest memory, and none of ours.
        Trusted = "trusted",
        /// The device reaches bounce pages only.
        Untrusted = "untrusted",
    }
}

words! {
    /// What becomes of pages that a request covers from end to end.
    WholePages {
        /// They are copied like every other byte.
        Copy = "copy",
        /// They are mapped for the request and revoked before it is shown complete.
        Map = "map",
    }
}

words! {
    /// Who may mediate an untrusted device.
    Mediators {
        /// The mediator for the standard interface that the device's class code names, if there is
        /// one.
        Auto = "auto",
        /// The one for QEMU's teaching device `edu`, which has no class of its own.
        Edu = "edu",
        /// None.
        None = "none",
    }
}

words! {
    /// What an untrusted device gets when no mediator understands it.
    Fallback {
        /// No direct memory access at all.
        Deny = "deny",
        /// What the guest mapped for it, at the granularity of a page.
        Page = "page",
    }
}

words! {
    /// What follows when a device faults more often than its rule allows.
    StormAction {
        /// A line on the console, nothing else.
        Log = "log",
        /// Its faults are no longer reported.
        Mask = "mask",
        /// It is cut off from memory and interrupts until an operator lets it back.
        Quarantine = "quarantine",
    }
}
