//! Why a processor left the guest, counted.

use core::sync::atomic::{AtomicU64, Ordering};

macro_rules! reasons {
    ($($(#[$doc:meta])* $name:ident = $text:literal),* $(,)?) => {
        /// Why a processor left the guest. The name has at most eight ASCII characters, so that
        /// it fits two registers of a CPUID leaf.
        #[derive(Clone, Copy, PartialEq, Eq, Debug)]
        #[repr(usize)]
        pub enum Reason { $($(#[$doc])* $name),* }

        impl Reason {
            /// Every reason, in the order of the counters.
            pub const ALL: &'static [Self] = &[$(Self::$name),*];

            /// The name used in reports.
            pub const fn name(self) -> &'static str {
                match self { $(Self::$name => $text),* }
            }
        }
    };
}

reasons! {
    /// CPUID, which every backend forces.
    Cpuid = "cpuid",
    /// A read of a model-specific register that is not the guest's alone.
    ReadMsr = "rdmsr",
    /// A write of a model-specific register that is not the guest's alone.
    WriteMsr = "wrmsr",
    /// A port that ends or resets the machine, or that is Bouncer's own.
    Port = "port",
    /// An access that the nested page tables refuse.
    Nested = "nested",
    /// A write to the local APIC's page while it must be watched.
    Apic = "apic",
    /// A non-maskable interrupt.
    Nmi = "nmi",
    /// The guest can take an NMI again.
    NmiWindow = "nmiwin",
    /// An exception of the guest's that is looked at and handed on: debug, alignment check.
    Exception = "except",
    /// An INIT signal that reached the processor.
    Init = "init",
    /// Triple fault.
    Shutdown = "shutdown",
    /// A call to the hypervisor.
    Hypercall = "hypercal",
    /// XSETBV.
    Xsetbv = "xsetbv",
    /// A virtualization instruction that the guest is not offered.
    Virtualization = "virt",
    /// Anything else.
    Other = "other",
}

/// How often one processor left the guest, by reason. Written by its processor, read by any.
#[derive(Debug)]
pub struct Counters([AtomicU64; Reason::ALL.len()]);

impl Counters {
    /// All zero.
    pub const fn new() -> Self {
        Self([const { AtomicU64::new(0) }; Reason::ALL.len()])
    }

    /// Counts one exit.
    pub fn count(&self, reason: Reason) {
        self.0[reason as usize].fetch_add(1, Ordering::Relaxed);
    }

    /// How many exits had this reason.
    pub fn of(&self, reason: Reason) -> u64 {
        self.0[reason as usize].load(Ordering::Relaxed)
    }
}

impl Default for Counters {
    fn default() -> Self {
        Self::new()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_name_fits_two_registers() {
        for reason in Reason::ALL {
            assert!((1..=8).contains(&reason.name().len()), "{}", reason.name());
        }
    }

    #[test]
    fn reasons_are_counted_apart() {
        let counters = Counters::new();
        counters.count(Reason::Nmi);
        counters.count(Reason::Nmi);
        counters.count(Reason::Cpuid);
        assert_eq!(counters.of(Reason::Nmi), 2);
        assert_eq!(counters.of(Reason::Cpuid), 1);
        assert_eq!(counters.of(Reason::Shutdown), 0);
    }
}
