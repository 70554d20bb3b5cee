//! Our driver against QEMU's VT-d, with `edu` attacking, from the host: no bare metal.
//!
//! A second reading of the specification: whatever `vtd` believes about registers, tables and
//! queues, QEMU's unit believes on its own. QEMU emulates the context cache and the IOTLB, so a
//! missing flush is seen; it does not emulate the interrupt entry cache, so that one is not.

mod faults;
mod interrupts;
mod isolation;
mod machine;
mod queue;
mod stage;
mod takeover;
