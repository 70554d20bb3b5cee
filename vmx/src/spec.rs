//! The hardware's own words.

pub mod control;
pub mod exit;
pub mod field;
