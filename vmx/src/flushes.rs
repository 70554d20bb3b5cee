//! What a processor that speculates must forget before it enters a guest.

/// What is to be flushed at each entry, so that nothing Bouncer touched can be sampled by the guest.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub struct Flushes {
    /// The first-level data cache (L1 terminal fault).
    pub l1d: bool,
    /// Store, fill and load buffers (microarchitectural data sampling).
    pub buffers: bool,
}

/// CPUID 7.0, EDX: VERW clears buffers; IA32_FLUSH_CMD exists; IA32_ARCH_CAPABILITIES exists.
const MD_CLEAR: u32 = 1 << 10;
const L1D_FLUSH: u32 = 1 << 28;
const ARCH_CAPABILITIES: u32 = 1 << 29;
/// IA32_ARCH_CAPABILITIES (SDM vol. 4, table 2-2): not vulnerable to the L1 terminal fault; no flush is
/// needed at VM entry; not vulnerable to sampling.
const RDCL_NO: u64 = 1 << 0;
const SKIP_L1DFL_VMENTRY: u64 = 1 << 3;
const MDS_NO: u64 = 1 << 5;

impl Flushes {
    /// Decides by EDX of CPUID leaf 7 and by IA32_ARCH_CAPABILITIES.
    pub const fn needed(edx: u32, capabilities: u64) -> Self {
        let told = if edx & ARCH_CAPABILITIES != 0 {
            capabilities
        } else {
            0
        };
        Self {
            l1d: edx & L1D_FLUSH != 0 && told & (RDCL_NO | SKIP_L1DFL_VMENTRY) == 0,
            buffers: edx & MD_CLEAR != 0 && told & MDS_NO == 0,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_vulnerable_processor_is_flushed() {
        let flushes = Flushes::needed(MD_CLEAR | L1D_FLUSH, RDCL_NO | MDS_NO);
        assert!(
            flushes.l1d && flushes.buffers,
            "the register does not exist, so that it says nothing"
        );
    }

    #[test]
    fn one_that_says_it_is_not_is_spared() {
        let edx = MD_CLEAR | L1D_FLUSH | ARCH_CAPABILITIES;
        assert_eq!(Flushes::needed(edx, RDCL_NO | MDS_NO), Flushes::default());
        assert!(!Flushes::needed(edx, SKIP_L1DFL_VMENTRY).l1d);
        assert_eq!(Flushes::needed(0, 0), Flushes::default());
    }
}
