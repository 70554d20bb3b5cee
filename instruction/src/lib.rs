//! Fetch, decode and emulate the instructions a guest uses on trapped memory.
#![no_std]
#![forbid(unsafe_code)]
