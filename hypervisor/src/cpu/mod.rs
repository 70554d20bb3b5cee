//! One physical processor: its registers, tables, interrupts and local APIC.

pub(crate) mod apic;
pub(crate) mod area;
pub(crate) mod exceptions;
pub(crate) mod instructions;
pub(crate) mod startup;
pub(crate) mod tables;
pub(crate) mod timer;
