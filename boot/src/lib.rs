//! How Bouncer is loaded: the hand-over contract, Multiboot2, and the Linux boot protocol.
#![no_std]
#![forbid(unsafe_code)]
