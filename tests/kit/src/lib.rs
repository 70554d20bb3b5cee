//! Fakes over the memory crate: frames that rewind, memory that flips, pools that run out.
#![no_std]
#![forbid(unsafe_code)]
