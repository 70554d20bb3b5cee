//! What a page may be used for.

/// What a mapped page grants, in the words all three formats share. Reading is granted by every
/// mapping.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug)]
pub struct Access {
    /// Stores are allowed.
    pub write: bool,
    /// Instructions may be fetched.
    pub execute: bool,
}

impl Access {
    /// Loads alone.
    pub const READ: Self = Self {
        write: false,
        execute: false,
    };
    /// Loads and stores.
    pub const READ_WRITE: Self = Self {
        write: true,
        execute: false,
    };
    /// Loads and fetches.
    pub const READ_EXECUTE: Self = Self {
        write: false,
        execute: true,
    };
    /// Loads, stores and fetches.
    pub const ALL: Self = Self {
        write: true,
        execute: true,
    };
}
