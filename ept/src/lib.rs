//! What the guest may touch: nested page tables (EPT and NPT) and the plan of the guest's memory.
#![no_std]
#![forbid(unsafe_code)]
