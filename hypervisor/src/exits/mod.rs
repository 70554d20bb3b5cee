//! One file an exit: what the guest gets for it.

pub(crate) mod cpuid;
pub(crate) mod end;
pub(crate) mod msr;
pub(crate) mod nested;
pub(crate) mod port;
pub(crate) mod xsetbv;
