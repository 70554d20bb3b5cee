//! Who is speaking: requester ids and configuration space.
#![no_std]
#![forbid(unsafe_code)]
