//! What devices may touch: the VT-d driver.
#![no_std]
#![forbid(unsafe_code)]
