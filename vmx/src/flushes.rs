//! What a processor that speculates must forget before it enters a guest.

/// What is to be flushed at each entry, so that nothing Bouncer touched can be sampled by the guest.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub struct Flushes {
    /// The first-level data cache (L1 terminal fault).
    pub l1d: bool,
    /// Store, fill and load buffers, and registers' remains (what VERW overwrites).
    pub buffers: bool,
}

/// CPUID 7.0, EBX: transactions. EDX: VERW clears buffers; IA32_FLUSH_CMD exists; IA32_ARCH_CAPABILITIES
/// exists.
const RTM: u32 = 1 << 11;
const MD_CLEAR: u32 = 1 << 10;
const L1D_FLUSH: u32 = 1 << 28;
const ARCH_CAPABILITIES: u32 = 1 << 29;
/// IA32_ARCH_CAPABILITIES (SDM vol. 4, table 2-2): not vulnerable to the L1 terminal fault; no flush is
/// needed at VM entry; not vulnerable to sampling; transactions can be turned off; not vulnerable to
/// their aborts, to stale fill buffers, to register files' remains; VERW clears those of either.
const RDCL_NO: u64 = 1 << 0;
const SKIP_L1DFL_VMENTRY: u64 = 1 << 3;
const MDS_NO: u64 = 1 << 5;
const TSX_CTRL: u64 = 1 << 7;
const TAA_NO: u64 = 1 << 8;
const FBSDP_NO: u64 = 1 << 14;
const FB_CLEAR: u64 = 1 << 17;
const RFDS_NO: u64 = 1 << 27;
const RFDS_CLEAR: u64 = 1 << 28;

impl Flushes {
    /// Decides by EBX and EDX of CPUID leaf 7 and by IA32_ARCH_CAPABILITIES.
    pub const fn needed(ebx: u32, edx: u32, capabilities: u64) -> Self {
        let told = if edx & ARCH_CAPABILITIES != 0 {
            capabilities
        } else {
            0
        };
        let clears = edx & MD_CLEAR != 0;
        let has_transactions = ebx & RTM != 0 || told & TSX_CTRL != 0;
        let sampling = clears && told & MDS_NO == 0;
        let aborts = clears && told & TAA_NO == 0 && has_transactions;
        let fill_buffers = told & FB_CLEAR != 0 && told & FBSDP_NO == 0;
        let registers = told & RFDS_CLEAR != 0 && told & RFDS_NO == 0;
        Self {
            l1d: edx & L1D_FLUSH != 0 && told & (RDCL_NO | SKIP_L1DFL_VMENTRY) == 0,
            buffers: sampling || aborts || fill_buffers || registers,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_vulnerable_processor_is_flushed() {
        let flushes = Flushes::needed(0, MD_CLEAR | L1D_FLUSH, RDCL_NO | MDS_NO);
        assert!(
            flushes.l1d && flushes.buffers,
            "the register does not exist, so that it says nothing"
        );
    }

    #[test]
    fn one_that_says_it_is_not_is_spared() {
        let edx = MD_CLEAR | L1D_FLUSH | ARCH_CAPABILITIES;
        assert_eq!(
            Flushes::needed(0, edx, RDCL_NO | MDS_NO),
            Flushes::default()
        );
        assert!(!Flushes::needed(0, edx, SKIP_L1DFL_VMENTRY).l1d);
        assert_eq!(Flushes::needed(0, 0, 0), Flushes::default());
        let all = RDCL_NO | MDS_NO | TAA_NO | FBSDP_NO | RFDS_NO;
        let everything = Flushes::needed(RTM, edx, all | TSX_CTRL | FB_CLEAR | RFDS_CLEAR);
        assert_eq!(everything, Flushes::default());
    }

    /// Each of the later ways to sample concerns processors that say MDS_NO.
    #[test]
    fn one_that_is_safe_from_sampling_alone_is_flushed() {
        let edx = MD_CLEAR | ARCH_CAPABILITIES;
        for (ebx, capabilities, what) in [
            (RTM, 0, "transactions"),
            (0, TSX_CTRL, "transactions that are turned off"),
            (0, FB_CLEAR, "fill buffers"),
            (0, RFDS_CLEAR, "registers"),
        ] {
            assert!(
                Flushes::needed(ebx, edx, MDS_NO | capabilities).buffers,
                "{what}"
            );
        }
        assert!(!Flushes::needed(0, edx, MDS_NO).buffers);
    }
}
