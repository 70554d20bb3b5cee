//! Bits, and nothing else: the entries and registers as the manuals lay them out.

pub mod ept;
pub mod long_mode;
pub mod mtrr;
