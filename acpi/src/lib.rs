//! ACPI tables read as allegations: what processors, interrupt controllers and sleep states there are.
#![no_std]
#![forbid(unsafe_code)]
