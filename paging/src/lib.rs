//! One radix table for every format hardware walks.
#![no_std]
#![forbid(unsafe_code)]
