//! What devices may touch: the VT-d driver.
//!
//! Owns the remapping hardware as pure logic over three seams: [`registers::Registers`] to a
//! unit's registers, [`memory::Frames`] to our own table pages, [`memory::Flush`] to its caches.
//! Refuses to know where registers are mapped, who is trusted, and what a transfer means.
//!
//! Manual: *Intel Virtualization Technology for Directed I/O, Architecture Specification*,
//! Rev 4.1. Section numbers in this crate are that revision's.
#![no_std]
#![forbid(unsafe_code)]

pub mod context;
pub mod dmar;
pub mod domain;
pub mod fault;
pub mod invalidate;
pub mod registers;
pub mod remap;
pub mod spec;
pub mod unit;

#[cfg(test)]
mod fake;
