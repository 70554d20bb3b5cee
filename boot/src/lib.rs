//! How Bouncer is loaded: the hand-over contract, Multiboot2, and the Linux boot protocol.
//!
//! Plain logic for the programs that load the hypervisor: each module turns bytes somebody else
//! wrote into checked values, or values into the bytes somebody else reads. Nothing here touches
//! memory; a loader reads, obeys and jumps.
//!
//! Sources: Multiboot2 Specification 2.0; the Linux/x86 Boot Protocol, version 2.15; System V
//! ABI, ELF-64 Object File Format 1.5 and its AMD64 supplement 1.0; ACPI Specification 6.5.
#![no_std]
#![forbid(unsafe_code)]

mod bytes;
pub mod echo;
pub mod efi;
pub mod elf;
pub mod facts;
pub mod handoff;
pub mod identity;
pub mod linux;
pub mod memory_map;
pub mod modules;
pub mod multiboot2;
pub mod options;
pub mod reservation;
pub mod way_back;
pub mod word;

#[cfg(test)]
mod story;
